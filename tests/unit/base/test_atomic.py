"""Files get their names when they are whole: together, or none of them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from nnguard._base.atomic import named_together
from nnguard._base.files import write_atomically, write_bytes


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [None, b"old"])
def test_files_get_their_names_together_or_not_at_all(tmp_path: Path, old: bytes | None) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    if old is not None:
        first.write_bytes(old)
        second.write_bytes(old)
    before = contents_of(tmp_path)

    def write_both(write_second: Callable[[BinaryIO], object], then: Callable[[], object]) -> None:
        with named_together():
            write_bytes(first, b"new", overwrite=True)
            write_atomically(second, write_second, overwrite=True)
            assert contents_of(tmp_path) == before, "none has its name yet"
            then()

    with pytest.raises(OSError, match="No space"):
        write_both(fail, list)
    assert contents_of(tmp_path) == before

    def take_second_name() -> None:
        second.unlink(missing_ok=True)
        second.mkdir()

    with pytest.raises(IsADirectoryError):
        write_both(lambda file: file.write(b"new"), take_second_name)
    second.rmdir()
    before.pop("second", None)
    assert contents_of(tmp_path) == before

    write_both(lambda file: file.write(b"new"), list)
    assert contents_of(tmp_path) == {"first": b"new", "second": b"new"}


def test_name_given_twice_is_given_back(tmp_path: Path) -> None:
    def write_all() -> None:
        with named_together():
            for name, overwrite in (("a", False), ("a", True), ("b", False)):
                write_bytes(tmp_path / name, b"new", overwrite=overwrite)
            (tmp_path / "b").write_bytes(b"of another process")

    with pytest.raises(FileExistsError):
        write_all()
    assert contents_of(tmp_path) == {"b": b"of another process"}


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="a exists already"):
        write_atomically(
            tmp_path / "a", lambda _: (tmp_path / "a").write_bytes(b"other"), overwrite=False
        )
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"other"]
