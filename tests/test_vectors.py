"""The vectors of the specification: each has the one outcome that it is there for.

`conformance` holds implementations against them by their commands. Here nnguard is asked directly,
and has to give the reason, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nnguard
from conformance import run, sdk
from vectors import make
from vectors.example import example, with_example
from vectors.toolbox import VECTORS

FOLDER = run.VECTORS
LISTING = run.load()
MESSAGES = {vector.name: vector.message for vector in VECTORS}


@pytest.mark.parametrize("vector", LISTING["vectors"], ids=lambda vector: vector["name"])
def test_outcome(vector: dict[str, Any]) -> None:
    answer = sdk.answer(run.request_of(vector, LISTING, FOLDER))
    assert run.difference(vector, answer) == ""
    assert MESSAGES[vector["name"]] in answer.get("message", "")


def test_every_vector_says_what_it_is_about() -> None:
    vectors = LISTING["vectors"]
    page = make.SPEC.read_text(encoding="utf-8")
    for vector in vectors:
        section, outcome = vector["section"], vector["expect"]
        assert f"# {section} " in page, section
        assert vector["about"].endswith("."), vector["name"]
        assert vector["operation"] in sdk.OPERATIONS
        assert outcome == "ok" or issubclass(getattr(nnguard.errors, outcome), nnguard.NnguardError)
        assert ("fault" in vector) is (outcome != "ok"), vector["name"]
    assert len({vector["name"] for vector in vectors}) == len(vectors)
    told = {(vector["expect"], vector.get("fault"), vector["about"]) for vector in vectors}
    assert len(told) == len(vectors)


def test_make_gives_the_same_files(tmp_path: Path) -> None:
    make.main(tmp_path)
    sources = {".py", ".pyc", ".encapsulated"}
    committed, made = files_in(FOLDER, sources), files_in(tmp_path, set())
    assert made.keys() == committed.keys()
    for name in made:
        assert made[name].read_bytes() == committed[name].read_bytes(), name


def files_in(folder: Path, without: set[str]) -> dict[str, Path]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in without]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def test_specification_has_the_worked_example() -> None:
    page = make.SPEC.read_text(encoding="utf-8")
    assert with_example(page, example(FOLDER)) == page
    assert LISTING["spec"] == make.SPEC_VERSION
    assert f"Version {make.SPEC_VERSION}." in page
