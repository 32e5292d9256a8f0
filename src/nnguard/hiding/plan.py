"""Where a record goes: tensors, peaks and directions of least distortion for each bit.

The plan is the writer's choice. It travels in the frame's header, and records authenticate the
header, so a better planner changes nothing for readers (`docs/adr/0003-plan-in-the-header.md`).

Distortion is the expected squared change of the weights. A bin that is opened as a peak moves all
values beyond it by one more stride, and half of its own: with `m` peaks inside a bin, its values
lie `m` strides out, so that one more costs `2m + 1` squared strides a value. Peaks are taken
greedily, least added distortion for each added bit first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nnguard.hiding.carriers import Channel, channels, stride_of
from nnguard.hiding.hqim import Peak
from nnguard.stream.coding import QuantisedTensor

__all__ = ["Choice", "choose_peaks", "total_capacity"]

_PEAK_COST = 16
"""Bits that a peak takes in the frame's header; peaks of fewer are of no use."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Peaks for a set of tensors.

    Attributes:
        peaks: For each tensor its peaks in the order of extraction; may be empty for some.
        bits: Capacity of all peaks together.
        first_bits: Capacity of the first peak of the first tensor, which holds the header's head.
        primary_bits: Capacity of the first tensor, which holds the whole header.
        distortion: Expected sum of squared changes, in squared units of the weights.
    """

    peaks: tuple[tuple[Peak, ...], ...]
    bits: int
    first_bits: int
    primary_bits: int
    distortion: float


@dataclass(slots=True, eq=False)
class _Open:
    """A channel with the peaks that were chosen in it so far."""

    tensor: int
    channel: Channel
    weight: float
    inside: npt.NDArray[np.int64] = field(init=False)
    chosen: npt.NDArray[np.bool_] = field(init=False)
    largest: int = field(init=False)
    cached: tuple[float, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        counts = self.channel.counts
        self.inside = np.zeros(counts.size, np.int64)
        self.chosen = np.zeros(counts.size, np.bool_)
        self.largest = int(counts.max())

    def added_distortion(self) -> npt.NDArray[np.float64]:
        """What each bin would add to the distortion as the next peak."""
        counts = self.channel.counts
        moved = counts * (2 * self.inside + 1 + self.chosen)
        beyond = moved[::-1].cumsum()[::-1] - moved
        return np.asarray(self.weight * (beyond + counts * (self.inside + 0.5)))

    def cheapest(self, useful: int, at_least: int) -> tuple[float, int]:
        """Return the least distortion for a bit that is of use, infinite for none, and its bin.

        Args:
            useful: Bits beyond this many are of no use.
            at_least: Bits that the bin must have.
        """
        if at_least or useful < self.largest:
            return self._search(useful, at_least)
        if self.cached is None:
            self.cached = self._search(useful, at_least)
        return self.cached

    def _search(self, useful: int, at_least: int) -> tuple[float, int]:
        counts = self.channel.counts
        net = np.minimum(counts, useful) - _PEAK_COST
        usable = (net > 0) & (counts >= at_least) & ~self.chosen
        usable[-1] = False
        ratio = np.full(counts.size, np.inf)
        np.divide(self.added_distortion(), net, out=ratio, where=usable)
        bin_ = int(np.argmin(ratio))
        return float(ratio[bin_]), bin_

    def choose(self, bin_: int) -> None:
        """Make a bin a peak."""
        self.chosen[bin_] = True
        self.inside[bin_ + 1 :] += 1
        self.cached = None


def choose_peaks(
    tensors: Sequence[QuantisedTensor], needed: int, *, head: int, header: int
) -> Choice | None:
    """Choose peaks that hold a number of bits.

    Args:
        tensors: The carriers, the primary carrier first.
        needed: Bits in all, the frame's header included.
        head: Bits of the header's head; they must fit into the first peak.
        header: Bits of the whole header; they must fit into the first tensor.

    Returns:
        The choice, or None where the tensors have not so much room.
    """
    opened = [
        _Open(index, channel, (tensor.step * stride_of(tensor.header)) ** 2)
        for index, tensor in enumerate(tensors)
        for channel in channels(tensor.indices, stride_of(tensor.header))
    ]
    primary = [entry for entry in opened if entry.tensor == 0]
    picks: list[_Pick] = []
    distortion = 0.0
    total = in_primary = 0
    while total < needed or in_primary < header:
        short_of_header = in_primary < header
        pick = _cheapest(
            primary if short_of_header else opened,
            useful=max(needed - total, header - in_primary) + _PEAK_COST,
            at_least=0 if picks else head,
        )
        if pick is None:
            return None
        picks.append(pick)
        distortion += _take(pick)
        total += _bits(pick)
        in_primary += _bits(pick) if pick[0].tensor == 0 else 0
    return Choice(
        peaks=tuple(_in_order(picks, index, tensors[index]) for index in range(len(tensors))),
        bits=total,
        first_bits=_bits(picks[0]),
        primary_bits=in_primary,
        distortion=distortion,
    )


def total_capacity(tensor: QuantisedTensor) -> int:
    """Return the bits that a tensor holds with every useful bin as a peak."""
    found = channels(tensor.indices, stride_of(tensor.header))
    return sum(
        int(np.where(channel.counts > _PEAK_COST, channel.counts - _PEAK_COST, 0)[:-1].sum())
        for channel in found
    )


_Pick = tuple[_Open, int]


def _bits(pick: _Pick) -> int:
    entry, bin_ = pick
    return int(entry.channel.counts[bin_])


def _take(pick: _Pick) -> float:
    entry, bin_ = pick
    added = float(entry.added_distortion()[bin_])
    entry.choose(bin_)
    return added


def _cheapest(opened: Sequence[_Open], useful: int, at_least: int) -> _Pick | None:
    """Find the bin of least distortion for each bit that is of use."""
    best, pick = np.inf, None
    for entry in opened:
        ratio, bin_ = entry.cheapest(useful, at_least)
        if ratio < best:
            best, pick = ratio, (entry, bin_)
    return pick


def _in_order(picks: Sequence[_Pick], index: int, tensor: QuantisedTensor) -> tuple[Peak, ...]:
    """List a tensor's peaks in the order of extraction.

    Inner peaks come before outer ones, so that embedding opens the outermost first and finds the
    others where they were. The peak with the header comes before all: embedded last, it lies one
    stride further out for each peak inside it in its channel.
    """
    stride = stride_of(tensor.header)
    mine = [pick for pick in picks if pick[0].tensor == index]
    if not mine:
        return ()
    rest = sorted(mine[1:] if index == 0 else mine, key=lambda pick: int(pick[1]))
    listed = [_peak(entry, bin_, 0) for entry, bin_ in rest]
    if index == 0:
        entry, bin_ = mine[0]
        listed.insert(0, _peak(entry, bin_, stride * int(entry.inside[bin_])))
    return tuple(listed)


def _peak(entry: _Open, bin_: int, further: int) -> Peak:
    direction = entry.channel.direction
    return Peak(direction * (int(entry.channel.magnitudes[bin_]) + further), direction)
