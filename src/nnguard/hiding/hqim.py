"""H-QIM with half the step: bits in a histogram of integers, reversibly.

Histogram-based quantization index modulation (paper, section III) makes room in a histogram: bins
move apart, and a value then stays in its bin for one bit and goes to the empty one beside it for
the other. The paper makes room at one bin, and all weights beyond it move by a whole step. Here
every bin but zero moves to twice its place, while the quantization step halves: the weights stay
where they are, and a bit moves its own by half a step at most (`docs/adr/0012-half-the-step.md`).
Zeros carry nothing and stay zeros.

URQ: the empty bins on either side are as near. Values at odd positions go further in, at even ones
further out. Otherwise all weights would grow a little.

TCQ: only every other index is to be had in a state of the trellis, and each bit changes the states
that follow. So the values are a path through the trellis, the new ones another, and a value becomes
one of the two indices of the new state that are nearest (`docs/adr/0013-along-the-trellis.md`).

Law: for all values and bits that `embed` accepts, `extract(embed(values, bits))` returns the bits,
with zeros up to the capacity, and `values`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nnguard.stream.trellis import odd_states

__all__ = ["MAX_VALUE", "Bits", "Indices", "capacity", "embed", "extract", "fits", "whole_bytes"]

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]

_PART = 1 << 16
"""Values that are handled at once."""

MAX_VALUE = (1 << 29) - 4
"""Magnitude of values that bits go into, at most: twice that is still an index."""


def fits(values: Indices) -> bool:
    """Tell whether no value is beyond `MAX_VALUE`."""
    return bool(values.max(initial=0) <= MAX_VALUE and values.min(initial=0) >= -MAX_VALUE)


def capacity(values: Indices) -> int:
    """Return how many bits `embed` hides: one in each value that is not zero."""
    return int(np.count_nonzero(values))


def embed(values: Indices, bits: Bits, *, dependent: bool = False) -> Indices:
    """Hide bits, in the order of the values.

    Args:
        values: int32 array of any shape.
        bits: uint8 array of zeros and ones, at most `capacity(values)`; values that they do not
            reach hold zeros.
        dependent: The values are indices of TCQ, and form a path through its trellis.

    Returns:
        An array of the same shape; its values count steps of half the size.

    Raises:
        ValueError: There are more bits than places, or a value is beyond `MAX_VALUE`.
    """
    flat = _flat(values)
    if bits.size > (most := capacity(flat)):
        raise ValueError(f"{bits.size} bits for {most} places")
    if not fits(flat):
        raise ValueError(f"a value is beyond {MAX_VALUE}")
    doubled, state = np.empty_like(flat), 0
    for part in _parts(flat.size):
        places = np.flatnonzero(flat[part])
        magnitudes = np.abs(flat[part][places])
        hidden = np.zeros(places.size, np.int32)
        hidden[: min(bits.size, places.size)] = bits[: places.size]
        bits = bits[places.size :]
        if dependent:
            odd, state = _odd_states(part, places, magnitudes ^ hidden, 0, state)
            magnitudes = 2 * (magnitudes + hidden * _direction(magnitudes, odd)) - odd
        else:
            magnitudes = 2 * magnitudes + hidden - _inward(places)
        doubled[part] = _with_magnitudes(flat[part], places, magnitudes)
    return doubled.reshape(values.shape)


def extract(values: Indices, *, dependent: bool = False) -> tuple[Bits, Indices]:
    """Take hidden bits out again.

    Args:
        values: int32 array of any shape, made by `embed`. Of others, the result is arbitrary: what
            it embeds to is not `values`.
        dependent: As for `embed`.

    Returns:
        All bits, as many as there are places, and the array as it was before.
    """
    flat = _flat(values)
    bits: list[Bits] = []
    halved, state = np.empty_like(flat), 0
    for part in _parts(flat.size):
        places = np.flatnonzero(flat[part])
        doubled = np.abs(flat[part][places])
        if dependent:
            odd = doubled & 1
            coded = (doubled >> 1) + odd
            before, state = _odd_states(part, places, (coded + 1) >> 1, coded & odd, state)
            hidden = (coded ^ before) & 1
            magnitudes = coded - hidden * _direction(before, odd)
        else:
            doubled += _inward(places)
            hidden, magnitudes = doubled & 1, doubled >> 1
        bits.append(hidden.astype(np.uint8))
        halved[part] = _with_magnitudes(flat[part], places, magnitudes)
    return np.concatenate([np.empty(0, np.uint8), *bits]), halved.reshape(values.shape)


def whole_bytes(bits: Bits) -> bytes:
    """Return the bytes that the bits fill; up to seven bits at the end are left out."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _flat(values: Indices) -> Indices:
    if values.dtype != np.int32:
        raise TypeError(f"indices are int32, not {values.dtype}")
    return values.reshape(-1)


def _parts(size: int) -> Iterator[slice]:
    """Split values into parts that fit a processor's cache; each begins at a multiple of four."""
    for start in range(0, size, _PART):
        yield slice(start, min(start + _PART, size))


def _inward(places: Positions) -> Indices:
    """Return 1 for each value whose other bin is further in, else 0."""
    inward: Indices = (places & 1).astype(np.int32)
    return inward


def _direction(before: Indices, after: Indices) -> Indices:
    """Return where a 1 moves values: in (-1) where both paths are in even states, else out (1)."""
    return 2 * ((before | after) & 1) - 1


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
