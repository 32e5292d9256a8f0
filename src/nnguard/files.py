"""Reading files that may be hostile, and writing files whole or not at all.

Law: whatever a path leads to, reading it neither waits nor goes on forever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from nnguard.errors import LimitError

__all__ = [
    "check_target",
    "make_folder_atomically",
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
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is expected", str(path))
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
    temporary = _temporary_name(path)
    try:
        with _open_temporary(temporary) as file:
            with _flushing(file.fileno()):
                write(file)
            os.fsync(file.fileno())
            _give_name(file.fileno(), temporary)
        temporary.chmod(mode & ~_umask())
        if overwrite:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


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
            old = temporary.with_name(f"{temporary.name}.old")
            path.replace(old)
            try:
                check(old)  # and again: nobody puts anything into it now
                temporary.replace(path)
            except BaseException:
                old.replace(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
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


def _open_temporary(path: Path) -> BinaryIO:
    """Open a new file that gets its name from `_give_name`, or has it already."""
    try:
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
    except (AttributeError, OSError):  # not on this system, or not on this file system
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)


def _give_name(descriptor: int, path: Path) -> None:
    if os.fstat(descriptor).st_nlink:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # with a folder's descriptor Python follows the link, as it has to here
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _rename_to_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # fails where `path` has come into being meanwhile
    except FileExistsError:
        raise FileExistsError(f"{path} exists already") from None
    except OSError:  # no hard links on this file system
        if path.exists():
            raise FileExistsError(f"{path} exists already") from None
        temporary.replace(path)
    else:
        temporary.unlink()


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
