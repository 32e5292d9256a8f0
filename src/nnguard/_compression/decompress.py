"""From a stream back to a model.

arrays = nnguard.decompress("model.nnc")
nnguard.decompress_to_file("model.nnc", "model.safetensors")
for name, array in nnguard.iter_tensors("model.nnc"):
    ...

Nothing here is verified: `nnguard.torch.load` and `nnguard.verify` do that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nnguard._base.atomic import make_folder_atomically
from nnguard._base.files import reserve, write_at, write_atomically
from nnguard._compression.decoding import DecodeJob, decode_job, decode_values
from nnguard._compression.foreign import decode_with_nncodec
from nnguard._compression.workers import Batch, largest_first, make_batches, run, worker_pool
from nnguard._models.coded import CodedTensor, OtherToolsError, coded_tensors
from nnguard._models.formats import FORMATS, Array
from nnguard._models.index import SAFETENSORS_INDEX, is_set, write_index
from nnguard._models.safetensors import lay_out
from nnguard._models.stream_set import ModelLike, as_model, check_index, streams_of
from nnguard._records.kinds import RecordKind
from nnguard._records.layers import layers
from nnguard._stream import Stream
from nnguard._stream.coding import piece_ranges
from nnguard._stream.headers import TensorHeader
from nnguard._stream.source import MemorySource, check_memory
from nnguard.errors import FormatError, LimitError, LockedTrialError, NnguardError

__all__ = [
    "as_array",
    "decompress",
    "decompress_to_file",
    "iter_tensors",
]

_ALWAYS_DECODED = 1 << 27
"""Bytes that a stream may decode to, however small it is."""

_DECODED_PER_BYTE = 128
"""Bytes that a larger one may decode to for each of its own, unless the caller says so: 32 weights
of float32. Streams of networks have 1 to 10."""

_SEARCHED = 1 << 21
_SEARCHED_PER_BYTE = 2
"""Weights that are decoded, at most, before the last record, to see whether the stream is a trial:
so many, or so many for each of its bytes. A carrier counts as some at the least."""

_ANYWAY = "with allow_trial it is decoded, whatever it is"

_SHARE = 1 << 20
"""Weights of a tensor in blocks that are decoded in one go, at least."""

_SHARES = 32
"""Parts of a tensor in blocks, at most: each reads the whole unit."""

Progress = Callable[[int], object]

Deliver = Callable[[int, int, Array], object]
"""Takes values: of which tensor, from which position on, and what they are."""


def decompress(
    model: ModelLike,
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Decode all tensors of a model; nothing is verified.

    Args:
        model: A stream, or a folder of shards.
        allow_trial: Decode a locked trial, too.
        workers: Threads that decode side by side; as many as there are processors, if None.
        executor: Decodes tensors instead, here or on other machines; see `compress`.
        max_size: Refuse models that decode to more bytes than this. If not given, to more than
            128 for each of their own, and 128 MiB in any case, or that take as long to decode as if
            they did; no limit, if `verified`.
        verified: You have checked the model's signature. Tools of the standard that nnguard does
            not decode (codebooks, say) are then left to the nncodec package, if it is installed.
        progress: Called with a number of bytes each time that many more were decoded.

    Returns:
        Names to arrays, in the stream's order, with the formats and shapes that went in. Those of
        a stream by the stock encoder are float32 and int32.

    Raises:
        FormatError: The stream is damaged, or uses tools of the standard that are not decoded; or
            the index of a folder does not fit its streams.
        LockedTrialError: It is a locked trial.
        LimitError: It decodes to too much, or it takes too long to see whether it is a trial.
        WorkerError: A worker died.

    Examples:
        >>> weights = nnguard.decompress("model.nnc")
        >>> weights["conv1.weight"].shape
        (16, 1, 3, 3)
    """
    streams = _to_decode(model, max_size, allow_trial=allow_trial, verified=verified)
    found: dict[str, Array] = {}
    for stream, tensors in streams.values():
        if tensors is None:
            found |= decode_with_nncodec(stream)
            continue
        values = _decode_tensors(stream, tensors, workers, executor, progress)
        arrays = map(as_array, tensors, values)
        found |= zip((tensor.header.name for tensor in tensors), arrays, strict=True)
    return found


def iter_tensors(
    model: ModelLike,
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
) -> Iterator[tuple[str, Array]]:
    """Decode a model tensor by tensor, in its order; memory holds a few tensors at a time.

    Args and errors are those of `decompress`. Closing the iterator stops the workers.

    Examples:
        >>> for name, array in nnguard.iter_tensors("model.nnc"):
        ...     print(name, array.shape)
        ...     break
        conv1.weight (16, 1, 3, 3)
    """
    streams = _to_decode(model, max_size, allow_trial=allow_trial, verified=verified)
    for stream, tensors in streams.values():
        if tensors is None:
            yield from decode_with_nncodec(stream).items()
        else:
            yield from _iterate(stream, tensors, workers, executor)


def decompress_to_file(
    model: ModelLike,
    path: str | os.PathLike[str],
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Decode a stream to a safetensors file, or a folder of shards to such a folder.

    Values go straight into their places in the file. Nothing is verified.

    Args:
        model: See `decompress`.
        path: The file or the folder to make.
        allow_trial: See `decompress`.
        workers: See `decompress`.
        executor: See `decompress`.
        max_size: See `decompress`.
        verified: See `decompress`.
        overwrite: Replace a file that is there already, or a folder of shards.
        progress: See `decompress`.

    Raises:
        FileExistsError: The file exists and `overwrite` is false.
        OSError: The file cannot be written; nothing is left behind.
        NnguardError: See `decompress`.

    Examples:
        >>> nnguard.decompress_to_file("model.nnc", "restored.safetensors")
    """
    model, path = as_model(model), Path(path)
    streams = _to_decode(model, max_size, allow_trial=allow_trial, verified=verified)

    def write(stream: Stream, tensors: _Tensors, path: Path, *, overwrite: bool) -> None:
        if tensors is None:
            _write_arrays(decode_with_nncodec(stream), path, overwrite=overwrite)
        else:
            _write_tensors(stream, tensors, path, workers, executor, progress, overwrite=overwrite)

    if isinstance(model, Stream):
        write(*streams[""], path, overwrite=overwrite)
        return
    files = {name: Path(name).stem + ".safetensors" for name in streams}
    with make_folder_atomically(
        path, overwrite=overwrite, is_ours=partial(is_set, suffix=".safetensors", more=model.files)
    ) as temporary:
        for name, (stream, tensors) in streams.items():
            write(stream, tensors, temporary / files[name], overwrite=False)
        for name, file in model.files.items():
            file.save(temporary / name)
        weight_map = {tensor: files[name] for tensor, name in model.weight_map.items()}
        write_index(temporary / SAFETENSORS_INDEX, weight_map)


_Tensors = Sequence[CodedTensor] | None
"""What is decoded of a stream; None where that is left to the nncodec package."""


def _to_decode(
    model: ModelLike, max_size: int | None, *, allow_trial: bool, verified: bool
) -> dict[str, tuple[Stream, _Tensors]]:
    """Return the streams of a model and their tensors, unless it is one not to be decoded.

    What was verified is in memory, so that what is decoded is what was verified.
    """
    model = as_model(model)
    trials = (_is_trial(each, verified=verified) for each in streams_of(model).values())
    if not allow_trial and any(trials):
        raise LockedTrialError(
            "this is a locked trial, not the product",
            hint="a license unlocks it: nnguard unlock; to decode the trial, say allow_trial",
        )
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


def _is_trial(stream: Stream, *, verified: bool) -> bool:
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


def _iterate(
    stream: Stream, tensors: Sequence[CodedTensor], workers: int | None, executor: Executor | None
) -> Iterator[tuple[str, Array]]:
    batches = make_batches([tensor.header.size for tensor in tensors])
    with worker_pool(batches, workers, executor) as team:

        def call(batch: Batch) -> tuple[Callable[..., list[Array]], tuple[Any, ...]]:
            jobs = [_job(stream, tensors[at], remote=team.remote) for at in batch.positions]
            return _decode_whole, (jobs,) if team.remote else (jobs, team.check)

        for batch, values in run(team, batches, call, in_order=True):
            for position, flat in zip(batch.positions, values, strict=True):
                yield tensors[position].header.name, as_array(tensors[position], flat)


def _write_tensors(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    path: Path,
    workers: int | None,
    executor: Executor | None,
    progress: Progress | None,
    *,
    overwrite: bool,
) -> None:
    """Decode a stream into a safetensors file."""
    layout = lay_out([(tensor.header.name, tensor.type.format, tensor.shape) for tensor in tensors])

    def write(file: BinaryIO) -> None:
        reserve(file.fileno(), layout.size)
        write_at(file.fileno(), layout.header, 0)

        def deliver(tensor: int, start: int, values: Array) -> None:
            offset = layout.offsets[tensor] + start * values.dtype.itemsize
            write_at(file.fileno(), np.ascontiguousarray(values).view(np.uint8).data, offset)

        _decode(stream, tensors, deliver, workers, executor, progress)

    write_atomically(path, write, overwrite=overwrite)


def _write_arrays(arrays: dict[str, Array], path: Path, *, overwrite: bool) -> None:
    layout = lay_out([(name, FORMATS[a.dtype.name], a.shape) for name, a in arrays.items()])

    def write(file: BinaryIO) -> None:
        write_at(file.fileno(), layout.header, 0)
        for array, offset in zip(arrays.values(), layout.offsets, strict=True):
            write_at(file.fileno(), np.ascontiguousarray(array).tobytes(), offset)

    write_atomically(path, write, overwrite=overwrite)


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
            hint="max_size, or --max-size, is another limit; what verifies has none",
        )


def _decode_tensors(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    workers: int | None,
    executor: Executor | None,
    progress: Progress | None,
) -> list[Array]:
    """Return the values of tensors, flat, in the memory form of their formats."""
    needed = sum(tensor.nbytes for tensor in tensors)
    check_memory(needed, hint="decode the tensors to a file, or one by one")
    found = [np.empty(math.prod(each.shape), each.type.format.dtype) for each in tensors]

    def deliver(tensor: int, start: int, values: Array) -> None:
        found[tensor][start : start + values.size] = values

    _decode(stream, tensors, deliver, workers, executor, progress)
    return found


def as_array(tensor: CodedTensor, values: Array) -> Array:
    """Return a tensor's values as an array of its shape and dtype."""
    if tensor.type.format.name == "bfloat16":
        import ml_dtypes

        values = values.view(ml_dtypes.bfloat16)
    return values.reshape(tensor.shape)


def _decode(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    deliver: Deliver,
    workers: int | None,
    executor: Executor | None,
    progress: Progress | None,
) -> None:
    """Decode tensors, side by side and in any order; large ones in blocks in several parts."""
    parts = [(at, rows) for at, tensor in enumerate(tensors) for rows in _shares(tensor.header)]
    sizes = [_weights_in(tensors[at].header, rows) for at, rows in parts]
    batches = largest_first(make_batches(sizes))
    with worker_pool(batches, workers, executor) as team:

        def call(batch: Batch) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            chosen = [parts[position] for position in batch.positions]
            jobs = [_job(stream, tensors[at], rows, remote=team.remote) for at, rows in chosen]
            if team.remote:
                return _decode_remotely, (jobs,)
            places = [at for at, _ in chosen]
            return _decode_here, (jobs, places, deliver, team.check)

        for batch, found in run(team, batches, call):
            if team.remote:
                for position, (start, values) in zip(batch.positions, found, strict=True):
                    deliver(parts[position][0], start, values)
            if progress is not None:
                progress(sum(_nbytes(tensors, parts[at], sizes[at]) for at in batch.positions))


def _decode_here(
    jobs: Sequence[DecodeJob],
    places: Sequence[int],
    deliver: Deliver,
    check: Callable[[], object],
) -> None:
    for job, place in zip(jobs, places, strict=True):
        decode_job(job, partial(deliver, place), check)


def _decode_remotely(jobs: Sequence[DecodeJob]) -> list[tuple[int, Array]]:
    return [decode_values(job) for job in jobs]


def _decode_whole(
    jobs: Sequence[DecodeJob], check: Callable[[], object] = lambda: None
) -> list[Array]:
    return [decode_values(job, check)[1] for job in jobs]


_MANY_ROWS = 1 << 20
"""Tensors of more rows are decoded in one go: each part would read the flags of all rows."""


def _shares(header: TensorHeader) -> list[range | None]:
    """Split a tensor in blocks for several threads; all others are decoded in one go."""
    count = header.block_rows
    if count == 1 or header.shape[0] > _MANY_ROWS:
        return [None]
    step = max(1, _SHARE // (header.size // count), -(-count // _SHARES))
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def _weights_in(header: TensorHeader, block_rows: range | None) -> int:
    if block_rows is None:
        return header.size
    return sum(len(piece) for piece in piece_ranges(header, block_rows))


def _nbytes(tensors: Sequence[CodedTensor], part: tuple[int, range | None], weights: int) -> int:
    tensor = tensors[part[0]]
    return tensor.nbytes if part[1] is None else weights * tensor.type.format.dtype.itemsize


def _job(
    stream: Stream, tensor: CodedTensor, block_rows: range | None = None, *, remote: bool
) -> DecodeJob:
    unit = stream[tensor.unit]
    if remote:  # by value
        unit = replace(unit, source=MemorySource(unit.read()), offset=0)
    return DecodeJob(tensor.header, tensor.type, unit, stream[tensor.unit].offset, block_rows)
