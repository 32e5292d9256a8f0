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

import numpy as np
import numpy.typing as npt

from nnguard.stream.trellis import odd_states

__all__ = ["MAX_VALUE", "Bits", "Indices", "capacity", "embed", "extract", "fits", "whole_bytes"]

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]

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
    flat, places = _places(values)
    if bits.size > places.size:
        raise ValueError(f"{bits.size} bits for {places.size} places")
    if not fits(flat):
        raise ValueError(f"a value is beyond {MAX_VALUE}")
    magnitudes = np.abs(flat[places])
    hidden = np.zeros(places.size, np.int32)
    hidden[: bits.size] = bits
    if dependent:
        odd = _odd_states(flat.size, places, magnitudes ^ hidden)
        doubled = 2 * (magnitudes + hidden * _direction(magnitudes, odd)) - odd
    else:
        doubled = 2 * magnitudes + hidden - _inward(places)
    return _with_magnitudes(flat, places, doubled, values.shape)


def extract(values: Indices, *, dependent: bool = False) -> tuple[Bits, Indices]:
    """Take hidden bits out again.

    Args:
        values: int32 array of any shape, made by `embed`. Of others, the result is arbitrary: what
            it embeds to is not `values`.
        dependent: As for `embed`.

    Returns:
        All bits, as many as there are places, and the array as it was before.
    """
    flat, places = _places(values)
    doubled = np.abs(flat[places])
    if dependent:
        odd = doubled & 1
        coded = (doubled >> 1) + odd
        before = _odd_states(flat.size, places, (coded + 1) >> 1, flipped_if_even=coded & odd)
        hidden = (coded ^ before) & 1
        magnitudes = coded - hidden * _direction(before, odd)
    else:
        doubled += _inward(places)
        hidden, magnitudes = doubled & 1, doubled >> 1
    return hidden.astype(np.uint8), _with_magnitudes(flat, places, magnitudes, values.shape)


def whole_bytes(bits: Bits) -> bytes:
    """Return the bytes that the bits fill; up to seven bits at the end are left out."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _places(values: Indices) -> tuple[Indices, Positions]:
    """Return the values in a row, and where they are not zero."""
    if values.dtype != np.int32:
        raise TypeError(f"indices are int32, not {values.dtype}")
    flat = values.reshape(-1)
    return flat, np.flatnonzero(flat)


def _inward(places: Positions) -> Indices:
    """Return 1 for each value whose other bin is further in, else 0."""
    inward: Indices = (places & 1).astype(np.int32)
    return inward


def _direction(before: Indices, after: Indices) -> Indices:
    """Return where a 1 moves values: in (-1) where both paths are in even states, else out (1)."""
    return 2 * ((before | after) & 1) - 1


def _odd_states(
    size: int, places: Positions, coded: Indices, flipped_if_even: Indices | int = 0
) -> Indices:
    """Return 1 for each place whose state is odd, else 0; between places, zeros are coded."""
    parities = np.zeros((2, size), np.uint8)
    parities[0, places] = coded & 1
    parities[1, places] = flipped_if_even
    return odd_states(*parities)[places].astype(np.int32)


def _with_magnitudes(
    flat: Indices, places: Positions, magnitudes: Indices, shape: tuple[int, ...]
) -> Indices:
    result = np.zeros(flat.size, np.int32)
    result[places] = np.where(flat[places] < 0, -magnitudes, magnitudes)
    return result.reshape(shape)
