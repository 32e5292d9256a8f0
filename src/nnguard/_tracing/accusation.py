"""Accusing licensees, and how likely somebody innocent is accused.

A score is a weighted sum over a fingerprint. Law: the fingerprint of somebody innocent is
independent of the suspect. So the distribution of an innocent's score is known, whatever the
suspect is and wherever the weights come from: it follows from the biases alone, and so does the
bound.

Two weightings are tried. One is that of Škorić, Katzenbeisser and Celik (Symmetric Tardos
fingerprinting codes for arbitrary alphabet sizes, 2008), which loses little against any attack. The
other is the likelihood that the suspect's entries were taken from copies at random (Oosterwijk,
Škorić and Doumen, Optimal suspicion functions for Tardos traitor tracing schemes, 2013), which is
better against most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["log10_innocent", "proofs", "scores", "weightings"]

_TOGETHER = 128
"""Fingerprints that are scored at once."""

_COALITION = 20
"""Copies that the likelihood assumes."""

_STEPS = 80
_GOLDEN = (math.sqrt(5) - 1) / 2
_LARGEST_TILT = 1e3

_LEAST = -38.0
"""Logarithm of the least probability that is told: that of guessing the vendor's key, 128 bits."""

Numbers = npt.NDArray[np.float64]


def weightings(estimates: Numbers, biases: Numbers) -> Numbers:
    """Return what each entry of a fingerprint counts for: array (2, L), by two weightings.

    Args:
        estimates: float64 array (L), what was found of the fingerprint at each entry.
        biases: float64 array (L).

    Raises:
        ValueError: An estimate is not finite.
    """
    if not np.isfinite(estimates).all():
        raise ValueError("estimates are finite")
    found = np.clip(estimates, -0.999, 0.999)
    share = 2 / _COALITION * found / (1 + found * (2 * biases - 1))
    likelihood = np.log1p(share * (1 - biases)) - np.log1p(-share * biases)
    symmetric = estimates / np.sqrt(biases * (1 - biases))
    return np.stack([_scaled(weights, biases) for weights in (symmetric, likelihood)])


def _scaled(weights: Numbers, biases: Numbers) -> Numbers:
    """Return weights of scores with variance 1."""
    deviation = 2 * float(np.linalg.norm(weights * np.sqrt(biases * (1 - biases))))
    return weights / (deviation or 1.0)


def scores(
    weights: Numbers, biases: Numbers, fingerprints: Iterable[npt.NDArray[np.int8]]
) -> Numbers:
    """Return the scores of fingerprints: of the innocent, with mean 0 and variance 1.

    Args:
        weights: float64 array (..., L), for each way of scoring; see `weightings`.
        biases: float64 array (L).
        fingerprints: Of n licenses: int8 arrays (L).

    Returns:
        Array (..., n).
    """
    mean = weights @ (2 * biases - 1)
    found: list[Numbers] = [np.empty((0, *weights.shape[:-1]))]
    rest = iter(fingerprints)
    while chunk := [*itertools.islice(rest, _TOGETHER)]:
        found.append(np.stack(chunk).astype(np.float64) @ weights.T - mean)
    return np.concatenate(found).T


def proofs(
    weights: Numbers, biases: Numbers, found: Numbers, probability: float
) -> dict[int, float]:
    """Return whom some way of scoring proves to be guilty.

    Args:
        weights: float64 array (k, L), for each way of scoring.
        biases: float64 array (L).
        found: float64 array (k, n), scores of n licenses.
        probability: Of accusing any of them who had no part, at most.

    Returns:
        By the number of the license, the logarithm to base 10 of the probability, for all of them
        and all ways together, that somebody innocent scores so high: an upper bound.
    """
    tried = math.log10(max(found.size, 1))
    bounds: dict[int, float] = {}
    for way, own in zip(weights, found, strict=True):
        for index in np.argsort(-own).tolist():
            bound = max(tried + log10_innocent(way, biases, float(own[index])), _LEAST)
            if bound > math.log10(probability):
                break
            bounds[index] = min(bound, bounds.get(index, 0.0))
    return bounds


def log10_innocent(weights: Numbers, biases: Numbers, score: float) -> float:
    """Return the logarithm, to base 10, of the probability that somebody innocent scores so high.

    An upper bound, by Chernoff: it holds for these very weights, without an assumption.
    """
    if score <= 0:
        return 0.0
    up, down = weights * 2 * (1 - biases), weights * -2 * biases
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
