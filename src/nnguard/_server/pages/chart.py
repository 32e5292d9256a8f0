"""A plot of numbers of days, as bars whose places are computed here and drawn by a template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

__all__ = ["Bar", "Chart", "chart_of"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 40, 12, 752, 188
_GAP = 0.28
_LABELS = 6
_LEAST = 4
"""What the scale reaches at least."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A day.

    Attributes:
        day: Which.
        count: Its number.
        x, y, width, height: Where its bar is.
        middle: Where the middle of its bar is.
    """

    day: date
    count: int
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Where its label goes."""
        return self.x + self.width / 2


@dataclass(frozen=True, slots=True)
class Chart:
    """All of it.

    Attributes:
        bars: Of each day, in order.
        labels: The bars below which their day is written.
        rules: Number and height of each line across.
        total: Of all days.
        left, right, base: Where lines begin and end, and where bars stand.
    """

    bars: tuple[Bar, ...]
    labels: tuple[Bar, ...]
    rules: tuple[tuple[int, float], ...]
    total: int
    left: int = _LEFT
    right: int = _LEFT + _WIDTH
    base: int = _TOP + _HEIGHT


def chart_of(counts: Mapping[date, int], last: date, days: int) -> Chart:
    """Lay out a plot.

    Args:
        counts: Number of each day that has any.
        last: The last day.
        days: How many days there are.
    """
    top, step = _scale(max(_LEAST, *counts.values()) if counts else _LEAST)
    slot = _WIDTH / days
    bars = []
    for place in range(days):
        day = last - timedelta(days=days - 1 - place)
        height = counts.get(day, 0) / top * _HEIGHT
        x, y = _LEFT + (place + _GAP / 2) * slot, _TOP + _HEIGHT - height
        bars.append(Bar(day, counts.get(day, 0), x, y, slot * (1 - _GAP), height))
    every = -(-days // _LABELS)
    rules = [(number, _TOP + _HEIGHT * (1 - number / top)) for number in range(0, top + 1, step)]
    total = sum(bar.count for bar in bars)
    return Chart(tuple(bars), tuple(bars[every // 2 :: every]), tuple(rules), total)


def _scale(most: int) -> tuple[int, int]:
    """Return a round number that is large enough, and the step between lines."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            step = factor * power
            if 4 * step >= most:
                return max(step, -(-most // step) * step), step
        power *= 10
