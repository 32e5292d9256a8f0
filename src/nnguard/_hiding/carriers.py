"""Which tensors can carry bits, and in which order a reader looks at them.

The order follows from headers alone, which embedding leaves as they are, so that a reader finds the
primary carrier without being told (`docs/SPEC.md`, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping

from nnguard._stream import Stream, Unit
from nnguard._stream.headers import TensorHeader

__all__ = [
    "USUAL_WIDTH",
    "can_carry",
    "can_code",
    "candidates",
    "carriers_cost",
    "cost_allowed",
    "cost_of",
    "max_cost",
    "primary_candidates",
    "weights_in",
]

_PRIMARY_CANDIDATES = 8
"""Tensors that a reader looks at before it says that there is no header, as far as they cost no
more than `_ALWAYS` in all. The first counts in any case."""

_BEST_SIZE = 1 << 11
"""Weights of the best primary carrier: room for a signature and not much more, so that the file
hardly grows and a reader decodes next to nothing."""

_MIN_SIZE = 1 << 8

_MAX_WEIGHTS = 1 << 28
"""Weights of a carrier, at most."""

_MAX_COST = _MAX_WEIGHTS
"""Of all carriers of a record, at most; a reader decodes and encodes them."""

USUAL_WIDTH = 4
"""A carrier whose weights hold more bits than this costs more."""

_ALWAYS = 1 << 18
"""A tensor that costs at most this may carry, however few bytes it has. So may all carriers of a
record together."""

_COST_PER_BYTE = 8
"""A tensor that costs more than `_ALWAYS` costs no more than this for each byte of its unit, and
all carriers of a record for each byte of the stream, so that what a reader decodes follows from
what it was given."""


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
    if (header := unit.quantized) is None:
        return False
    return header.cost <= cost_allowed(unit.size) and header.size <= _MAX_WEIGHTS


def primary_candidates(stream: Stream) -> list[int]:
    """Return the positions of the units in which a reader looks for a header, in this order."""
    chosen: list[int] = []
    cost = 0
    for index in candidates(stream)[:_PRIMARY_CANDIDATES]:
        cost += cost_of(stream, index)
        if chosen and cost > _ALWAYS:
            break
        chosen.append(index)
    return chosen


def weights_in(stream: Stream, index: int) -> int:
    """Return the number of weights of the tensor at a position."""
    return _header_of(stream, index).size


def cost_of(stream: Stream, index: int) -> int:
    """Return what decoding the tensor at a position costs, in weights."""
    return _header_of(stream, index).cost


def max_cost(stream: Stream) -> int:
    """Return what decoding all carriers of a record may cost, in weights."""
    return min(_MAX_COST, cost_allowed(stream.size))


def cost_allowed(size: int) -> int:
    """Return what decoding so many bytes may cost, in weights."""
    return max(_ALWAYS, _COST_PER_BYTE * size)


def carriers_cost(stream: Stream, widths: Mapping[int, int]) -> int:
    """Return what carriers cost, in weights; many bits in a weight take more memory.

    Args:
        stream: The stream.
        widths: Positions of carriers to how many bits a weight holds; those with none cost nothing.
    """
    parts = sum(
        cost_of(stream, carrier) * max(width, USUAL_WIDTH)
        for carrier, width in widths.items()
        if width
    )
    return -(-parts // USUAL_WIDTH)


def _header_of(stream: Stream, index: int) -> TensorHeader:
    tensor = stream[index].tensor
    assert tensor is not None
    return tensor
