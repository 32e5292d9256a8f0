"""Reading files that may be hostile, and writing files whole or not at all.

Law: whatever a path leads to, reading it neither waits nor goes on forever.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from nnguard.errors import LimitError

__all__ = [
    "check_regular",
    "check_target",
    "make_folder_atomically",
    "named_together",
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

_FLUSH_INTERVAL = 0.02


def open_file(path: str | os.PathLike[str], flags: int = 0) -> int:
    """Open a regular file, without waiting for anything, and return its descriptor.

    A path may lead to a FIFO, which waits for a writer, or to a device, which has no end.

    Args:
        path: The file.
        flags: More flags of `os.open`; what it makes is for its owner's eyes only.

    Raises:
        OSError: It cannot be opened, or is no regular file.
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
    _check_free(path, overwrite=overwrite)
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} exists already, and is no regular file")


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
        FileExistsError: `path` exists and `overwrite` is false, or it is no regular file.
        OSError: The file cannot be written; the temporary file is removed.
    """
    check_target(path, overwrite=overwrite)
    with named_together() as whole:
        made = _Temporary(path, overwrite=overwrite)
        try:
            made.write(write, mode)
            whole.append(made)
        except BaseException:
            made.discard()
            raise


@contextlib.contextmanager
def named_together() -> Iterator[list[_Temporary]]:
    """Let the files that are written within get their names at the end, or none of them.

    All are whole by then. A kill between two names leaves the first file without the second; they
    get their names in the order in which they were written. Not for what is written into a folder
    that is made within.

    Raises:
        OSError: A file cannot get its name; all is as it was before.
    """
    outer = _WHOLE.get()
    if outer is not None:
        yield outer
        return
    files: list[_Temporary] = []
    token = _WHOLE.set(files)
    try:
        yield files
        for file in files:
            file.give_name(keep_old=len(files) > 1)
    except BaseException:
        for file in reversed(files):  # one name may be given twice
            file.discard()
        raise
    finally:
        _WHOLE.reset(token)
    for file in files:
        file.forget_old()
    for folder in {file.path.parent for file in files}:
        _sync_directory(folder)


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


@contextlib.contextmanager
def make_folder_atomically(
    path: Path, *, overwrite: bool, is_ours: Callable[[Path], bool]
) -> Iterator[Path]:
    """Give a temporary folder beside `path` that gets the name when all is in it.

    Args:
        path: The folder to make.
        overwrite: Replace a folder that exists.
        is_ours: Tells whether all that is in a folder may be deleted.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false, or it is no folder, or holds
            something else than what may be deleted.
        OSError: The folder cannot be made; the temporary one is removed.
    """

    def check(folder: Path) -> None:
        _check_free(path, overwrite=overwrite)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise FileExistsError(f"{path} exists already, and is no folder")
        if folder.exists() and not is_ours(folder):
            raise FileExistsError(f"{path} holds more than a model's shards and their index")

    check(path)
    temporary = _temporary_name(path)
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        check(path)  # again: it may be there since
        if path.exists():
            _exchange(temporary, path)
            try:
                check(temporary)  # and again: nobody puts anything into it now
            except BaseException:
                _exchange(temporary, path)
                raise
            shutil.rmtree(temporary)
        else:
            temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_directory(path.parent)


@contextlib.contextmanager
def _flushing(descriptor: int) -> Iterator[None]:
    """Let the disk write while more comes in, so that the sync at the end finds little to do."""
    if not hasattr(os, "fdatasync"):
        yield
        return
    done = threading.Event()

    def flush() -> None:
        while not done.wait(_FLUSH_INTERVAL):
            os.fdatasync(descriptor)

    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(flush)
        try:
            yield
        finally:
            done.set()
    flushing.result()  # the system tells of a failure to write once only, perhaps here


def _check_free(path: Path, *, overwrite: bool) -> None:
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists already")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")


def _temporary_name(path: Path) -> Path:
    """Return a name beside a path, for what is not whole yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


class _Temporary:
    """A file that gets its name when it is whole."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self._overwrite = overwrite
        self._temporary = _temporary_name(path)
        self._old = self._temporary.with_name(f"{self._temporary.name}.old")
        self._unnamed: BinaryIO | None = None
        self._is_new = False

    def write(self, write: Callable[[BinaryIO], object], mode: int) -> None:
        """Make the file and sync it."""
        file = _open_temporary(self._temporary, mode)
        try:
            with _flushing(file.fileno()):
                write(file)
            os.fsync(file.fileno())
            if not os.fstat(file.fileno()).st_nlink:
                self._unnamed = file
        finally:
            if self._unnamed is None:
                file.close()

    def give_name(self, *, keep_old: bool) -> None:
        """Give the file its name, in one step; another process may have been quicker.

        Args:
            keep_old: What it replaces is kept until `forget_old`, if the file system can.
        """
        try:
            self._link(self.path)
        except FileExistsError:
            if not self._overwrite:
                raise FileExistsError(f"{self.path} exists already") from None
            if self._unnamed is not None:
                self._link(self._temporary)
            if keep_old:
                with contextlib.suppress(OSError):
                    os.link(self.path, self._old)
            self._temporary.replace(self.path)
        else:
            self._is_new = True
            self._temporary.unlink(missing_ok=True)
        self._close()

    def forget_old(self) -> None:
        """Remove what was replaced."""
        self._old.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file, and put back what it replaced, if that was kept."""
        self._close()
        self._temporary.unlink(missing_ok=True)
        if self._is_new:
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._old.replace(self.path)
            self._old.unlink(missing_ok=True)  # where both were the same file still

    def _link(self, path: Path) -> None:
        if self._unnamed is not None:
            folder = os.open(path.parent, os.O_RDONLY)
            try:  # with a folder's descriptor Python follows the link, as it has to here
                source = f"/proc/self/fd/{self._unnamed.fileno()}"
                os.link(source, path.name, dst_dir_fd=folder)
            finally:
                os.close(folder)
            return
        try:
            os.link(self._temporary, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links on this file system
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            self._temporary.replace(path)

    def _close(self) -> None:
        if self._unnamed is not None:
            self._unnamed.close()
            self._unnamed = None


_WHOLE: ContextVar[list[_Temporary] | None] = ContextVar("whole", default=None)


def _open_temporary(path: Path, mode: int) -> BinaryIO:
    """Open a new file beside this path, without a name if the system can, or else with it."""
    try:
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, mode)
    except (AttributeError, OSError):  # not on this system, or not on this file system
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, mode)
    return os.fdopen(descriptor, "wb", buffering=0)


def _exchange(one: Path, other: Path) -> None:
    """Exchange what two names stand for: in one step, where the system can."""
    if sys.platform == "linux":
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        rename = getattr(ctypes.CDLL(None), "renameat2", None)
        if rename and not rename(here, os.fsencode(one), here, os.fsencode(other), exchange):
            return
    aside = one.with_name(f"{one.name}.old")
    other.replace(aside)
    try:
        one.replace(other)
    except BaseException:
        aside.replace(other)
        raise
    aside.replace(one)


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
