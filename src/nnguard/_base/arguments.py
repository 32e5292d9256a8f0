"""Arguments as people write them: a value, or the path of a file that holds one."""

from __future__ import annotations

import os
from typing import Any, Protocol, TypeVar

from nnguard.errors import ArgumentError

__all__ = ["check_text", "check_type", "loaded", "wrong_type"]

_Loads = TypeVar("_Loads", bound="_Loadable")


class _Loadable(Protocol):
    @classmethod
    def load(cls: type[_Loads], path: str | os.PathLike[str]) -> _Loads: ...


def loaded(value: Any, kind: type[_Loads], argument: str) -> _Loads:
    """Return a value of this kind, or the one in the file of this path.

    Raises:
        TypeError: The argument is neither.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, (str, os.PathLike)):
        return kind.load(value)
    raise wrong_type(argument, f"a path or {_article(kind.__name__)} {kind.__name__}", value)


def check_type(value: object, kind: type, argument: str) -> None:
    """Make sure that a value is of this kind.

    Raises:
        TypeError: The argument is not.
    """
    if not isinstance(value, kind):
        raise wrong_type(argument, f"{_article(kind.__name__)} {kind.__name__}", value)


def check_text(value: Any, argument: str) -> str:
    """Return a text that UTF-8 can hold.

    Raises:
        TypeError: The argument is not text.
        ArgumentError: It holds half a surrogate pair.
    """
    if not isinstance(value, str):
        raise wrong_type(argument, "text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{argument}: text that UTF-8 cannot hold") from None
    return value


def wrong_type(argument: str, expected: str, value: object) -> TypeError:
    """Return the error about an argument of the wrong type, which never shows the value."""
    return TypeError(f"{argument}: expected {expected}, not {type(value).__name__}")


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOU" else "a"
