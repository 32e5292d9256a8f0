"""Which tensors can carry bits, in which order a reader looks at them, and how they carry.

The order follows from headers alone, which embedding leaves as they are, so that a reader finds the
primary carrier without being told (`docs/SPEC.md`, section 3).
"""

from __future__ import annotations

import numpy as np

from nnguard.hiding import hqim
from nnguard.hiding.frame import SIZE_END, FrameHeader, header_size, parse_header
from nnguard.stream import Stream, Unit
from nnguard.stream.coding import QuantizedTensor, qp_range
from nnguard.stream.headers import PayloadType, TensorHeader

__all__ = [
    "ALWAYS",
    "COST_PER_BYTE",
    "MAX_WEIGHTS",
    "can_carry",
    "can_code",
    "candidates",
    "capacities",
    "capacity",
    "cost_of",
    "find_header",
    "mark",
    "primary_candidates",
    "unmark",
    "weights_in",
]

_PRIMARY_CANDIDATES = 8
"""Tensors that a reader looks at before it says that there is no header, as far as they cost no
more than `ALWAYS` in all. The first counts in any case."""

_BEST_SIZE = 1 << 11
"""Weights of the best primary carrier: room for a signature and not much more, so that the file
hardly grows and a reader decodes next to nothing."""

_MIN_SIZE = 1 << 8

MAX_WEIGHTS = 1 << 28
"""Weights of a carrier, at most."""

ALWAYS = 1 << 18
"""A tensor of this cost may carry, however few bytes it has, and so may all of a record of this
cost."""

COST_PER_BYTE = 8
"""A tensor that costs more than `ALWAYS` costs no more than this for each byte of its unit, and all
carriers of a record for each byte of the stream, so that what a reader decodes follows from what it
was given."""


def candidates(stream: Stream) -> list[int]:
    """Return the positions of the units that may carry bits, the best primary carrier first.

    They are ordered by how many times larger or smaller than 2,048 weights they are; equals in the
    order of the stream.
    """

    def distance(index: int) -> float:
        size = weights_in(stream, index)
        # Exact enough: two quotients of numbers of 28 bits differ by more than binary64 rounds.
        return max(size, _BEST_SIZE) / min(size, _BEST_SIZE)

    return sorted((i for i, unit in enumerate(stream) if can_carry(unit)), key=distance)


def can_carry(unit: Unit) -> bool:
    """Tell from a unit's header and size whether it may carry bits."""
    return can_code(unit) and unit.tensor is not None and unit.tensor.size >= _MIN_SIZE


def can_code(unit: Unit) -> bool:
    """Tell from a unit's header and size whether it may be decoded, for the bytes that it has."""
    if unit.tensor is None or unit.tensor.payload_type != PayloadType.FLOAT:
        return False
    dense = unit.tensor.cost <= max(ALWAYS, COST_PER_BYTE * unit.size)
    return dense and unit.tensor.size <= MAX_WEIGHTS


def primary_candidates(stream: Stream) -> list[int]:
    """Return the positions of the units in which a reader looks for a header, in this order."""
    chosen: list[int] = []
    cost = 0
    for index in candidates(stream)[:_PRIMARY_CANDIDATES]:
        cost += cost_of(stream, index)
        if chosen and cost > ALWAYS:
            break
        chosen.append(index)
    return chosen


def weights_in(stream: Stream, index: int) -> int:
    """Return the number of weights of the tensor at a position."""
    return _header_of(stream, index).size


def cost_of(stream: Stream, index: int) -> int:
    """Return what decoding the tensor at a position costs, in weights."""
    return _header_of(stream, index).cost


def capacity(tensor: QuantizedTensor, bits_per_weight: int = 1) -> int:
    """Return how many bits a tensor holds; none where its step cannot be divided so far."""
    return capacities(tensor)[bits_per_weight - 1]


def capacities(tensor: QuantizedTensor) -> list[int]:
    """Return what `capacity` is at 1 to 16 bits in a weight."""
    places, largest = hqim.capacity(tensor.indices), hqim.largest(tensor.indices)
    return [
        width * places if _can_be_divided(tensor, width) and largest <= hqim.max_value(width) else 0
        for width in range(1, hqim.MAX_BITS + 1)
    ]


def mark(tensor: QuantizedTensor, bits: hqim.Bits, bits_per_weight: int = 1) -> QuantizedTensor:
    """Return a tensor with a part of the step and bits in it.

    Raises:
        ValueError: There are more bits than it holds.
    """
    if not _can_be_divided(tensor, bits_per_weight):
        raise ValueError(f"no step is 2^-{bits_per_weight} times that of {tensor.header.name}")
    indices = hqim.embed(
        tensor.indices,
        bits,
        dependent=tensor.header.dependent,
        bits_per_weight=bits_per_weight,
    )
    return tensor.with_indices(indices).with_qp(tensor.qp - bits_per_weight * _octave(tensor))


def unmark(tensor: QuantizedTensor, bits_per_weight: int = 1) -> tuple[hqim.Bits, QuantizedTensor]:
    """Return the bits in a tensor and the tensor without them; arbitrary for one without bits.

    Raises:
        ValueError: No step is so many times that of the tensor.
    """
    qp = tensor.qp + bits_per_weight * _octave(tensor)
    if qp > qp_range(tensor.header.qp_density)[1]:
        raise ValueError(f"no step is 2^{bits_per_weight} times that of {tensor.header.name}")
    bits, indices = hqim.extract(
        tensor.indices, dependent=tensor.header.dependent, bits_per_weight=bits_per_weight
    )
    return bits, tensor.with_indices(indices).with_qp(qp)


def find_header(tensor: QuantizedTensor) -> FrameHeader | None:
    """Find the header of the outermost record in a tensor, if it is a primary carrier.

    How many bits a weight holds is tried, from one on; the header says it, too.
    """
    most = qp_range(tensor.header.qp_density)[1]
    places = np.flatnonzero(tensor.indices)
    for bits_per_weight in range(1, hqim.MAX_BITS + 1):
        if tensor.qp + bits_per_weight * _octave(tensor) > most:
            break
        size = header_size(_first_bytes(tensor, places, SIZE_END, bits_per_weight))
        header = size and parse_header(_first_bytes(tensor, places, size, bits_per_weight))
        if header and header.bits_per_weight == bits_per_weight:
            return header
    return None


def _first_bytes(
    tensor: QuantizedTensor, places: hqim.Positions, count: int, bits_per_weight: int
) -> bytes:
    """Return the first bytes that a tensor holds in its places, so many or all."""
    used = places[: -(-8 * count // bits_per_weight)]
    first = tensor.indices.reshape(-1)[: int(used[-1]) + 1 if used.size else 0]
    bits, _ = hqim.extract(
        first, dependent=tensor.header.dependent, bits_per_weight=bits_per_weight
    )
    return hqim.whole_bytes(bits)


def _header_of(stream: Stream, index: int) -> TensorHeader:
    tensor = stream[index].tensor
    assert tensor is not None
    return tensor


def _can_be_divided(tensor: QuantizedTensor, bits_per_weight: int) -> bool:
    lowest = qp_range(tensor.header.qp_density)[0]
    return tensor.qp - bits_per_weight * _octave(tensor) >= lowest


def _octave(tensor: QuantizedTensor) -> int:
    """Return by how much the quantization parameter falls where the step halves."""
    return 1 << tensor.header.qp_density
