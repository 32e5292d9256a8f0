"""An ECDSA key, and a folder of files that are signed with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import nnguard
from ecdsa_keys import write_key


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair of keys `oms`, and another `other`."""
    folder = write_key(tmp_path_factory.mktemp("keys"))
    return write_key(folder, "other")


@pytest.fixture
def plain(tmp_path: Path, keys: Path) -> Path:
    """A folder of a few files, and `plain.sig` beside it, its bundle."""
    folder = tmp_path / "plain"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights.bin").write_bytes(bytes(3000))
    (folder / "sub.txt").write_text("text")
    nnguard.oms.sign(folder, tmp_path / "plain.sig", keys / "oms.key")
    return folder
