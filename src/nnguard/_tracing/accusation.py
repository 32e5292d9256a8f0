"""Accusing licensees, and how likely somebody innocent is accused.

A score is a weighted sum over a fingerprint. Law: the fingerprint of somebody innocent is
independent of the suspect. So the distribution of an innocent's score is known, whatever the
suspect is and wherever the weights come from: it follows from the biases alone, and so does the
bound.

A score is the logarithm of how much likelier the suspect is with a license's copy in it than
without (Laarhoven, Asymptotics of fingerprinting and group testing: capacity-achieving
log-likelihood decoders, 2016), less its mean over innocents, in standard deviations of that. It
hangs on how a coalition mixes its copies, which nobody knows; so some ways of mixing are assumed,
one after the other. A wrong assumption costs power, and accuses nobody.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnguard._tracing.evidence import Estimate

__all__ = ["LOG10_FLOOR", "log10_innocent", "proofs", "scores", "weightings"]

_TOGETHER = 128
"""Fingerprints that are scored at once."""

_COALITION = 10
"""Copies that are assumed to be mixed."""

_LEAST_DEVIATION = 0.2
"""Smallest standard deviation assumed at an entry: no coalition does just what is assumed of it."""

_FAR = 4.0
"""How far a coalition that knows where copies differ may go there, in steps of the fingerprint."""

_TINY = 1e-30
"""A density that every finding has: what fits nothing tells nothing."""

_STEPS = 8
_LARGEST_TILT = 1e3
_LEAST_CURVATURE = 1e-3

LOG10_FLOOR = -38.0
"""Logarithm of the least probability that is told: keys and hashes promise no more, 2**-128."""

Numbers = npt.NDArray[np.float64]


class _Mix(NamedTuple):
    """What a coalition may do at an entry, by how many of its copies have 1 there: of c, 0 to c.

    Attributes:
        levels: array (n, c + 1), where the suspect then is, on average: from -1 to 1.
        spreads: array (n, c + 1), standard deviations of that.
        shares: array (n, c + 1), how often each of the n things is done.
    """

    levels: Numbers
    spreads: Numbers
    shares: Numbers


def _averaged() -> _Mix:
    """Return what comes of averaging copies."""
    level = np.linspace(-1, 1, _COALITION + 1)[None]
    return _Mix(level, np.zeros_like(level), np.ones_like(level))


def _one_of_them() -> _Mix:
    """Return what comes of taking each entry from one of the copies."""
    plus = np.linspace(0, 1, _COALITION + 1)
    levels = np.stack([np.ones_like(plus), -np.ones_like(plus)])
    return _Mix(levels, np.zeros_like(levels), np.stack([plus, 1 - plus]))


def _where_they_differ() -> _Mix:
    """Return what comes of comparing copies, and of doing whatever one likes where they differ."""
    levels = np.repeat([[1.0], [-1.0], [0.0], [0.0]], _COALITION + 1, axis=1)
    levels[:, 0], levels[:, -1] = -1, 1
    spreads = np.zeros_like(levels)
    spreads[3, 1:-1] = _FAR
    shares = np.repeat([[0.3], [0.3], [0.3], [0.1]], _COALITION + 1, axis=1)
    return _Mix(levels, spreads, shares)


def weightings(found: Estimate, biases: Numbers) -> Numbers:
    """Return what each entry of a fingerprint counts for: array (3, L), in three ways of scoring.

    Args:
        found: What was found of the fingerprint, of L entries.
        biases: float64 array (L).

    Raises:
        ValueError: An estimate is not finite.
    """
    if not np.isfinite(found.means).all():
        raise ValueError("estimates are finite")
    plus, p = np.arange(_COALITION), biases[:, None]
    ways = np.array([math.comb(_COALITION - 1, each) for each in plus])
    chances = ways * p**plus * (1 - p) ** (plus[-1] - plus)  # of so many 1s in all copies but one
    mixes = _averaged(), _one_of_them(), _where_they_differ()
    return np.stack([_scaled(_likelihood(found, mix, chances), biases) for mix in mixes])


def _likelihood(found: Estimate, mix: _Mix, chances: Numbers) -> Numbers:
    """Return log-likelihood ratios of what was found: with a copy that has 1 there, and with -1."""
    deviations = np.maximum(found.deviations, _LEAST_DEVIATION)[:, None]
    density = np.full((found.means.size, mix.levels.shape[1]), _TINY)
    for levels, spreads, shares in zip(*mix, strict=True):
        all_in_all = np.hypot(deviations, spreads)
        away = (found.means[:, None] - levels) / all_in_all
        density += shares * np.exp(-(away**2) / 2) / all_in_all
    with_it, without = (chances * density[:, 1:]).sum(1), (chances * density[:, :-1]).sum(1)
    logarithms: Numbers = np.log(with_it / without)
    return logarithms


def _scaled(weights: Numbers, biases: Numbers) -> Numbers:
    """Return weights of scores with variance 1."""
    deviation = 2 * float(np.linalg.norm(weights * np.sqrt(biases * (1 - biases))))
    return weights / (deviation or 1.0)


def scores(
    weights: Numbers, biases: Numbers, fingerprints: Iterable[npt.NDArray[np.int8]]
) -> Numbers:
    """Return the scores of fingerprints: of the innocent, with mean 0 and variance 1.

    Args:
        weights: float64 array (k, L), for each way of scoring; see `weightings`. Or (L).
        biases: float64 array (L).
        fingerprints: Of n licenses: int8 arrays (L).

    Returns:
        Array (k, n), or (n).
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
    """Return whom some way of scoring accuses.

    Args:
        weights: float64 array (k, L), for each way of scoring.
        biases: float64 array (L).
        found: float64 array (k, n), scores of n licenses.
        probability: Upper bound on that of accusing anybody who had no part; not below
            `10**LOG10_FLOOR`.

    Returns:
        By the index of the license, the logarithm to base 10 of an upper bound on the probability
        that any of them, in any of the ways, scores so high without having had a part.
    """
    tried = math.log10(max(found.size, 1))
    bounds: dict[int, float] = {}
    for way, own in zip(weights, found, strict=True):
        for index in np.argsort(-own).tolist():
            bound = max(tried + log10_innocent(way, biases, float(own[index])), LOG10_FLOOR)
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
    tilt, best = score, 0.0
    for _ in range(_STEPS):  # Newton's method: the bound is convex in the tilt, and holds for each
        one, other = high + tilt * up, low + tilt * down
        both = np.logaddexp(one, other)
        best = min(best, float(both.sum()) - tilt * score)
        share = np.exp(one - both)  # of tilted fingerprints that have 1
        slope = float((share * up + (1 - share) * down).sum()) - score
        curvature = float((share * (1 - share) * (up - down) ** 2).sum())
        tilt = min(max(tilt - slope / max(curvature, _LEAST_CURVATURE), 0.0), _LARGEST_TILT)
    return best / math.log(10)
