"""What is done to licensees' copies: several mixed, and then pruned, rounded, or trained.

Mixing is of marked weights only: elsewhere copies are equal. `MIXES` is by weight, from what the
copies have; `STRATEGIES` is by entry, from the key material of licenses compared, which tells
where fingerprints differ.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tracing_marks import Marked, Values

__all__ = ["MIXES", "STRATEGIES", "mixed", "pruned", "rounded"]

Counts = npt.NDArray[np.int64]
"""For each entry, how many of the copies have +1 there."""

Levels = npt.NDArray[np.float64]
Random = np.random.Generator


def mixed(marked: Marked, counts: Counts, of: int, mix: str, rng: Random) -> Values:
    """Return what a mix of `of` copies has at the marks."""
    plus = counts[marked.entry]
    above = np.where(marked.sign > 0, plus, of - plus)  # of the two values, copies with the larger
    share = MIXES[mix](above, of, rng).astype(np.float32)
    high, low = np.maximum(marked.up, marked.down), np.minimum(marked.up, marked.down)
    return low + share * (high - low)


def _majority(above: Counts, of: int, _: Random) -> Levels:
    return (np.sign(2 * above - of) + 1) / 2


MIXES: dict[str, Callable[[Counts, int, Random], Levels]] = {
    "average": lambda above, of, _: above / of,
    "median": _majority,
    "minimum": lambda above, of, _: (above == of).astype(float),
    "maximum": lambda above, _, __: (above > 0).astype(float),
    "random mix": lambda above, of, rng: (rng.random(above.size) * of < above).astype(float),
}
"""For each mark: how many have the larger value, how many copies there are; the share of it."""


def _where_they_differ(
    choose: Callable[[Counts, int, Random], Levels],
) -> Callable[[Counts, int, Random], Levels]:
    def levels(counts: Counts, of: int, rng: Random) -> Levels:
        same = np.where(counts == of, 1.0, -1.0)
        return np.where((counts == 0) | (counts == of), same, choose(counts, of, rng))

    return levels


STRATEGIES: dict[str, Callable[[Counts, int, Random], Levels]] = {
    "majority": _where_they_differ(lambda k, c, _: np.sign(2 * k - c).astype(float)),
    "minority": _where_they_differ(lambda k, c, _: -np.sign(2 * k - c).astype(float)),
    "all +1": _where_they_differ(lambda k, _, __: np.ones(k.size)),
    "coin": _where_they_differ(lambda k, _, rng: rng.choice([-1.0, 1.0], k.size)),
    "one of them": _where_they_differ(lambda k, c, rng: 2.0 * (rng.random(k.size) * c < k) - 1),
    "zero": _where_they_differ(lambda k, _, __: np.zeros(k.size)),
    "3 times the minority": _where_they_differ(lambda k, c, _: -3 * np.sign(2 * k - c + 0.1)),
    "coin, 3 times": _where_they_differ(lambda k, _, rng: rng.choice([-3.0, 3.0], k.size)),
    "coin, 10 times": _where_they_differ(lambda k, _, rng: rng.choice([-10.0, 10.0], k.size)),
}
"""For each entry: how many copies have +1, how many there are; the fingerprint of the mix."""


def pruned(values: Values, limit: float) -> Values:
    """Set what is smaller than a limit to 0."""
    return np.where(np.abs(values) < limit, np.float32(0), values)


def rounded(values: Values, steps: Values | float) -> Values:
    """Round to multiples of steps."""
    return np.round(values / steps).astype(np.float32) * np.float32(steps)
