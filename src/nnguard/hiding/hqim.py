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

from collections.abc import Sequence
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

_INT32 = np.iinfo(np.int32)


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
    return sum(_places(_flat_copy(values), peaks, stride))


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
    marked = _flat_copy(values)
    places = _places(marked, peaks, stride)
    if bits.size > sum(places):
        raise ValueError(f"{bits.size} bits for {sum(places)} places")
    padded = np.zeros(sum(places), np.uint8)
    padded[: bits.size] = bits
    ends = np.cumsum(places)
    for index in reversed(range(len(peaks))):
        peak = peaks[index]
        here = np.flatnonzero(marked == peak.value)
        if here.size != places[index]:
            raise ValueError(f"peak {peak.value} takes values from a peak that is listed after it")
        _open(marked, peak, stride)
        ones = padded[ends[index] - places[index] : ends[index]] != 0
        marked[here[ones]] = peak.partner(stride)
    return marked.reshape(values.shape)


def extract(values: Indices, peaks: Sequence[Peak], *, stride: int = 1) -> tuple[Bits, Indices]:
    """Take hidden bits out again.

    Args:
        values: int32 array of any shape, with bits at these peaks.
        peaks: Peaks in the order of extraction.
        stride: Distance between bins.

    Returns:
        All bits, as many as there are places, and the array as it was before.
    """
    restored = _flat_copy(values)
    parts: list[Bits] = [np.zeros(0, np.uint8)]
    for peak in peaks:
        here = np.flatnonzero((restored == peak.value) | (restored == peak.partner(stride)))
        parts.append((restored[here] == peak.partner(stride)).astype(np.uint8))
        beyond = _beyond(restored, peak, stride)
        restored[beyond] -= peak.direction * stride
    return np.concatenate(parts), restored.reshape(values.shape)


def whole_bytes(bits: Bits) -> bytes:
    """Return the bytes that the bits fill; up to seven bits at the end are left out."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _places(values: Indices, peaks: Sequence[Peak], stride: int) -> list[int]:
    """Count the places of each peak, in listed order, where all bits are zeros."""
    current = values.copy()
    places = []
    for peak in reversed(peaks):
        places.append(int(np.count_nonzero(current == peak.value)))
        _open(current, peak, stride)
    return places[::-1]


def _open(values: Indices, peak: Peak, stride: int) -> None:
    """Empty the bin beside the peak, in place."""
    beyond = _beyond(values, peak, stride)
    moved = values[beyond]
    step = peak.direction * stride
    if moved.size and not (
        _INT32.min <= int(moved.min()) + step and int(moved.max()) + step <= _INT32.max
    ):
        raise ValueError(f"values beyond peak {peak.value} would leave 32 bits")
    values[beyond] = moved + np.int32(step)


def _beyond(values: Indices, peak: Peak, stride: int) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_]
    mask = values > peak.value if peak.direction > 0 else values < peak.value
    if stride > 1:
        mask &= np.mod(values, stride) == peak.value % stride
    return mask


def _flat_copy(values: Indices) -> Indices:
    if values.dtype != np.int32:
        raise TypeError(f"indices are int32, not {values.dtype}")
    flat: Indices = values.reshape(-1).copy()
    return flat
