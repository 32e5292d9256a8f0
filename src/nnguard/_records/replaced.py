"""Lists of weights that a lock puts back: positions as gaps, and the original indices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard._stream.bits import BitReader, BitWriter
from nnguard.errors import FormatError

__all__ = ["Replaced"]

_MAX_ORDER = 24
_LARGEST_INDEX = (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Replaced:
    """Weights of one tensor that were replaced.

    Attributes:
        unit: Position of its unit.
        positions: int64 array, ascending; secret, as the values are, so `repr` shows neither.
        values: int32 array, the original indices.
    """

    unit: int
    positions: npt.NDArray[np.int64] = field(repr=False)
    values: npt.NDArray[np.int32] = field(repr=False)

    def to_cbor(self) -> list[Any]:
        """Encode the list, positions as gaps."""
        gaps = np.diff(self.positions, prepend=-1) - 1
        gap_order, value_order = _best_order(gaps), _best_order(_unsigned(self.values))
        writer = BitWriter()
        for gap, value in zip(gaps.tolist(), _unsigned(self.values).tolist(), strict=True):
            writer.ue(gap_order, gap)
            writer.ue(value_order, value)
        writer.align()
        return [self.unit, self.positions.size, gap_order, value_order, writer.to_bytes()]

    @classmethod
    def from_cbor(cls, encoded: Any) -> Replaced:
        """Decode a list.

        Raises:
            ValueError: It is malformed.
        """
        match encoded:
            case [
                int() as unit,
                int() as count,
                int() as gap_order,
                int() as value_order,
                (bytes() | memoryview()) as bits,
            ] if 0 < count <= 8 * len(bits) and min(gap_order, value_order) >= 0:
                return cls(unit, *_read_list(bytes(bits), count, gap_order, value_order))
        raise ValueError("replaced")


def _read_list(
    bits: bytes, count: int, gap_order: int, value_order: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    reader = BitReader(bits)
    numbers = np.zeros((count, 2), np.int64)
    try:
        for row in range(count):
            numbers[row] = reader.ue(gap_order), reader.ue(value_order)
        reader.align()
    except FormatError:
        raise ValueError("list ends too early, or has no end") from None
    folded = numbers[:, 1]
    values = np.where(folded & 1, (folded + 1) >> 1, -(folded >> 1))
    if reader.byte_position != len(bits) or np.abs(values).max() > _LARGEST_INDEX:
        raise ValueError("list goes on, or an index is too large")
    return np.cumsum(numbers[:, 0] + 1) - 1, values.astype(np.int32)


def _unsigned(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Fold signed numbers into unsigned ones, small ones first, as `ie(k)` does."""
    wide = values.astype(np.int64)
    return np.where(wide > 0, 2 * wide - 1, -2 * wide)


def _best_order(numbers: npt.NDArray[np.int64]) -> int:
    """Return the order of the Exp-Golomb code that takes the fewest bits."""

    def bits(order: int) -> int:
        scaled = (numbers >> order) + 1
        return int((2 * np.frexp(scaled.astype(np.float64))[1] - 1).sum()) + order * numbers.size

    return min(range(_MAX_ORDER), key=bits)
