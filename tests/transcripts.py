"""What a command printed, how tests run one, and what a failure looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Result", "Run", "is_one_line"]

_PYTHON = re.compile(r"Traceback|[A-Z]\w+Error\b|Errno|NoneType|<class|\bself\b")


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


def is_one_line(text: str) -> bool:
    """Return whether a failure is one line of nnguard's, in words that are not Python's."""
    one = text.startswith("nnguard: ") and text.count("\n") == 1 and text.endswith("\n")
    return one and not _PYTHON.search(text)
