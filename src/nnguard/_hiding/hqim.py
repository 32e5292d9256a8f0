"""H-QIM in parts of a step: bits in a histogram of integers, reversibly.

Histogram-based quantization index modulation (paper, section III) makes room in a histogram: bins
move apart, and a value then stays in its bin for one bit and goes to the empty one beside it for
the other. The paper makes room at one bin, and all weights beyond it move by a whole step. Here
every bin but zero moves to 2^k times its place, while the quantization step is divided by as much:
the weights stay where they are, and k bits move their own by half a step at most
(`docs/adr/0012-half-the-step.md`, `docs/adr/0019-bits-per-weight.md`). Zeros carry nothing and stay
zeros.

URQ: the 2^k bins around a value are its own, and the last k bits of a bin are those hidden.

TCQ: a state of the trellis allows only every other index, and each bit changes the states
that follow. So the values are a path through the trellis, the new ones another, and a value becomes
one of the 2^k indices of the new state that are nearest (`docs/adr/0013-along-the-trellis.md`).

Law: for all values and numbers that `Walk.embed` accepts, another walk's `extract` returns both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnguard._stream.trellis import odd_states

__all__ = ["Indices", "Numbers", "Walk", "first_number", "largest", "max_value"]

Indices = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.uint16]
"""What values hold: a number of `bits_per_weight` bits in each that is not zero, in their order."""


def max_value(bits_per_weight: int) -> int:
    """Return the largest magnitude of values that bits go into: what they become is an index."""
    return (1 << 30 - bits_per_weight) - 4


def largest(values: Indices) -> int:
    """Return the largest magnitude."""
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


class Walk:
    """A way through the values of a tensor, in their order and in pieces of any size.

    Args:
        bits_per_weight: 1 to 16.
        dependent: The values are indices of TCQ, and form a path through its trellis.
    """

    def __init__(self, bits_per_weight: int, *, dependent: bool = False) -> None:
        self._width = bits_per_weight
        self._parts, self._half = 1 << bits_per_weight, 1 << bits_per_weight - 1
        self._dependent = dependent
        self._at = self._state = 0

    def embed(self, values: Indices, numbers: Numbers) -> Indices:
        """Hide numbers in the next values.

        Args:
            values: Flat array; no magnitude is beyond `max_value`.
            numbers: One below 2^`bits_per_weight` for each value that is not zero.

        Returns:
            As many values, which count steps of `2 ** -bits_per_weight` the size.
        """
        places = np.flatnonzero(values)
        magnitudes = np.abs(values[places])
        hidden = numbers.astype(np.int32)
        if self._dependent:
            before, coded = magnitudes & 1, magnitudes + 1 >> 1
            hidden += self._half * before
            odd = self._odd_states(values.size, places, hidden, 0)
            lowest = self._parts * coded + np.where(before, 1 - self._parts, odd - self._half)
            magnitudes = 2 * self._next(lowest, hidden) - odd
        else:
            lowest = self._parts * magnitudes - self._half + 1 - self._inward(places)
            magnitudes = self._next(lowest, hidden)
        self._at += values.size
        return _with_magnitudes(values, places, magnitudes)

    def extract(self, values: Indices) -> tuple[Numbers, Indices]:
        """Take the numbers out of the next values.

        Args:
            values: Flat array, made by `embed`. It was not where a place of the result is 0 or
                beyond `max_value`.

        Returns:
            The numbers, and the values as they were before.
        """
        places = np.flatnonzero(values)
        hidden = np.abs(values[places])
        if self._dependent:
            odd = hidden & 1
            coded = (hidden >> 1) + odd
            if_even = coded + self._half - odd >> self._width
            if_odd = -(-coded >> self._width)
            before = self._odd_states(values.size, places, if_odd, (if_even ^ if_odd) & 1)
            hidden = coded - self._half * before
            magnitudes = 2 * np.where(before, if_odd, if_even) - before
        else:
            magnitudes = hidden + self._half - 1 + self._inward(places) >> self._width
        self._at += values.size
        numbers = (hidden & self._parts - 1).astype(np.uint16)
        return numbers, _with_magnitudes(values, places, magnitudes)

    def _inward(self, places: npt.NDArray[np.int64]) -> Indices:
        """Return 1 for each value that has one more bin further in than out, else 0."""
        inward: Indices = (places + self._at & 1).astype(np.int32)
        return inward

    def _next(self, lowest: Indices, residues: Indices) -> Indices:
        """Return the least numbers from `lowest` on that leave such residues."""
        return lowest + (residues - lowest & self._parts - 1)

    def _odd_states(
        self,
        size: int,
        places: npt.NDArray[np.int64],
        coded: Indices,
        flipped_if_even: Indices | int,
    ) -> Indices:
        """Return 1 for each place whose state is odd, else 0; between places, zeros are coded."""
        parities = np.zeros((2, size), np.uint8)
        parities[0, places] = coded & 1
        parities[1, places] = flipped_if_even
        odd, self._state = odd_states(parities[0], parities[1], self._state)
        return odd[places].astype(np.int32)


def first_number(value: int, *, dependent: bool) -> int:
    """Return what the first place of a tensor holds; its lowest bits, as many as a weight holds.

    Before it there are zeros, which leave the trellis in its first state.

    Args:
        value: The index at that place.
        dependent: Trellis-coded quantization.
    """
    return abs(value) + 1 >> 1 if dependent else abs(value)


def _with_magnitudes(
    values: Indices, places: npt.NDArray[np.int64], magnitudes: Indices
) -> Indices:
    result = np.zeros(values.size, np.int32)
    result[places] = np.where(values[places] < 0, -magnitudes, magnitudes)
    return result
