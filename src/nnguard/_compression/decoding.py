"""Decoding one tensor, or some of its rows of blocks, in a thread or in whatever process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nnguard._compression.quantizing import dequantize_into
from nnguard._models.formats import WORD, Array, Format, TensorType
from nnguard._stream.coding import Indices, decode_pieces, step_size
from nnguard._stream.headers import PayloadType, TensorHeader
from nnguard._stream.units import Unit
from nnguard.errors import FormatError

__all__ = ["DecodeJob", "decode_job", "decode_values"]

_LARGEST_EXPONENT = 127
"""Of float32."""


_PART = 1 << 20
"""Bytes of a payload that are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A tensor to decode, or rows of blocks of one.

    Attributes:
        header: Of its unit.
        type: What it was.
        unit: The unit.
        offset: Where the unit lies in the stream.
        block_rows: Only these rows of blocks; None for all.
    """

    header: TensorHeader
    type: TensorType
    unit: Unit
    offset: int
    block_rows: range | None = None

    @property
    def span(self) -> range:
        """Positions of the weights that are decoded."""
        if self.block_rows is None:
            return range(self.header.size)
        row = self.header.block_height * self.header.width
        stop = min(self.block_rows.stop * row, self.header.size)
        return range(self.block_rows.start * row, stop)


def decode_job(
    job: DecodeJob,
    deliver: Callable[[int, Array], object],
    check: Callable[[], object] = lambda: None,
) -> None:
    """Decode a tensor piece by piece.

    Args:
        job: The tensor.
        deliver: Takes the values from a position on, in the memory form of their format; what it
            was given is to be believed only when this function has returned.
        check: Called between pieces; raises to stop the work.

    Raises:
        FormatError: The payload is damaged.
    """
    header, form = job.header, job.type.format
    if header.payload_type == PayloadType.RAW_FLOAT:
        deliver(0, _raw(header, form, job.unit.read()[header.payload_offset :]))
        return
    size = job.unit.size - header.payload_offset
    parts = _parts(job.unit, header.payload_offset, size if header.in_blocks else _PART)
    weights = np.empty(0, np.float32)
    offset = job.offset + header.payload_offset
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


def decode_values(job: DecodeJob, check: Callable[[], object] = lambda: None) -> tuple[int, Array]:
    """Decode a tensor, or rows of blocks, to a flat array; see `decode_job`.

    Returns:
        Where the values begin in the tensor, and the values.
    """
    span, form = job.span, job.type.format
    raw = job.header.payload_type == PayloadType.RAW_FLOAT
    found = np.empty(len(span) * WORD // form.dtype.itemsize if raw else len(span), form.dtype)

    def deliver(start: int, values: Array) -> None:
        found[start - span.start :][: values.size] = values

    decode_job(job, deliver, check)
    return span.start, found


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
