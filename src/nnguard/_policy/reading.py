"""Reading a policy's text, JSON or TOML, strictly.

What is unknown, stands twice or is of another type is refused, with its place.
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timezone
from difflib import get_close_matches
from typing import Any, TypeVar

from nnguard._base.strict_json import parse_json
from nnguard._base.texts import shown
from nnguard._base.times import to_utc
from nnguard._policy.document import Age
from nnguard.errors import ArgumentError, PolicyError, PolicyReason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["REPAIR", "Node", "malformed", "read_text"]

_MOST = (1 << 63) - 1
"""The largest number in a policy."""

_HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(T{_HOUR}:[0-5][0-9](Z|[+-]{_HOUR}))?")
_AGE = re.compile(r"[1-9][0-9]{0,4}[hdw]", re.ASCII)
REPAIR = "correct the policy, or get it again"
"""What to do about a policy that cannot be read."""


_PART = r"""([A-Za-z0-9_-]+|"[^"\\\n]*(\\.[^"\\\n]*)*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\\-]){_PART}([ \t]*\.[ \t]*{_PART}){{16}}")
"""A key of TOML with so many dots: parsing it takes time and memory that grow with their square."""

_Choice = TypeVar("_Choice", bound=enum.Enum)


def malformed(message: str, hint: str = "") -> PolicyError:
    """Return the error about a policy that cannot be read."""
    hint = hint or REPAIR
    return PolicyError(message, reason=PolicyReason.MALFORMED, hint=hint)


def read_text(text: str, *, json_only: bool = False) -> Node:
    """Read JSON, which begins with `{`, or TOML.

    Raises:
        PolicyError: It is neither, or has a member twice.
    """
    try:
        if json_only or text.lstrip().startswith("{"):
            value = parse_json(text.encode())
        elif _LONG_KEY.search(text):
            raise ValueError("a key has more than 16 dots")
        else:
            value = tomllib.loads(text)
    except RecursionError:  # of TOML
        raise malformed("a trust policy is not nested that deep") from None
    except ValueError as error:
        raise malformed(f"not a trust policy, in JSON or TOML: {shown(str(error))}") from None
    return Node(value)


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a policy, and its place, which errors name.

    Every method raises `PolicyError` where the value is not what it asks for.
    """

    value: Any
    path: str = ""

    def error(self, message: str, hint: str = "") -> PolicyError:
        """Return an error about this place."""
        return malformed(f"{shown(self.path)}: {message}" if self.path else message, hint)

    def entries(self) -> dict[str, Node]:
        """Return the members of an object, whatever their names."""
        if not isinstance(self.value, dict):
            raise self.error("expected an object")
        lead = f"{self.path}." if self.path else ""
        found = {Node(name, self.path).text(): value for name, value in self.value.items()}
        return {name: Node(value, lead + name) for name, value in found.items()}

    def members(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Node]:
        """Return the members of an object that has all of the first, and none but these."""
        found = self.entries()
        known = [*required, *optional]
        for name, node in found.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                raise node.error("unknown member", hint)
        for name in required:
            if name not in found:
                raise self.error(f"{name} is missing")
        return found

    def items(self) -> list[Node]:
        """Return the elements of an array that is not empty."""
        if not isinstance(self.value, list) or not self.value:
            raise self.error("expected an array that is not empty")
        return [Node(value, f"{self.path}[{at}]") for at, value in enumerate(self.value)]

    def text(self) -> str:
        """Return a text."""
        if not isinstance(self.value, str):
            raise self.error("expected text")
        try:
            self.value.encode()
        except UnicodeEncodeError:
            raise self.error("text that UTF-8 cannot hold") from None
        return self.value

    def number(self, least: int) -> int:
        """Return a whole number that is not below `least`."""
        if type(self.value) is not int or not least <= self.value <= _MOST:
            raise self.error(f"expected a whole number, {least} or more")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.error("expected true or false")
        return self.value

    def choice(self, kind: type[_Choice]) -> _Choice:
        """Return one of the values of an enumeration."""
        choices = [each.value for each in kind]
        if self.value not in choices:
            raise self.error(f"expected one of {', '.join(choices)}")
        return kind(self.value)

    def time(self) -> datetime:
        """Return a time; a date is the beginning of that day, UTC. TOML has types for both."""
        value = self.value
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
        elif not isinstance(value, datetime) and not (
            isinstance(value, str) and _TIME.fullmatch(value)
        ):
            raise self.error(_NO_TIME)
        try:
            return to_utc(value)
        except ArgumentError:
            raise self.error(_NO_TIME) from None

    def age(self) -> Age:
        """Return a length of time."""
        if not isinstance(self.value, str) or not _AGE.fullmatch(self.value):
            raise self.error("expected a length of time, such as 12h, 7d or 2w")
        return Age(self.value)


_NO_TIME = "expected a date or a time, such as 2027-12-31 or 2027-12-31T18:00:00Z"
