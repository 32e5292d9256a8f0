"""Files that the processes of this machine share, most of them in memory.

Worker processes read tensors from such files and write them there, so that no array goes through a
pipe. Memory is a `memfd` where there is one, otherwise a temporary file: POSIX shared memory would
end at the size of `/dev/shm`, 64 MB in a container (`docs/adr/0007-workers.md`).
"""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SharedFile", "stays_in_memory"]

_CHUNK = 1 << 24


def stays_in_memory() -> bool:
    """Tell whether `SharedFile.in_memory` is in memory on this machine, not in a temporary file."""
    return hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


class SharedFile:
    """An open file and a path under which other processes can open it, while this object lives.

    Attributes:
        path: Opens this very file, even where its name has come to mean another one.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        link = f"/proc/{os.getpid()}/fd/{descriptor}"
        self.path = link if os.path.exists(link) else path  # noqa: PTH110
        self._finalizer = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open_to_write(cls, path: str) -> SharedFile:
        """Open a file that another process shares, to write into it."""
        return cls(os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0)), path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SharedFile:
        """Open a file to read."""
        return cls(os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)), os.fspath(path))

    @classmethod
    def in_memory(cls, size: int) -> SharedFile:
        """Make a file of zeros in memory; it goes when this object and all mappings are gone."""
        if hasattr(os, "memfd_create"):
            file = cls(os.memfd_create("nnguard", os.MFD_CLOEXEC), "")
            if file.path:
                os.truncate(file.descriptor, size)
                return file
        descriptor, name = tempfile.mkstemp(prefix="nnguard.")
        file = cls(descriptor, name)
        if file.path != name:
            os.unlink(name)  # noqa: PTH108
        else:
            weakref.finalize(file, os.unlink, name)
        os.truncate(descriptor, size)
        return file

    @property
    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self.descriptor).st_size

    def write(self, data: bytes | npt.NDArray[Any], offset: int) -> int:
        """Write bytes, or an array's memory, at a position; return where they end."""
        rest = memoryview(np.frombuffer(data, np.uint8).data)
        while rest:
            written = os.pwrite(self.descriptor, rest[:_CHUNK], offset)
            rest, offset = rest[written:], offset + written
        return offset

    def close(self) -> None:
        """Close the file now; mappings stay."""
        self._finalizer()
