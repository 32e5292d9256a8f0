"""What commands print: results, warnings, progress."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import click

from nnguard._base.texts import visible

__all__ = [
    "Outcome",
    "brief",
    "progress_bar",
    "say",
    "show",
    "styled",
    "table",
    "warn",
    "warnings_shown",
]

_COLUMN = 64
"""Characters of a tensor's name that are shown in a table, at most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did.

    Attributes:
        values: For machines, as JSON.
        lines: For people.
        code: Exit code.
    """

    values: dict[str, Any]
    lines: Iterable[str]
    code: int = 0


def show(outcome: Outcome, *, as_json: bool, quiet: bool) -> int:
    """Print what a command did, and return its exit code."""
    if as_json:
        print_json({"ok": not outcome.code, **outcome.values})
    elif not quiet:
        for line in outcome.lines:
            say(line)
    return outcome.code


def print_json(value: Any) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=2))


def say(text: str, *, file: TextIO | None = None, lead: str = "", style: str = "") -> None:
    """Print a line, with what a terminal would act upon, or cannot show, made visible.

    Args:
        text: The line.
        file: Where to; standard output, if not given.
        lead: What the line begins with.
        style: Color of the lead, where the terminal has colors and nobody minds.
    """
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(
        styled(lead, style, file)
        + visible(text).encode(encoding, "backslashreplace").decode(encoding),
        file=file,
    )


def styled(text: str, color: str, file: TextIO) -> str:
    """Return text in a color, where a terminal shows it and `NO_COLOR` is not set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not file.isatty()
    return text if plain or not color else click.style(text, fg=color, bold=True)


def warn(text: str) -> None:
    """Print a line for people to standard error, above a progress bar where there is one."""
    if not _is_quiet():
        with _above_bar():
            say(text, file=sys.stderr, lead="nnguard: ", style="yellow")


class _Warnings(logging.Handler):
    """Shows what nnguard warns of, each thing once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._shown:
            self._shown.add(message)
            warn(message)


@contextlib.contextmanager
def warnings_shown(*, for_people: bool = True) -> Iterator[None]:
    """Show what nnguard warns of, unless standard error is for machines."""
    handler = _Warnings() if for_people else logging.NullHandler()
    logging.getLogger("nnguard").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("nnguard").removeHandler(handler)


def brief(name: str) -> str:
    """Return the name of a tensor for a column: long ones are cut."""
    return name if len(name) <= _COLUMN else f"{name[: _COLUMN - 3]}..."


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], right: str = "") -> list[str]:
    """Return the lines of a table.

    Args:
        headings: Of the columns.
        rows: Their cells.
        right: Headings of those columns whose cells stand to the right, separated by `|`.
    """
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = right.split("|")
    return [
        "  ".join(
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for heading, cell, width in zip(headings, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


@contextlib.contextmanager
def progress_bar(
    total: int | None, what: str, unit: str = "B"
) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal once the work has taken a second."""
    if not sys.stderr.isatty() or os.environ.get("NO_PROGRESS") or _is_quiet():
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(
        total=total, desc=what, unit=unit, unit_scale=True, delay=1, leave=False, dynamic_ncols=True
    ) as bar:
        yield bar.update


def _is_quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("quiet"))


def _above_bar() -> contextlib.AbstractContextManager[Any]:
    if "tqdm" not in sys.modules:
        return contextlib.nullcontext()
    bars: contextlib.AbstractContextManager[Any] = sys.modules["tqdm"].tqdm.external_write_mode(
        file=sys.stderr
    )
    return bars
