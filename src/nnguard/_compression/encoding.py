"""Coding one tensor to a unit, in a thread or in whatever process.

Law: for the same settings a unit has the bytes that the stock encoder writes, where the stock
encoder takes the tensor and its own decoder reads the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnguard._compression.quantizing import Weights, fit_qp, index_range, qp_for_range, quantize
from nnguard._compression.settings import Settings
from nnguard._models.formats import WORD, Array, TensorType
from nnguard._models.tensors import Values
from nnguard._stream.coding import (
    Indices,
    Parameters,
    Pieces,
    encode_payload,
    find_zero_rows,
    piece_ranges,
    search_start_states,
    usual_start_states,
)
from nnguard._stream.headers import (
    PayloadType,
    TensorHeader,
    UnitKind,
    write_model_parameters,
    write_tensor_header,
)
from nnguard._stream.units import frame_unit
from nnguard.errors import ModelError

__all__ = ["EncodeJob", "encode_jobs", "leading_units"]

_INDEPENDENT = 2
"""`independently_decodable_flag` in the byte of a unit's kind."""

_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class EncodeJob:
    """A tensor to code.

    Attributes:
        name: Its name.
        type: Number format, and whether it is a scalar.
        shape: Its dimensions.
        values: Its values.
        position: Among the tensors of the model.
        settings: How to code it.
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    values: Values
    position: int
    settings: Settings


def encode_jobs(
    jobs: Sequence[EncodeJob], check: Callable[[], object] = lambda: None
) -> list[bytes]:
    """Return the units of some tensors.

    Args:
        jobs: The tensors.
        check: Called between pieces; raises to stop the work.

    Raises:
        ModelError: A tensor has NaN, infinity, or numbers that are too large.
    """
    return [_encode(job, check) for job in jobs]


def leading_units(settings: Settings, topology: str) -> bytes:
    """Return the units that come before all tensors: start, model parameters, topology."""
    start = bytes([UnitKind.STR << 2 | _INDEPENDENT, 1])
    parameters = write_model_parameters(settings.qp_density)
    return (
        frame_unit(start)
        + frame_unit(bytes([UnitKind.MPS << 2 | _INDEPENDENT]) + parameters)
        + frame_unit(bytes([UnitKind.TPL << 2 | _INDEPENDENT, 0, 0]) + topology.encode() + b"\0")
    )


def _encode(job: EncodeJob, check: Callable[[], object]) -> bytes:
    job = replace(job, values=job.values.in_order())
    shape = job.shape or (1,)
    if 0 in shape:
        return _unit(_header(job, PayloadType.RAW_FLOAT, shape), job.position, b"")
    if job.type.format.is_float:
        return _encode_floats(job, _header(job, PayloadType.FLOAT, shape), check)
    header = _header(job, PayloadType.INT, shape)
    if not _is_int32(job, header):
        return _encode_raw(job, shape)

    def integers() -> Iterator[Indices]:
        for piece in piece_ranges(header):
            yield job.values.read(piece.start, piece.stop).astype(np.int32)

    return _code(job, header, integers, 0, check)


def _header(job: EncodeJob, payload: PayloadType, shape: tuple[int, ...]) -> TensorHeader:
    settings = job.settings
    blocks = len(shape) > 1 and np.prod(shape[1:]) != 1  # a column has no blocks
    return TensorHeader(
        name=job.name,
        payload_type=payload,
        shape=shape,
        dependent=settings.dependent and payload == PayloadType.FLOAT,
        unary_length=settings.unary_length,
        profile=1,
        qp_density=settings.qp_density,
        base_qp=0,
        scan_order=settings.scan_order if blocks and payload != PayloadType.RAW_FLOAT else 0,
        data_format=job.type.code_for(payload),
        payload_offset=0,
    )


def _encode_floats(job: EncodeJob, header: TensorHeader, check: Callable[[], object]) -> bytes:
    def read(start: int, stop: int) -> Weights:
        check()
        return job.type.format.to_float32(job.values.read(start, stop))

    extremes = _extremes(job, header, read)
    settings, bits = job.settings, job.settings.bit_depth
    if bits is not None:
        weights = read(0, header.size)
        least, most = index_range(weights, bits if len(job.shape) > 1 else max(bits, 8))
        qp = qp_for_range(weights, most, header.qp_density)
        clipped = [indices.clip(least, most) for indices in quantize(header, read, qp)()]
        return _code(job, header, lambda: clipped, qp, check)
    qp = fit_qp(header, extremes, settings.qp_of(job.name, len(job.shape)))
    if qp >= 1 << (5 + header.qp_density):
        largest = float(np.abs(extremes).max())
        raise ModelError(f"tensor {job.name} has weights up to {largest:g}: too large to quantize")
    return _code(job, header, quantize(header, read, qp), qp, check)


def _extremes(job: EncodeJob, header: TensorHeader, read: Callable[[int, int], Weights]) -> Weights:
    """Return the least and the largest weight, once all are known to be finite."""
    extremes = np.array([np.inf, -np.inf], np.float32)
    for piece in piece_ranges(header):
        weights = read(piece.start, piece.stop)
        low, high = weights.min(), weights.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise _not_finite(job, weights)
        extremes = np.array([min(extremes[0], low), max(extremes[1], high)], np.float32)
    return extremes


def _not_finite(job: EncodeJob, weights: Weights) -> ModelError:
    what = "NaN" if np.isnan(weights).any() else "infinite weights"
    if job.type.format.name == "float64":
        what += ", or some beyond the range of float32"
    return ModelError(f"tensor {job.name} has {what}")


def _is_int32(job: EncodeJob, header: TensorHeader) -> bool:
    """Tell whether the coder can hold the values of an integer tensor."""
    for piece in piece_ranges(header):
        part = job.values.read(piece.start, piece.stop)
        if int(part.max()) > _INT32.max or int(part.min()) < _INT32.min:
            return False
    return True


def _encode_raw(job: EncodeJob, shape: tuple[int, ...]) -> bytes:
    """Code large integers as they lie in memory, in words of 4 bytes."""
    values: Array = job.values.read(0, int(np.prod(shape)))
    words = values.dtype.itemsize // WORD
    raw_shape = shape if words == 1 else (*shape, words)
    return _unit(_header(job, PayloadType.RAW_FLOAT, raw_shape), job.position, values.tobytes())


def _code(
    job: EncodeJob, header: TensorHeader, pieces: Pieces, qp: int, check: Callable[[], object]
) -> bytes:
    def checked() -> Iterator[Indices]:
        for indices in pieces():
            check()
            yield indices

    skipped = find_zero_rows(header, checked()) if job.settings.row_skipping else b""
    if header.dependent and header.in_blocks and header.width % 4 and 1 in skipped:
        # A skipped row passes over `width` zeros in each of its blocks, where the trellis went over
        # those of the block: states differ, unless they are fours, which lead back to any state.
        skipped = b""
    if job.settings.parameter_optimization:
        states = search_start_states(header, checked(), skipped)
    else:
        states = usual_start_states(header)
    parameters = Parameters(qp, states, skipped)
    payload, entry_points = encode_payload(header, checked(), parameters)
    return _unit(replace(header, entry_points=entry_points), job.position, payload)


def _unit(header: TensorHeader, position: int, payload: bytes) -> bytes:
    fields = write_tensor_header(header, position)
    return frame_unit(bytes([UnitKind.NDU << 2 | _INDEPENDENT]) + fields + payload)
