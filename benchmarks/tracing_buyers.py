"""Ten thousand buyers, coalitions of some of them, and who is accused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log10
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from nnguard._tracing.accusation import log10_innocent
from tracing_marks import Marked

__all__ = ["Accused", "Buyers", "accused", "name_of"]

_BLOCK = 500
_ERROR = 1e-9
"""Allowed for each suspect: that anybody innocent is accused; as `nnguard trace` has it."""

_SURE = 12.0
"""A score whose bound need not be computed."""


@dataclass(frozen=True)
class Accused:
    """What came of suspects made in one way.

    Attributes:
        suspects: How many.
        named: Share of them of which a guilty buyer was named.
        all_named: Share of all guilty buyers that were, as normal noise has it.
        least: The least score of the best guilty buyer of any suspect.
        median: The median score of the best guilty buyer.
        innocent: The greatest score of any innocent.
        wrongly: Innocents that were, of `trials`, as normal noise has it.
        trials: Suspects times innocents.
    """

    suspects: int
    named: float
    all_named: float
    least: float
    median: float
    innocent: float
    wrongly: int
    trials: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def name_of(buyer: int) -> str:
    """Return the license of a buyer."""
    return f"{buyer:032x}"


class Buyers:
    """The fingerprints of buyers, as the vendor derives them.

    Args:
        marked: The marks of the release.
        count: How many buyers there are.
    """

    def __init__(self, marked: Marked, count: int) -> None:
        self.biases = marked.caster.biases
        found = (marked.caster.fingerprint(name_of(number)) for number in range(count))
        self.fingerprints = np.stack([*found])
        self._spread = 2 * np.sqrt(self.biases * (1 - self.biases))

    def coalition(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw the numbers of some buyers."""
        return rng.choice(len(self.fingerprints), size, replace=False)

    def counts(self, members: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for each entry how many members have +1."""
        own: npt.NDArray[np.int64] = (self.fingerprints[members] > 0).sum(0)
        return own

    def scores(self, estimates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the scores of all buyers, of mean 0 and variance 1 if they are innocent.

        Args:
            estimates: Of suspects: array (suspects, entries).

        Returns:
            Array (suspects, buyers).
        """
        weights = estimates / self._spread
        middle = weights @ (2 * self.biases - 1)
        found = np.concatenate([*self._blocks(weights.astype(np.float32))], 1)
        norm = np.sqrt((estimates**2).sum(1)).clip(1e-9)
        return (found - middle[:, None]) / norm[:, None]

    def _blocks(self, weights: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(self.fingerprints), _BLOCK):
            yield weights @ self.fingerprints[start : start + _BLOCK].T.astype(np.float32)


def accused(
    buyers: Buyers, estimates: npt.NDArray[np.float64], members: npt.NDArray[np.int64]
) -> Accused:
    """Score suspects and tell who is named.

    Args:
        buyers: All buyers.
        estimates: Array (suspects, entries).
        members: Array (suspects, size of the coalition), whose copies each suspect was made of.
    """
    scores = buyers.scores(estimates)
    limit = -NormalDist().inv_cdf(_ERROR / scores.shape[1])
    guilty = np.take_along_axis(scores, members, 1)
    innocent = scores.copy()
    np.put_along_axis(innocent, members, -np.inf, 1)
    best = guilty.max(1)
    named = [
        score >= _SURE
        or log10_innocent(own, buyers.biases, float(score)) <= log10(_ERROR / scores.shape[1])
        for own, score in zip(estimates, best, strict=True)
    ]
    return Accused(
        len(scores),
        float(np.mean(named)),
        float((guilty >= limit).mean()),
        float(best.min()),
        float(np.median(best)),
        float(innocent.max()),
        int((innocent >= limit).sum()),
        innocent.size - members.size,
    )
