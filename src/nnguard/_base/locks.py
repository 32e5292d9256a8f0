"""Locks between processes of one machine, which end with the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nnguard._base.files import open_file

__all__ = ["locked"]

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
    import fcntl  # not on every system

    descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    end = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise TimeoutError(
                        errno.ETIMEDOUT, "another process holds this lock", str(path)
                    ) from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)
