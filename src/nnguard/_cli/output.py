"""What commands print: results, failures, progress; and the options that go with them."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nnguard
from nnguard._base.files import check_target

__all__ = [
    "EXIT_CODES",
    "add_json",
    "add_output",
    "brief",
    "check_output",
    "check_outputs",
    "describe_failure",
    "exit_code_of",
    "print_json",
    "progress_bar",
    "say",
    "warn",
]

EXIT_CODES = {
    0: "done; for verify: the file is what was signed",
    1: "the system refused: no such file, disk full, file exists (see --force)",
    2: "wrong usage",
    3: "the input is not an NNCodec stream, or it is damaged",
    4: "the record does not fit into the network",
    5: "no record: the file is not signed, or not locked",
    6: "a key file cannot be read",
    7: "signed by a key that is not trusted",
    8: "the file was changed after it was signed",
    9: "the license does not permit this",
    10: "locking or unlocking failed",
    11: "a limit was exceeded",
    12: "the model cannot be read or compressed",
    13: "a worker died",
    14: "the ledger cannot be opened, or does not hold that license",
}

_COLUMN = 64
"""Characters of a tensor's name that are shown in a table, at most."""

_SYSTEM = {errno.ENOENT: "no such file", errno.ENOSPC: "disk full", errno.EDQUOT: "disk full"}
"""What the system says in more words."""

_FAMILIES: dict[type[Exception], int] = {
    nnguard.FormatError: 3,
    nnguard.CapacityError: 4,
    nnguard.NoRecordError: 5,
    nnguard.KeyFormatError: 6,
    nnguard.WrongKeyError: 7,
    nnguard.VerificationError: 8,
    nnguard.LicenseError: 9,
    nnguard.UnlockError: 10,
    nnguard.LimitError: 11,
    nnguard.ModelError: 12,
    nnguard.WorkerError: 13,
    nnguard.LedgerError: 14,
    ValueError: 2,
}


def exit_code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    return next((code for family, code in _FAMILIES.items() if isinstance(error, family)), 1)


def add_output(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Add the options for the file that a command writes."""
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=f"{what} to write")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite files that exist")


def check_outputs(options: argparse.Namespace) -> None:
    """Stop before any work is done for a file that could not be written in the end."""
    for name in ("output", "plot", "content_key_output", "payload_output"):
        path = getattr(options, name, None)
        if path is not None:
            check_output(Path(path), overwrite=options.force)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Do the same for one file or folder."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; --force overwrites it")
    if not path.is_dir():
        check_target(path, overwrite=overwrite)


def brief(name: str) -> str:
    """Return the name of a tensor for a column: long ones are cut."""
    return name if len(name) <= _COLUMN else f"{name[: _COLUMN - 3]}..."


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option for machines."""
    parser.add_argument("--json", action="store_true", help="print JSON, errors included")


def say(text: str) -> None:
    """Print a line, with what a terminal would act upon, or cannot show, made visible."""
    visible = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    encoding = sys.stdout.encoding or "utf-8"
    print(visible.encode(encoding, "backslashreplace").decode(encoding))


def warn(text: str) -> None:
    """Print a line for people to standard error, above a progress bar where there is one."""
    above_bar: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if "tqdm" in sys.modules:
        above_bar = sys.modules["tqdm"].tqdm.external_write_mode(file=sys.stderr)
    with above_bar, contextlib.redirect_stdout(sys.stderr):
        say(f"nnguard: {text}")


def print_json(value: Any) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=2))


def describe_failure(error: Exception, *, as_json: bool) -> None:
    """Print an error: for people to standard error, for machines to standard output."""
    hint, message = getattr(error, "hint", ""), _message_of(error)
    tensors = list(getattr(error, "tensors", ()))
    if as_json:
        failure = {"error": type(error).__name__, "message": message}
        reason = {"reason": error.reason.value} if isinstance(error, nnguard.LicenseError) else {}
        print_json({"ok": False, **failure, **reason, "hint": hint, "tensors": tensors})
        return
    warn(f"{type(error).__name__}: {message}")
    if hint:
        with contextlib.redirect_stdout(sys.stderr):
            say(f"  hint: {hint}")


def _message_of(error: Exception) -> str:
    """Return an error's message; those of the system without numbers, and in its own words."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    usual = error.strerror[:1].lower() + error.strerror[1:]
    what = _SYSTEM.get(error.errno or 0, usual)
    return what if error.filename is None else f"{what}: {os.fsdecode(error.filename)}"


@contextlib.contextmanager
def progress_bar(
    total: int | None, what: str, unit: str = "B"
) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal once the work has taken a second."""
    if not sys.stderr.isatty() or os.environ.get("NO_PROGRESS"):
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(
        total=total, desc=what, unit=unit, unit_scale=True, delay=1, leave=False, dynamic_ncols=True
    ) as bar:
        yield bar.update
