"""H-QIM: bits in the peaks of a histogram of integers, reversibly.

Histogram-based quantisation index modulation (paper, section III). A peak is a value and a
direction. All values beyond it move one bin further, which empties the bin next to it; each value
at the peak then stays for a 0 and moves into that bin for a 1.

The paper's form is one peak over the whole network, direction +1 (`most_frequent`). Ours puts each
peak where its tail is short, and points it away from zero.

Bins lie one `stride` apart, and only values that are congruent to the peak modulo the stride take
part. The stride is 1 for URQ. It is 4 for TCQ: there values keep their residue modulo 4, and with
it the states of the trellis, so that no other weight changes.

Several peaks are several steps, each on the array that the step before it left. They are listed in
the order of extraction, and embedded from the last to the first.

Law: for every array, peaks and bits that `embed` accepts, `extract(embed(values, peaks, bits),
peaks)` returns the bits, with zeros up to the capacity, and `values`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bits",
    "Indices",
    "Peak",
    "capacity",
    "embed",
    "extract",
    "most_frequent",
    "whole_bytes",
]

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int32]

Positions = npt.NDArray[np.int64]

_INT32 = np.iinfo(np.int32)
_NOWHERE: Positions = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Peak:
    """A bin that carries bits.

    Attributes:
        value: The bin, before its bits are in.
        direction: +1 moves values above it up, -1 moves values below it down.
    """

    value: int
    direction: int

    def __post_init__(self) -> None:
        if self.direction not in (1, -1) or not _INT32.min <= self.value <= _INT32.max:
            raise ValueError(f"not a peak: {self}")

    def partner(self, stride: int) -> int:
        """Return the bin beside the peak, where the ones go."""
        return self.value + self.direction * stride


def most_frequent(values: Indices) -> Peak:
    """Return the paper's peak: the most frequent value (the least of equals), shifting right.

    Args:
        values: int32 array of any shape, at least one element.
    """
    distinct, counts = np.unique(values, return_counts=True)
    return Peak(int(distinct[np.argmax(counts)]), +1)


def capacity(values: Indices, peaks: Sequence[Peak], *, stride: int = 1) -> int:
    """Return how many bits `embed` hides at these peaks.

    Args:
        values: int32 array of any shape, without hidden bits.
        peaks: Peaks in the order of extraction.
        stride: Distance between bins.

    Raises:
        ValueError: Values would leave 32 bits.
    """
    return sum(_places(_sort_into_bins(values), peaks, stride))


def embed(values: Indices, peaks: Sequence[Peak], bits: Bits, *, stride: int = 1) -> Indices:
    """Hide bits; the first go into the first peak.

    Args:
        values: int32 array of any shape.
        peaks: Peaks in the order of extraction.
        bits: uint8 array of zeros and ones, at most `capacity(values, peaks)`; places that they do
            not fill hold zeros.
        stride: Distance between bins.

    Returns:
        An array of the same shape.

    Raises:
        ValueError: There are more bits than places, peaks share a bin, or values would leave 32
            bits.
    """
    bins = _sort_into_bins(values)
    places = _places(bins, peaks, stride)
    if bits.size > sum(places):
        raise ValueError(f"{bits.size} bits for {sum(places)} places")
    padded = np.zeros(sum(places), np.uint8)
    padded[: bits.size] = bits
    ends = np.cumsum(places)
    for index in reversed(range(len(peaks))):
        peak = peaks[index]
        here = bins.get(peak.value, _NOWHERE)
        if here.size != places[index]:
            raise ValueError(f"peak {peak.value} takes values from a peak that is listed after it")
        bins = _open(bins, peak, stride)
        ones = padded[ends[index] - places[index] : ends[index]] != 0
        _put(bins, peak.value, here[~ones])
        _put(bins, peak.partner(stride), here[ones])
    return _to_array(bins, values.shape)


def extract(values: Indices, peaks: Sequence[Peak], *, stride: int = 1) -> tuple[Bits, Indices]:
    """Take hidden bits out again.

    Args:
        values: int32 array of any shape, with bits at these peaks.
        peaks: Peaks in the order of extraction.
        stride: Distance between bins.

    Returns:
        All bits, as many as there are places, and the array as it was before.
    """
    bins = _sort_into_bins(values)
    parts: list[Bits] = [np.zeros(0, np.uint8)]
    for peak in peaks:
        zeros = bins.get(peak.value, _NOWHERE)
        ones = bins.get(peak.partner(stride), _NOWHERE)
        here = np.concatenate([zeros, ones])
        order = np.argsort(here, kind="stable")
        parts.append((order >= zeros.size).astype(np.uint8))
        bins = {
            value - peak.direction * stride if _is_beyond(value, peak, stride) else value: positions
            for value, positions in bins.items()
            if value != peak.value
        }
        _put(bins, peak.value, here[order])
    return np.concatenate(parts), _to_array(bins, values.shape)


def whole_bytes(bits: Bits) -> bytes:
    """Return the bytes that the bits fill; up to seven bits at the end are left out."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _sort_into_bins(values: Indices) -> dict[int, Positions]:
    """Return the positions of each value, ascending. Each step then costs what its bin has."""
    if values.dtype != np.int32:
        raise TypeError(f"indices are int32, not {values.dtype}")
    flat = values.reshape(-1)
    fits = flat.size and int(flat.min()) >= -(1 << 15) and int(flat.max()) < 1 << 15
    order = np.argsort(flat.astype(np.int16) if fits else flat, kind="stable")
    distinct, starts = np.unique(flat[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=False))


def _to_array(bins: Mapping[int, Positions], shape: tuple[int, ...]) -> Indices:
    result = np.empty(math.prod(shape), np.int32)
    for value, positions in bins.items():
        result[positions] = value
    return result.reshape(shape)


def _places(bins: Mapping[int, Positions], peaks: Sequence[Peak], stride: int) -> list[int]:
    """Count the places of each peak, in listed order, where all bits are zeros."""
    current = dict(bins)
    places = []
    for peak in reversed(peaks):
        places.append(current.get(peak.value, _NOWHERE).size)
        current = _open(current, peak, stride)
    return places[::-1]


def _open(bins: Mapping[int, Positions], peak: Peak, stride: int) -> dict[int, Positions]:
    """Empty the bin beside the peak."""
    step = peak.direction * stride
    opened = {
        value + step if _is_beyond(value, peak, stride) else value: positions
        for value, positions in bins.items()
    }
    if opened and not (_INT32.min <= min(opened) and max(opened) <= _INT32.max):
        raise ValueError(f"values beyond peak {peak.value} would leave 32 bits")
    return opened


def _put(bins: dict[int, Positions], value: int, positions: Positions) -> None:
    """Set a bin; there are none without positions."""
    if positions.size:
        bins[value] = positions
    else:
        bins.pop(value, None)


def _is_beyond(value: int, peak: Peak, stride: int) -> bool:
    outward = (value - peak.value) * peak.direction
    return outward > 0 and outward % stride == 0
