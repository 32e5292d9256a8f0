"""Files and folders that get their names when they are whole, and not before.

Law: a name stands for what it stood for, or for all that was written; a kill at any point leaves no
part of it under that name.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "TemporaryFile",
    "check_exchange",
    "check_free",
    "exchange",
    "leftovers",
    "make_folder_atomically",
    "named_together",
    "sync_folder",
]

_FLUSH_INTERVAL = 0.02
"""Seconds."""


@contextlib.contextmanager
def named_together() -> Iterator[list[TemporaryFile]]:
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
    files: list[TemporaryFile] = []
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
        sync_folder(folder)


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
        FileExistsError: `path` exists and `overwrite` is false, or it is not a folder, or holds
            something else than what may be deleted.
        OSError: The folder cannot be made, or the file system cannot exchange the old one for it;
            the temporary one is removed.
    """

    def check(folder: Path) -> None:
        check_free(path, overwrite=overwrite)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise FileExistsError(f"{path} exists already, and is not a folder")
        if folder.exists() and not is_ours(folder):
            raise FileExistsError(f"{path} holds more than a model's shards and their index")

    check(path)
    temporary = _temporary_name(path)
    try:
        temporary.mkdir(mode=0o700)
        if path.exists():
            check_exchange(path, temporary)
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        check(path)  # again: it may be there since
        if path.exists():
            exchange(temporary, path)
            try:
                check(temporary)  # and again: nobody puts anything into it now
            except BaseException:
                exchange(temporary, path)
                raise
            shutil.rmtree(temporary)
        else:
            temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


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


def check_free(path: Path, *, overwrite: bool) -> None:
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists already; overwrite=True replaces it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")


def leftovers(path: Path) -> list[Path]:
    """Return the files that killed processes have left of writing one, if there are any."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}")
    return [left for left in path.parent.iterdir() if ours.fullmatch(left.name)]


def _temporary_name(path: Path) -> Path:
    """Return a name beside a path, for what is not whole yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


class TemporaryFile:
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


_WHOLE: ContextVar[list[TemporaryFile] | None] = ContextVar("whole", default=None)


def _open_temporary(path: Path, mode: int) -> BinaryIO:
    """Open a new file beside this path, without a name if the system can, or else with it."""
    try:
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, mode)
    except (AttributeError, OSError):  # not on this system, or not on this file system
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, mode)
    return os.fdopen(descriptor, "wb", buffering=0)


def exchange(one: Path, other: Path) -> None:
    """Exchange what two names stand for, in one step.

    Raises:
        OSError: They are as they were; `ENOTSUP`, where the system or the file system never can.
    """
    here, swap = -100, 2  # AT_FDCWD; RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
    old, new = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(here, old, here, new, swap)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(old, new, swap)
    else:
        ctypes.set_errno(errno.ENOSYS)
        failed = True
    if not failed:
        return
    number = ctypes.get_errno()
    text = os.strerror(number)
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        number = errno.ENOTSUP
        text = "a folder cannot be exchanged for another in one step here: remove it first"
    raise OSError(number, text, str(other))


def check_exchange(path: Path, folder: Path) -> None:
    """Make sure that what stands at a path can be exchanged, before work is done for it.

    Args:
        path: A folder.
        folder: An empty one beside it, to try it in.

    Raises:
        OSError: It cannot; see `exchange`.
    """
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    try:
        exchange(one, other)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    one.rmdir()
    other.rmdir()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
