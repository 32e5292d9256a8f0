"""The trellis behind TCQ: eight states, which the parities of the coded integers drive.

In an odd state an index other than 0 is odd, in an even state even: `|v| = 2k - (state & 1)` for a
coded integer of magnitude `k` (ISO/IEC 15938-17, dependent scalar quantization).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnguard._stream import _coder

__all__ = ["Parities", "is_path", "odd_states"]

Parities = npt.NDArray[np.uint8]


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
    odd = np.array(parities)
    return odd, _coder.follow_trellis(odd, np.ascontiguousarray(flipped_if_even), state)


def is_path(indices: npt.NDArray[np.int32]) -> bool:
    """Tell whether each index is one that its state has; others come back as something else."""
    magnitudes = np.abs(indices.reshape(-1))
    odd = (magnitudes & 1).astype(np.uint8)
    coded = (magnitudes >> 1 & 1).astype(np.uint8) ^ odd  # parity of half of them, rounded up
    wrong = odd != odd_states(coded, np.zeros_like(coded))[0]
    return not wrong[magnitudes != 0].any()
