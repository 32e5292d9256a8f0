"""A folder to run commands in."""

from __future__ import annotations

from pathlib import Path

import pytest

import nnguard


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
