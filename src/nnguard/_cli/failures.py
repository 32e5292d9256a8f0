"""Failures in words: one line that says what was wrong and what to do, and the exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

import nnguard
from nnguard import errors
from nnguard._cli.output import print_json, say

__all__ = [
    "BUG",
    "EXIT_CODES",
    "check_credentials",
    "check_uninterrupted",
    "describe",
    "exit_code_of",
    "hint_of",
    "is_expected",
    "message_of",
    "swapped",
]

BUG = 70
"""Exit code of a bug, as BSD's `sysexits.h` has it."""

EXIT_CODES = {
    0: "done; for verify: the file is what was signed",
    1: "the system refused: no such file, disk full, file exists (see --force)",
    2: "wrong usage",
    3: "the input is not an NNCodec stream, or it is damaged",
    4: "the record does not fit into the network",
    5: "no record: the file is not signed, or not locked",
    6: "a key cannot be read, or its passphrase or PIN is missing",
    7: "signed by a key that is not trusted",
    8: "the file was changed after it was signed",
    9: "the license does not permit this",
    10: "unlocking failed",
    11: "a limit was exceeded",
    12: "the model cannot be read or compressed",
    13: "a worker died",
    14: "the ledger cannot be opened, or does not hold that license",
    15: "locking failed",
    16: "signed, but not with the name, issuer, version or date that was expected",
    17: "a locked trial, not the product (see --allow-trial)",
    18: "the trust policy does not allow this release",
    19: "there is no license for this request: no such order, no free seat, no server",
    BUG: "a bug in nnguard",
}

_FAMILIES: dict[type[Exception], int] = {
    errors.ClaimsError: 16,  # before the error that it is a kind of, as the next
    errors.PolicyError: 18,
    errors.LockedTrialError: 17,
    errors.FormatError: 3,
    errors.CapacityError: 4,
    errors.NoRecordError: 5,
    errors.KeyFormatError: 6,
    errors.WrongKeyError: 7,
    errors.VerificationError: 8,
    errors.LicenseError: 9,
    errors.ActivationError: 19,
    errors.UnlockError: 10,
    errors.LimitError: 11,
    errors.ModelError: 12,
    errors.WorkerError: 13,
    errors.LedgerError: 14,
    errors.LockError: 15,
    errors.ArgumentError: 2,
    click.UsageError: 2,
    OSError: 1,
    MemoryError: 1,
    ImportError: 1,
}

_EXTRAS = (
    "nncodec",
    "sqlalchemy",
    "alembic",
    "argon2",
    "psycopg",
    "matplotlib",
    "torch",
    "distributed",
    "segno",
)
"""Packages that nnguard does without until somebody wants what they do."""

_SYSTEM = {
    errno.ENOENT: ("no such file", ""),
    errno.ENOSPC: ("the disk is full", "free some space, or write elsewhere"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or write elsewhere"),
    errno.EFBIG: ("the file would be too large here", "write elsewhere, or raise the limit"),
    errno.EISDIR: ("a folder, where a file is expected", "name a file in it"),
    errno.EACCES: ("permission denied", "see who may read and write it: ls -l"),
    errno.EROFS: ("nothing can be written there", "write elsewhere"),
}
"""What the system says in our words, and what to do."""


_EXPECTED = {
    "key": "a private key",
    "oms_key": "a private key",
    "identity": "a private key",
    "ledger_key": "a private key",
    "to": "a public key",
    "license": "a license",
    "renews": "a license",
    "revocations": "a revocation list",
    "content_key": "a content key",
    "latest": "a latest statement",
    "policy": "a trust policy",
    "ledger": "a ledger",
}
"""Options and the kinds of files that they name, as `recognize` calls them."""


_ADVICE: dict[type[Exception], str] = {
    errors.FormatError: "name a stream that is whole, as nnguard compress makes it",
    errors.KeyFormatError: "name a key file, as nnguard keygen makes it",
    errors.VerificationError: "do not use it: get it again from its vendor",
    errors.ModelError: "correct the model, and save it again",
}
"""What to do where an error does not say it."""


_ARGUMENT = re.compile(r"\b(allow_trial|localize|max_fraction|max_size|scan_order)\b(?:=True)?")
"""Arguments of functions in hints, which are options here."""


def is_expected(error: Exception) -> bool:
    """Return whether an error is something that a user can do something about, not a bug."""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] in _EXTRAS or "pip install" in str(error)
    return isinstance(error, tuple(_FAMILIES))


def exit_code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    return next((code for family, code in _FAMILIES.items() if isinstance(error, family)), BUG)


def check_uninterrupted(error: BaseException) -> None:
    """Make sure that an error is one of its own, and did not come of leaving in the midst of work.

    `shutil.rmtree`, for one, fails with `EBADF` where a signal comes right after it has closed a
    folder.

    Raises:
        KeyboardInterrupt: A signal came, and the error when what was under way was undone.
    """
    while error.__context__ is not None:
        error = error.__context__
        if isinstance(error, KeyboardInterrupt):
            raise error


def describe(error: Exception, *, as_json: bool, about: str = "") -> None:
    """Print an error: for people a line on standard error, for machines on standard output.

    Args:
        error: The error.
        as_json: It is for machines.
        about: Which of several files it is about.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    if as_json:
        print_json(as_values(error))
        return
    parts = (message_of(error), hint_of(error))
    said = (f"{about}: " if about else "") + "; ".join(part for part in parts if part)
    say(said, file=sys.stderr, lead="nnguard: ", style="red")


def as_values(error: Exception) -> dict[str, Any]:
    """Return an error as JSON values."""
    values = {"ok": False, "error": type(error).__name__, "message": message_of(error)}
    if isinstance(error, (errors.LicenseError, errors.PolicyError, errors.ActivationError)):
        values["reason"] = error.reason.value
    values["hint"] = hint_of(error)
    if tensors := getattr(error, "tensors", ()):
        values["tensors"] = list(tensors)
    return values


def message_of(error: Exception) -> str:
    """Return what was wrong, without the names of Python's classes."""
    if not is_expected(error):
        return f"this is a bug in nnguard {nnguard.__version__}"
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, errors.LockedTrialError):
        return "LOCKED TRIAL, not the product"
    if isinstance(error, click.ClickException):
        return _message_of_usage(error)
    if isinstance(error, FileExistsError):
        return str(error).replace("overwrite=True replaces", "--force overwrites")
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    usual = error.strerror[:1].lower() + error.strerror[1:]
    what, _ = _SYSTEM.get(error.errno or 0, (usual, ""))
    return what if error.filename is None else f"{what}: {os.fsdecode(error.filename)}"


def hint_of(error: Exception) -> str:
    """Return what to do."""
    if not is_expected(error):
        return "please report it, with the lines above"
    if isinstance(error, click.ClickException):
        return _hint_for_usage(error)
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return _hint_for_missing(Path(os.fsdecode(error.filename)))
    if isinstance(error, OSError) and not getattr(error, "hint", ""):
        return _SYSTEM.get(error.errno or 0, ("", ""))[1]
    if isinstance(error, MemoryError):
        return "use a machine with more, or fewer --workers"
    hint = _ARGUMENT.sub(
        lambda found: "--" + found[1].replace("_", "-"), str(getattr(error, "hint", ""))
    )
    return hint or next((what for kind, what in _ADVICE.items() if isinstance(error, kind)), "")


def _message_of_usage(error: click.ClickException) -> str:
    """Return what is wrong with the words of a command."""
    if isinstance(error, click.exceptions.NoSuchOption):
        return f"there is no option {error.option_name}"
    if isinstance(error, click.exceptions.NoSuchCommand):
        return f"there is no command {error.command_name}"
    name = ""
    if isinstance(error, click.BadParameter) and error.param is not None:
        name = _name_of(error.param)
    if isinstance(error, click.exceptions.MissingParameter):
        return f"{name} is missing"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name} needs a value"
    message = error.message.rstrip(".")
    return f"{name}: {message}" if name else message[:1].lower() + message[1:]


def _hint_for_usage(error: click.ClickException) -> str:
    meant = getattr(error, "possibilities", None)
    if meant:
        return f"did you mean {' or '.join(meant[:2])}?"
    param = getattr(error, "param", None)
    if isinstance(error, click.exceptions.MissingParameter) and param is not None:
        what = re.split("[:;.]", param.help)[0]
        otherwise = f", or set {param.envvar}" if getattr(param, "envvar", None) else ""
        return f"give the {what[:1].lower()}{what[1:]}{otherwise}"
    if isinstance(error, click.BadOptionUsage):
        return "write it after the option"
    context = getattr(error, "ctx", None) or click.get_current_context(silent=True)
    plain = type(error) is click.UsageError and context is None
    return "" if context is None or plain else f"see {context.command_path} --help"


def _name_of(param: click.Parameter) -> str:
    """Return the name of a parameter, as it is written."""
    if isinstance(param, click.Argument):
        return param.make_metavar(click.Context(click.Command(None))).strip("[].")
    return max(param.opts, key=len)


def _hint_for_missing(path: Path) -> str:
    """Return the name of a file beside one that does not exist, or that its folder does not."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    if folder != path.parent:
        return f"there is no folder {path.parent}"
    with contextlib.suppress(OSError):
        near = get_close_matches(path.name, [beside.name for beside in folder.iterdir()], n=1)
        return f"did you mean {folder / near[0]}?" if near else "is the name right?"
    return ""


def check_credentials(command: click.Command, values: dict[str, Any]) -> None:
    """Make sure that a command writes nothing over a key or license that it reads.

    Raises:
        UsageError: Not even with `--force`: nobody has a key a second time.
    """
    paths = {
        param: Path(value).resolve()
        for param in command.params
        if isinstance(param.type, click.Path) and isinstance(value := values[param.name or ""], str)
    }
    outputs = {path for param, path in paths.items() if hasattr(param.type, "check")}
    for param, path in paths.items():
        written = hasattr(param.type, "check") or isinstance(param, click.Argument)
        if param.name in _EXPECTED and not written and path in outputs:
            raise click.UsageError(
                f"{values[param.name]} is what {_name_of(param)} names, and would be overwritten: "
                "write elsewhere"
            )


def swapped(command: click.Command, values: dict[str, Any]) -> str:
    """Return which option of a command names a file of another kind than it takes, if one does."""
    from nnguard._stream.kinds import recognize  # here, as it takes a while
    from nnguard._stream.source import FileSource

    for param in command.params:
        expected, path = _EXPECTED.get(param.name or ""), values.get(param.name or "")
        if expected is not None and isinstance(path, str):
            with contextlib.suppress(OSError):
                kind = recognize(FileSource(path))
                also = "JSON" if param.name == "policy" else expected
                if kind is not None and kind.what not in (expected, also):
                    hint = f"; {kind.hint}" if kind.hint else ""
                    return f"{_name_of(param)} takes {expected}, and {path} is {kind.what}{hint}"
    return ""
