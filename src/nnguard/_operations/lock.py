"""Making a trial of a release.

    locked = nnguard.lock("release.nnc", trial="weaker.nnc")
    locked.content_key.save("content.key")
    locked.trial.save("trial.nnc")

The trial is another network, which carries the release, encrypted, in its weights; or the release
itself, with tensors scrambled or weights replaced, and what puts them right again hidden in it.
Locks nest, and so make tiers. In a folder of shards each stream has a lock of its own, of one key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain

from nnguard._base.arguments import loaded
from nnguard._base.progress import Counter, Progress
from nnguard._base.workers import Workers
from nnguard._crypto.content_key import ContentKey, ContentKeyLike
from nnguard._crypto.keys import Signer, SignerLike, as_signer
from nnguard._locking.aiming import reach_target
from nnguard._locking.builder import LockBuilder
from nnguard._locking.carrying import carry, share_out
from nnguard._locking.choice import check_importance
from nnguard._locking.scramble import tensors_to_scramble
from nnguard._locking.search import CurvePoint, Evaluate, Scores
from nnguard._locking.tiers import MAX_TIERS, Locked, Soft, Tier
from nnguard._locking.twins import twins_elsewhere
from nnguard._models.stream_set import (
    Model,
    ModelLike,
    StreamSet,
    as_model,
    naming,
    streams_of,
)
from nnguard._operations.copies import check_traceable, mask
from nnguard._operations.sign import Signing
from nnguard._operations.signatures import claims_of
from nnguard._operations.trial import (
    HashedModel,
    Trial,
    like,
    naming_tier,
    parts_of,
    scored,
    spooled,
    trials_of,
    weights_of,
    without_others,
)
from nnguard._stream import Stream
from nnguard.errors import ArgumentError, LockError

__all__ = ["lock", "lock_tiers"]

_ROUNDED = 2
"""Weights that rounding may take from a fraction."""

OnPoint = Callable[[CurvePoint], object]
"""Called with each point of the search for a target."""


def lock(
    release: ModelLike,
    *,
    trial: ModelLike | None = None,
    scramble: float | Sequence[str] | None = None,
    soft: Soft | None = None,
    tier: str = "full",
    evaluate: Evaluate | None = None,
    content_key: ContentKeyLike | None = None,
    signer: SignerLike | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    on_point: OnPoint | None = None,
    traceable: bool = False,
    allow_near: bool = False,
) -> Locked:
    """Make a trial, and hide the release in it, encrypted, or what restores the release.

    The lock is the strongest that the arguments allow: with `trial`, the file that is given away is
    another network, and nothing can be got out of it but that. Without, tensors of the release are
    scrambled. A soft lock replaces a few weights, which anybody can repair.

    Args:
        release: A stream, or a folder of shards; signed, if `unlock` is to prove the result by the
            release's own signature.
        trial: A weaker network of any architecture: an early checkpoint, a smaller sibling, the
            base of a fine-tuned one. It takes about a third of the release's weights, or less
            where tensors of both are near. Of a folder, it may have fewer or more files than the
            release.
        scramble: Scramble the first tensors with this fraction of all weights, and all of one
            dimension; or tensors of these names, which may be patterns: `["layer1.*"]`. Where
            neither a trial nor a soft lock is asked for, 0.05 of all weights. Repairing that costs
            about as much as training; unlocking, as much as coding these tensors.
        soft: Replace a few weights, by a fraction (of each file), or until the trial has a score.
        tier: Name of what the key opens.
        evaluate: Scores a network, given a mapping of names to arrays; higher is better. With a
            target, called some ten or twenty times; a hundred times more where changes in the
            smallest tensors do little, and those that matter have to be found. Without, the result
            has the scores of release, trial, and what the key makes of the trial.
        content_key: The key, or the path of one; a new one, if not given.
        signer: Signs the trial, with the claims of the release's own signature: a key, the path of
            one, or your own `Signer`.
        workers: See `nnguard.compress`.
        executor: See `nnguard.compress`. It is sent tensors, never a key.
        spool: Folder for temporary files that hold the trial of a set; in memory, if None.
        progress: Called with the number of bytes hashed or coded since the last call: with the size
            of the release and, where there is one, twice that of the trial in all; with twice that
            of the release, where there is none.
        on_point: Called with each point of the search for a target.
        traceable: Each license opens a copy of its own, with a fingerprint by which `trace` finds
            whose it was. For a stream whose trial is another network.
        allow_near: The trial may be nearly the release, such as the base of a network that was
            fine-tuned a little. Without, that is taken for a mistake, such as a trial that is the
            release in another number format. Score both.

    Returns:
        The trial and its content key, and how it came about.

    Raises:
        CapacityError: The release does not fit into the trial, or the hidden copy of what was
            changed into the network. For a trial, the error says how large it has to be.
        FormatError: The input is not a well-formed stream.
        LimitError: The stream holds too many records.
        LockError: The target cannot be reached; the trial holds the release in the clear, scores
            above it, or is locked itself; or the network has no weights that a lock could change.
        WorkerError: A worker of the executor died.
        ArgumentError: The arguments contradict each other, or the network scores less than the
            target.

    Examples:
        >>> locked = nnguard.lock("release.nnc", trial="weaker.nnc", signer="vendor.key")
        >>> locked.trial.save("new-trial.nnc")
        >>> locked.content_key.save("new-content.key")
    """
    [locked] = lock_tiers(
        release,
        [Tier(tier, trial=trial, scramble=scramble, soft=soft)],
        evaluate=evaluate,
        content_key=content_key,
        signer=signer,
        workers=workers,
        executor=executor,
        spool=spool,
        progress=progress,
        on_point=on_point,
        traceable=traceable,
        allow_near=allow_near,
    )
    return locked


def lock_tiers(
    release: ModelLike,
    tiers: Sequence[Tier],
    *,
    evaluate: Evaluate | None = None,
    content_key: ContentKeyLike | None = None,
    signer: SignerLike | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    on_point: OnPoint | None = None,
    traceable: bool = False,
    allow_near: bool = False,
) -> list[Locked]:
    """Lock a release several times, so that licenses of different tiers open it to different depth.

        locks = nnguard.lock_tiers(
            release, [Tier("professional", trial=medium), Tier("standard", trial=small)]
        )

    ships `locks[-1].trial`: without a license it is `small`, a license of `standard` gives
    `medium`, one of `professional` gives the release.

    Args:
        release: See `lock`.
        tiers: The highest first.
        evaluate: See `lock`.
        content_key: Of the highest tier; the others follow from it.
        signer: See `lock`; signs every tier's trial.
        workers: See `lock`.
        executor: See `lock`.
        spool: See `lock`.
        progress: See `lock`; the release of each tier is the trial of the one above.
        on_point: See `lock`.
        traceable: Licenses of the highest tier open copies with fingerprints; see `lock`.
        allow_near: See `lock`.

    Returns:
        For each tier its trial and its key. A key opens its own lock and those of lower tiers.

    Examples:
        >>> gold = nnguard.Tier("gold", scramble=0.1)
        >>> silver = nnguard.Tier("silver", scramble=["conv1.weight"])
        >>> gold, silver = nnguard.lock_tiers("release.nnc", [gold, silver])
        >>> silver.trial.save("tiers-trial.nnc")
    """
    most = MAX_TIERS - 1 if traceable else MAX_TIERS  # the vendor's key is above all tiers
    if not 0 < len(tiers) <= most or len({tier.name for tier in tiers}) != len(tiers):
        raise ArgumentError(f"a release has 1 to {most} tiers of different names")
    aims = any(tier.soft is not None and tier.soft.target is not None for tier in tiers)
    if evaluate is None and aims:
        raise ArgumentError("a target needs a function that evaluates")
    if allow_near and all(tier.trial is None for tier in tiers):
        raise ArgumentError("allow_near is for a trial that is another network")
    model = without_others(as_model(release, "release"))
    if aims and isinstance(model, StreamSet):
        raise ArgumentError("a target is for a network in one stream, not for a folder")
    key = (
        ContentKey.generate()
        if content_key is None
        else loaded(content_key, ContentKey, "content_key")
    )
    if traceable:
        check_traceable(model, tiers[0])
    options = _Options(
        evaluate,
        None if signer is None else as_signer(signer, "signer"),
        spool,
        progress,
        on_point,
        Workers(workers, executor),
    )
    sold, own_key, in_the_clear = HashedModel.of(model, progress), key, None
    trials = trials_of(sold, tiers, progress, allow_near=allow_near)
    if traceable:
        in_the_clear = [part for each in trials if each for part in streams_of(each.model).values()]
    locks: list[Locked] = []
    for depth, (tier, trial) in enumerate(zip(tiers, trials, strict=True)):
        if locks:
            sold, in_the_clear = HashedModel.of(locks[-1].trial, progress), None
            own_key = key.below(depth + traceable)  # with masks, the vendor's is above all tiers
        with naming_tier(tier, tiers):
            locks.append(_lock(sold, tier, trial, own_key, options, in_the_clear))
    return locks


@dataclass(frozen=True, slots=True, eq=False)
class _Options:
    """What all tiers of a release have in common."""

    evaluate: Evaluate | None
    signer: Signer | None
    spool: str | os.PathLike[str] | None
    progress: Progress | None
    on_point: OnPoint | None
    workers: Workers

    def sign(self, trial: Model, release: Model, tier: str) -> Model:
        """Sign a trial with the claims of the release, if there are any, and the tier."""
        if self.signer is None:
            return trial
        return Signing(self.signer).sign(trial, claims_of(release, locked=tier))


def _lock(
    release: HashedModel,
    tier: Tier,
    trial: Trial | None,
    key: ContentKey,
    options: _Options,
    in_the_clear: Sequence[Stream] | None = None,
) -> Locked:
    """Make one lock; a traceable one, where it is told all networks that are given away."""
    if tier.soft is not None:
        check_importance(tier.soft.importance, streams_of(release.model).values())
    if tier.soft is not None and tier.soft.target is not None:
        return _lock_to_target(release, tier, tier.soft.target, key, options)
    if trial is None:
        locked = _change(release, tier, key, options)
    else:
        locked = _carry(release, trial, tier, key, options, in_the_clear)
    locked = replace(locked, trial=options.sign(locked.trial, release.model, tier.name))
    if options.evaluate is None:
        return locked
    return scored(locked, release.model, options.evaluate, options.spool, options.workers)


def _lock_to_target(
    hashed: HashedModel, tier: Tier, target: float, key: ContentKey, options: _Options
) -> Locked:
    """Make a soft lock with a target."""
    assert tier.soft is not None
    assert options.evaluate is not None
    release = streams_of(hashed.model)[""]
    builder = LockBuilder(hashed.files[""], tier, key, (), workers=options.workers)
    scores = Scores(options.evaluate, release, builder.weights, options.on_point)

    def sign(trial: Stream) -> Stream:
        return streams_of(options.sign(trial, release, tier.name))[""]

    trial, replaced = reach_target(builder, scores, target, tier.soft.tolerance, sign)
    Counter(options.progress, release.size).finish()
    return Locked(
        trial=trial,
        content_key=key,
        tier=tier.name,
        weights=builder.weights,
        replaced=replaced,
        soft=tier.soft,
        curve=tuple(scores.curve),
    )


def _change(hashed: HashedModel, tier: Tier, key: ContentKey, options: _Options) -> Locked:
    """Scramble tensors of a release, or replace weights, in each of its files."""
    release = hashed.model
    streams, parts = streams_of(release), parts_of(release)
    chosen = tensors_to_scramble(streams, tier.scrambling)
    # Each file is locked by itself: what has a twin in another would be put right by it.
    spared = {} if tier.soft is None else twins_elsewhere(streams)
    made: dict[str, Stream] = {}
    scrambled = replaced = 0
    for name, file in hashed.files.items():
        with naming(name):
            builder = LockBuilder(
                file,
                tier,
                key,
                chosen[name],
                parts[name],
                spared=spared.get(name, ()),
                workers=options.workers,
            )
            scrambled += builder.scrambled
            replaced += builder.choice.weights
            if scrambled or replaced or parts[name] is not None:
                made[name] = spooled(builder.finish(builder.choice), options.spool)
            Counter(options.progress, file.stream.size).finish()
    if not scrambled and not replaced:
        raise LockError(
            "the network has no weights that a lock could change",
            hint="it changes quantized tensors of two dimensions or more, not coded in blocks, and "
            "a soft one none that another file has, too",
        )
    locked = Locked(
        trial=like(release, made),
        content_key=key,
        tier=tier.name,
        weights=weights_of(release),
        scrambled=scrambled,
        tensors=tuple(_matrices(streams, chosen)),
        named=not isinstance(tier.scrambling, float | int),
        replaced=replaced,
        soft=tier.soft,
    )
    _check_fraction(locked)
    return locked


def _matrices(streams: Mapping[str, Stream], chosen: Mapping[str, list[int]]) -> Iterator[str]:
    """Yield the names of those of some tensors that have two dimensions or more."""
    for file, positions in chosen.items():
        units = [streams[file][at] for at in positions]
        yield from (unit.name for unit in units if unit.tensor and len(unit.tensor.shape) > 1)


def _check_fraction(locked: Locked) -> None:
    """Refuse a lock that replaces fewer weights than were asked for."""
    fraction = None if locked.soft is None else locked.soft.fraction
    if fraction is not None and locked.replaced < 0.99 * fraction * locked.weights - _ROUNDED:
        raise LockError(
            f"{fraction:g} of the weights cannot be replaced, as too few are of use",
            hint=f"give a fraction of {locked.replaced / locked.weights:.4g} or less",
        )


def _carry(
    hashed: HashedModel,
    trial: Trial,
    tier: Tier,
    key: ContentKey,
    options: _Options,
    in_the_clear: Sequence[Stream] | None,
) -> Locked:
    """Hide a release in another network; with masks, where it is told what is given away."""
    release, files = hashed.model, hashed.files
    masks = None
    lock_key = key
    if in_the_clear is not None:
        files, masks = mask(streams_of(release)[""], in_the_clear, key)
        lock_key = key.below()
    shares, parts = share_out(files, trial.files), parts_of(trial.model)
    made: dict[str, Stream] = {}
    carried = shared = differences = 0
    for name, file in trial.files.items():
        with naming(name):
            counter = Counter(options.progress, file.stream.size)
            share = {each: files[each] for each in shares[name]}
            stream, content = carry(
                share,
                file,
                tier.name,
                lock_key,
                shard=parts[name],
                masks=masks,
                workers=options.workers,
                progress=counter.add,
            )
            counter.finish()
            carried += sum(each.carried for each in content.files)
            runs = chain.from_iterable(each.shared for each in content.files)
            common = (file.stream[at] for at in chain.from_iterable(runs))
            shared += sum(unit.size for unit in common if unit.tensor is not None)
            differences += sum(len(each.bases) for each in content.files)
            made[name] = spooled(stream, options.spool)
    if not carried:
        raise LockError("the trial holds the whole release in the clear")
    result = like(trial.model, made)
    if isinstance(release, StreamSet) and isinstance(result, StreamSet):
        result = result.with_all_files().with_files_of(release)
    return Locked(
        trial=result,
        content_key=key,
        tier=tier.name,
        weights=weights_of(release),
        carried=carried,
        shared=shared,
        differences=differences,
        near=trial.near,
        license_key_size=0 if masks is None else masks.key_size,
    )
