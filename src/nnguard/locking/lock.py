"""Making a trial out of a release.

trial, content_key = nnguard.lock("release.nnc", fraction=1e-4)

A lock replaces a few weights, or scrambles the signs of many, and hides what puts them right again
in the same stream, encrypted. Locks nest, and so make tiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from nnguard.crypto.content import ContentKey
from nnguard.crypto.keys import Signer
from nnguard.errors import FormatError, LimitError, NoRecordError, UnlockError
from nnguard.hiding import RecordKind, extract, plan_record
from nnguard.locking.choice import (
    Choice,
    Importance,
    apply,
    choose,
    count_weights,
    tensors_to_touch,
    usable_tensors,
)
from nnguard.locking.coding import encode_all, read_all
from nnguard.locking.record import LockContent, LockRecord, Replaced, Scrambled
from nnguard.locking.scramble import scramble, tensors_to_scramble
from nnguard.locking.search import CurvePoint, Evaluate, Scores, narrow
from nnguard.records import Claims, SignatureRecord, model_digest
from nnguard.signing import sign
from nnguard.stream import Stream, StreamLike, as_stream
from nnguard.stream.coding import QuantisedTensor

__all__ = ["MAX_TIERS", "Locked", "Tier", "lock", "lock_tiers"]

MAX_TIERS = 8
"""Locks on one release, at most."""

_FRACTION, _ENOUGH = 1e-4, 4096
"""Weights that are replaced where nothing else is asked for: a fraction of all, and no more than
these. Unlocking a large network then takes no longer than unlocking a small one."""

_DRAWS = 6
"""Sets of weights in the smallest tensors that are tried where one does not reach the target."""

_PROBED = 64
_WIDTHS = (1, 2, 3, 4, 6, 8)
"""Where none of these does, so many tensors are tried one by one, the largest ones; then weights
are replaced in the so many of them without which the network scores worst, twice."""

_ROUNDS = 4
"""How often the search may allow for what the hidden record itself does to the score."""


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


def lock(
    stream: StreamLike,
    *,
    fraction: float | None = None,
    target: float | None = None,
    evaluate: Evaluate | None = None,
    tolerance: float = 0.01,
    max_fraction: float = 1e-3,
    importance: Importance | None = None,
    scramble: float = 0.0,
    tier: str = "full",
    content_key: ContentKey | None = None,
    signer: Signer | None = None,
    progress: Callable[[CurvePoint], object] | None = None,
) -> Locked:
    """Make a trial: change a network so that it works badly, and hide the cure in it, encrypted.

    Args:
        stream: A stream or the path of one; signed, if `unlock` is to prove the result by the
            release's own signature.
        fraction: Of all weights, how many are replaced. Where nothing else is given, 1e-4, and
            4,096 weights at most.
        target: Score that the trial is to have, instead of a fraction.
        evaluate: Scores a network, given a mapping of names to arrays; higher is better. Called
            some ten or twenty times; a hundred times more where changes in the smallest tensors do
            little, and those that matter have to be found.
        tolerance: How far the trial's score may be from the target, either way.
        max_fraction: Weights that may be replaced to reach the target.
        importance: How much the network depends on each weight, by name of the tensor; see
            `nnguard.torch.importance`. By default, magnitude within the tensor.
        scramble: Encrypt the signs of this fraction of all weights, too: the smallest tensors
            that have so many. Repairing that costs as much as training; unlocking, as much as
            coding these tensors.
        tier: Name of what the key opens.
        content_key: The key; a new one, if not given.
        signer: Signs the trial, with the claims of the release's own signature.
        progress: Called with each point of the curve.

    Returns:
        The trial and its content key, and how it came about.

    Raises:
        CapacityError: The hidden copy does not fit into the network.
        FormatError: The input is not a well-formed stream.
        LimitError: The target cannot be reached, or the stream holds too many records.
        UnlockError: The network has no weights that can be restored exactly.
        ValueError: The arguments contradict each other, or the network scores less than the target.
    """
    if target is None and evaluate is not None:
        raise ValueError("a function that evaluates is of no use without a target")
    quality = Tier(tier, fraction, target, tolerance, max_fraction, scramble)
    options = _options([quality], evaluate, importance, signer, progress)
    return _lock(as_stream(stream), quality, content_key or ContentKey.generate(), options)


def lock_tiers(
    stream: StreamLike,
    tiers: Sequence[Tier],
    *,
    evaluate: Evaluate | None = None,
    importance: Importance | None = None,
    content_key: ContentKey | None = None,
    signer: Signer | None = None,
    progress: Callable[[CurvePoint], object] | None = None,
) -> list[Locked]:
    """Lock a release several times, so that licenses of different tiers open it to different depth.

        locks = nnguard.lock_tiers(release, [Tier("professional", target=0.8), Tier("standard")])

    ships `locks[-1].stream`: without a license it runs as the lock of `standard` leaves it, a
    license of `standard` gives what the lock of `professional` leaves, one of `professional` gives
    all.

    Args:
        stream: See `lock`.
        tiers: The highest first.
        evaluate: See `lock`.
        importance: See `lock`.
        content_key: Of the highest tier; the others follow from it.
        signer: See `lock`; signs every tier's stream.
        progress: See `lock`.

    Returns:
        For each tier its stream and its key. A key opens its own lock and those of lower tiers.
    """
    if not 0 < len(tiers) <= MAX_TIERS or len({tier.name for tier in tiers}) != len(tiers):
        raise ValueError(f"a release has 1 to {MAX_TIERS} tiers of different names")
    stream, key = as_stream(stream), content_key or ContentKey.generate()
    options = _options(tiers, evaluate, importance, signer, progress)
    locks: list[Locked] = []
    for depth, tier in enumerate(tiers):
        locks.append(_lock(stream, tier, key.below(depth), options))
        stream = locks[-1].stream
    return locks


@dataclass(frozen=True, slots=True, eq=False)
class _Options:
    """What all tiers of a release have in common."""

    evaluate: Evaluate | None
    importance: Importance | None
    signer: Signer | None
    progress: Callable[[CurvePoint], object] | None


def _options(
    tiers: Sequence[Tier],
    evaluate: Evaluate | None,
    importance: Importance | None,
    signer: Signer | None,
    progress: Callable[[CurvePoint], object] | None,
) -> _Options:
    if evaluate is None and any(tier.target is not None for tier in tiers):
        raise ValueError("a target needs a function that evaluates")
    return _Options(evaluate, importance, signer, progress)


def _lock(stream: Stream, tier: Tier, key: ContentKey, options: _Options) -> Locked:
    work = _Work(stream, tier, key, options)
    if tier.target is None:
        return work.finish(work.choice)
    assert options.evaluate is not None
    scores = Scores(options.evaluate, stream, work.weights, options.progress)
    untouched = scores.of({}, work.choice.first(0))
    if untouched <= tier.target:
        raise ValueError(f"the network scores {untouched:g} as it is, no more than the target")
    failure: LimitError | None = None
    for _ in _draws(work, scores):
        try:
            return _aim(work, scores, tier.target, tier.tolerance)
        except LimitError as error:
            failure = error
            scores.forget()
    assert failure is not None
    raise failure


def _aim(work: _Work, scores: Scores, target: float, tolerance: float) -> Locked:
    """Replace as many of the chosen weights as take the trial's score to the target.

    Raises:
        LimitError: No number of them does.
    """
    score_of = partial(scores.of, work.tensors)
    enough = target + tolerance / 2
    parts = (work.choice.first(len(work.choice) >> halvings) for halvings in range(3))
    whole = next((part for part in parts if score_of(part) <= enough), None)
    if whole is None:
        raise LimitError(
            f"with {len(work.choice)} weights replaced the network still scores "
            f"{score_of(work.choice):g}",
            hint="allow a larger max_fraction, give importance, or scramble",
        )
    aim = target
    for _ in range(_ROUNDS):
        choice = whole
        if score_of(choice) < aim - tolerance / 2:
            choice = narrow(choice, score_of, aim, tolerance / 2)
        locked = work.finish(choice)
        score = scores.of_stream(locked.stream, len(choice))
        if abs(score - target) <= tolerance:
            return replace(locked, curve=tuple(scores.curve))
        aim += target - score
    raise LimitError(
        f"the hidden record itself moves the score to {score:g}", hint="allow a larger tolerance"
    )


def _draws(work: _Work, scores: Scores) -> Iterator[None]:
    """Draw weights to replace, first in small tensors, then in those that matter most."""
    yield
    for _ in range(_DRAWS - 1):
        work.draw()
        yield
    weakest = work.probe(scores)
    for width in _WIDTHS:
        work.draw_in(weakest[:width])
        yield
    for width in _WIDTHS:
        work.renew()
        work.draw_in(weakest[:width])
        yield


class _Work:
    """One lock in the making: the tensors, decoded, and all weights that may be replaced."""

    def __init__(self, stream: Stream, tier: Tier, key: ContentKey, options: _Options) -> None:
        self._stream, self._tier, self._key, self._options = stream, tier, key, options
        self.weights = count_weights(stream)
        self.tensors: dict[int, QuantisedTensor] = {}
        scrambled = self._read(tensors_to_scramble(stream, tier.scramble, self.weights))
        self._scrambled = sorted(scrambled)
        self._digest = model_digest(stream.sha256_of_units())
        self.draw()
        if not self._scrambled and not len(self.choice):
            raise UnlockError("the network has no weights that could be restored exactly")

    def draw(self) -> None:
        """Choose weights to replace in the smallest tensors, others each time."""
        self.renew()
        count, importance = self._tier.most_of(self.weights), self._options.importance
        randomness = self._key.keystream("choice", self._nonce)
        self.draw_in(tensors_to_touch(self._stream, count, randomness, importance) if count else [])

    def renew(self) -> None:
        """Choose otherwise from now on."""
        self._nonce = self._key.new_nonce()

    def draw_in(self, units: Sequence[int]) -> None:
        """Choose weights to replace in these tensors; the same ones until `renew`."""
        self.choice = self._choose(self._read(units))

    def probe(self, scores: Scores) -> list[int]:
        """Return the positions of large tensors, the one that the network needs most first."""
        usable = usable_tensors(self._stream, self._options.importance)
        found: dict[int, float] = {}
        for unit in usable[-_PROBED:]:
            tensors = read_all(self._stream, [unit])
            found[unit] = scores.of(tensors, self._choose(tensors))
        return sorted(found, key=lambda unit: found[unit])

    def _choose(self, tensors: Mapping[int, QuantisedTensor]) -> Choice:
        randomness = self._key.keystream("choice", self._nonce)
        return choose(
            tensors, self._tier.most_of(self.weights), randomness, self._options.importance
        )

    def _read(self, units: Sequence[int]) -> dict[int, QuantisedTensor]:
        """Decode tensors that were not decoded before; leave out those of no use."""
        missing = [unit for unit in units if unit not in self.tensors]
        self.tensors |= read_all(self._stream, missing)
        return {unit: self.tensors[unit] for unit in units if unit in self.tensors}

    def finish(self, choice: Choice) -> Locked:
        """Replace the chosen weights, scramble, hide the record, and sign."""
        changed = apply(choice, self.tensors)
        keystream = self._key.keystream("signs", self._nonce)
        for unit in self._scrambled:
            changed[unit] = scramble(changed.get(unit, self.tensors[unit]), unit, keystream)
        content = LockContent(
            self._digest,
            tuple(_replaced(choice, self.tensors)),
            tuple(
                Scrambled(unit, self.tensors[unit].parameter_optimisation)
                for unit in self._scrambled
            ),
        )
        trial = self._hide(changed, content)
        return Locked(
            _sign(trial, self._stream, self._tier.name, self._options.signer),
            self._key,
            self._tier.name,
            len(choice),
            sum(self.tensors[unit].indices.size for unit in self._scrambled),
            self.weights,
            (),
        )

    def _hide(self, changed: Mapping[int, QuantisedTensor], content: LockContent) -> Stream:
        """Hide the record in the stream with the changed tensors.

        All of these are encoded the quick way first. Those that turn out to carry nothing of the
        record are then encoded as they were in the release.
        """
        seal = partial(LockRecord.seal, self._key, self._nonce, self._tier.name, content)
        quick = {
            unit: replace(tensor, parameter_optimisation=False) for unit, tensor in changed.items()
        }
        stream = self._stream.replace(encode_all(self._stream, sorted(quick), quick.__getitem__))
        plan = plan_record(stream, RecordKind.LOCK, len(seal(b"")))
        rest = sorted(changed.keys() - {carrier.unit for carrier in plan.header.carriers})
        plan = plan.onto(stream.replace(encode_all(stream, rest, changed.__getitem__)))
        return plan.embed(seal(bytes(plan.header)))


def _replaced(choice: Choice, tensors: Mapping[int, QuantisedTensor]) -> Iterator[Replaced]:
    for unit in sorted({*choice.units.tolist()}):
        positions = choice.positions[choice.units == unit]
        positions.sort()
        values = tensors[unit].indices.reshape(-1)[positions]
        yield Replaced(unit, tensors[unit].parameter_optimisation, positions, values)


def _sign(trial: Stream, release: Stream, tier: str, signer: Signer | None) -> Stream:
    """Sign a trial with the claims of the release, if there are any."""
    if signer is None:
        return trial
    claims = Claims()
    try:
        extraction = extract(release)
        if extraction.header.kind == RecordKind.SIGNATURE:
            claims = SignatureRecord.parse(extraction.record).claims
    except (FormatError, NoRecordError):  # not signed, perhaps by a foreign encoder
        pass
    return sign(
        trial,
        signer,
        issuer=claims.issuer,
        name=claims.name,
        version=claims.version,
        metadata={**claims.metadata, "locked": tier},
    )


def _at_least_one(fraction: float, weights: int) -> int:
    """Return a fraction of the weights, rounded, but not to none."""
    return max(round(fraction * weights), 1) if fraction else 0
