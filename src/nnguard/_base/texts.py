"""Text of others, which may be long, and have line ends, and what a terminal acts upon."""

from __future__ import annotations

__all__ = ["shown", "visible"]

_SHOWN = 100
"""Characters of a text of others that a message shows, at most."""


def shown(text: str) -> str:
    """Return as much of a text, which may be anybody's, as a message should show."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def visible(text: str) -> str:
    """Return text in one line, with an escape for each character that does not print."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
