"""Entropy coding of one tensor, through nncodec's extension (DeepCABAC).

The extension takes no length and reads on past damaged input, so it is given a buffer with a guard
of zeros behind it, and the tensor's size is limited first. What it decodes is to be believed only
once it was encoded to the same bytes again: that is the check of everything at once, bytes used and
stop pattern included. (The extension's own check at the end prints to standard output.)
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard.errors import FormatError, LimitError
from nnguard.stream.headers import PayloadType, TensorHeader
from nnguard.stream.units import Unit, frame_unit, size_field

try:
    from nncodec.extensions import deepCABAC  # loads numpy, and nothing else of nncodec
except ImportError as error:
    raise ImportError(
        "nnguard needs the entropy coder of nncodec: pip install --no-deps nncodec==2.1.3"
    ) from error

__all__ = [
    "Indices",
    "QuantisedTensor",
    "codable",
    "decode",
    "dequantise",
    "encode",
    "find_settings",
]

Indices = npt.NDArray[np.int32]

MAX_WEIGHTS = 1 << 24
"""Tensors of more weights are not decoded: 64 MiB of indices, a few seconds."""

MAX_INDEX = 1 << 30
"""Indices beyond this cannot be coded: the binarisation ends there."""

_GUARD_BASE = 1 << 14
_GUARD_PER_WEIGHT = 64
"""Zeros behind the payload. They decode along the most probable symbols, at most a bit for each
bin: two flags, up to 256 greater-than flags, 31 prefix and 31 suffix bins; 40 bytes a weight."""

_NO_HISTORY = np.zeros(2, np.int8)


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedTensor:
    """A tensor as the entropy coder sees it.

    Attributes:
        header: Its unit's header.
        prefix: The unit's bytes between size field and payload; they stay as they are.
        qp: Quantisation parameter, without `header.base_qp`.
        indices: int32 array of `header.shape`; the weights are these times `step`.
        row_skipping: All-zero rows are flagged instead of coded.
        parameter_optimisation: The encoder fitted the initial states of its contexts.
    """

    header: TensorHeader
    prefix: bytes
    qp: int
    indices: Indices
    row_skipping: bool
    parameter_optimisation: bool

    @property
    def step(self) -> float:
        """Quantisation step size, in units of the weights."""
        density = self.header.qp_density
        qp = self.qp + self.header.base_qp
        mantissa = (1 << density) + (qp & ((1 << density) - 1))
        return float(mantissa) * 2.0 ** ((qp >> density) - density)

    def with_indices(self, indices: Indices) -> QuantisedTensor:
        """Return the tensor with other indices of the same shape."""
        return replace(self, indices=indices.reshape(self.header.shape))


def decode(unit: Unit, *, parameter_optimisation: bool = True) -> QuantisedTensor:
    """Decode the indices of a quantised tensor.

    Args:
        unit: A unit with a FLOAT payload.
        parameter_optimisation: Setting to note for encoding; a payload does not tell.

    Returns:
        The tensor. On damaged input its indices are arbitrary: compare `encode` with the unit.

    Raises:
        LimitError: The tensor has more than `MAX_WEIGHTS` weights.
        FormatError: The payload is empty, or the extension refuses it.
    """
    header = unit.tensor
    if header is None or header.payload_type != PayloadType.FLOAT:
        raise ValueError(f"unit {unit.name} is not a quantised tensor")
    if header.size > MAX_WEIGHTS:
        raise LimitError(f"tensor {header.name} has {header.size} weights; limit {MAX_WEIGHTS}")
    data = unit.read()
    payload = data[header.payload_offset :]
    if not payload:
        raise FormatError(f"tensor {header.name} has no payload", offset=unit.offset)
    guarded = _with_guard(payload, header.size)
    row_skipping = _reads_row_skipping(guarded, header)
    indices = np.zeros(header.shape, np.int32)
    decoder, qp = _start_decoder(guarded, header)
    decoder.initCtxModels(header.unary_length)
    try:
        decoder.decodeLayer(
            indices,
            int(header.dependent),
            0,
            header.profile,
            0,
            deepCABAC.HdspMode.AlwaysOff,
            _NO_HISTORY,
            0,
            0,
        )
    except (RuntimeError, IndexError, ValueError) as error:
        message = f"payload of tensor {header.name} is damaged: {error}"
        raise FormatError(message, offset=unit.offset + header.payload_offset) from None
    prefix = data[size_field(data) : header.payload_offset]
    return QuantisedTensor(header, prefix, qp, indices, row_skipping, parameter_optimisation)


def encode(tensor: QuantisedTensor) -> bytes:
    """Encode a tensor to the bytes of its unit, as the stock coder writes them.

    Raises:
        ValueError: An index lies beyond `MAX_INDEX`.
    """
    header, indices = tensor.header, np.ascontiguousarray(tensor.indices)
    if not codable(indices):
        raise ValueError(f"tensor {header.name} has indices beyond {MAX_INDEX}")
    zero_rows = np.zeros(header.shape[0], np.int32)
    if header.profile == 1 and indices.ndim > 1:
        zero_rows[:] = ~indices.reshape(header.shape[0], -1).any(axis=1)
    encoder = deepCABAC.Encoder()
    encoder.iae_v(6 + header.qp_density, tensor.qp)
    encoder.initCtxModels(header.unary_length, int(tensor.parameter_optimisation))
    encoder.encodeLayer(
        indices,
        int(header.dependent),
        0,
        header.profile,
        0,
        int(tensor.row_skipping),
        zero_rows,
        deepCABAC.HdspMode.AlwaysOff,
        _NO_HISTORY,
        0,
        0,
    )
    payload: bytes = encoder.finish().tobytes()
    return frame_unit(tensor.prefix + payload)


def codable(indices: Indices) -> bool:
    """Tell whether all indices lie in the range that `encode` can write."""
    return bool(indices.max(initial=0) <= MAX_INDEX and indices.min(initial=0) >= -MAX_INDEX)


def find_settings(unit: Unit) -> QuantisedTensor | None:
    """Decode a tensor and find the settings under which it encodes to the same bytes.

    Returns:
        The tensor, or None where no settings give the unit's bytes: then it was damaged, or written
        by an encoder that codes otherwise, and nothing can be restored in it exactly.
    """
    tensor = decode(unit)
    if not codable(tensor.indices):
        return None
    data = unit.read()
    for optimised in (True, False):
        candidate = replace(tensor, parameter_optimisation=optimised)
        if encode(candidate) == data:
            return candidate
    return None


def dequantise(tensor: QuantisedTensor) -> npt.NDArray[np.float32]:
    """Return the weights, float32 of the tensor's shape, as the stock decoder gives them."""
    weights = np.zeros(tensor.header.shape, np.float32)
    deepCABAC.Decoder().dequantLayer(
        weights,
        tensor.indices,
        tensor.header.qp_density,
        tensor.qp + tensor.header.base_qp,
        0,
    )
    return weights


def _with_guard(payload: bytes, weights: int) -> npt.NDArray[np.uint8]:
    """Return the payload with zeros behind it; pages that are never touched cost no memory."""
    length = len(payload) + _GUARD_BASE + _GUARD_PER_WEIGHT * weights
    options: dict[str, int] = {}
    if hasattr(mmap, "MAP_NORESERVE"):
        options["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE
    buffer = mmap.mmap(-1, length, **options)
    buffer[: len(payload)] = payload
    return np.frombuffer(buffer, np.uint8)


def _start_decoder(guarded: npt.NDArray[np.uint8], header: TensorHeader) -> tuple[Any, int]:
    decoder = deepCABAC.Decoder()
    decoder.setStream(guarded)
    return decoder, decoder.iae_v(6 + header.qp_density)


def _reads_row_skipping(guarded: npt.NDArray[np.uint8], header: TensorHeader) -> bool:
    """Read the flag that precedes the rows; only matrices of profile 1 have it."""
    rows = header.shape[0]
    if header.profile != 1 or rows == 1 or header.size == rows:
        return False
    decoder, _ = _start_decoder(guarded, header)
    return bool(decoder.uae_v(1))
