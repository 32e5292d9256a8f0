"""Locks between processes of one machine, which end with the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nnguard._base.files import open_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked", "locked_folder"]

_PAUSE = 0.005


@contextlib.contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock on a file that is there for nothing else; it is made, and never removed.

    Args:
        path: The file. A symbolic link is refused: what it leads to would not be ours to make.
        timeout: Seconds to wait for others.

    Raises:
        TimeoutError: Others held the lock all that time.
        OSError: The file cannot be made.
    """
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    end = time.monotonic() + timeout
    try:
        while not _take(descriptor):
            if time.monotonic() >= end:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds this lock", str(path))
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Lock a folder itself, without waiting.

    Yields:
        Whether nobody else holds it; false, too, where the file system has no locks.

    Raises:
        OSError: It is not there, or is a symbolic link.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            is_ours = _take(descriptor)
        except OSError:
            is_ours = False
        yield is_ours
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Lock an open file, unless another process has it; tell which."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
