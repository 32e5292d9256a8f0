"""Locking a model in several files: a lock in each, of one key, that belong together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import Signer
from nnguard._hiding import candidates
from nnguard._hiding.carriers import weights_in
from nnguard._locking.builder import Making, Options
from nnguard._locking.carrying import carry_files, check_trial
from nnguard._locking.choice import count_weights
from nnguard._locking.scramble import tensors_to_scramble_in_set
from nnguard._locking.sealing import sign_trial_set
from nnguard._locking.tiers import LockedSet, Tier
from nnguard._models.stream_set import Folder, StreamSet, as_model, as_set, naming
from nnguard._operations.lock import check_tiers
from nnguard._records.lock import LockShard
from nnguard._stream import Stream, StreamLike
from nnguard.errors import UnlockError

__all__ = ["lock_set"]

_ALONE = Options(evaluate=None, importance=None, signer=None, progress=None)

_BYTES_PER_WEIGHT = 1.8
"""What a weight of a trial holds, of two bytes: some are zeros."""

_WHOLE_FILE = "model.nnc"
"""Name of a trial's file in a set, where it is a single stream."""


def lock_set(
    streams: StreamSet | Folder,
    tiers: Sequence[Tier] = (Tier("full"),),
    *,
    content_key: ContentKey | None = None,
    signer: Signer | None = None,
    spool: str | os.PathLike[str] | None = None,
) -> list[LockedSet]:
    """Lock a set of streams, one after the other; see `lock` and `lock_tiers`.

    Where the trial is another network, it may have fewer or more files than the release.

    Args:
        streams: What is locked; signed, if `unlock_set` is to prove the result.
        tiers: The highest first; without targets. Fractions that are replaced are those of each
            file, ones that are scrambled those of the whole set, in the order of the names.
        content_key: Of the highest tier; a new one, if not given.
        signer: Signs the trial, with the claims of the release's own signature.
        spool: Folder for temporary files that hold trials; in memory, if None.

    Returns:
        For each tier its trial and its key.

    Raises:
        NnguardError: See `lock`.
        ValueError: A tier has a target, which takes a network in one stream.
    """
    check_tiers(tiers)
    if any(tier.target is not None for tier in tiers):
        raise ValueError("a target takes a network in one stream, not a set")
    streams = as_set(streams)
    key = content_key or ContentKey.generate()
    locks: list[LockedSet] = []
    for depth, tier in enumerate(tiers):
        locks.append(_lock(streams, tier, key.below(depth), signer, spool))
        streams = locks[-1].streams
    return locks


def _lock(
    release: StreamSet,
    tier: Tier,
    key: ContentKey,
    signer: Signer | None,
    spool: str | os.PathLike[str] | None,
) -> LockedSet:
    result = LockedSet(streams=release, content_key=key, tier=tier.name, weights=0)
    trial = release if tier.trial is None else _set_of(tier.trial)
    shares = {} if tier.trial is None else _share_out(release.streams, trial.streams)
    scrambled = {} if tier.trial else tensors_to_scramble_in_set(release.streams, tier.scrambling)
    if tier.trial is not None:
        check_trial(release.streams.values(), trial.streams.values())
    set_id = secrets.token_bytes(16)
    locked: dict[str, Stream] = {}
    for position, (name, stream) in enumerate(trial.streams.items()):
        shard = LockShard(set_id, position, len(trial.streams))
        with naming(name):
            if tier.trial is not None:
                files = {file: release.streams[file] for file in shares[name]}
                made, carried = carry_files(files, stream, tier.name, key, shard)
                result = replace(result, carried=result.carried + carried)
            else:
                work = Making(stream, tier, key, _ALONE, shard, scrambled[name])
                lock = work.finish(work.choice)
                made = lock.stream
                result = replace(
                    result,
                    scrambled=result.scrambled + lock.scrambled,
                    replaced=result.replaced + lock.replaced,
                )
            locked[name] = made if spool is None else made.spooled(spool)
    if not (result.carried or result.scrambled or result.replaced):
        raise UnlockError("the set has no weights that a lock could change")
    return replace(
        result,
        streams=sign_trial_set(StreamSet.of(locked), release, tier.name, signer),
        weights=sum(map(count_weights, release.streams.values())),
    )


def _set_of(trial: StreamLike | StreamSet) -> StreamSet:
    model = as_model(trial)
    return StreamSet.of({_WHOLE_FILE: model}) if isinstance(model, Stream) else model


def _share_out(release: Mapping[str, Stream], trial: Mapping[str, Stream]) -> dict[str, list[str]]:
    """Return which files of the release each file of the trial carries.

    Those of the same names, if all are, and if it looks as if they fit; otherwise the largest
    first, each to where most room is.
    """
    room = {name: _BYTES_PER_WEIGHT * _weights(stream) for name, stream in trial.items()}
    if [*release] == [*trial] and all(release[name].size < room[name] for name in trial):
        return {name: [name] for name in trial}
    shares: dict[str, list[str]] = {name: [] for name in trial}
    for name in sorted(release, key=lambda name: -release[name].size):
        most = max(room, key=lambda name: room[name])
        shares[most].append(name)
        room[most] -= release[name].size
    return shares


def _weights(stream: Stream) -> int:
    return sum(weights_in(stream, index) for index in candidates(stream))
