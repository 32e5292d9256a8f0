"""H-QIM with half the step: bits in a histogram of integers, reversibly.

Histogram-based quantisation index modulation (paper, section III) makes room in a histogram: bins
move apart, and a value then stays in its bin for one bit and goes to the empty one beside it for
the other. The paper makes room at one bin, and all weights beyond it move by a whole step. Here
every bin but zero moves to twice its place, while the quantisation step halves: the weights stay
where they are, and a bit moves its own by half a step at most (`docs/adr/0012-half-the-step.md`).

Bins lie one `stride` apart, and values keep their residue modulo the stride. The stride is 1 for
URQ. It is 4 for TCQ: the states of the trellis, and with them all other weights, stay. Zeros carry
nothing and stay zeros.

Where a value lies on a multiple of the stride, its other bin is as near on either side: further in
at odd positions, further out at even ones. Otherwise all weights would grow a little.

Law: for all values and bits that `embed` accepts, `extract(embed(values, bits))` returns the bits,
with zeros up to the capacity, and `values`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def embed(values: Indices, bits: Bits, *, stride: int = 1) -> Indices:
    """Hide bits, in the order of the values.

    Args:
        values: int32 array of any shape.
        bits: uint8 array of zeros and ones, at most `capacity(values)`; values that they do not
            reach hold zeros.
        stride: Distance between bins.

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
    bins, residues = np.divmod(magnitudes, np.int32(stride))
    bins = 2 * bins - _inward(places, residues)
    bins[: bits.size] += bits
    return _with_magnitudes(flat, places, bins * stride + residues, values.shape)


def extract(values: Indices, *, stride: int = 1) -> tuple[Bits, Indices]:
    """Take hidden bits out again.

    Args:
        values: int32 array of any shape, made by `embed`. Of others, the result is arbitrary: what
            it embeds to is not `values`.
        stride: Distance between bins.

    Returns:
        All bits, as many as there are places, and the array as it was before.
    """
    flat, places = _places(values)
    bins, residues = np.divmod(np.abs(flat[places]), np.int32(stride))
    bins += _inward(places, residues)
    bits = (bins & 1).astype(np.uint8)
    return bits, _with_magnitudes(flat, places, (bins >> 1) * stride + residues, values.shape)


def whole_bytes(bits: Bits) -> bytes:
    """Return the bytes that the bits fill; up to seven bits at the end are left out."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _places(values: Indices) -> tuple[Indices, Positions]:
    """Return the values in a row, and where they are not zero."""
    if values.dtype != np.int32:
        raise TypeError(f"indices are int32, not {values.dtype}")
    flat = values.reshape(-1)
    return flat, np.flatnonzero(flat)


def _inward(places: Positions, residues: Indices) -> Indices:
    """Return 1 for each value whose other bin is further in, else 0."""
    inward: Indices = np.logical_and(places & 1, residues == 0).astype(np.int32)
    return inward


def _with_magnitudes(
    flat: Indices, places: Positions, magnitudes: Indices, shape: tuple[int, ...]
) -> Indices:
    result = np.zeros(flat.size, np.int32)
    result[places] = np.where(flat[places] < 0, -magnitudes, magnitudes)
    return result.reshape(shape)
