"""Making a trial of a release.

    trial, content_key = nnguard.lock("release.nnc", trial="weaker.nnc")

The trial is another network, which carries the release, encrypted, in its weights; or the release
itself, with tensors scrambled or weights replaced, and what puts them right again hidden in it.
Locks nest, and so make tiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import Signer
from nnguard._locking.builder import Making, Options
from nnguard._locking.carrying import carry
from nnguard._locking.choice import Choice, Importance
from nnguard._locking.opening import open_locks
from nnguard._locking.search import CurvePoint, Evaluate, Scores, narrow, score_of
from nnguard._locking.tiers import MAX_TIERS, Locked, LockScores, Tier
from nnguard._models.stream_set import StreamSet
from nnguard._stream import Stream, StreamLike, as_stream
from nnguard.errors import LimitError

__all__ = ["check_tiers", "lock", "lock_tiers"]

_DRAWS = 6
"""Sets of weights in the smallest tensors that are tried where one does not reach the target."""

_PROBED = 64
_WIDTHS = (1, 2, 3, 4, 6, 8)
"""Where none of these does, so many tensors are tried one by one, the largest ones; then weights
are replaced in the so many of them without which the network scores worst, twice."""

_ROUNDS = 4
"""How often the search may allow for what the hidden record itself does to the score."""


def lock(
    stream: StreamLike,
    *,
    trial: StreamLike | None = None,
    scramble: float | Sequence[str] | None = None,
    soft: bool = False,
    fraction: float | None = None,
    target: float | None = None,
    evaluate: Evaluate | None = None,
    tolerance: float = 0.01,
    max_fraction: float = 1e-2,
    importance: Importance | None = None,
    tier: str = "full",
    content_key: ContentKey | None = None,
    signer: Signer | None = None,
    progress: Callable[[CurvePoint], object] | None = None,
) -> Locked:
    """Make a trial, and hide the release in it, encrypted, or what restores the release.

    The lock is the strongest that the arguments allow: with `trial`, the file that is given away is
    another network, and nothing can be got out of it but that. Without, tensors of the release are
    scrambled. Replaced weights, a soft lock, can be repaired by anybody.

    Args:
        stream: A stream or the path of one; signed, if `unlock` is to prove the result by the
            release's own signature.
        trial: A weaker network, as a stream or the path of one, of any architecture: an early
            checkpoint, a smaller sibling. It takes about a third of the release's weights.
        scramble: Scramble the first tensors with this fraction of all weights, and all of one
            dimension; or tensors of these names, which may be patterns: `["layer1.*"]`. Where
            neither a trial nor a soft lock is asked for, 0.05 of all weights. Repairing that costs
            about as much as training; unlocking, as much as coding these tensors.
        soft: Replace a few weights; so do `fraction`, `target` and `importance`.
        fraction: Of all weights, how many are replaced: 1e-4, and 4,096 weights at most, if not
            given.
        target: Score that the trial is to have, instead of a fraction.
        evaluate: Scores a network, given a mapping of names to arrays; higher is better. With a
            target, called some ten or twenty times; a hundred times more where changes in the
            smallest tensors do little, and those that matter have to be found. Without, the result
            has the scores of release, trial, and what the key makes of the trial.
        tolerance: How far the trial's score may be from the target, either way.
        max_fraction: Weights that may be replaced to reach the target.
        importance: How much the network depends on each weight, by name of the tensor; see
            `nnguard.torch.importance`. By default, magnitude within the tensor.
        tier: Name of what the key opens.
        content_key: The key; a new one, if not given.
        signer: Signs the trial, with the claims of the release's own signature.
        progress: Called with each point of the curve.

    Returns:
        The trial and its content key, and how it came about.

    Raises:
        CapacityError: The release does not fit into the trial, or the hidden copy of what was
            changed into the network. For a trial, the error says how large it has to be.
        FormatError: The input is not a well-formed stream.
        LimitError: The target cannot be reached, or the stream holds too many records.
        UnlockError: The trial holds the release in the clear, or is locked itself; or the network
            has no weights that a lock could change.
        ValueError: The arguments contradict each other, or the network scores less than the
            target, or less than the network that is to be the trial.
    """
    quality = Tier(
        tier,
        trial=trial,
        scramble=scramble,
        soft=soft or importance is not None,
        fraction=fraction,
        target=target,
        tolerance=tolerance,
        max_fraction=max_fraction,
    )
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

        locks = nnguard.lock_tiers(
            release, [Tier("professional", trial=medium), Tier("standard", trial=small)]
        )

    ships `locks[-1].stream`: without a license it is `small`, a license of `standard` gives
    `medium`, one of `professional` gives the release.

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
    check_tiers(tiers)
    stream, key = as_stream(stream), content_key or ContentKey.generate()
    options = _options(tiers, evaluate, importance, signer, progress)
    locks: list[Locked] = []
    for depth, tier in enumerate(tiers):
        locks.append(_lock(stream, tier, key.below(depth), options))
        stream = locks[-1].stream
    return locks


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Refuse tiers of which there are none, too many, or two of one name.

    Raises:
        ValueError: They are.
    """
    if not 0 < len(tiers) <= MAX_TIERS or len({tier.name for tier in tiers}) != len(tiers):
        raise ValueError(f"a release has 1 to {MAX_TIERS} tiers of different names")


def _options(
    tiers: Sequence[Tier],
    evaluate: Evaluate | None,
    importance: Importance | None,
    signer: Signer | None,
    progress: Callable[[CurvePoint], object] | None,
) -> Options:
    if evaluate is None and any(tier.target is not None for tier in tiers):
        raise ValueError("a target needs a function that evaluates")
    if importance is not None and not any(tier.replaces for tier in tiers):
        raise ValueError("importance is of use for soft locks only: it says what to replace")
    return Options(evaluate, importance, signer, progress)


def _lock(stream: Stream, tier: Tier, key: ContentKey, options: Options) -> Locked:
    if tier.target is not None:
        return _search(stream, tier, key, options)
    if isinstance(tier.trial, StreamSet):
        raise ValueError("the release is a single stream, so the trial is one, too, not a folder")
    if tier.trial is not None:
        locked = carry(stream, as_stream(tier.trial), tier.name, key, options.signer)
    else:
        work = Making(stream, tier, key, options)
        locked = work.finish(work.choice)
    if options.evaluate is None:
        return locked
    opened = open_locks(locked.stream, locked.stream.sha256_of_units(), key)
    streams = (stream, locked.stream, opened.stream)
    scores = LockScores(*(score_of(options.evaluate, each) for each in streams))
    if tier.trial is not None and scores.trial > scores.release:
        raise ValueError(
            f"the trial scores {scores.trial:g}, the release {scores.release:g}: is one in the "
            "place of the other?"
        )
    return replace(locked, scores=scores)


def _search(stream: Stream, tier: Tier, key: ContentKey, options: Options) -> Locked:
    """Make a soft lock with a target."""
    assert options.evaluate is not None
    assert tier.target is not None
    work = Making(stream, tier, key, options)
    scores = Scores(options.evaluate, stream, work.weights, options.progress)
    untouched = scores.of(work.choice.first(0), {})
    if untouched <= tier.target:
        raise ValueError(f"the network scores {untouched:g} as it is, no more than the target")
    failure: LimitError | None = None
    for _ in _draws(work, scores):
        scores.next_draw()
        try:
            return _aim(work, scores, tier.target, tier.tolerance)
        except LimitError as error:
            failure = error
    assert failure is not None
    raise failure


def _aim(work: Making, scores: Scores, target: float, tolerance: float) -> Locked:
    """Replace as many of the chosen weights as take the trial's score to the target.

    Raises:
        LimitError: No number of them does.
    """

    def score_of(choice: Choice) -> float:
        return scores.of(choice, work.changed(choice))

    enough = target + tolerance / 2
    parts = (work.choice.first(len(work.choice) >> halvings) for halvings in range(3))
    whole = next((part for part in parts if score_of(part) <= enough), None)
    if whole is None:
        raise LimitError(
            f"with {work.choice.weights} weights replaced the network still scores "
            f"{score_of(work.choice):g}",
            hint="allow a larger max_fraction, give importance, or scramble",
        )
    aim = target
    for _ in range(_ROUNDS):
        choice = whole
        if score_of(choice) < aim - tolerance / 2:
            choice = narrow(choice, score_of, aim, tolerance / 2)
        locked = work.finish(choice)
        score = scores.of_stream(locked.stream, choice.weights)
        if abs(score - target) <= tolerance:
            curve = tuple(scores.curve)
            return replace(locked, curve=curve, target=target, tolerance=tolerance)
        aim += target - score
    raise LimitError(
        f"the hidden record itself moves the score to {score:g}", hint="allow a larger tolerance"
    )


def _draws(work: Making, scores: Scores) -> Iterator[None]:
    """Draw weights to replace, first in small tensors, then in those that matter most."""
    yield
    for _ in range(_DRAWS - 1):
        work.draw()
        yield
    weakest = work.probe(scores, _PROBED)
    for width in _WIDTHS:
        work.draw_in(weakest[:width])
        yield
    for width in _WIDTHS:
        work.renew()
        work.draw_in(weakest[:width])
        yield
