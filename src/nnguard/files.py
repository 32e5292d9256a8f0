"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

__all__ = ["make_folder_atomically", "write_all", "write_at", "write_atomically", "write_bytes"]

_FLUSH_INTERVAL = 0.02


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
        FileExistsError: `path` exists and `overwrite` is false.
        OSError: The file cannot be written; the temporary file is removed.
    """
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists already")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
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


@contextlib.contextmanager
def make_folder_atomically(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside `path` that gets the name when all is in it.

    Args:
        path: The folder to make.
        overwrite: Replace a folder that exists, with all that is in it.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false, or it is no folder.
        OSError: The folder cannot be made; the temporary one is removed.
    """
    if path.exists() and not (overwrite and path.is_dir()):
        raise FileExistsError(f"{path} exists already" + (" and is no folder" if overwrite else ""))
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            old = temporary.with_name(f"{temporary.name}.old")
            path.replace(old)
            try:
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
