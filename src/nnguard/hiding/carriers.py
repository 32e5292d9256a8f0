"""Which tensors can carry bits, and in which order a reader looks at them.

The order follows from headers alone, which embedding leaves as they are, so that a reader finds the
primary carrier without being told (`docs/SPEC.md`, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nnguard.errors import LimitError
from nnguard.hiding.frame import MAGIC, Carrier, FrameHeader, parse_head, parse_header
from nnguard.hiding.hqim import Bits, Indices, Peak, extract, whole_bytes
from nnguard.stream import Stream, Unit
from nnguard.stream.coding import MAX_WEIGHTS, codable
from nnguard.stream.headers import PayloadType, TensorHeader

__all__ = [
    "MAX_PEAK",
    "Channel",
    "can_carry",
    "candidates",
    "channels",
    "check_work",
    "find_header",
    "outermost_layer",
    "primary_candidates",
    "stride_of",
]

_PRIMARY_CANDIDATES = 8
_PRIMARY_WEIGHTS = 1 << 25
"""What a reader looks at before it says that there is no header: tensors, and weights in all."""

MAX_WORK = 1 << 32
"""Weights of all carriers times their peaks, at most; some ten seconds."""

MAX_PEAK = 4096
"""Magnitude of the outermost peak."""

_OUTSIDE = MAX_PEAK + 5
"""Stands for all magnitudes that are in no bin of a peak."""

_BEST_SIZE = 1 << 16
"""Weights of the best primary carrier: room for a signature far out in the tail, and decoded in
a few tens of milliseconds."""

_MIN_SIZE = 1 << 8


def candidates(stream: Stream) -> list[int]:
    """Return the positions of the units that may carry bits, the best primary carrier first.

    These are quantised tensors of two dimensions or more. They are ordered by how many times
    larger or smaller than 65,536 weights they are; equals in the order of the stream.
    """

    def distance(index: int) -> float:
        header = stream[index].tensor
        assert header is not None
        # Exact enough: two quotients of numbers of 26 bits differ by more than binary64 rounds.
        return max(header.size, _BEST_SIZE) / min(header.size, _BEST_SIZE)

    return sorted((i for i, unit in enumerate(stream) if can_carry(unit)), key=distance)


def can_carry(unit: Unit) -> bool:
    """Tell from a unit's header whether it may carry bits."""
    return (
        unit.tensor is not None
        and unit.tensor.payload_type == PayloadType.FLOAT
        and len(unit.tensor.shape) > 1
        and _MIN_SIZE <= unit.tensor.size <= MAX_WEIGHTS
    )


def primary_candidates(stream: Stream) -> list[int]:
    """Return the positions of the units in which a reader looks for a header, in this order."""
    chosen: list[int] = []
    weights = 0
    for index in candidates(stream)[:_PRIMARY_CANDIDATES]:
        header = stream[index].tensor
        assert header is not None
        weights += header.size
        if chosen and weights > _PRIMARY_WEIGHTS:
            break
        chosen.append(index)
    return chosen


def stride_of(header: TensorHeader) -> int:
    """Return the distance of bins that leaves all other weights alone: 4 for TCQ, 1 for URQ."""
    return 4 if header.dependent else 1


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A histogram that bits can go into: one sign, one residue modulo the stride.

    Attributes:
        direction: +1 or -1, away from zero.
        magnitudes: int64 array, the magnitude of each bin, ascending by the stride.
        counts: int64 array, how many values each bin has; the last bin has all beyond.
    """

    direction: int
    magnitudes: np.ndarray[tuple[int], np.dtype[np.int64]]
    counts: np.ndarray[tuple[int], np.dtype[np.int64]]


def channels(indices: Indices, stride: int) -> list[Channel]:
    """Split indices into their channels.

    Zeros are bins of the channel of positive values for URQ, and of none for TCQ.

    Args:
        indices: int32 array of any shape, `codable`.
        stride: Distance of bins.
    """
    flat = indices.reshape(-1)
    first = 0 if stride == 1 else 1
    result = []
    for direction in (+1, -1):
        side = flat[flat >= first] if direction > 0 else -flat[flat < 0]
        outermost = min(int(side.max(initial=first)), MAX_PEAK)
        bins = (outermost - first) // stride + 2
        beyond = first + (bins - 1) * stride
        clipped = np.where(side < beyond, side, beyond + np.mod(side - beyond, stride))
        counts = np.bincount(clipped - first, minlength=bins * stride).reshape(bins, stride)
        magnitudes = np.arange(first, first + bins * stride).reshape(bins, stride)
        result += [Channel(direction, magnitudes[:, r], counts[:, r]) for r in range(stride)]
    return result


def find_header(indices: Indices, stride: int) -> FrameHeader | None:
    """Find the header of the outermost record by synchronisation.

    Tries every bin as the first peak: do its bits begin with the magic and hold a head whose
    checksum is right, that lists this very peak first? Of several, the highest layer is the
    outermost record.

    Args:
        indices: int32 array of any shape.
        stride: Distance of bins.

    Raises:
        LimitError: The head lists more peaks than nnguard is willing to look at.
    """
    outermost = _outermost_head(indices, stride)
    if outermost is None:
        return None
    peaks = outermost[1].peaks
    check_work(indices.size * len(peaks))
    bits, _ = extract(indices, peaks, stride=stride)
    return parse_header(whole_bytes(bits))


def outermost_layer(indices: Indices, stride: int) -> int:
    """Return the layer of the outermost head in a tensor, 0 where there is none.

    The rest of that record may be unreadable: a lock may have changed it.
    """
    head = _outermost_head(indices, stride)
    return 0 if head is None else head[0]


def check_work(work: int) -> None:
    """Refuse to take out a record that takes too long.

    Args:
        work: Weights times peaks.
    """
    if work > MAX_WORK:
        raise LimitError(f"taking the record out takes {work} steps; limit {MAX_WORK}")


def _outermost_head(indices: Indices, stride: int) -> tuple[int, Carrier] | None:
    """Find the head of the highest layer: that layer, and the primary carrier that it lists."""
    if not codable(indices):
        return None
    outermost: tuple[int, Carrier] | None = None
    for peak, bits in _possible_heads(indices.reshape(-1), stride):
        head = parse_head(whole_bytes(bits))
        if head is not None and head[1].peaks[0] == peak:
            outermost = max(outermost or head, head, key=lambda found: found[0])
    return outermost


_MAGIC_BITS = np.unpackbits(np.frombuffer(MAGIC, np.uint8))


def _possible_heads(flat: Indices, stride: int) -> Iterator[tuple[Peak, Bits]]:
    """Yield the peaks whose bits begin with the magic, and these bits.

    Takes time in proportion to the indices, whatever they are: positions are sorted by value once,
    and each bin is part of four peaks at the most.
    """
    # The magic has zeros and ones, so both bins of a peak have values.
    clipped = np.clip(flat, -_OUTSIDE, _OUTSIDE).astype(np.int16)
    order = np.argsort(clipped, kind="stable")
    values, starts = np.unique(clipped[order], return_index=True)
    positions = dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
    for value, zeros in positions.items():
        for direction in (+1, -1):
            peak = Peak(value, direction)
            ones = positions.get(peak.partner(stride))
            if ones is None or abs(value) > MAX_PEAK or value * direction < 0:
                continue
            count = _MAGIC_BITS.size
            first = np.sort(np.concatenate([zeros[:count], ones[:count]]))[:count]
            if np.array_equal(flat[first] == peak.partner(stride), _MAGIC_BITS):
                here = np.sort(np.concatenate([zeros, ones]))
                yield peak, (flat[here] == peak.partner(stride)).astype(np.uint8)
