"""What is decoded of a model, and what is not: trials, and streams that decode to too much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from nnguard._models.coded import CodedTensor, OtherToolsError, coded_tensors
from nnguard._models.stream_set import ModelLike, as_model, check_index, streams_of
from nnguard._records.kinds import RecordKind
from nnguard._records.layers import layers
from nnguard._stream import Stream
from nnguard.errors import FormatError, LimitError, LockedTrialError, NnguardError

__all__ = ["Tensors", "admit", "is_trial"]

_ALWAYS_DECODED = 1 << 27
"""Bytes that a stream may decode to, however small it is."""

_DECODED_PER_BYTE = 128
"""Bytes that a larger one may decode to for each of its own, unless the caller says so: 32 weights
of float32. Streams of networks have 1 to 10."""

_SEARCHED = 1 << 21
_SEARCHED_PER_BYTE = 2
"""Weights that are decoded, at most, before the last record, to see whether the stream is a trial:
so many, or so many for each of its bytes. A carrier counts as some at the least."""

_ANYWAY = "allow_trial=True decodes it, whatever it is"

Tensors = Sequence[CodedTensor] | None
"""What is decoded of a stream; None where that is left to the nncodec package."""


def admit(
    model: ModelLike, max_size: int | None, *, allow_trial: bool, verified: bool
) -> dict[str, tuple[Stream, Tensors]]:
    """Return the streams of a model and their tensors, unless it is one not to be decoded.

    What was verified is in memory, so that what is decoded is what was verified.
    """
    model = as_model(model)
    trials = (is_trial(each, verified=verified) for each in streams_of(model).values())
    if not allow_trial and any(trials):
        raise LockedTrialError
    if isinstance(model, Stream):
        stream = model.in_memory() if model.is_pinned else model
        try:
            tensors = coded_tensors(stream)
        except OtherToolsError:
            if not verified:
                raise
            return {"": (stream, None)}
        _check_size(tensors, stream.size, max_size, verified=verified)
        return {"": (stream, tensors)}
    found = check_index(model, FormatError)
    _check_size(chain(*found.values()), model.size, max_size, verified=verified)
    return {
        name: (stream.in_memory() if stream.is_pinned else stream, found[name])
        for name, stream in model.streams.items()
    }


def is_trial(stream: Stream, *, verified: bool) -> bool:
    """Tell whether there is a lock in a stream, perhaps below other records.

    Raises:
        LimitError: Looking for it takes too long.
    """
    limit = max(_SEARCHED, _SEARCHED_PER_BYTE * stream.size)
    cost = 0
    try:
        for layer in layers(stream, vouched=verified):
            if layer.kind == RecordKind.LOCK:
                return True
            if cost > limit and not verified:
                raise LimitError("the records in the stream take too long to read", hint=_ANYWAY)
            cost += layer.cost
    except LimitError as error:
        error.hint = _ANYWAY
        raise
    except NnguardError:  # no record, or none that comes out
        pass
    return False


def _check_size(
    tensors: Iterable[CodedTensor], stream_size: int, max_size: int | None, *, verified: bool
) -> None:
    """Refuse to decode too much; see `decompress`.

    Rows that are skipped, and weights that are as good as known, take next to no bits: what streams
    declare says nothing of what they hold.

    Args:
        tensors: All that are to be decoded.
        stream_size: Bytes of the streams that they are from.
        max_size: See `decompress`.
        verified: See `decompress`.

    Raises:
        LimitError: It is too much.
    """
    limit = max_size
    if max_size is not None:
        size = sum(tensor.nbytes for tensor in tensors)
    elif not verified:
        size = sum(max(tensor.nbytes, tensor.cost) for tensor in tensors)
        limit = max(_ALWAYS_DECODED, _DECODED_PER_BYTE * stream_size)
    if limit is not None and size > limit:
        raise LimitError(
            f"{stream_size} bytes that decode to {size}, or take as long; limit {limit}",
            hint="max_size is another limit; what verifies has none",
        )
