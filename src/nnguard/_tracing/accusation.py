"""Accusing licensees, and how likely somebody innocent is accused.

The score is that of Škorić, Katzenbeisser and Celik (Symmetric Tardos fingerprinting codes for
arbitrary alphabet sizes, 2008), with estimates that need not be certain. Law: the fingerprint of
somebody innocent is independent of the suspect. So the distribution of an innocent's score is
known, whatever the suspect is and however its estimates came about: it follows from the biases
alone, and so does the bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["log10_innocent", "scores"]

_TOGETHER = 128
"""Fingerprints that are scored at once."""

_STEPS = 80
_GOLDEN = (math.sqrt(5) - 1) / 2
_LARGEST_TILT = 1e3

Numbers = npt.NDArray[np.float64]


def scores(
    estimates: Numbers, biases: Numbers, fingerprints: Iterable[npt.NDArray[np.int8]]
) -> Numbers:
    """Return the score of each fingerprint: of the innocent, with mean 0 and variance 1.

    Args:
        estimates: float64 array (L), what was found of the fingerprint at each entry.
        biases: float64 array (L).
        fingerprints: int8 arrays (L).

    Raises:
        ValueError: An estimate is not finite.
    """
    weights = _weights(estimates, biases)
    mean = float(weights @ (2 * biases - 1))
    found: list[Numbers] = []
    rest = iter(fingerprints)
    while chunk := [*itertools.islice(rest, _TOGETHER)]:
        found.append(np.stack(chunk).astype(np.float64) @ weights - mean)
    return np.concatenate(found) if found else np.empty(0)


def log10_innocent(estimates: Numbers, biases: Numbers, score: float) -> float:
    """Return the logarithm, to base 10, of the probability that somebody innocent scores so high.

    An upper bound, by Chernoff: it holds for these very estimates, without an assumption.
    """
    if score <= 0:
        return 0.0
    weights = _weights(estimates, biases)
    up, down = weights * 2 * (1 - biases), weights * -2 * biases
    with np.errstate(divide="ignore"):
        high, low = np.log(biases), np.log1p(-biases)

    def bound(tilt: float) -> float:
        return float(np.logaddexp(high + tilt * up, low + tilt * down).sum()) - tilt * score

    left, right = 0.0, _LARGEST_TILT
    for _ in range(_STEPS):  # the bound is convex in the tilt, and holds for each
        width = _GOLDEN * (right - left)
        if bound(right - width) < bound(left + width):
            right = left + width
        else:
            left = right - width
    return min(bound(left), 0.0) / math.log(10)


def _weights(estimates: Numbers, biases: Numbers) -> Numbers:
    """Return what each entry of a fingerprint counts for."""
    if not np.isfinite(estimates).all():
        raise ValueError("estimates are finite")
    length = float(np.linalg.norm(estimates)) or 1.0
    return estimates / (length * 2 * np.sqrt(biases * (1 - biases)))
