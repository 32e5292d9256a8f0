"""Armor: bytes as text between two lines, as in PEM, that survives e-mail.

Reading forgives what mail does to text: other line ends and lengths, quote marks, text around.
"""

from __future__ import annotations

import base64
import binascii
import re

from nnguard.errors import LimitError

__all__ = ["read_armor", "write_armor"]

_WIDTH = 64
_MAX_SIZE = 1 << 24


def write_armor(label: str, data: bytes) -> str:
    """Return the armor around bytes, ending with a line end.

    Args:
        label: What they are, in capitals.
        data: Any bytes.
    """
    text = base64.b64encode(data).decode()
    lines = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def read_armor(label: str, text: str) -> bytes:
    """Return the bytes inside the first armor of this label.

    Raises:
        ValueError: There is none, or it is damaged.
        LimitError: The text is too large to be armor.
    """
    if len(text) > _MAX_SIZE:
        raise LimitError(f"armor has at most {_MAX_SIZE} characters")
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    _, found, rest = text.partition(begin)
    body, ended, _ = rest.partition(end)
    if not found:
        raise ValueError(f"there is no line {begin}")
    if not ended:
        raise ValueError(f"there is no line {end}")
    characters = re.sub(r"[\s>|\u00a0\ufeff]", "", body)
    try:
        data = base64.b64decode(characters, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text between its first and last line was changed") from None
    if base64.b64encode(data).decode() != characters:
        raise ValueError("the text between its first and last line was changed")
    return data
