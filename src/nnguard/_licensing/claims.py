"""How claims of licenses, requests and receipts are read: a ValueError where one is wrong."""

from __future__ import annotations

from typing import Any

from nnguard._crypto.keys import PublicKey
from nnguard.errors import KeyFormatError

__all__ = ["DIGEST_SIZE", "ID_SIZE", "KEY_ID_SIZE", "bytes_claim", "key_claim", "text_claim"]

ID_SIZE, DIGEST_SIZE, KEY_ID_SIZE = 16, 32, 8


def text_claim(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def bytes_claim(value: Any, size: int) -> str:
    """Read so many bytes, as hexadecimal."""
    if not isinstance(value, bytes) or len(value) != size:
        raise ValueError("bytes")
    return value.hex()


def key_claim(value: Any) -> PublicKey:
    """Read a request key, which is Ed25519."""
    try:
        return PublicKey.from_raw(value)
    except KeyFormatError:
        raise ValueError("key") from None
