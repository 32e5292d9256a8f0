"""What a seller asks for, and gets: tiers, and locked streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

from nnguard._crypto.content_key import ContentKey
from nnguard._locking.search import CurvePoint
from nnguard._models.stream_set import StreamSet
from nnguard._stream import Stream, StreamLike

__all__ = [
    "DEFAULT_SCRAMBLE",
    "MAX_TIERS",
    "LockResult",
    "LockScores",
    "Locked",
    "LockedSet",
    "Tier",
]

MAX_TIERS = 8
"""Locks on one release, at most."""

DEFAULT_SCRAMBLE = 0.05
"""Of all weights, how many are in tensors that are scrambled, where nothing else is asked for."""

_FRACTION, _ENOUGH = 1e-4, 4096
"""Weights that a soft lock replaces where nothing else is asked for: a fraction of all, and no more
than these. Unlocking a large network then takes no longer than unlocking a small one."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A quality of a release, and what is left of it without a license.

    Attributes:
        name: What a license of this tier opens.
        trial: Another network, which is given away and carries the release: the strongest lock. A
            set, or the path of a folder, where a set is locked.
        scramble: Scramble the first tensors with this fraction of all weights, and all of one
            dimension; or tensors of these names, or patterns of names. Where neither a trial nor a
            soft lock is asked for, 0.05 of all weights.
        soft: Replace a few weights. Anybody can repair that with a few labeled inputs.
        fraction: Of all weights, how many a soft lock replaces. 1e-4, and 4,096 weights at most, if
            not given.
        target: Score to reach, instead of a fraction.
        tolerance: How far the score may be from the target, either way.
        max_fraction: Weights that may be replaced to reach the target.
    """

    name: str
    _: KW_ONLY
    trial: StreamLike | StreamSet | None = None
    scramble: float | Sequence[str] | None = None
    soft: bool = False
    fraction: float | None = None
    target: float | None = None
    tolerance: float = 0.01
    max_fraction: float = 1e-2

    def __post_init__(self) -> None:
        if self.trial is not None and (self.replaces or self.scramble is not None):
            raise ValueError(
                "either a trial, or scramble or soft: where another network is the trial, it has "
                "nothing of the release that could be scrambled or replaced"
            )
        if self.fraction is not None and self.target is not None:
            raise ValueError("either a fraction or a target, not both")
        if self.target is not None and self.scramble:
            raise ValueError("scrambled tensors leave nothing to aim at: no target with scramble")
        if isinstance(self.scramble, str):
            raise ValueError("names of tensors to scramble are a list, even a single one")
        for value in (self.fraction, self.max_fraction, self.scramble):
            if isinstance(value, float | int) and not 0 <= value <= 1:
                raise ValueError(f"{value} is not a fraction of the weights")
        if not self.scrambling and not self.replaces and self.trial is None:
            raise ValueError("a lock that scrambles nothing needs a trial, or is soft")
        if self.fraction == 0 and not self.scramble:
            raise ValueError("a lock that replaces nothing needs scramble")
        if not self.tolerance > 0:
            raise ValueError("the tolerance has to be above 0")

    @property
    def replaces(self) -> bool:
        """Whether the lock replaces weights."""
        return self.soft or self.fraction is not None or self.target is not None

    @property
    def scrambling(self) -> float | Sequence[str]:
        """What is scrambled in fact, `scramble` or its default: a fraction, or names of tensors."""
        if self.scramble is not None:
            return self.scramble
        return 0.0 if self.replaces else DEFAULT_SCRAMBLE

    def most_of(self, weights: int) -> int:
        """Return how many weights are replaced, at most, of so many."""
        if not self.replaces:
            return 0
        if self.target is None and self.fraction is None:
            return min(_at_least_one(_FRACTION, weights), _ENOUGH)
        fraction = self.max_fraction if self.fraction is None else self.fraction
        return _at_least_one(fraction, weights)


@dataclass(frozen=True, slots=True)
class LockScores:
    """What the seller's function said of a lock.

    Attributes:
        release: Of what was locked.
        trial: Of what is given away.
        unlocked: Of what the content key makes of the trial.
    """

    release: float
    trial: float
    unlocked: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LockResult:
    """What a lock is, but for the trial.

    Attributes:
        content_key: Opens the trial, and the locks of all lower tiers as well.
        tier: What it opens.
        weights: Weights of the release, in tensors of two dimensions or more.
        carried: Bytes of the release that are in the trial, encrypted, where the trial is another
            network.
        scrambled: Weights in tensors that are scrambled.
        replaced: Weights that were replaced.
        target: Score that was to be reached.
        tolerance: How far the score may be from the target, either way.
        curve: What `evaluate` said in search of a target, in the order of asking; the last is the
            trial itself.
        scores: What `evaluate` said, where there was no target.
    """

    content_key: ContentKey
    tier: str
    weights: int
    carried: int = 0
    scrambled: int = 0
    replaced: int = 0
    target: float | None = None
    tolerance: float = 0.0
    curve: tuple[CurvePoint, ...] = ()
    scores: LockScores | None = None

    @property
    def worth(self) -> str:
        """What the lock is worth by itself, in one line; locks of other tiers do not count."""
        if self.carried:
            return (
                "without a license one has the network that is the trial, and nothing of the "
                "release but what both share"
            )
        if self.scrambled >= DEFAULT_SCRAMBLE * self.weights:
            return "without a license one has to train what is scrambled anew"
        if self.scrambled:
            return (
                f"less than {DEFAULT_SCRAMBLE:.0%} of the weights are scrambled: training that "
                "anew may be easy"
            )
        return "a demonstration: anybody can repair it with a few labeled inputs"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Locked(LockResult):
    """A locked stream and its key. Unpacks to these two.

    Attributes:
        stream: The trial, which every NNCodec decoder reads.
    """

    stream: Stream

    def __iter__(self) -> Iterator[Stream | ContentKey]:
        return iter((self.stream, self.content_key))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LockedSet(LockResult):
    """A locked set of streams and its key.

    Attributes:
        streams: The trial; every NNCodec decoder reads its streams.
    """

    streams: StreamSet


def _at_least_one(fraction: float, weights: int) -> int:
    """Return a fraction of the weights, rounded, but not to none."""
    return max(round(fraction * weights), 1) if fraction else 0
