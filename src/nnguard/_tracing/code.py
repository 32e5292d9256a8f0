"""The fingerprinting code: licensees who compare their copies cannot make one that is nobody's.

By Tardos (Optimal probabilistic fingerprint codes, 2003): each entry has a bias, known to the
vendor alone, and a licensee's fingerprint is 1 there with that probability, -1 otherwise. Where all
copies of a coalition agree, nothing can be changed. Biases near 0 and 1 make that happen in
coalitions of any size, and many: they follow the arcsine law, which serves best against attacks
that nobody can foresee.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import Keystream

__all__ = ["BIASES", "biases", "fingerprint"]

_CUTOFF = 0.02
"""Radians that the arcsine law is cut off by at both ends: the least bias is 0.0005."""

_STEP = (math.pi / 2 - 2 * _CUTOFF) / 256

BIASES = tuple(round(65536 * math.sin(_CUTOFF + (each + 0.5) * _STEP) ** 2) for each in range(256))
"""Biases that there are, in parts of 65,536. None is near the middle between two integers: whoever
computes them gets the same."""


def biases(keystream: Keystream, entries: int) -> npt.NDArray[np.float64]:
    """Draw the bias of each entry: the probability that a fingerprint is 1 there."""
    drawn = np.frombuffer(keystream.read(0, entries), np.uint8)
    return np.asarray(BIASES)[drawn] / 65536


def fingerprint(keystream: Keystream, biases: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """Draw a fingerprint: int8 array of 1 and -1, of the size of `biases`."""
    drawn = np.frombuffer(keystream.read(0, 2 * biases.size), "<u2")
    return np.where(drawn < 65536 * biases, 1, -1).astype(np.int8)
