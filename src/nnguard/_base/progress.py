"""Progress, in bytes."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Counter", "Progress", "share_of"]

Progress = Callable[[int], object]
"""Called with the number of bytes done since the last call."""


def share_of(progress: Progress, share: float) -> Progress:
    """Return what tells this share of the bytes: the rest is told by other work on them."""
    return lambda count: progress(round(share * count))


class Counter:
    """Counts the bytes of a file, each once, however often they are reported.

    Args:
        progress: Called with the number of bytes counted since the last call.
        total: How many the file has.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._left = progress or (lambda _: None), total

    def add(self, count: int) -> None:
        """Count more bytes."""
        count = min(count, self._left)
        self._left -= count
        self._progress(count)

    def finish(self) -> None:
        """Count all that are left."""
        self.add(self._left)
