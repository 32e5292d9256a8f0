"""What a seller asks for, and gets: tiers, and locked models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

from nnguard._base.arguments import check_text, check_type
from nnguard._base.html import html_table
from nnguard._crypto.content_key import ContentKey
from nnguard._locking.choice import Importance
from nnguard._locking.search import CurvePoint
from nnguard._models.stream_set import Model, ModelLike
from nnguard.errors import ArgumentError

__all__ = ["MAX_TIERS", "LockScores", "Locked", "Soft", "Tier"]

MAX_TIERS = 8
"""Locks on one release, at most."""

_DEFAULT_SCRAMBLE = 0.05
"""Of all weights, how many are in tensors that are scrambled, where nothing else is asked for."""

_FRACTION, _ENOUGH = 1e-4, 4096
"""Weights that a soft lock replaces where nothing else is asked for: a fraction of all, and no more
than these. Unlocking a large network then takes no longer than unlocking a small one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """A soft lock: a few weights are replaced. Anybody can repair that with a few labeled inputs.

    Attributes:
        fraction: Of all weights, how many are replaced: 1e-4, and 4,096 weights at most, if neither
            this nor a target is given.
        target: Score that the trial is to have, instead of a fraction.
        tolerance: How far the trial's score may be from the target, either way.
        max_fraction: Weights that may be replaced to reach the target.
        importance: How much the network depends on each weight, by name of the tensor; see
            `nnguard.torch.importance`. By default, magnitude within the tensor.

    Raises:
        ArgumentError: These contradict each other, or cannot be.

    Examples:
        >>> locked = nnguard.lock("release.nnc", soft=nnguard.Soft(fraction=0.001))
        >>> locked.worth
        'a demonstration: anybody can repair it with a few labeled inputs'
    """

    fraction: float | None = None
    target: float | None = None
    tolerance: float = 0.01
    max_fraction: float = 1e-2
    importance: Importance | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.fraction is not None and self.target is not None:
            raise ArgumentError("soft: either a fraction or a target, not both")
        for name in ("fraction", "max_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ArgumentError(f"soft: {name} is {value:g}, not above 0 and at most 1")
        if not self.tolerance > 0:
            raise ArgumentError("soft: the tolerance has to be above 0")

    def most_of(self, weights: int) -> int:
        """Return how many weights are replaced, at most, of so many."""
        if self.target is None and self.fraction is None:
            return min(_at_least_one(_FRACTION, weights), _ENOUGH)
        return _at_least_one(self.max_fraction if self.fraction is None else self.fraction, weights)


@dataclass(frozen=True, slots=True)
class Tier:
    """A quality of a release, and what is left of it without a license.

    Attributes:
        name: What a license of this tier opens.
        trial: Another network, which is given away and carries the release: the strongest lock. A
            stream, or a folder where a folder is locked.
        scramble: Scramble the first tensors with this fraction of all weights, and all of one
            dimension; or tensors of these names, or patterns of names. Where neither a trial nor a
            soft lock is asked for, 0.05 of all weights.
        soft: Replace a few weights; alone, or besides scrambling.

    Raises:
        ArgumentError: These contradict each other.

    Examples:
        >>> gold = nnguard.Tier("gold", scramble=0.1)
        >>> silver = nnguard.Tier("silver", soft=nnguard.Soft(fraction=0.001))
        >>> [locked.tier for locked in nnguard.lock_tiers("release.nnc", [gold, silver])]
        ['gold', 'silver']
    """

    name: str
    _: KW_ONLY
    trial: ModelLike | None = None
    scramble: float | Sequence[str] | None = None
    soft: Soft | None = None

    def __post_init__(self) -> None:
        check_text(self.name, "tier")
        if self.soft is not None:
            check_type(self.soft, Soft, "soft")
        if self.trial is not None and (self.soft is not None or self.scramble is not None):
            raise ArgumentError(
                "either a trial, or scramble or soft: where another network is the trial, it has "
                "nothing of the release that could be scrambled or replaced"
            )
        if self.soft is not None and self.soft.target is not None and self.scramble:
            raise ArgumentError(
                "scrambled tensors leave nothing to aim at: no target with scramble"
            )
        if isinstance(self.scramble, str):
            raise ArgumentError("scramble: names of tensors are a list, even a single one")
        if isinstance(self.scramble, float | int) and not 0 <= self.scramble <= 1:
            raise ArgumentError(f"scramble: {self.scramble} is not a fraction of the weights")
        if not self.scrambling and self.soft is None and self.trial is None:
            raise ArgumentError("a lock that scrambles nothing needs a trial, or is soft")

    @property
    def scrambling(self) -> float | Sequence[str]:
        """What is scrambled in fact, `scramble` or its default: a fraction, or names of tensors."""
        if self.scramble is not None:
            return self.scramble
        return 0.0 if self.soft is not None else _DEFAULT_SCRAMBLE


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
class Locked:
    """A locked model and its key.

    Attributes:
        trial: What is given away, which every NNCodec decoder reads.
        content_key: Opens the trial, and the locks of all lower tiers as well.
        tier: What it opens.
        weights: Weights of the release, in tensors of two dimensions or more.
        carried: Bytes of the release that are in the trial, encrypted, where the trial is another
            network.
        shared: Bytes of tensors that the trial has in common with the release, in the clear.
        differences: How many of its tensors are there as differences to those of the trial.
        near: The trial is nearly the release, which the seller allowed.
        license_key_size: Bytes of a license that take masks off, where the lock is traceable.
        scrambled: Weights in tensors that are scrambled.
        tensors: Names of those that have two dimensions or more.
        named: The seller named these tensors.
        replaced: Weights that were replaced.
        soft: The soft lock that was asked for, if any.
        curve: What `evaluate` said in search of a target, in the order of asking; the last is the
            trial itself.
        scores: What `evaluate` said, where there was no target.

    Examples:
        >>> locked = nnguard.lock("release.nnc", trial="weaker.nnc")
        >>> locked.worth
        'without a license one has the network that is the trial, and nothing of the release'
        >>> locked.trial.save("another-trial.nnc")
    """

    trial: Model
    content_key: ContentKey
    tier: str
    weights: int
    carried: int = 0
    shared: int = 0
    differences: int = 0
    near: bool = False
    license_key_size: int = 0
    scrambled: int = 0
    tensors: tuple[str, ...] = ()
    named: bool = False
    replaced: int = 0
    soft: Soft | None = None
    curve: tuple[CurvePoint, ...] = field(default=(), repr=False)
    scores: LockScores | None = None

    @property
    def worth(self) -> str:
        """What the lock is worth by itself, in one line; locks of other tiers do not count."""
        if self.near:
            return "the trial is nearly the release: a license is worth the difference in score"
        if self.carried:
            copies = "; each license opens a copy of its own" if self.license_key_size else ""
            alike = [
                f"{self.shared:,} bytes that both share" if self.shared else "",
                f"{self.differences:,} tensors nearly alike in both" if self.differences else "",
            ]
            common = " and ".join(filter(None, alike))
            return (
                "without a license one has the network that is the trial, and nothing of the "
                f"release{common and f' but {common}'}{copies}"
            )
        if 0 < self.scrambled < _DEFAULT_SCRAMBLE * self.weights:
            return (
                f"less than {_DEFAULT_SCRAMBLE:.0%} of the weights are scrambled: training that "
                "anew may be easy"
            )
        if self.scrambled and self.named:
            return (
                "without a license one has to train the tensors that you named anew: what that "
                "takes, nobody has measured"
            )
        if self.scrambled:
            return "without a license one has to train what is scrambled anew"
        return "a demonstration: anybody can repair it with a few labeled inputs"

    def _repr_html_(self) -> str:
        """Return the lock as a table, for notebooks; the content key is not in it."""
        scores = self.scores
        rows = {
            "tier": self.tier,
            "worth": self.worth,
            "size": f"{self.trial.size:,} bytes",
            "carried": f"{self.carried:,} bytes" if self.carried else "",
            "masks in a license": f"{self.license_key_size:,} bytes"
            if self.license_key_size
            else "",
            "scrambled": f"{self.scrambled:,} weights" if self.scrambled else "",
            "replaced": f"{self.replaced:,} weights" if self.replaced else "",
            "score of the release": "" if scores is None else f"{scores.release:g}",
            "score of the trial": "" if scores is None else f"{scores.trial:g}",
            **{f"{100 * each.fraction:.4f} % replaced": f"{each.score:g}" for each in self.curve},
        }
        return html_table("Locked", rows)


def _at_least_one(fraction: float, weights: int) -> int:
    """Return a fraction of the weights, rounded, but not to none."""
    return max(round(fraction * weights), 1) if fraction else 0
