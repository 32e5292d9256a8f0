"""Deterministic CBOR (RFC 8949, section 4.2) of numbers, strings, arrays and maps; no other.

Law: `encode_cbor(parse_cbor(encoded)) == encoded`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cbor2

from nnguard.errors import VerificationError

__all__ = ["ENCRYPT0_TAG", "SIGN1_TAG", "SIGN_TAG", "encode_cbor", "parse_cbor"]

ENCRYPT0_TAG = 16
SIGN1_TAG = 18
SIGN_TAG = 98
_TAGS = {ENCRYPT0_TAG, SIGN1_TAG, SIGN_TAG}
"""Tags of COSE (RFC 9052, section 2) that a message may have in front."""

_LONG = 1 << 16
"""Byte strings of this size or more are not copied."""

_LONG_TAG = 1 << 20
"""Stands for one of them meanwhile; a record has no such tag."""


def parse_cbor(encoded: bytes, *, views: bool = False) -> Any:
    """Decode deterministic CBOR.

    Args:
        encoded: The item.
        views: Return long byte strings as views of `encoded`, which may be as large as a network.

    Raises:
        VerificationError: It is not CBOR, or not deterministically encoded.
    """
    small, large = _hollow(encoded)
    try:
        value = cbor2.loads(small)
        deterministic = encode_cbor(value) == small
        if large:
            value = _filled(value, large if views else [*map(bytes, large)])
    except Exception as error:  # a decoder of hostile input may raise anything
        raise VerificationError(f"the record is not CBOR: {type(error).__name__}") from None
    if not deterministic:
        raise VerificationError("the record is not deterministically encoded CBOR")
    return value


def encode_cbor(value: Any) -> bytes:
    """Encode to deterministic CBOR (RFC 8949, section 4.2)."""
    return cbor2.dumps(value, canonical=True)


def _hollow(encoded: bytes) -> tuple[bytes, list[memoryview]]:
    """Take long byte strings out of CBOR, and leave a tag and their numbers in their places.

    Raises:
        VerificationError: It has something else than numbers, strings, arrays and maps, and one
            COSE tag in front: decoders act on other tags (dates, fractions, regular expressions),
            some at great length. Or the length of a long string is not in its shortest form.
    """
    data = memoryview(encoded)
    parts: list[bytes | memoryview] = []
    large: list[memoryview] = []
    at = done = 0
    while at < len(data):
        start, major, info = at, data[at] >> 5, data[at] & 31
        size = 1 << (info - 24) if info >= 24 else 0
        at += 1 + size
        value = int.from_bytes(data[start + 1 : at], "big") if size else info
        tagged = major == 6 and (start > 0 or value not in _TAGS)
        if info > 27 or major == 7 or tagged:
            break
        if major == 2 and value >= _LONG:
            shortest = encode_cbor(value)
            if bytes([shortest[0] | 2 << 5]) + shortest[1:] != data[start:at]:
                break
            parts += [data[done:start], encode_cbor(cbor2.CBORTag(_LONG_TAG, len(large)))]
            large.append(data[at : at + value])
            done = at + value
        if major in (2, 3):
            at += value
    else:
        if at == len(data):
            return b"".join([*parts, data[done:]]), large
    raise VerificationError("the record is not CBOR of definite lengths and plain types")


def _filled(value: Any, large: Sequence[bytes | memoryview]) -> Any:
    """Put long byte strings back into what was decoded."""
    match value:
        case cbor2.CBORTag(tag=tag, value=inner):
            if tag == _LONG_TAG:
                return large[inner]
            return cbor2.CBORTag(tag, _filled(inner, large))
        case list():
            return [_filled(each, large) for each in value]
        case dict():
            return {key: _filled(each, large) for key, each in value.items()}
    return value
