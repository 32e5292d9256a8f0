"""Bytes as numbers of some bits each, and back, without holding all of them at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnguard._hiding.hqim import Numbers

__all__ = ["Joiner", "split"]

_LARGEST = 16


def split(data: bytes, begin: int, width: int, count: int) -> Numbers:
    """Return bytes as numbers, most significant bits first, with zeros behind the end.

    Args:
        data: All bytes.
        begin: Bit to begin with.
        width: Bits of a number, 1 to 16.
        count: How many.
    """
    end = begin + count * width
    used = np.frombuffer(data[begin // 8 : -(-end // 8)], np.uint8)
    padded = np.zeros((-(-end // 8) - begin // 8) * 8, np.uint8)
    padded[: 8 * used.size] = np.unpackbits(used)
    bits = padded[begin % 8 :][: end - begin].reshape(count, width)
    whole = np.zeros((count, _LARGEST), np.uint8)
    whole[:, _LARGEST - width :] = bits
    return np.packbits(whole).view(">u2").astype(np.uint16)


class Joiner:
    """Joins numbers to the bytes that `split` takes; up to seven bits at the end are left out.

    Args:
        most: Bytes that are wanted; what comes after has to be zeros.

    Attributes:
        data: The first bytes, so far.
        clear: No bit behind them was 1.
    """

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.clear = True
        self._most = most
        self._left: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def add(self, numbers: Numbers, width: int) -> None:
        """Add numbers of so many bits behind those that there are."""
        if self.is_full:
            self.clear = self.clear and not numbers.any()
            return
        whole = np.unpackbits(numbers.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
        bits = np.concatenate([self._left, whole[:, _LARGEST - width :].reshape(-1)])
        usable = bits.size // 8 * 8
        wanted = min(usable, 8 * (self._most - len(self.data)))
        self.data += np.packbits(bits[:wanted]).tobytes()
        self._left = bits[usable:]
        if self.is_full:
            self.clear = not bits[wanted:].any()

    @property
    def is_full(self) -> bool:
        """Tell whether there are as many bytes as are wanted."""
        return len(self.data) == self._most
