"""How options are written down, the kinds of values that they take, and those of several commands.

An option is declared as people write it: `option("--meta KEY=VALUE...", "Anything else.")`. What
stands for the value tells its kind; three dots say that it may be repeated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

import nnguard
from nnguard._base.times import EXAMPLES, UNITS, now, to_utc
from nnguard.errors import ArgumentError

if TYPE_CHECKING:
    from nnguard.oms import Bundle

__all__ = [
    "AUTHORITY",
    "FORCE",
    "OMS",
    "REMEMBERED",
    "argument",
    "authority",
    "bundle_of",
    "check_output",
    "option",
    "output",
    "read_duration",
    "read_expected",
    "read_number",
    "read_share",
    "read_time",
    "under",
]


class _Path(click.Path):
    """The name of a file or folder to read."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Refuse what is left of a shell variable that is not set; it would be this folder."""
        if not value:
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class _OutputPath(_Path):
    """The name of a file or folder to write."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Refuse standard output, which would have a file before all of it is checked."""
        if value == "-":
            self.fail(
                "standard output would have parts before all is checked: name a file", param, ctx
            )
        return super().convert(value, param, ctx)

    def check(self, value: str | None, *, overwrite: bool) -> None:
        """Stop before any work is done for what could not be written in the end."""
        if value is not None:
            check_output(Path(value), overwrite=overwrite)


class _InnerPath(_OutputPath):
    """The name of a file to write, perhaps into a folder that the command makes first."""

    def check(self, value: str | None, *, overwrite: bool) -> None:
        """Leave it to the command."""


class _Read(click.ParamType[Any]):
    """A value that a function reads; it raises ValueError."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        self.name, self.read = read.__name__, read

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def read_number(text: str) -> float:
    """Read a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a number")
    return number


def read_share(text: str) -> float:
    """Read a number above 0 and at most 1."""
    share = read_number(text)
    if not 0 < share <= 1:
        raise ValueError(f"{text!r} is not above 0 and at most 1")
    return share


def read_pair(text: str) -> tuple[str, str]:
    """Read `KEY=VALUE`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    return key, value


def read_duration(text: str) -> timedelta:
    """Read a length of time: `12h`, `7d` or just `7`, `2w`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw]?)", text, re.ASCII)
    try:
        return float(found[1]) * UNITS[found[2] or "d"]  # type: ignore[index]
    except (TypeError, OverflowError):
        raise ValueError(f"{text!r} is not a length of time, such as 7d, 12h or 2w") from None


def read_date(text: str) -> datetime:
    """Read a date or a time in ISO 8601, UTC where it does not say."""
    try:
        return to_utc(text)
    except ArgumentError:
        raise ValueError(f"{text!r} is not a date or time, {EXAMPLES}") from None


def read_time(text: str) -> datetime:
    """Read a date or a time, or a length of time from now: `30d`."""
    if not re.fullmatch(r"[\d.]+[hdw]", text, re.ASCII):
        try:
            return read_date(text)
        except ValueError as error:
            raise ValueError(f"{error}, or 30d, from now") from None
    try:
        return now() + read_duration(text)
    except OverflowError:
        raise ValueError(f"{text!r} from now is too far out; give a date") from None


def read_expected(text: str) -> str:
    """Read what a release has to claim: of a shell variable that is not set, nothing is left."""
    if not text:
        raise ValueError("there is nothing to expect; leave the option out, or give it a value")
    return text


_KINDS: dict[str, Any] = {
    "FILE": _Path(readable=False),
    "PATH": _Path(readable=False),
    "OUTPUT": _OutputPath(),
    "INNER": _InnerPath(),
    "N": int,
    "SCORE": _Read(read_number),
    "SHARE": _Read(read_share),
    "TIME": _Read(read_time),
    "DATE": _Read(read_date),
    "DURATION": _Read(read_duration),
    "KEY=VALUE": _Read(read_pair),
}
"""What stands for a value to its kind; anything else is text."""


def option(declaration: str, help: str, **attributes: Any) -> click.Option:  # noqa: A002
    """Make an option.

    Args:
        declaration: Names, and what stands for the value, if there is one: `-o --output FILE`.
        help: What it says, or does.
        attributes: Others of `click.Option`; `read`, a function, reads the value.
    """
    words = declaration.split(" ")
    names = [word for word in words if word.startswith("-")]
    if names == words:
        return click.Option(names, is_flag=True, help=help, **attributes)
    metavar, many = words[-1].removesuffix("..."), words[-1].endswith("...")
    kind = _KINDS.get(metavar, str)
    if "read" in attributes:
        kind = _Read(attributes.pop("read"))
    shown = attributes.get("default") not in (None, "", 0, "0", "0d")
    attributes.setdefault("show_default", shown)
    if kind is str and not many and not attributes.get("required"):
        attributes.setdefault("default", "")
    metavar = "FILE" if isinstance(kind, _OutputPath) else metavar
    return click.Option(names, metavar=metavar, type=kind, help=help, multiple=many, **attributes)


def argument(declaration: str, help: str, **attributes: Any) -> click.Argument:  # noqa: A002
    """Make an argument that names a file, or several: `FILE...`."""
    name, many = declaration.removesuffix("..."), declaration.endswith("...")
    common: dict[str, Any] = {
        "required": True,
        "type": _Path(readable=False),
        "nargs": -1 if many else 1,
    }
    names = [name.lower() + "s" * many]
    return click.Argument(names, metavar=declaration, help=help, **(common | attributes))


def under(heading: str, *options: click.Option) -> list[click.Option]:
    """Put options under a heading of the help."""
    for each in options:
        each.heading = heading  # type: ignore[attr-defined]
    return [*options]


def output(what: str) -> list[click.Parameter]:
    """Make the options for the file that a command writes."""
    return [option("-o --output OUTPUT", f"{what} to write.", required=True), FORCE]


def authority(options: SimpleNamespace) -> dict[str, Any]:
    """Return the arguments that say whom to believe, as far as a command has options for them."""
    if not options.trust and options.policy is None:
        raise click.UsageError("--trust is missing; give the trusted public keys, or a --policy")
    given = {**vars(options), "trust": options.trust or None}
    return {name: given[name] for name in ("trust", "policy", "state", "latest") if name in given}


def bundle_of(options: SimpleNamespace) -> Callable[[], Bundle | None]:
    """Return what opens the bundle that the options of `OMS` name, if they name one."""
    if options.oms is None and not options.oms_trust:
        return lambda: None
    if options.oms is None or not options.oms_trust:
        raise click.UsageError("--oms and --oms-trust belong together: give both")
    return lambda: nnguard.oms.Bundle.open(options.oms, options.oms_trust)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Stop before any work is done for one file or folder.

    Raises:
        OSError: It could not be written in the end.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; --force overwrites it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise FileExistsError(f"{path} exists already, and is not a regular file; write elsewhere")


FORCE = option("-f --force", "Overwrite files that exist.")
REMEMBERED = [
    option("--state FILE", "Remember release numbers here, and refuse older releases."),
    option("--latest FILE", "The vendor's statement on which release is the newest."),
]
OMS = under(
    "OpenSSF Model Signing",
    option("--oms FILE", "A bundle, which has to have signed the same files."),
    option(
        "--oms-trust PATH...",
        "ECDSA keys that may sign the bundle: PEM files, or folders of them; may be repeated.",
    ),
)
AUTHORITY = [
    option(
        "--trust PATH...",
        "Trusted public keys: a PEM file with one or more, or a folder of them; may be repeated.",
    ),
    option("--policy FILE", "Trust policy, in place of --trust (nnguard policy)."),
]
