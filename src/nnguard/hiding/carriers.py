"""Which tensors can carry bits, and in which order a reader looks at them.

The order follows from headers alone, which embedding leaves as they are, so that a reader finds the
primary carrier without being told (`docs/SPEC.md`, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnguard.hiding.frame import (
    FIXED_SIZE,
    MAGIC,
    FrameHeader,
    parse_head,
    parse_header,
)
from nnguard.hiding.hqim import Indices, Peak, extract
from nnguard.stream import Stream
from nnguard.stream.coding import MAX_INDEX, MAX_WEIGHTS
from nnguard.stream.headers import PayloadType, TensorHeader

__all__ = [
    "MAX_PEAK",
    "PRIMARY_CANDIDATES",
    "Channel",
    "candidates",
    "channels",
    "codable",
    "find_header",
    "stride_of",
]

PRIMARY_CANDIDATES = 8
"""Tensors that a reader looks at for a header before it says that there is none."""

MAX_PEAK = 4096
"""Magnitude of the outermost peak."""

_BEST_SIZE = 40_000
"""Weights of the best primary carrier: room for a signature far out in the tail, and decoded in
some ten milliseconds."""

_MIN_SIZE = 1 << 8


def candidates(stream: Stream) -> list[int]:
    """Return the positions of the units that may carry bits, the best primary carrier first.

    These are quantised tensors of two dimensions or more. They are ordered by how many times
    larger or smaller than 40,000 weights they are; equals in the order of the stream.
    """

    def distance(index: int) -> float:
        header = stream[index].tensor
        assert header is not None
        # Exact enough: two quotients of numbers of 26 bits differ by more than binary64 rounds.
        return max(header.size, _BEST_SIZE) / min(header.size, _BEST_SIZE)

    eligible = [
        index
        for index, unit in enumerate(stream)
        if unit.tensor is not None
        and unit.tensor.payload_type == PayloadType.FLOAT
        and len(unit.tensor.shape) > 1
        and _MIN_SIZE <= unit.tensor.size <= MAX_WEIGHTS
    ]
    return sorted(eligible, key=distance)


def stride_of(header: TensorHeader) -> int:
    """Return the distance of bins that leaves all other weights alone: 4 for TCQ, 1 for URQ."""
    return 4 if header.dependent else 1


def codable(indices: Indices) -> bool:
    """Tell whether all indices lie in the range that the entropy coder can write."""
    return bool(indices.max(initial=0) <= MAX_INDEX and indices.min(initial=0) >= -MAX_INDEX)


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
    """
    if not codable(indices):
        return None
    flat = indices.reshape(-1)
    order = np.argsort(flat, kind="stable")
    values, starts = np.unique(flat[order], return_index=True)
    positions = dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
    found: list[FrameHeader] = []
    for value in values.tolist():
        for direction in (+1, -1):
            # The magic begins with a one and has zeros, so both bins of the peak have values.
            header = _header_at(flat, positions, Peak(value, direction), stride)
            if header is not None:
                found.append(header)
    return max(found, key=lambda header: header.layer, default=None)


_EMPTY = np.zeros(0, np.intp)
_MAGIC_BITS = np.unpackbits(np.frombuffer(MAGIC, np.uint8))


def _header_at(
    flat: Indices,
    positions: dict[int, np.ndarray[tuple[int], np.dtype[np.intp]]],
    peak: Peak,
    stride: int,
) -> FrameHeader | None:
    if abs(peak.value) > MAX_PEAK or peak.value * peak.direction < 0:
        return None
    zeros = positions.get(peak.value, _EMPTY)
    ones = positions.get(peak.partner(stride), _EMPTY)
    if zeros.size + ones.size < 8 * FIXED_SIZE:
        return None
    head = np.sort(np.concatenate([zeros[:32], ones[:32]]))[:32]
    if not np.array_equal(flat[head] == peak.partner(stride), _MAGIC_BITS):
        return None
    primary = parse_head(_bytes_at(flat, (peak,), stride))
    if primary is None or primary.peaks[0] != peak:
        return None
    return parse_header(_bytes_at(flat, primary.peaks, stride))


def _bytes_at(flat: Indices, peaks: tuple[Peak, ...], stride: int) -> bytes:
    bits, _ = extract(flat, peaks, stride=stride)
    return np.packbits(bits).tobytes()
