"""A folder to run commands in."""

from __future__ import annotations

from pathlib import Path

import pytest

import nnguard
from nnguard._cli import main
from transcripts import Result, Run


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
    model: nnguard.Stream,
    release: nnguard.Stream,
) -> Path:
    """A folder with a vendor's keys, a model and its release."""
    monkeypatch.chdir(tmp_path)
    key.save("vendor.key")
    key.public_key.save("vendor.pub")
    other_key.public_key.save("other.pub")
    model.save("model.nnc")
    release.save("release.nnc")
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Result:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return run
