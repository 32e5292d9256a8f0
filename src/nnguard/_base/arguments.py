"""Arguments as people write them: a value, or the path of a file that holds one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar

from nnguard._base.mappings import FrozenMapping
from nnguard.errors import ArgumentError

__all__ = [
    "as_path",
    "check_text",
    "check_texts",
    "check_type",
    "is_folder",
    "loaded",
    "wrong_type",
]

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


def as_path(value: Any, argument: str = "path") -> Path:
    """Return the path that an argument stands for.

    Raises:
        TypeError: It is not one.
        ArgumentError: It is empty; Python takes that for the current folder.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise wrong_type(argument, "a path", value)
    if not os.fspath(value):
        raise ArgumentError(f"{argument}: the path is empty")
    return Path(value)


def is_folder(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Tell whether this is the path of a folder; an empty one is not."""
    return isinstance(value, str | os.PathLike) and os.fspath(value) != "" and Path(value).is_dir()


def check_type(value: object, kind: type, argument: str) -> None:
    """Make sure that a value is of this kind.

    Raises:
        TypeError: The argument is not.
    """
    if not isinstance(value, kind):
        raise wrong_type(argument, f"{_article(kind.__name__)} {kind.__name__}", value)


def check_text(value: Any, argument: str, limit: int | None = None) -> str:
    """Return a text that UTF-8 can hold.

    Args:
        value: The text.
        argument: What the caller calls it.
        limit: Bytes of UTF-8 that it may have.

    Raises:
        TypeError: The argument is not text.
        ArgumentError: It holds half a surrogate pair, or is too long.
    """
    if not isinstance(value, str):
        raise wrong_type(argument, "text", value)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ArgumentError(f"{argument}: text that UTF-8 cannot hold") from None
    if limit is not None and size > limit:
        raise ArgumentError(f"{argument}: a text of {size:,} bytes; limit {limit:,}")
    return value


def check_texts(given: Any, argument: str, limit: int | None = None) -> FrozenMapping[str]:
    """Return a mapping of texts to texts; errors are those of `check_text`."""
    if not isinstance(given, Mapping):
        raise wrong_type(argument, "a mapping of text to text", given)
    for text in (*given, *given.values()):
        check_text(text, argument, limit)
    return FrozenMapping(given)


def wrong_type(argument: str, expected: str, value: object) -> TypeError:
    """Return the error about an argument of the wrong type, which never shows the value."""
    return TypeError(f"{argument}: expected {expected}, not {type(value).__name__}")


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOU" else "a"
