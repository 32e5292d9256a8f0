"""Writing a policy as TOML, for people to go on from.

Law: `TrustPolicy.parse(write_toml(policy.to_json())) == policy`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["write_toml"]

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def write_toml(members: dict[str, Any]) -> str:
    """Return a policy's members as TOML."""
    return "\n".join(_lines(members)) + "\n"


def _lines(members: dict[str, Any]) -> Iterator[str]:
    yield from _pairs({name: members[name] for name in ("version", "expires") if name in members})
    if "root" in members:
        yield from ("", "[root]", *_pairs(members["root"]))
    for name, key in members["keys"].items():
        yield from ("", f"[keys.{name if _BARE.fullmatch(name) else _value(name)}]", *_pairs(key))
    for rule in members["rules"]:
        yield from ("", "[[rules]]", *_pairs(rule))


def _pairs(members: dict[str, Any]) -> Iterator[str]:
    return (f"{name} = {_value(value)}" for name, value in members.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str) and "\n" in value and _is_plain(value):
        return f'"""\n{value}"""'
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_plain(text: str) -> bool:
    """Tell whether a text of several lines, such as PEM, may stand as it is."""
    return all(char == "\n" or (" " <= char <= "~" and char not in '"\\') for char in text)
