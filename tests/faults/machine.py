"""Commands in processes of their own, on a machine in which one call goes wrong."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from nnguard.__main__ import run as run_nnguard

LIBRARY = "NNGUARD_FAULTS_LIBRARY"
TEMPORARY = (".kept.", ".nnguard.", ".out.", ".pair.", ".seen.")


class Group(IntEnum):
    """Calls that count; the order is that of `inject.c`."""

    READ, WRITE, OPEN, SYNC, NAME, REMOVE, MAKE, SIZE, MODE = range(9)


CHANGES = tuple(group for group in Group if group is not Group.READ)


NAMING = (Group.NAME, Group.OPEN, Group.SYNC, Group.REMOVE)
"""Calls that giving a name takes, after the ledger was written."""


class Action(IntEnum):
    """What becomes of the chosen call; the order is that of `inject.c`."""

    COUNT, FAIL, FAIL_FROM_HERE, SHORT, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER = range(7)


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        action: What becomes of the call.
        groups: Calls that count.
        call: Which one of them, from 1 on.
        error: The error's number.
        plain: On a file system without files that have no name, and without exchange of names.
        delay: Kill after so many seconds, wherever the process is.
        room: Bytes that are left on a disk that is really full.
    """

    action: Action = Action.COUNT
    groups: tuple[Group, ...] = tuple(Group)
    call: int = 0
    error: int = 0
    plain: bool = False
    delay: float | None = None
    room: int | None = None

    def __str__(self) -> str:
        if self.delay is not None:
            return f"killed after {self.delay:.4f} s"
        if self.room is not None:
            return f"{self.room} bytes left on the disk"
        what = f"{self.action.name} {errno.errorcode.get(self.error, '')}".strip().lower()
        where = self.groups[0].name.lower() if len(self.groups) == 1 else "any"
        return f"{what} at {where} call {self.call}{', plain' if self.plain else ''}"


@dataclass(frozen=True)
class Case:
    """A command, and what is right.

    Attributes:
        name: As in the table.
        arguments: Of the command.
        outputs: What it makes, in the order in which they get their names.
        check: Given the outputs that are new, raises where they are not right.
        kept: A file that the command may change.
        check_kept: Given the outputs that are new, raises where that file is not right; returns
            whether it says more than the outputs do.
        kept_first: That file is there to change first, whatever becomes of the outputs.
        old: Makes an output that is there beforehand.
    """

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    check: Callable[[set[str]], object]
    kept: tuple[str, ...] = ()
    check_kept: Callable[[set[str]], bool] = lambda _: False
    kept_first: bool = False
    old: Callable[[Path], object] = field(default=lambda _: None)

    @property
    def is_folder(self) -> bool:
        """Whether a folder is made."""
        return self.outputs == ("out",)

    @property
    def replaces_folder(self) -> bool:
        """Whether it takes the name of another one, in one step."""
        return self.is_folder and "--force" in self.arguments


def require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def contents(path: Path) -> object:
    """Return what is at a path: bytes, names and contents, or None."""
    if path.is_dir():
        return {each.name: contents(each) for each in sorted(path.iterdir())}
    return path.read_bytes() if path.exists() else None


class Machine:
    """Runs commands over copies of a folder.

    Args:
        template: What commands find.
        work: Folder to work in; a file system of its own, where disks are to be full.
    """

    def __init__(self, template: Path, work: Path) -> None:
        self.template = template
        self.work = work
        self.folder = work / "here"
        self._console = template.parent / "console"
        self._library = ctypes.CDLL(os.environ[LIBRARY])
        self._library.faults_seen.restype = ctypes.c_long

    def count(self, case: Case, *, plain: bool = False) -> dict[Group, int]:
        """Return how many calls of each group a command makes, having checked what it does."""
        self._prepare(case)
        self._succeed(case, case.arguments, Fault(plain=plain))
        return {group: self._library.faults_seen(group) for group in Group}

    def refuse(self, case: Case) -> None:
        """Make sure that a folder is left alone where it cannot be exchanged for the new one."""
        self._prepare(case)
        before = self._contents()
        code = self._run(case.arguments, Fault(plain=True))
        require(code == 1, f"exit code {code}: {self._console.read_text()}")
        require("remove it first" in self._console.read_text(), self._console.read_text())
        require(self._contents() == before, "changed")

    def try_fault(self, case: Case, fault: Fault) -> str:
        """Run a command with a fault, check what is left, and say how it ended."""
        self._prepare(case)
        before = self._contents()
        filler = self._fill(fault.room)
        code = self._run(case.arguments, fault)
        filler.unlink(missing_ok=True)
        killed = code == -signal.SIGKILL
        printed = self._console.read_text()
        require(killed or code in (0, 1, 14), f"exit code {code}: {printed}")
        lines = printed.splitlines()
        if not killed and code:
            require(lines[0].startswith("nnguard: ") and len(lines) <= 2, printed)

        after = self._contents()
        mine = {*case.outputs, *case.kept, *(f"{name}-journal" for name in case.kept)}
        changed = {name for name in before.keys() - mine if after.get(name) != before[name]}
        require(not changed, f"changed: {changed}")
        left = after.keys() - before.keys() - mine
        for name in left:
            require(name.startswith(TEMPORARY), f"left behind: {name}")
            secret = ".key." not in name or Path(name).stat().st_mode & 0o077 == 0
            require(secret, f"others can read {name}")
        removing = fault.groups[0] in (Group.REMOVE, Group.OPEN)  # a folder is opened for it
        require(killed or not left or (code and removing), f"left behind: {left}")
        new = {name for name in case.outputs if after.get(name) != before.get(name)}
        require(new <= after.keys(), f"lost: {new - after.keys()}")
        case.check(new)
        ahead = case.check_kept(new)
        if not killed:
            require(new in (set(), set(case.outputs)), f"only {new} of {case.outputs}")
            require(code or new, "no output, and no error")
            first = case.kept_first or fault.groups[0] in NAMING
            require(first or not ahead, "a ledger that says more than there is")

        again = case.arguments
        if new and "--force" not in again:
            again = (*again, "--force")
        self._succeed(case, again, Fault(plain=fault.plain and not case.is_folder))
        more = self._contents().keys() - before.keys() - mine - left
        require(not more, f"left behind by the second run: {more}")

        how = "killed" if killed else "failed" if code else "succeeded"
        state = "whole" if new == set(case.outputs) else "one of two" if new else "as before"
        extra = [", ledger ahead"] * ahead + [", temporary left"] * bool(left)
        return f"{how}, {state}{''.join(extra)}"

    def _prepare(self, case: Case) -> None:
        os.chdir("/")
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)
        os.chdir(self.folder)
        for name in case.outputs:
            case.old(self.folder / name)

    def _contents(self) -> dict[str, object]:
        return {path.name: contents(path) for path in self.folder.iterdir()}

    def _fill(self, room: int | None) -> Path:
        """Fill the disk, but for so many bytes."""
        filler = self.work / "filler"
        if room is not None:
            free = os.statvfs(self.work)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room)
        return filler

    def _succeed(self, case: Case, arguments: tuple[str, ...], fault: Fault) -> None:
        code = self._run(arguments, fault)
        require(code == 0, f"without a fault: {self._console.read_text()}")
        case.check(set(case.outputs))
        case.check_kept(set(case.outputs))

    def _run(self, arguments: tuple[str, ...], fault: Fault) -> int:
        """Run a command in a process of its own, and return its exit code."""
        child = os.fork()
        if not child:
            self._become(arguments, fault)
        if fault.delay is not None:
            time.sleep(fault.delay)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _become(self, arguments: tuple[str, ...], fault: Fault) -> None:
        code = 99
        try:
            console = os.open(self._console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(console, 1)
            os.dup2(console, 2)
            sys.argv = ["nnguard", *arguments]
            groups = sum(1 << group for group in fault.groups)
            self._library.faults_arm(
                os.fsencode(self.folder), groups, fault.action, fault.error,
                ctypes.c_long(fault.call), fault.plain,
            )  # fmt: skip
            run_nnguard()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 99
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
