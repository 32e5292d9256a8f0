"""Quantized tensors: from a unit to indices, and back to the bytes of the unit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nnguard._stream import _coder
from nnguard._stream.coding import (
    Indices,
    Parameters,
    decode_payload,
    decode_pieces,
    encode_payload,
    magnitude_contexts,
    parameters_of,
    search_start_states,
    step_of,
)
from nnguard._stream.headers import TensorHeader
from nnguard._stream.trellis import odd_states
from nnguard._stream.units import Unit, frame_unit, size_field, usual_size_field
from nnguard.errors import FormatError, LimitError

__all__ = [
    "MAX_WEIGHTS",
    "Integers",
    "QuantizedTensor",
    "decode",
    "encode",
    "integers_of",
    "narrowed",
    "pieces_of",
    "recode",
    "suited_to",
    "to_indices",
    "to_integers",
    "with_integers",
]

MAX_WEIGHTS = 1 << 24
"""Tensors of more weights are not decoded whole unless the caller says so: 64 MiB of indices."""

_ENOUGH = 8
"""Pieces of a tensor that tell how its contexts should begin, and how fast they should adapt."""

Integers = npt.NDArray[np.int64]

_LARGEST_INDEX = (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A tensor as the entropy coder sees it.

    Attributes:
        header: Its unit's header.
        prefix: The unit's bytes between size field and payload; they stay as they are.
        parameters: What the payload states.
        indices: int32 array of `header.shape`; the weights are these times `step`.
    """

    header: TensorHeader
    prefix: bytes
    parameters: Parameters
    indices: Indices

    @property
    def qp(self) -> int:
        """Quantization parameter, without `header.base_qp`."""
        return self.parameters.qp

    @property
    def step(self) -> float:
        """Quantization step size, in units of the weights."""
        return step_of(self.header, self.qp)

    def with_indices(self, indices: Indices) -> QuantizedTensor:
        """Return the tensor with other indices of the same shape."""
        return replace(self, indices=indices.reshape(self.header.shape))


def decode(unit: Unit, *, max_weights: int = MAX_WEIGHTS) -> QuantizedTensor:
    """Decode a quantized tensor whole. Law: `encode` gives the unit's bytes again.

    Args:
        unit: A unit with a FLOAT payload.
        max_weights: Larger tensors are refused.

    Raises:
        LimitError: The tensor has more than `max_weights` weights.
        FormatError: The payload is damaged, or the unit has a size field of another form than
            encoders write.
    """
    header = _quantized(unit)
    if header.size > max_weights:
        raise LimitError(f"tensor {header.name} has {header.size} weights; limit {max_weights}")
    prefix, payload, at = _parts_of(unit, header)
    indices, parameters = decode_payload(header, payload, offset=at)
    return QuantizedTensor(header, prefix, parameters, indices)


def pieces_of(unit: Unit) -> Iterator[tuple[Indices, _coder.Decoder]]:
    """Decode a quantized tensor piece by piece, in the order of the array.

    Args:
        unit: A unit with a FLOAT payload, not coded in blocks.

    Yields:
        Indices, flat, whose memory is used again; and the decoder, which has the parameters. What
        was yielded is to be believed once the last piece was.

    Raises:
        FormatError: See `decode`.
    """
    header = _quantized(unit)
    _, payload, at = _parts_of(unit, header)
    pieces = decode_pieces(header, iter([payload]), len(payload), offset=at)
    return ((indices, decoder) for _, indices, decoder in pieces)


def recode(unit: Unit, change: Callable[[Indices, Parameters], Indices], *, by: int) -> bytes:
    """Decode a quantized tensor, change it piece by piece, and encode it.

    Args:
        unit: A unit with a FLOAT payload, not coded in blocks.
        change: Makes a piece of another, of the same size; also given what the payload states.
        by: Added to the quantization parameter.

    Raises:
        FormatError: See `decode`.
    """
    prefix, pieces, parameters = _begin(unit)
    changed = (change(indices, parameters) for indices in pieces)
    parameters = replace(parameters, qp=parameters.qp + by)
    recoded, _ = encode_payload(_quantized(unit), changed, parameters)
    return frame_unit(prefix + recoded)


def suited_to(unit: Unit, change: Callable[[Indices], Indices]) -> bytes:
    """Return a unit of the same indices, with start states that suit what a change makes of them.

    Only those for magnitudes are others. `recode` keeps them.

    Args:
        unit: A unit with a FLOAT payload, not coded in blocks.
        change: Makes a piece of another, with the same signs and zeros.

    Raises:
        FormatError: See `decode`.
    """
    states = _states_for(unit, change)
    prefix, pieces, parameters = _begin(unit)
    parameters = replace(parameters, start_states=states)
    payload, _ = encode_payload(_quantized(unit), pieces, parameters)
    return frame_unit(prefix + payload)


def _states_for(unit: Unit, change: Callable[[Indices], Indices]) -> bytes:
    """Return the start states of a unit, those for magnitudes as suits what a change makes."""
    header = _quantized(unit)
    _, pieces, parameters = _begin(unit)
    changed = (
        to_integers(change(indices), dependent=header.dependent).astype(np.int32)
        for indices in itertools.islice(pieces, _ENOUGH)
    )
    # For TCQ, the stock encoder's search looks at indices, not at the integers that are coded.
    plain = replace(header, dependent=False)
    found = search_start_states(plain, changed, parameters.skipped_rows)
    count = magnitude_contexts(header)
    return parameters.start_states[:-count] + found[-count:]


def encode(tensor: QuantizedTensor) -> bytes:
    """Encode a tensor to the bytes of its unit.

    Raises:
        ValueError: A row that is to be skipped is not all zeros.
    """
    header, flags = tensor.header, tensor.parameters.skipped_rows
    if flags and tensor.indices.reshape(header.shape[0], -1)[np.frombuffer(flags, bool)].any():
        raise ValueError(f"tensor {header.name} skips rows that are not zero")
    flat = np.ascontiguousarray(tensor.indices).reshape(-1)
    payload, _ = encode_payload(header, [flat], tensor.parameters)
    return frame_unit(tensor.prefix + payload)


def integers_of(tensor: QuantizedTensor) -> Integers:
    """Return the integers that the payload codes (`docs/SPEC.md`, section 2.4.5)."""
    return to_integers(tensor.indices, dependent=tensor.header.dependent)


def with_integers(tensor: QuantizedTensor, integers: Integers) -> QuantizedTensor:
    """Return the tensor whose payload codes these integers.

    Raises:
        ValueError: An index would be too large.
    """
    indices, _ = to_indices(integers.reshape(-1), dependent=tensor.header.dependent)
    return tensor.with_indices(indices)


def to_integers(indices: Indices, *, dependent: bool) -> Integers:
    """Return the integers that indices are coded as."""
    wide = indices.astype(np.int64)
    return np.sign(wide) * (np.abs(wide) + 1 >> 1) if dependent else wide


def to_indices(integers: Integers, *, dependent: bool, state: int = 0) -> tuple[Indices, int]:
    """Return the indices that integers are the code of.

    Args:
        integers: Flat array, all of a tensor's or a piece of them.
        dependent: Trellis-coded quantization.
        state: That of the first integer in the trellis.

    Returns:
        The indices, and the state that follows the last.

    Raises:
        ValueError: An index would be too large.
    """
    if not dependent:
        return narrowed(integers), state
    parities = (integers & 1).astype(np.uint8)
    odd, state = odd_states(parities, np.zeros_like(parities), state)
    magnitudes = np.maximum(2 * np.abs(integers) - odd.astype(np.int64), 0)
    return narrowed(np.where(integers < 0, -magnitudes, magnitudes)), state


def narrowed(indices: Integers) -> Indices:
    """Return indices as those of a tensor.

    Raises:
        ValueError: One is too large.
    """
    if np.abs(indices).max(initial=0) > _LARGEST_INDEX:
        raise ValueError("an index is too large")
    return indices.astype(np.int32)


def _quantized(unit: Unit) -> TensorHeader:
    if unit.quantized is None:
        raise ValueError(f"unit {unit.name} is not a quantized tensor")
    return unit.quantized


def _begin(unit: Unit) -> tuple[bytes, Iterator[Indices], Parameters]:
    """Return what stands before the payload, its pieces, as of `pieces_of`, and what it states."""
    header = _quantized(unit)
    prefix, payload, at = _parts_of(unit, header)
    pieces = decode_pieces(header, iter([payload]), len(payload), offset=at)
    first = next(pieces)
    indices = (indices for _, indices, _ in itertools.chain([first], pieces))
    return prefix, indices, parameters_of(first[2])


def _parts_of(unit: Unit, header: TensorHeader) -> tuple[bytes, bytes, int]:
    """Return what stands between size field and payload, the payload, and where that lies."""
    data = unit.read()
    start, at = size_field(data), header.payload_offset
    if usual_size_field(len(data) - start) != data[:start]:
        raise FormatError(f"unit {unit.name} has an unusual size field", offset=unit.offset)
    return data[start:at], data[at:], unit.offset + at
