"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nnguard.stream.source import FileSource, MemorySource, Source

__all__ = ["Piece", "write_atomically", "write_bytes"]

_COPY_SIZE = 1 << 23


class Piece(NamedTuple):
    """A run of bytes of a source."""

    source: Source
    offset: int
    size: int


def write_atomically(
    path: Path, pieces: Iterable[Piece], *, overwrite: bool, mode: int = 0o666
) -> None:
    """Write pieces to a temporary file beside `path`, sync it, and give it the name.

    Args:
        path: The file to make.
        pieces: What to write, in order.
        overwrite: Replace a file that exists.
        mode: Permissions, less the process's umask.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        OSError: The file cannot be written; the temporary file is removed.
    """
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists already")
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for piece in pieces:
                _copy(piece, file.fileno())
            os.fsync(descriptor)
        os.chmod(temporary, mode & ~_umask())
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_to_new(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_bytes(path: Path, data: bytes, *, overwrite: bool, mode: int = 0o666) -> None:
    """Write bytes to a file, whole or not at all; see `write_atomically`."""
    piece = Piece(MemorySource(data), 0, len(data))
    write_atomically(path, [piece], overwrite=overwrite, mode=mode)


def _copy(piece: Piece, target: int) -> None:
    done = 0
    if isinstance(piece.source, FileSource) and hasattr(os, "copy_file_range"):
        done = _copy_in_kernel(piece, target)
    while done < piece.size:
        size = min(_COPY_SIZE, piece.size - done)
        data = memoryview(piece.source.read(piece.offset + done, size))
        while data:
            data = data[os.write(target, data) :]
        done += size


def _copy_in_kernel(piece: Piece, target: int) -> int:
    """Copy as much as the file systems can between themselves; return the number of bytes."""
    assert isinstance(piece.source, FileSource)
    done = 0
    try:
        while done < piece.size:
            count = os.copy_file_range(
                piece.source.fileno(), target, piece.size - done, piece.offset + done
            )
            if not count:
                break
            done += count
    except (
        OSError
    ):  # another file system, or one that cannot: the caller copies the rest
        pass
    return done


def _rename_to_new(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)  # fails where `path` has come into being meanwhile
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system
        if path.exists():
            raise FileExistsError(f"{path} exists already") from None
        os.replace(temporary, path)
    else:
        os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
