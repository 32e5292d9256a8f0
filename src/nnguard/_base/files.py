"""Reading files that may be hostile, and writing files whole or not at all.

Law: whatever a path leads to, reading it neither waits nor goes on forever.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from nnguard._base.atomic import TemporaryFile, check_free, named_together
from nnguard.errors import LimitError

__all__ = [
    "check_regular",
    "check_target",
    "open_file",
    "read_file",
    "reserve",
    "write_all",
    "write_at",
    "write_atomically",
    "write_bytes",
]

_FLAGS = ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")  # not every system has them all
_READ = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in _FLAGS)

_CHUNK = 1 << 20

_SMALL = 1 << 16


def open_file(path: str | os.PathLike[str], flags: int = 0) -> int:
    """Open a regular file, without waiting for anything, and return its descriptor.

    A path may lead to a FIFO, which waits for a writer, or to a device, which has no end.

    Args:
        path: The file.
        flags: More flags of `os.open`; what it makes is for its owner's eyes only.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, _READ | flags, 0o600)
    try:
        check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Make sure that what was found under a path is a regular file.

    Raises:
        OSError: It is a folder, a FIFO or a device.
    """
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is expected", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_file(path: str | os.PathLike[str], limit: int = _SMALL) -> bytes:
    """Read a regular file whole, and once.

    Args:
        path: The file.
        limit: Bytes that it may have, at most; by default enough for some 500 keys, and so for any
            other small file.

    Raises:
        LimitError: It has more.
        OSError: See `open_file`.
    """
    descriptor = open_file(path)
    try:
        parts: list[bytes] = []
        left = limit + 1
        while left and (part := os.read(descriptor, min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if not left:
        raise LimitError(f"{os.fspath(path)} has more than {limit} bytes")
    return b"".join(parts)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Make sure that a file may be made, before any work is done for it.

    Args:
        path: The file.
        overwrite: It may replace a regular file.

    Raises:
        FileExistsError: There is something that it may not replace.
        FileNotFoundError: There is no folder for it.
    """
    check_free(path, overwrite=overwrite)
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} exists already, and is not a regular file")


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, overwrite: bool, mode: int = 0o666
) -> None:
    """Write to a temporary file beside `path`, sync it, and give it the name.

    Where the system can, the temporary file has no name before it is whole, so that nothing is left
    of it when the process is killed.

    Args:
        path: The file to make.
        write: Called with the open temporary file, which is not buffered.
        overwrite: Replace a file that exists.
        mode: Permissions, less the process's umask.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false, or it is not a regular file.
        OSError: The file cannot be written; the temporary file is removed.
    """
    check_target(path, overwrite=overwrite)
    with named_together() as whole:
        made = TemporaryFile(path, overwrite=overwrite)
        try:
            made.write(write, mode)
            whole.append(made)
        except BaseException:
            made.discard()
            raise


def write_bytes(path: Path, data: bytes, *, overwrite: bool, mode: int = 0o666) -> None:
    """Write bytes to a file, whole or not at all; see `write_atomically`."""

    def write(file: BinaryIO) -> None:
        write_all(file, data)

    write_atomically(path, write, overwrite=overwrite, mode=mode)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of the data to a file that is not buffered."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data to a position of a file; any number of threads may do so at once."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def reserve(descriptor: int, size: int) -> None:
    """Make an empty file so long, so that a full disk shows now, where the file system can tell."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        else:
            return
    os.truncate(descriptor, size)
