"""What becomes a trial, and what it scores: a stream or a set, as the release is."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace

from nnguard._base.threads import Workers
from nnguard._locking.choice import count_weights
from nnguard._locking.opening import open_files
from nnguard._locking.search import Evaluate, score_of
from nnguard._locking.tiers import Locked, LockScores
from nnguard._models.stream_set import Model, ModelLike, StreamSet, as_model, streams_of
from nnguard._operations.copies import any_copy
from nnguard._operations.signatures import is_signed
from nnguard._records.hashed import hash_files
from nnguard._records.lock import LockShard
from nnguard._stream import Stream
from nnguard.errors import ArgumentError

__all__ = ["as_trial", "like", "parts_of", "scored", "spooled", "weights_of", "without_others"]

_WHOLE_FILE = "model.nnc"
"""Name of a trial's file in a set, where it is a single stream."""


def as_trial(trial: ModelLike, release: Model) -> Model:
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


def scored(locked: Locked, release: Stream, evaluate: Evaluate, workers: Workers) -> Locked:
    """Score a release, its trial, and what the key makes of the trial."""
    found = open_files(hash_files(locked.trial), locked.content_key, workers=workers)
    opened = any_copy(found, locked.content_key)
    trial = streams_of(locked.trial)[""]
    scores = LockScores(*(score_of(evaluate, each) for each in (release, trial, opened)))
    if locked.carried and scores.trial > scores.release:
        raise ArgumentError(
            f"the trial scores {scores.trial:g}, the release {scores.release:g}: is one in the "
            "place of the other?"
        )
    return replace(locked, scores=scores)


def spooled(stream: Stream, spool: str | os.PathLike[str] | None) -> Stream:
    """Return a stream whose bytes are in a temporary file in a folder; itself, if there is none."""
    return stream if spool is None else stream.spooled(spool)


def weights_of(model: Model) -> int:
    """Return the weights in tensors of two dimensions or more."""
    return sum(map(count_weights, streams_of(model).values()))
