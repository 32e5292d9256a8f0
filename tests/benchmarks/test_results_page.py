"""The page of results says what the measurements say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from paper.page import Page, fill

DOCS = Path(__file__).parents[2] / "docs"
VALUES = json.loads((DOCS / "results.json").read_text(encoding="utf-8"))


def test_tables_are_made_of_the_published_results() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert fill(text, Page(VALUES)) == text


def test_everything_came_out_as_it_went_in() -> None:
    measured = {name: value for name, value in VALUES.items() if "bits" in value}
    assert measured
    assert [name for name, value in measured.items() if value["exact"] is not True] == []


def test_results_say_what_they_were_made_with() -> None:
    assert set(VALUES["made"]) >= {"date", "machine", "versions", "seed"}
