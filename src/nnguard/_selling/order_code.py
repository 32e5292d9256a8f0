"""Order codes: what a customer gets for money, and types in to take a seat.

A code holds the order's id and a part of an HMAC of it, so that nobody guesses one and no database
holds any. It is Crockford's base32 in groups of 4, and read as people write it: in lower case, with
spaces, with O for 0, and with I or L for 1.

Law: `read_code(secret, make_code(secret, order_id)) == order_id`.
"""

from __future__ import annotations

import hmac

__all__ = ["LABEL", "make_code", "read_code"]

LABEL = b"nnguard order codes v1\0"
"""What the secret is derived for."""

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ = str.maketrans("OIL", "011", "- \t\r\n")
_ID_SIZE, _TAG_SIZE, _GROUP = 8, 8, 4
_SIZE = _ID_SIZE + _TAG_SIZE
_LENGTH = -(-8 * _SIZE // 5)
_PADDING = 5 * _LENGTH - 8 * _SIZE


def make_code(secret: bytes, order_id: str) -> str:
    """Return the code of an order."""
    encoded = bytes.fromhex(order_id)
    number = int.from_bytes(encoded + _tag(secret, encoded), "big") << _PADDING
    digits = [_DIGITS[number >> 5 * place & 31] for place in reversed(range(_LENGTH))]
    return "-".join("".join(digits[at : at + _GROUP]) for at in range(0, _LENGTH, _GROUP))


def read_code(secret: bytes, text: str) -> str | None:
    """Return the id of the order of a code; None where it is the code of none."""
    digits = text.upper().translate(_READ)
    if len(digits) != _LENGTH or not set(digits) <= set(_DIGITS):
        return None
    number = 0
    for digit in digits:
        number = number << 5 | _DIGITS.index(digit)
    if number & (1 << _PADDING) - 1:
        return None
    data = (number >> _PADDING).to_bytes(_SIZE, "big")
    encoded, tag = data[:_ID_SIZE], data[_ID_SIZE:]
    return encoded.hex() if hmac.compare_digest(tag, _tag(secret, encoded)) else None


def _tag(secret: bytes, encoded: bytes) -> bytes:
    return hmac.digest(secret, encoded, "sha256")[:_TAG_SIZE]
