"""The trellis behind TCQ: eight states, which the parities of the coded integers drive.

In an odd state an index other than 0 is odd, in an even state even: `|v| = 2k - (state & 1)` for a
coded integer of magnitude `k` (ISO/IEC 15938-17, dependent scalar quantization).
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

__all__ = ["NEXT_STATE", "Parities", "is_path", "odd_states"]

NEXT_STATE = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))
"""Next state by state and parity of the coded integer."""

Parities = npt.NDArray[np.uint8]

_AT_ONCE = 4
"""Integers that one look-up passes: two bits for each make a byte."""


def odd_states(
    parities: Parities, flipped_if_even: Parities, state: int = 0
) -> tuple[Parities, int]:
    """Walk through the trellis.

    Args:
        parities: Of the coded integers, 0 or 1, in the order of coding.
        flipped_if_even: 1 for each whose parity is the other one where the state is even, else 0.
        state: That of the first; a tensor begins in state 0.

    Returns:
        For each integer, 1 where the state that it is coded in is odd, else 0; and the state that
        follows the last.
    """
    steps = np.packbits(np.stack([parities, flipped_if_even], axis=1))
    following, odd = _tables()
    walk = accumulate(steps.tobytes(), lambda state, step: following[state][step], initial=state)
    states = np.fromiter(walk, np.uint8, steps.size)
    found: Parities = odd[states * np.intp(256) + steps].view(np.uint8)[: parities.size]
    if not (left := parities.size % _AT_ONCE):
        return found, next(walk)
    state = int(states[-1])
    for parity, flipped in zip(parities[-left:], flipped_if_even[-left:], strict=True):
        state = NEXT_STATE[state][int(parity) ^ int(flipped) & ~state & 1]
    return found, state


def is_path(indices: npt.NDArray[np.int32]) -> bool:
    """Tell whether each index is one that its state has; others come back as something else."""
    magnitudes = np.abs(indices.reshape(-1))
    odd = (magnitudes & 1).astype(np.uint8)
    coded = (magnitudes >> 1 & 1).astype(np.uint8) ^ odd  # parity of half of them, rounded up
    wrong = odd != odd_states(coded, np.zeros_like(coded))[0]
    return not wrong[magnitudes != 0].any()


@cache
def _tables() -> tuple[list[bytes], npt.NDArray[np.uint32]]:
    """Return what a byte of integers leads to: a state; and in which states they are coded."""
    steps = np.arange(256)
    states = np.repeat(np.arange(len(NEXT_STATE)), steps.size).reshape(-1, steps.size)
    odd = np.empty((*states.shape, _AT_ONCE), np.uint8)
    for place in range(_AT_ONCE):
        parity, flipped_if_even = steps >> 7 - 2 * place & 1, steps >> 6 - 2 * place & 1
        odd[..., place] = states & 1
        states = np.array(NEXT_STATE)[states, parity ^ flipped_if_even & ~states & 1]
    return [row.tobytes() for row in states.astype(np.uint8)], odd.view(np.uint32).reshape(-1)
