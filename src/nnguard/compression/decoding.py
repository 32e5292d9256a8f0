"""Decoding one tensor from a unit, in whatever process."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnguard.errors import FormatError
from nnguard.models.tensors import Values
from nnguard.sharing import SharedFile
from nnguard.stream.coding import Indices, decode_payload, step_size
from nnguard.stream.formats import WORD, Array, Format, TensorType
from nnguard.stream.headers import PayloadType, TensorHeader
from nnguard.stream.quantising import dequantise_into

__all__ = ["DecodeJob", "Target", "decode_jobs"]

_LARGE = 1 << 18
"""Tensors of so many weights are decoded where they go; smaller ones are copied there sooner."""

_LARGEST_EXPONENT = 127
"""Of float32."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tensor's bytes go.

    Attributes:
        path: Of a file that is there, all zeros where the tensor goes.
        offset: Where the tensor begins.
    """

    path: str
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A tensor to decode.

    Attributes:
        header: Of its unit.
        type: What it was.
        unit: The unit's bytes.
        size: How many they are.
        target: Where to write it; None to return it.
    """

    header: TensorHeader
    type: TensorType
    unit: Values
    size: int
    target: Target | None


def decode_jobs(jobs: Sequence[DecodeJob]) -> list[Array | None]:
    """Decode some tensors.

    Returns:
        For each its values, flat, in the memory form of its format; None if they were written.

    Raises:
        FormatError: A payload is damaged.
    """
    files: dict[str, SharedFile] = {}
    return [_decode(job, files) for job in jobs]


def _decode(job: DecodeJob, files: dict[str, SharedFile]) -> Array | None:
    header, form = job.header, job.type.format
    payload = job.unit.read(header.payload_offset, job.size)
    if header.payload_type == PayloadType.RAW_FLOAT:
        return _deliver(job, _raw(header, form, payload), files)
    if job.target is not None and header.size >= _LARGE and form.name in ("float32", "int32"):
        _decode_in_place(job, payload, job.target)
        return None
    indices, qp = decode_payload(header, payload, to_the_end=True)
    return _deliver(job, _values(header, form, indices, qp), files)


def _values(header: TensorHeader, form: Format, indices: Indices, qp: int) -> Array:
    """Turn indices into values; float32 takes their memory."""
    if header.payload_type == PayloadType.FLOAT:
        qp += header.base_qp
        if qp >> header.qp_density > _LARGEST_EXPONENT:
            raise FormatError(f"tensor {header.name} has a step beyond float32")
        weights = dequantise_into(indices, step_size(qp, header.qp_density))
        return form.from_float32(weights.reshape(-1))
    values = indices.reshape(-1)
    low, high = int(values.min()), int(values.max())
    least, most = (0, 1) if form.name == "bool" else _range(form)
    if low < least or high > most:
        raise FormatError(f"tensor {header.name} of {form.name} has values out of its range")
    return values.astype(form.dtype, copy=False)


def _range(form: Format) -> tuple[int, int]:
    limits = np.iinfo(form.dtype)
    return int(limits.min), int(limits.max)


def _decode_in_place(job: DecodeJob, payload: Array, target: Target) -> None:
    """Decode into the file's pages, so that the tensor takes no memory besides."""
    start = target.offset % mmap.ALLOCATIONGRANULARITY
    length = start + job.header.size * WORD
    file = SharedFile.open_to_write(target.path)
    pages = mmap.mmap(file.descriptor, length, offset=target.offset - start)
    file.close()
    indices = np.frombuffer(pages, np.int32, job.header.size, start).reshape(job.header.shape)
    _, qp = decode_payload(job.header, payload, indices=indices, to_the_end=True)
    _values(job.header, job.type.format, indices, qp)


def _raw(header: TensorHeader, form: Format, payload: Array) -> Array:
    """Return raw float32, or large integers as they lie in memory."""
    if len(payload) != header.size * WORD:
        raise FormatError(f"payload of tensor {header.name} has the wrong length")
    return np.frombuffer(payload, form.dtype)


def _deliver(job: DecodeJob, values: Array, files: dict[str, SharedFile]) -> Array | None:
    if job.target is None:
        return values
    path = job.target.path
    if path not in files:
        files[path] = SharedFile.open_to_write(path)
    files[path].write(values, job.target.offset)
    return None
