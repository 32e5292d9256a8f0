"""A few hundred hostile files through whole commands; `make hostile FILES=10000` takes them all.

NNGUARD_HOSTILE_FILES=3000 pytest tests/fuzz/test_hostile.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz import hostile

FILES = int(os.environ.get("NNGUARD_HOSTILE_FILES", "250"))


@pytest.mark.skipif(not hostile.MEASURES, reason="memory is measured with Linux's /proc")
def test_hostile_files_cost_little_and_raise_what_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostile, "SECONDS", 20.0)  # other work may be going on here
    assert hostile.run(FILES, "test", tmp_path, worst=3) == []
    assert "| verify |" in (tmp_path / "report.txt").read_text(encoding="utf-8")
