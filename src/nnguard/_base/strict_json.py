"""JSON from outside, read in one way only."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_json"]


def parse_json(data: bytes) -> Any:
    """Read JSON in UTF-8 that has no name twice in an object, no NaN, and no half surrogate pairs.

    Raises:
        ValueError: It is something else.
    """
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_no_number, strict=True
        )
        if b"\\u" in data:  # "\ud800" makes text that no encoding has
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
