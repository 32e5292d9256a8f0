"""What becomes a trial, and what it scores: a stream or a set, as the release is."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from nnguard._base.progress import Progress
from nnguard._base.workers import Workers
from nnguard._locking.carrying import check_trial
from nnguard._locking.choice import count_weights
from nnguard._locking.opening import open_files
from nnguard._locking.search import Evaluate, score_of
from nnguard._locking.tiers import Locked, LockScores, Tier
from nnguard._models.stream_set import Model, ModelLike, StreamSet, as_model, naming, streams_of
from nnguard._operations.copies import any_copy
from nnguard._operations.signatures import is_signed
from nnguard._records.hashed import Files, hash_files
from nnguard._records.lock import LockShard
from nnguard._stream import Stream
from nnguard.errors import ArgumentError, LockError

__all__ = [
    "HashedModel",
    "Trial",
    "like",
    "naming_tier",
    "parts_of",
    "scored",
    "spooled",
    "trials_of",
    "weights_of",
    "without_others",
]

_WHOLE_FILE = "model.nnc"
"""Name of a trial's file in a set, where it is a single stream."""


@dataclass(frozen=True, slots=True, eq=False)
class HashedModel:
    """A model, and its files with their digests."""

    model: Model
    files: Files

    @classmethod
    def of(cls, model: Model, progress: Progress | None) -> HashedModel:
        """Hash a model."""
        return cls(model, hash_files(model, progress))


@dataclass(frozen=True, slots=True, eq=False)
class Trial(HashedModel):
    """A network that is given away.

    Attributes:
        near: It is nearly one that is sold, which the seller allowed.
    """

    near: bool = False


def trials_of(
    release: HashedModel, tiers: Sequence[Tier], progress: Progress | None, *, allow_near: bool
) -> list[Trial | None]:
    """Return the network that each tier gives away; none where the trial is made of the release.

    Args:
        release: The release.
        tiers: The highest first; each gives away what the next one sells.
        progress: Called with the number of bytes hashed since the last call.
        allow_near: See `nnguard.lock`.

    Raises:
        LockError: One is locked, or holds the release, or what a higher tier gives away.
    """
    sold = [release.files]
    trials: list[Trial | None] = []
    for tier in tiers:
        if tier.trial is None:
            trials.append(None)
            continue
        given = HashedModel.of(_as_trial(tier.trial, release.model), progress)
        with naming_tier(tier, tiers):
            near = [check_trial(files, given.files, allow_near=allow_near) for files in sold]
        trials.append(Trial(given.model, given.files, any(near)))
        sold.append(given.files)
    return trials


def naming_tier(tier: Tier, tiers: Sequence[Tier]) -> AbstractContextManager[None]:
    """Say in errors which tier they are about, where there are several."""
    return naming(f"tier {tier.name}" if len(tiers) > 1 else "")


def _as_trial(trial: ModelLike, release: Model) -> Model:
    """Return the network that is to be the trial; of a set it is a set, too."""
    model = as_model(trial, "trial")
    if isinstance(release, StreamSet) and isinstance(model, Stream):
        return StreamSet.of({_WHOLE_FILE: model})
    if isinstance(release, Stream) and isinstance(model, StreamSet):
        raise ArgumentError(
            "the release is a single stream, so the trial is one, too, not a folder"
        )
    return model


def without_others(release: Model) -> Model:
    """Return a signed release without files that its signature leaves out, such as a bundle."""
    if isinstance(release, StreamSet) and any(map(is_signed, release.streams.values())):
        return replace(release, others=())
    return release


def like(model: Model, streams: Mapping[str, Stream]) -> Model:
    """Return a stream, or a set, as the model is."""
    return streams[""] if isinstance(model, Stream) else replace(model, streams=streams)


def parts_of(model: Model) -> dict[str, LockShard | None]:
    """Return which part of a locked set each file will be; None of a stream by itself."""
    if isinstance(model, Stream):
        return {"": None}
    set_id, count = secrets.token_bytes(16), len(model.streams)
    return {name: LockShard(set_id, at, count) for at, name in enumerate(model.streams)}


def scored(
    locked: Locked,
    release: Model,
    evaluate: Evaluate,
    spool: str | os.PathLike[str] | None,
    workers: Workers,
) -> Locked:
    """Score a release, its trial, and what the key makes of the trial."""
    files = hash_files(locked.trial)
    found = open_files(files, locked.content_key, spool=spool, workers=workers)
    opened: Model
    if isinstance(release, Stream):
        opened = any_copy(found, locked.content_key)
    else:
        opened = StreamSet.of({name: file.stream for name, file in found.files.items()})
    scores = LockScores(*(score_of(evaluate, each) for each in (release, locked.trial, opened)))
    if locked.carried and scores.trial > scores.release:
        raise LockError(
            f"the trial scores {scores.trial:g}, the release only {scores.release:g}",
            hint="are they swapped?",
        )
    return replace(locked, scores=scores)


def spooled(stream: Stream, spool: str | os.PathLike[str] | None) -> Stream:
    """Return a stream whose bytes are in a temporary file in a folder; itself, if there is none."""
    return stream if spool is None else stream.spooled(spool)


def weights_of(model: Model) -> int:
    """Return the weights in tensors of two dimensions or more."""
    return sum(map(count_weights, streams_of(model).values()))
