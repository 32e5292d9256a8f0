"""Where the bytes of a stream lie: in memory or in a file.

Files are read at positions rather than mapped: memory stays at one chunk per thread whatever the
file's size, and a file that shrinks while it is read is an error instead of a SIGBUS
(`docs/adr/0002-positioned-reads.md`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import BinaryIO, Protocol

from nnguard._base.files import open_file, write_all
from nnguard.errors import FormatError, LimitError

__all__ = ["FileSource", "MemorySource", "Source", "check_memory"]

_COPY_SIZE = 1 << 23
_KERNEL_COPY_SIZE = 1 << 25


def check_memory(needed: int, *, hint: str) -> None:
    """Refuse what this machine could not hold, before any of it is taken.

    Args:
        needed: Bytes.
        hint: What to do instead.

    Raises:
        LimitError: They are more than the machine has.
    """
    if "SC_PHYS_PAGES" in os.sysconf_names:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > available:
            raise LimitError(
                f"this takes {needed} bytes of memory; the machine has {available}", hint=hint
            )


class Source(Protocol):
    """Random access to an immutable run of bytes."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset`."""

    def copy(self, offset: int, size: int, target: BinaryIO) -> None:
        """Write `size` bytes from `offset` to an unbuffered file."""


class MemorySource:
    """Bytes in memory.

    Args:
        data: The bytes.
        start: Where they begin in the file they came from, so that offsets in errors are the same.
    """

    def __init__(self, data: bytes | bytearray | memoryview, *, start: int = 0) -> None:
        constant = isinstance(data, memoryview) and data.readonly
        self._data = data if constant else bytes(data)
        self._start = start

    @property
    def size(self) -> int:
        return self._start + len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        offset -= self._start
        return bytes(self._data[offset : offset + size])

    def copy(self, offset: int, size: int, target: BinaryIO) -> None:
        offset -= self._start
        write_all(target, memoryview(self._data)[offset : offset + size])


class FileSource:
    """An open file, read at positions; any number of threads may read at once.

    Args:
        path: Of the file, or the descriptor of one that is open.

    Attributes:
        descriptor: Of the open file.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str] | int) -> None:
        self.descriptor = os.dup(path) if isinstance(path, int) else open_file(path)
        weakref.finalize(self, os.close, self.descriptor)
        self._size = os.fstat(self.descriptor).st_size
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        data = self._read_at(offset, size)
        if len(data) == size:
            return data
        parts = [data]  # systems end a read at 2^31 bytes
        while data and (size := size - len(data)):
            offset += len(data)
            data = self._read_at(offset, size)
            parts.append(data)
        if size:
            raise FormatError("file became shorter while it was read", offset=offset)
        return b"".join(parts)

    def copy(self, offset: int, size: int, target: BinaryIO) -> None:
        done = self._copy_in_kernel(offset, size, target)
        while done < size:
            chunk = self.read(offset + done, min(_COPY_SIZE, size - done))
            write_all(target, chunk)
            done += len(chunk)

    def _copy_in_kernel(self, offset: int, size: int, target: BinaryIO) -> int:
        """Copy as much as the file systems can between themselves; return how much that was."""
        done = 0
        if hasattr(os, "copy_file_range"):
            with contextlib.suppress(OSError):  # another file system: the caller copies the rest
                while done < size:
                    count = os.copy_file_range(
                        self.descriptor,
                        target.fileno(),
                        min(_KERNEL_COPY_SIZE, size - done),
                        offset + done,
                    )
                    if not count:
                        break
                    done += count
        return done

    if hasattr(os, "pread"):

        def _read_at(self, offset: int, size: int) -> bytes:
            return os.pread(self.descriptor, size, offset)

    else:  # Windows

        def _read_at(self, offset: int, size: int) -> bytes:
            with self._lock:
                os.lseek(self.descriptor, offset, os.SEEK_SET)
                return os.read(self.descriptor, size)
