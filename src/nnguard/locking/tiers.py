"""What a seller asks for, and what he gets: tiers, and locked streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nnguard.crypto.content import ContentKey
from nnguard.locking.search import CurvePoint
from nnguard.stream import Stream

__all__ = ["MAX_TIERS", "Locked", "Tier"]

MAX_TIERS = 8
"""Locks on one release, at most."""

_FRACTION, _ENOUGH = 1e-4, 4096
"""Weights that are replaced where nothing else is asked for: a fraction of all, and no more than
these. Unlocking a large network then takes no longer than unlocking a small one."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A quality of a release, and how far the network falls without it.

    Attributes:
        name: What a license of this tier opens.
        fraction: Of all weights, how many are replaced. Where nothing else is given, 1e-4, and
            4,096 weights at most.
        target: Score to reach, instead of a fraction.
        tolerance: How far the score may be from the target, either way.
        max_fraction: Weights that may be replaced to reach the target.
        scramble: Of all weights, how many are in tensors whose signs are encrypted.
    """

    name: str
    fraction: float | None = None
    target: float | None = None
    tolerance: float = 0.01
    max_fraction: float = 1e-3
    scramble: float = 0.0

    def __post_init__(self) -> None:
        if self.fraction is not None and self.target is not None:
            raise ValueError("either a fraction or a target, not both")
        if self.target is not None and self.scramble:
            raise ValueError("scrambled signs leave nothing to aim at: no target with scramble")
        for value in (self.fraction, self.max_fraction, self.scramble):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{value} is no fraction of the weights")
        if self.target is None and self.fraction == 0 and not self.scramble:
            raise ValueError("a lock that replaces nothing needs scramble")
        if not self.tolerance > 0:
            raise ValueError("the tolerance has to be above 0")

    def most_of(self, weights: int) -> int:
        """Return how many weights are replaced, at most, of so many."""
        if self.target is None and self.fraction is None:
            return 0 if self.scramble else min(_at_least_one(_FRACTION, weights), _ENOUGH)
        fraction = self.max_fraction if self.fraction is None else self.fraction
        return _at_least_one(fraction, weights)


@dataclass(frozen=True, slots=True, eq=False)
class Locked:
    """A locked stream and its key. Unpacks to these two.

    Attributes:
        stream: The trial, which every NNCodec decoder reads.
        content_key: Opens it. It opens the locks of all lower tiers as well.
        tier: What it opens.
        replaced: Weights that were replaced.
        scrambled: Weights in tensors whose signs are encrypted.
        weights: Weights of the network, in tensors of two dimensions or more.
        curve: What `evaluate` said, in the order of asking; the last is the trial itself.
    """

    stream: Stream
    content_key: ContentKey
    tier: str
    replaced: int
    scrambled: int
    weights: int
    curve: tuple[CurvePoint, ...]

    def __iter__(self) -> Iterator[Stream | ContentKey]:
        return iter((self.stream, self.content_key))


def _at_least_one(fraction: float, weights: int) -> int:
    """Return a fraction of the weights, rounded, but not to none."""
    return max(round(fraction * weights), 1) if fraction else 0
