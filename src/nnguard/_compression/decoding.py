"""Decoding tensors side by side, in threads or in whatever processes; large ones in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nnguard._base.progress import Progress
from nnguard._base.workers import Call, Workers
from nnguard._compression.batches import Batch, largest_first, make_batches
from nnguard._compression.quantizing import dequantize_into
from nnguard._models.coded import CodedTensor
from nnguard._models.formats import WORD, Array, Format, TensorType
from nnguard._stream import Stream
from nnguard._stream.coding import Indices, decode_pieces, step_size
from nnguard._stream.headers import PayloadType, TensorHeader
from nnguard._stream.units import Unit
from nnguard.errors import FormatError

__all__ = ["DecodeJob", "decode_in_order", "decode_side_by_side", "decode_values"]

_LARGEST_EXPONENT = 127
"""Of float32."""

_PART = 1 << 20
"""Bytes of a payload that are read at once."""

_SHARE = 1 << 20
"""Weights of a tensor in blocks that are decoded in one go, at least."""

_SHARES = 32
"""Parts of a tensor in blocks, at most: each reads the whole unit."""

_MANY_ROWS = 1 << 20
"""Tensors of more rows are decoded in one go: each part would read the flags of all rows."""

Check = Callable[[], object]
"""Called between pieces; raises to stop the work."""

Deliver = Callable[[int, int, Array], object]
"""Takes values: of which tensor, from which position on, and what they are."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A tensor to decode, or rows of blocks of one.

    Attributes:
        header: Of its unit.
        type: What it was.
        unit: The unit.
        block_rows: Only these rows of blocks; None for all.
    """

    header: TensorHeader
    type: TensorType
    unit: Unit
    block_rows: range | None = None

    @property
    def span(self) -> range:
        """Positions of the weights that are decoded."""
        if self.block_rows is None:
            return range(self.header.size)
        row = self.header.block_height * self.header.width
        stop = min(self.block_rows.stop * row, self.header.size)
        return range(self.block_rows.start * row, stop)

    @property
    def is_raw(self) -> bool:
        """Whether the payload holds words as they lie in memory, rather than indices."""
        return self.header.payload_type == PayloadType.RAW_FLOAT

    @property
    def nbytes(self) -> int:
        """Bytes of the values that are decoded."""
        return len(self.span) * (WORD if self.is_raw else self.type.format.dtype.itemsize)

    def by_value(self) -> DecodeJob:
        """Return the job with its unit in memory, for another process."""
        return replace(self, unit=self.unit.by_value())


def decode_side_by_side(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    deliver: Deliver,
    workers: Workers,
    progress: Progress | None,
) -> None:
    """Decode tensors in any order; large ones in blocks in several parts.

    Args:
        stream: Their stream.
        tensors: Which.
        deliver: Takes their values.
        workers: Who does it.
        progress: Called with the number of bytes decoded since the last call.

    Raises:
        FormatError: A payload is damaged.
        WorkerError: A worker died.
    """
    jobs = [
        (at, replace(_job(stream, tensor), block_rows=rows))
        for at, tensor in enumerate(tensors)
        for rows in _shares(tensor.header)
    ]
    batches = largest_first(make_batches([len(job.span) for _, job in jobs]))
    with workers.pool(len(batches)) as pool:

        def call(batch: Batch) -> Call[Any]:
            chosen = [jobs[position] for position in batch.positions]
            if pool.remote:
                return _decode_all, ([job.by_value() for _, job in chosen],)
            return _decode_here, (chosen, deliver, pool.check)

        for number, found in pool.run(map(call, batches)):
            chosen = [jobs[position] for position in batches[number].positions]
            if pool.remote:
                for (tensor, _), (start, values) in zip(chosen, found, strict=True):
                    deliver(tensor, start, values)
            if progress is not None:
                progress(sum(job.nbytes for _, job in chosen))


def decode_in_order(
    stream: Stream, tensors: Sequence[CodedTensor], workers: Workers
) -> Iterator[tuple[str, Array]]:
    """Decode tensors, and yield their names and arrays; errors as in `decode_side_by_side`."""
    batches = make_batches([tensor.header.size for tensor in tensors])
    with workers.pool(len(batches)) as pool:

        def call(batch: Batch) -> Call[list[tuple[int, Array]]]:
            jobs = [_job(stream, tensors[position]) for position in batch.positions]
            if pool.remote:
                return _decode_all, ([job.by_value() for job in jobs],)
            return _decode_all, (jobs, pool.check)

        for number, found in pool.run(map(call, batches), in_order=True):
            for position, (_, values) in zip(batches[number].positions, found, strict=True):
                yield tensors[position].header.name, tensors[position].as_array(values)


def decode_job(
    job: DecodeJob, deliver: Callable[[int, Array], object], check: Check = lambda: None
) -> None:
    """Decode a tensor piece by piece.

    Args:
        job: The tensor.
        deliver: Takes the values from a position on, in the memory form of their format; what it
            was given is to be believed only when this function has returned.
        check: Raises to stop the work.

    Raises:
        FormatError: The payload is damaged.
    """
    header, form = job.header, job.type.format
    if job.is_raw:
        deliver(0, _raw(header, form, job.unit.read()[header.payload_offset :]))
        return
    size = job.unit.size - header.payload_offset
    parts = _parts(job.unit, header.payload_offset, size if header.in_blocks else _PART)
    weights = np.empty(0, np.float32)
    offset = job.unit.offset + header.payload_offset
    for piece, indices, decoder in decode_pieces(
        header, parts, size, block_rows=job.block_rows, offset=offset
    ):
        check()
        if header.payload_type == PayloadType.INT:
            deliver(piece.start, _integers(header, form, indices))
            continue
        if weights.size < indices.size:
            weights = np.empty(indices.size, np.float32)
        part = weights[: indices.size]
        dequantize_into(indices, _step(header, decoder.qp), part)
        deliver(piece.start, form.from_float32(part))


def decode_values(job: DecodeJob, check: Check = lambda: None) -> tuple[int, Array]:
    """Decode a tensor, or rows of blocks, to a flat array; see `decode_job`.

    Returns:
        Where the values begin in the tensor, and the values.
    """
    first, dtype = job.span.start, job.type.format.dtype
    found = np.empty(job.nbytes // dtype.itemsize, dtype)

    def deliver(start: int, values: Array) -> None:
        found[start - first :][: values.size] = values

    decode_job(job, deliver, check)
    return first, found


def _job(stream: Stream, tensor: CodedTensor) -> DecodeJob:
    return DecodeJob(tensor.header, tensor.type, stream[tensor.unit])


def _shares(header: TensorHeader) -> list[range | None]:
    """Split a tensor in blocks for several threads; all others are decoded in one go."""
    count = header.block_rows
    if count == 1 or header.shape[0] > _MANY_ROWS:
        return [None]
    step = max(1, _SHARE // (header.size // count), -(-count // _SHARES))
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def _decode_here(jobs: Sequence[tuple[int, DecodeJob]], deliver: Deliver, check: Check) -> None:
    for tensor, job in jobs:
        decode_job(job, partial(deliver, tensor), check)


def _decode_all(jobs: Sequence[DecodeJob], check: Check = lambda: None) -> list[tuple[int, Array]]:
    return [decode_values(job, check) for job in jobs]


def _parts(unit: Unit, start: int, size: int) -> Iterator[bytes]:
    """Read a unit from a position on, so many bytes at once."""
    for at in range(start, unit.size, max(size, 1)):
        yield unit.source.read(unit.offset + at, min(size, unit.size - at))


def _step(header: TensorHeader, qp: int) -> float:
    qp += header.base_qp
    if qp >> header.qp_density > _LARGEST_EXPONENT:
        raise FormatError(f"tensor {header.name} has a step beyond float32")
    return step_size(qp, header.qp_density)


def _integers(header: TensorHeader, form: Format, values: Indices) -> Array:
    low, high = int(values.min()), int(values.max())
    least, most = (0, 1) if form.name == "bool" else _range(form)
    if low < least or high > most:
        raise FormatError(f"tensor {header.name} of {form.name} has values out of its range")
    return values.astype(form.dtype, copy=False)


def _range(form: Format) -> tuple[int, int]:
    limits = np.iinfo(form.dtype)
    return int(limits.min), int(limits.max)


def _raw(header: TensorHeader, form: Format, payload: bytes) -> Array:
    """Return raw float32, or large integers as they lie in memory."""
    if len(payload) != header.size * WORD:
        raise FormatError(f"payload of tensor {header.name} has the wrong length")
    return np.frombuffer(payload, form.dtype)
