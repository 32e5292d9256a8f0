"""Entropy coding of one tensor, through nncodec's extension (DeepCABAC).

The extension takes no length and reads on past damaged input, so it is given a buffer with a guard
of zeros behind it, and the tensor's size is limited first. What it decodes is to be believed only
once it was encoded to the same bytes again: that is the check of everything at once, bytes used and
stop pattern included. (The extension's own check at the end prints to standard output.)
"""

from __future__ import annotations

import mmap
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard.errors import FormatError, LimitError
from nnguard.stream.headers import PayloadType, TensorHeader, block_rows
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
    "decode_payload",
    "encode",
    "encode_payload",
    "find_entry_points",
    "find_settings",
    "qp_range",
    "step_size",
]

Indices = npt.NDArray[np.int32]

MAX_WEIGHTS = 1 << 24
"""Tensors of more weights are not decoded: 64 MiB of indices, a few seconds."""

MAX_INDEX = 1 << 30
"""Indices of carriers, at most, so that moving one does not leave 32 bits."""

_GUARD_BASE = 1 << 14
_GUARD_PER_WEIGHT = 64
"""Zeros behind the payload. They decode along the most probable symbols, at most a bit for each
bin: two flags, up to 256 greater-than flags, 31 prefix and 31 suffix bins; 40 bytes a weight."""

_KEPT_GUARD = 1 << 24
"""Payloads that need no more than this, guard included, share their memory, one after the other."""

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
        return step_size(self.qp + self.header.base_qp, self.header.qp_density)

    def with_indices(self, indices: Indices) -> QuantisedTensor:
        """Return the tensor with other indices of the same shape."""
        return replace(self, indices=indices.reshape(self.header.shape))


def decode_payload(
    header: TensorHeader,
    payload: bytes | npt.NDArray[np.uint8],
    *,
    indices: Indices | None = None,
    to_the_end: bool = False,
) -> tuple[Indices, int]:
    """Decode the payload of a tensor: together with `encode_payload`, all there is to the coder.

    Args:
        header: The tensor's; it is quantised or of integers.
        payload: What stands behind the header, to the end of the unit.
        indices: Zeros of the header's shape to decode into; a new array, if not given.
        to_the_end: Check that the payload ends where decoding does. The extension then prints a
            line where only the last bits are wrong.

    Returns:
        The indices, int32 of the header's shape, and the quantisation parameter (0 for integers).
        On damaged input they are arbitrary.

    Raises:
        FormatError: The payload is empty or damaged.
    """
    if not len(payload):
        raise FormatError(f"tensor {header.name} has no payload")
    if indices is None:
        indices = np.zeros(header.shape, np.int32)
    decoder, qp = _start_decoder(_with_guard(payload, header.size), header)
    try:
        _read_layer(decoder, header, indices)
        if to_the_end and decoder.finish() != len(payload):
            raise FormatError(f"payload of tensor {header.name} does not end where it should")
    except (RuntimeError, IndexError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]  # before it, where in the extension's source
        raise FormatError(f"payload of tensor {header.name} is damaged: {reason}") from None
    return indices, qp


def encode_payload(
    header: TensorHeader,
    indices: Indices,
    qp: int,
    *,
    row_skipping: bool,
    parameter_optimisation: bool,
) -> bytes:
    """Encode the indices of a tensor, as the stock coder does.

    Args:
        header: The tensor's; its `payload_offset` does not count.
        indices: int32 of the header's shape, C-contiguous.
        qp: Quantisation parameter, without `header.base_qp`; not used for integers.
        row_skipping: Flag all-zero rows instead of coding them.
        parameter_optimisation: Fit the initial states of the contexts: four times the time, some
            percent of size.
    """
    zero_rows = np.zeros(header.shape[0], np.int32)
    if header.profile == 1 and indices.ndim > 1:
        zero_rows[:] = ~indices.reshape(header.shape[0], -1).any(axis=1)
    encoder = deepCABAC.Encoder()
    if header.payload_type == PayloadType.FLOAT:
        encoder.iae_v(6 + header.qp_density, qp)
    encoder.initCtxModels(header.unary_length, int(parameter_optimisation))
    encoder.encodeLayer(
        indices,
        int(header.dependent),
        header.scan_order,
        header.profile,
        0,
        int(row_skipping),
        zero_rows,
        deepCABAC.HdspMode.AlwaysOff,
        _NO_HISTORY,
        0,
        0,
    )
    payload: bytes = encoder.finish().tobytes()
    return payload


def find_entry_points(header: TensorHeader, payload: bytes) -> list[int]:
    """Return the places in a payload where decoders that work in parallel begin."""
    if not _has_entry_points(header):
        return []
    decoder, _ = _start_decoder(_with_guard(payload, header.size), header)
    points = _read_layer(decoder, header, np.zeros(header.shape, np.int32))
    return [int(point) for point in points]


def decode(
    unit: Unit, *, parameter_optimisation: bool = True, max_weights: int = MAX_WEIGHTS
) -> QuantisedTensor:
    """Decode the indices of a quantised tensor.

    Args:
        unit: A unit with a FLOAT payload.
        parameter_optimisation: Setting to note for encoding; a payload does not tell.
        max_weights: Larger tensors are refused.

    Returns:
        The tensor. On damaged input its indices are arbitrary: compare `encode` with the unit.

    Raises:
        LimitError: The tensor has more than `max_weights` weights.
        FormatError: The payload is empty, or the extension refuses it.
    """
    header = unit.tensor
    if header is None or header.payload_type != PayloadType.FLOAT:
        raise ValueError(f"unit {unit.name} is not a quantised tensor")
    if header.size > max_weights:
        raise LimitError(f"tensor {header.name} has {header.size} weights; limit {max_weights}")
    data = unit.read()
    payload = data[header.payload_offset :]
    try:
        indices, qp = decode_payload(header, payload)
    except FormatError as error:
        offset = unit.offset + header.payload_offset
        raise FormatError(str(error), offset=offset) from None
    row_skipping = _reads_row_skipping(payload, header)
    prefix = data[size_field(data) : header.payload_offset]
    return QuantisedTensor(header, prefix, qp, indices, row_skipping, parameter_optimisation)


def encode(tensor: QuantisedTensor) -> bytes:
    """Encode a tensor to the bytes of its unit, as the stock coder writes them.

    Raises:
        ValueError: An index lies beyond `MAX_INDEX`.
    """
    if not codable(tensor.indices):
        raise ValueError(f"tensor {tensor.header.name} has indices beyond {MAX_INDEX}")
    payload = encode_payload(
        tensor.header,
        np.ascontiguousarray(tensor.indices),
        tensor.qp,
        row_skipping=tensor.row_skipping,
        parameter_optimisation=tensor.parameter_optimisation,
    )
    return frame_unit(tensor.prefix + payload)


def step_size(qp: int, qp_density: int) -> float:
    """Return the step size that a quantisation parameter stands for."""
    mantissa = (1 << qp_density) + (qp & ((1 << qp_density) - 1))
    return float(mantissa) * 2.0 ** ((qp >> qp_density) - qp_density)


def qp_range(qp_density: int) -> tuple[int, int]:
    """Return the least and the largest quantisation parameter that a payload can hold."""
    limit = 1 << (5 + qp_density)
    return -limit, limit - 1


def codable(indices: Indices) -> bool:
    """Tell whether all indices lie in the range of carriers."""
    return bool(indices.max(initial=0) <= MAX_INDEX and indices.min(initial=0) >= -MAX_INDEX)


def find_settings(unit: Unit, *, max_weights: int = MAX_WEIGHTS) -> QuantisedTensor | None:
    """Decode a tensor and find the settings under which it encodes to the same bytes.

    Returns:
        The tensor, or None where no settings give the unit's bytes: then it was damaged, or written
        by an encoder that codes otherwise, and nothing can be restored in it exactly.
    """
    tensor = decode(unit, max_weights=max_weights)
    if not codable(tensor.indices):
        return None
    data = unit.read()
    for optimised in (True, False):
        candidate = replace(tensor, parameter_optimisation=optimised)
        if encode(candidate) == data:
            return candidate
    return None


def _has_entry_points(header: TensorHeader) -> bool:
    """Tell whether the tensor is coded in more than one row of blocks."""
    return header.scan_order > 0 and block_rows(header.shape, header.scan_order) > 1


def _with_guard(payload: bytes | npt.NDArray[np.uint8], weights: int) -> npt.NDArray[np.uint8]:
    """Return the payload with zeros behind it; pages that are never touched cost no memory."""
    length = len(payload) + _GUARD_BASE + _GUARD_PER_WEIGHT * weights
    if length <= _KEPT_GUARD:
        return _kept.hold(payload)[:length]
    guarded = _zeros(length)
    guarded[: len(payload)] = np.frombuffer(payload, np.uint8)
    return guarded


class _Kept(threading.local):
    """A thread's memory for small payloads, which come by the thousand; zeros behind the last."""

    def __init__(self) -> None:
        self._buffer = _zeros(_KEPT_GUARD)
        self._used = 0

    def hold(self, payload: bytes | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the memory with the payload at its start."""
        size = len(payload)
        self._buffer[:size] = np.frombuffer(payload, np.uint8)
        self._buffer[size : self._used] = 0
        self._used = size
        return self._buffer


def _zeros(length: int) -> npt.NDArray[np.uint8]:
    """Return memory of zeros, of which pages that are never touched are never there."""
    options: dict[str, int] = {}
    if hasattr(mmap, "MAP_NORESERVE"):
        options["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, length, **options), np.uint8)


_kept = _Kept()


def _start_decoder(guarded: npt.NDArray[np.uint8], header: TensorHeader) -> tuple[Any, int]:
    decoder = deepCABAC.Decoder()
    decoder.setStream(guarded)
    quantised = header.payload_type == PayloadType.FLOAT
    return decoder, decoder.iae_v(6 + header.qp_density) if quantised else 0


def _read_layer(decoder: Any, header: TensorHeader, indices: Indices) -> Any:
    """Decode the indices; return the entry points, where there are any."""
    decoder.initCtxModels(header.unary_length)
    # Given entry points, the extension would jump to wherever they point. It can make them, too:
    # then it reads on from the start, and begins contexts afresh where the encoder did.
    read = decoder.decodeLayerAndCreateEPs if _has_entry_points(header) else decoder.decodeLayer
    return read(
        indices,
        int(header.dependent),
        header.scan_order,
        header.profile,
        0,
        deepCABAC.HdspMode.AlwaysOff,
        _NO_HISTORY,
        0,
        0,
    )


def _reads_row_skipping(payload: bytes, header: TensorHeader) -> bool:
    """Read the flag that precedes the rows; only matrices of profile 1 have it."""
    rows = header.shape[0]
    if header.profile != 1 or rows == 1 or header.size == rows:
        return False
    decoder, _ = _start_decoder(_with_guard(payload, 0), header)
    return bool(decoder.uae_v(1))
