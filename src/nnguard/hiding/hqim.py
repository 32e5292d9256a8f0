"""H-QIM in parts of a step: bits in a histogram of integers, reversibly.

Histogram-based quantization index modulation (paper, section III) makes room in a histogram: bins
move apart, and a value then stays in its bin for one bit and goes to the empty one beside it for
the other. The paper makes room at one bin, and all weights beyond it move by a whole step. Here
every bin but zero moves to 2^k times its place, while the quantization step is divided by as much:
the weights stay where they are, and k bits move their own by half a step at most
(`docs/adr/0012-half-the-step.md`, `docs/adr/0019-bits-per-weight.md`). Zeros carry nothing and stay
zeros.

URQ: the 2^k bins around a value are its own, and the last k bits of a bin are those hidden.

TCQ: only every other index is to be had in a state of the trellis, and each bit changes the states
that follow. So the values are a path through the trellis, the new ones another, and a value becomes
one of the 2^k indices of the new state that are nearest (`docs/adr/0013-along-the-trellis.md`).

Law: for all values and bits that `embed` accepts, `extract(embed(values, bits))` returns the bits,
with zeros up to the capacity, and `values`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nnguard.stream.trellis import odd_states

__all__ = [
    "MAX_BITS",
    "Bits",
    "Indices",
    "capacity",
    "embed",
    "extract",
    "fits",
    "largest",
    "max_value",
    "whole_bytes",
]

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]

_PART = 1 << 16
"""Values that are handled at once."""

MAX_BITS = 16
"""Bits that a value holds, at most."""


def max_value(bits_per_weight: int) -> int:
    """Return the largest magnitude of values that bits go into: what they become is an index."""
    return (1 << 30 - bits_per_weight) - 4


def fits(values: Indices, bits_per_weight: int = 1) -> bool:
    """Tell whether no value is beyond `max_value`."""
    return largest(values) <= max_value(bits_per_weight)


def largest(values: Indices) -> int:
    """Return the largest magnitude."""
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def capacity(values: Indices, bits_per_weight: int = 1) -> int:
    """Return how many bits `embed` hides: so many in each value that is not zero."""
    return bits_per_weight * int(np.count_nonzero(values))


def embed(
    values: Indices, bits: Bits, *, dependent: bool = False, bits_per_weight: int = 1
) -> Indices:
    """Hide bits, in the order of the values.

    Args:
        values: int32 array of any shape.
        bits: uint8 array of zeros and ones, at most `capacity(values, bits_per_weight)`; values
            that they do not reach hold zeros.
        dependent: The values are indices of TCQ, and form a path through its trellis.
        bits_per_weight: 1 to `MAX_BITS`; the first bit of a value is its most significant.

    Returns:
        An array of the same shape; its values count steps of `2 ** -bits_per_weight` the size.

    Raises:
        ValueError: There are more bits than places, or a value is beyond `max_value`.
    """
    flat = _flat(values)
    if bits.size > (most := capacity(flat, bits_per_weight)):
        raise ValueError(f"{bits.size} bits for {most} places")
    if not fits(flat, bits_per_weight):
        raise ValueError(f"a value is beyond {max_value(bits_per_weight)}")
    parts, half = 1 << bits_per_weight, 1 << bits_per_weight - 1
    divided, state = np.empty_like(flat), 0
    for part in _parts(flat.size):
        places = np.flatnonzero(flat[part])
        magnitudes = np.abs(flat[part][places])
        hidden = _to_numbers(bits[: bits_per_weight * places.size], places.size, bits_per_weight)
        bits = bits[bits_per_weight * places.size :]
        if dependent:
            before, coded = magnitudes & 1, magnitudes + 1 >> 1
            hidden += half * before
            odd, state = _odd_states(part, places, hidden, 0, state)
            lowest = parts * coded + np.where(before, 1 - parts, odd - half)
            magnitudes = 2 * _next(lowest, hidden, parts) - odd
        else:
            lowest = parts * magnitudes - half + 1 - _inward(places)
            magnitudes = _next(lowest, hidden, parts)
        divided[part] = _with_magnitudes(flat[part], places, magnitudes)
    return divided.reshape(values.shape)


def extract(
    values: Indices, *, dependent: bool = False, bits_per_weight: int = 1
) -> tuple[Bits, Indices]:
    """Take hidden bits out again.

    Args:
        values: int32 array of any shape, made by `embed`. Of others, the result is arbitrary: what
            it embeds to is not `values`.
        dependent: As for `embed`.
        bits_per_weight: As for `embed`.

    Returns:
        All bits, `bits_per_weight` for each place, and the array as it was before.
    """
    flat = _flat(values)
    parts, half = 1 << bits_per_weight, 1 << bits_per_weight - 1
    bits = np.empty(capacity(flat, bits_per_weight), np.uint8)
    joined, state, found = np.empty_like(flat), 0, 0
    for part in _parts(flat.size):
        places = np.flatnonzero(flat[part])
        divided = np.abs(flat[part][places])
        if dependent:
            odd = divided & 1
            coded = (divided >> 1) + odd
            if_even, if_odd = coded + half - odd >> bits_per_weight, -(-coded >> bits_per_weight)
            before, state = _odd_states(part, places, if_odd, (if_even ^ if_odd) & 1, state)
            hidden = coded - half * before
            magnitudes = 2 * np.where(before, if_odd, if_even) - before
        else:
            hidden = divided
            magnitudes = divided + half - 1 + _inward(places) >> bits_per_weight
        end = found + bits_per_weight * places.size
        bits[found:end] = _to_bits(hidden & parts - 1, bits_per_weight)
        found = end
        joined[part] = _with_magnitudes(flat[part], places, magnitudes)
    return bits, joined.reshape(values.shape)


def whole_bytes(bits: Bits) -> bytes:
    """Return the bytes that the bits fill; up to seven bits at the end are left out."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _to_numbers(bits: Bits, count: int, width: int) -> Indices:
    """Join bits, and zeros behind them, to so many numbers."""
    padded = np.zeros(count * width, np.int32)
    padded[: bits.size] = bits
    numbers: Indices = padded.reshape(-1, width) @ (1 << np.arange(width, dtype=np.int32)[::-1])
    return numbers


def _to_bits(numbers: Indices, width: int) -> Bits:
    """Split numbers into so many bits, 16 at most."""
    whole = np.unpackbits(numbers.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
    return whole[:, 16 - width :].reshape(-1)


def _flat(values: Indices) -> Indices:
    if values.dtype != np.int32:
        raise TypeError(f"indices are int32, not {values.dtype}")
    return values.reshape(-1)


def _parts(size: int) -> Iterator[slice]:
    """Split values into parts that fit a processor's cache; each begins at a multiple of four."""
    for start in range(0, size, _PART):
        yield slice(start, min(start + _PART, size))


def _inward(places: Positions) -> Indices:
    """Return 1 for each value that has one more bin further in than out, else 0."""
    inward: Indices = (places & 1).astype(np.int32)
    return inward


def _next(lowest: Indices, residues: Indices, parts: int) -> Indices:
    """Return the least numbers from `lowest` on that leave such residues, for a power of two."""
    return lowest + (residues - lowest & parts - 1)


def _odd_states(
    part: slice, places: Positions, coded: Indices, flipped_if_even: Indices | int, state: int
) -> tuple[Indices, int]:
    """Return 1 for each place whose state is odd, else 0; between places, zeros are coded.

    Also returns the state that follows the part, given the one that it begins in.
    """
    parities = np.zeros((2, part.stop - part.start), np.uint8)
    parities[0, places] = coded & 1
    parities[1, places] = flipped_if_even
    odd, state = odd_states(parities[0], parities[1], state)
    return odd[places].astype(np.int32), state


def _with_magnitudes(part: Indices, places: Positions, magnitudes: Indices) -> Indices:
    result = np.zeros(part.size, np.int32)
    result[places] = np.where(part[places] < 0, -magnitudes, magnitudes)
    return result
