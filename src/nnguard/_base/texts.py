"""Text of others, which may have line ends, and what a terminal acts upon."""

from __future__ import annotations

__all__ = ["visible"]


def visible(text: str) -> str:
    """Return text in one line, with an escape for each character that does not print."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
