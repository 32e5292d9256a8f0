"""Coding one tensor to a unit, in whatever process.

Law: for the same settings a unit has the bytes that the stock encoder writes, where the stock
encoder takes the tensor at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nnguard.compression.settings import Settings
from nnguard.errors import ModelError
from nnguard.models.tensors import Values
from nnguard.stream.coding import Indices, encode_payload, find_entry_points
from nnguard.stream.formats import WORD, Array, TensorType
from nnguard.stream.headers import (
    PayloadType,
    TensorHeader,
    UnitKind,
    write_model_parameters,
    write_tensor_header,
)
from nnguard.stream.quantising import (
    CHUNK,
    Weights,
    fit_qp,
    index_range,
    qp_for_range,
    quantise,
)
from nnguard.stream.units import frame_unit

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


def encode_jobs(jobs: Sequence[EncodeJob]) -> list[bytes]:
    """Return the units of some tensors.

    Raises:
        ModelError: A tensor has NaN, infinity, or numbers that are too large.
    """
    return [_encode(job) for job in jobs]


def leading_units(settings: Settings, topology: str) -> bytes:
    """Return the units that come before all tensors: start, model parameters, topology."""
    start = bytes([UnitKind.STR << 2 | _INDEPENDENT, 1])
    parameters = write_model_parameters(settings.qp_density)
    return (
        frame_unit(start)
        + frame_unit(bytes([UnitKind.MPS << 2 | _INDEPENDENT]) + parameters)
        + frame_unit(bytes([UnitKind.TPL << 2 | _INDEPENDENT, 0, 0]) + topology.encode() + b"\0")
    )


def _encode(job: EncodeJob) -> bytes:
    shape = job.shape or (1,)
    if 0 in shape:
        header = _header(job, PayloadType.RAW_FLOAT, shape)
        return _unit(header, job.position, b"")
    if job.type.format.is_float:
        return _encode_floats(job, _header(job, PayloadType.FLOAT, shape))
    indices = _integers(job, shape)
    if indices is None:
        return _encode_raw(job, shape)
    return _code(job, _header(job, PayloadType.INT, shape), indices, 0)


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


def _encode_floats(job: EncodeJob, header: TensorHeader) -> bytes:
    def read(start: int, stop: int) -> Weights:
        return job.type.format.to_float32(job.values.read(start, stop))

    extremes = _extremes(job, read, header.size)
    settings, bits = job.settings, job.settings.bit_depth
    if bits is not None:
        weights = read(0, header.size)
        least, most = index_range(weights, bits if len(job.shape) > 1 else max(bits, 8))
        qp = qp_for_range(weights, most, header.qp_density)
        indices = quantise(header, read, qp)
        return _code(job, header, indices.clip(least, most, out=indices), qp)
    qp = fit_qp(header, extremes, settings.qp_of(job.name, len(job.shape)))
    if qp >= 1 << (5 + header.qp_density):
        largest = float(np.abs(extremes).max())
        raise ModelError(f"tensor {job.name} has weights up to {largest:g}: too large to quantise")
    return _code(job, header, quantise(header, read, qp), qp)


def _extremes(job: EncodeJob, read: Callable[[int, int], Weights], size: int) -> Weights:
    """Return the least and the largest weight, once all are known to be finite."""
    extremes = np.array([np.inf, -np.inf], np.float32)
    for start in range(0, size, CHUNK):
        weights = read(start, min(start + CHUNK, size))
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


def _integers(job: EncodeJob, shape: tuple[int, ...]) -> Indices | None:
    """Return the values of an integer tensor, or None where the coder cannot hold them."""
    size = int(np.prod(shape))
    indices = np.empty(size, np.int32)
    for start in range(0, size, CHUNK):
        part = job.values.read(start, min(start + CHUNK, size))
        if int(part.max()) > _INT32.max or int(part.min()) < _INT32.min:
            return None
        indices[start : start + CHUNK] = part
    return indices.reshape(shape)


def _encode_raw(job: EncodeJob, shape: tuple[int, ...]) -> bytes:
    """Code large integers as they lie in memory, in words of 4 bytes."""
    values: Array = job.values.read(0, int(np.prod(shape)))
    words = values.dtype.itemsize // WORD
    raw_shape = shape if words == 1 else (*shape, words)
    header = _header(job, PayloadType.RAW_FLOAT, raw_shape)
    return _unit(header, job.position, values.tobytes())


def _code(job: EncodeJob, header: TensorHeader, indices: Indices, qp: int) -> bytes:
    payload = encode_payload(
        header,
        indices,
        qp,
        row_skipping=job.settings.row_skipping,
        parameter_optimisation=job.settings.parameter_optimisation,
    )
    return _unit(header, job.position, payload, find_entry_points(header, payload))


def _unit(
    header: TensorHeader, position: int, payload: bytes, entry_points: Sequence[int] = ()
) -> bytes:
    fields = write_tensor_header(header, position, entry_points)
    return frame_unit(bytes([UnitKind.NDU << 2 | _INDEPENDENT]) + fields + payload)
