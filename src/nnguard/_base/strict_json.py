"""JSON from outside, read in one way only."""

from __future__ import annotations

import json
from typing import Any

from nnguard._base.texts import shown

__all__ = ["parse_json", "parse_sha256"]

_DIGEST_SIZE = 32


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
    except UnicodeEncodeError:
        raise ValueError("text that UTF-8 cannot hold") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def parse_sha256(text: Any) -> bytes:
    """Read a SHA-256 in hexadecimal, of which there is one form.

    Raises:
        ValueError: It is something else.
    """
    digest = bytes.fromhex(text) if isinstance(text, str) else b""
    if digest.hex() != text or len(digest) != _DIGEST_SIZE:
        raise ValueError("a digest is not a SHA-256 in lowercase hexadecimal")
    return digest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shown(name)!r} stands there twice")
        found[name] = value
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
