"""Ten thousand buyers, coalitions of some of them, and who is accused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from nnguard._operations.trace import PROBABILITY
from nnguard._tracing.accusation import proofs, weightings
from nnguard._tracing.evidence import Estimate
from tracing_marks import Marked

__all__ = ["Accused", "Buyers", "accused", "name_of"]


@dataclass(frozen=True)
class Accused:
    """What came of suspects made in one way.

    Attributes:
        suspects: How many.
        named: Share of them of which a guilty buyer was named.
        least: The least score of the best guilty buyer of any suspect.
        median: The median score of the best guilty buyer.
        innocent: The greatest score of any innocent.
        wrongly: Innocents that were, of `trials`.
        trials: Suspects times innocents.
    """

    suspects: int
    named: float
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
        self._as_floats = self.fingerprints.astype(np.float32)

    def coalition(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw the numbers of some buyers."""
        return rng.choice(len(self.fingerprints), size, replace=False)

    def counts(self, members: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for each entry how many members have +1."""
        own: npt.NDArray[np.int64] = (self.fingerprints[members] > 0).sum(0)
        return own

    def ways(self, estimate: Estimate) -> npt.NDArray[np.float64]:
        """Return all ways of scoring a suspect, as `nnguard trace` has them: (3, entries)."""
        return weightings(estimate, self.biases)

    def scores(self, ways: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the scores of all buyers: (k, buyers) for ways (k, entries).

        As `accusation.scores` has them, in single precision and at once.
        """
        mean = ways @ (2 * self.biases - 1)
        return (ways.astype(np.float32) @ self._as_floats.T).astype(np.float64) - mean[:, None]


def accused(
    buyers: Buyers,
    estimates: Sequence[Estimate],
    members: npt.NDArray[np.int64],
) -> Accused:
    """Score suspects and tell who is named.

    Args:
        buyers: All buyers.
        estimates: Of each suspect; see `Marked.estimate`.
        members: Array (suspects, size of the coalition), whose copies each suspect was made of.
    """
    ways = np.stack([buyers.ways(each) for each in estimates])
    scored = buyers.scores(ways.reshape(-1, ways.shape[-1])).reshape(*ways.shape[:2], -1)
    best, innocent, named, wrongly = [], [], 0, 0
    for weights, found, team in zip(ways, scored, members, strict=True):
        guilty = found[:, team].max(axis=1, keepdims=True)
        others = np.delete(found, team, axis=1)
        named += bool(proofs(weights, buyers.biases, guilty, PROBABILITY / len(found[0])))
        wrongly += len(proofs(weights, buyers.biases, others, PROBABILITY))
        best.append(guilty.max())
        innocent.append(others.max())
    trials = members.shape[0] * (len(buyers.fingerprints) - members.shape[1])
    return Accused(
        len(best),
        named / len(best),
        float(min(best)),
        float(np.median(best)),
        float(max(innocent)),
        wrongly,
        trials,
    )
