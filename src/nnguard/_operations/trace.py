"""Whose copy a network is: comparing it with all copies that a vendor has licensed.

    trace = nnguard.trace("suspect.safetensors", "trial.nnc", "content.key", licenses)
    print(trace.accused)

Law: whoever is accused without having had a part in the suspect is so by chance, and the
probability of that is below `probability`, whatever the suspect is (`docs/SPEC.md`, section 6.7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard._base.arguments import loaded
from nnguard._compression.decompress import decompress
from nnguard._crypto.content_key import ContentKey, ContentKeyLike
from nnguard._locking.opening import open_files
from nnguard._models.sources import MODEL_SUFFIXES, WeightsLike, open_weights
from nnguard._models.stream_set import StreamSet, as_model
from nnguard._operations.copies import caster_of
from nnguard._records.hashed import hash_files
from nnguard._stream import Stream, StreamLike
from nnguard._tracing.accusation import proofs, scores, weightings
from nnguard._tracing.casting import Caster
from nnguard._tracing.evidence import Evidence, collect
from nnguard.errors import ArgumentError

__all__ = ["Accusation", "Trace", "trace"]

_PROBABILITY = 1e-9


@dataclass(frozen=True, slots=True)
class Accusation:
    """A license whose copy had a part in the suspect.

    Attributes:
        license_id: In hexadecimal.
        score: In standard deviations of what innocents score.
        log10_probability: Logarithm to base 10 of the probability that any of the licenses that
            were compared scores as high without having had a part: an upper bound.
    """

    license_id: str
    score: float
    log10_probability: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "license_id": self.license_id,
            "score": self.score,
            "log10_probability": self.log10_probability,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was found of a suspect.

    Attributes:
        accused: Licenses whose copies had a part in it, the surest first.
        license_ids: All that it was compared with.
        scores: float64 array, of each license, the highest in several ways of scoring: standard
            deviations of what innocents score.
        tensors: Masked tensors that were found in the suspect, and how they were brought in line.
        noise: The same, how far weights were moved by something else, in steps of the fingerprint.
        missing: Names of those that were not found.
        marks: Weights of the suspect that were compared.
        probability: Nobody is accused at a higher probability of being innocent.

    Examples:
        >>> with licensing.Ledger("sold.db") as ledger:
        ...     licenses = [entry.license_id for entry in ledger.entries()]
        >>> trace = nnguard.trace("ada-copy.nnc", "sold.nnc", "sold.key", licenses)
        >>> [accusation.license_id for accusation in trace.accused] == licenses[:1]
        True
    """

    accused: tuple[Accusation, ...]
    license_ids: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    tensors: Mapping[str, str]
    noise: Mapping[str, float]
    missing: tuple[str, ...]
    marks: int
    probability: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; of the scores, the highest that was not accused."""
        innocent = np.sort(self.scores)[::-1][len(self.accused) :]
        return {
            "accused": [accusation.to_json() for accusation in self.accused],
            "licenses": len(self.license_ids),
            "highest_other_score": float(innocent[0]) if innocent.size else None,
            "probability": self.probability,
            "marks": self.marks,
            "tensors": {
                name: {"how": how, "noise": self.noise[name]} for name, how in self.tensors.items()
            },
            "missing": list(self.missing),
        }


def trace(
    suspect: Stream | StreamSet | WeightsLike,
    trial: StreamLike,
    content_key: ContentKeyLike,
    licenses: Iterable[str],
    *,
    probability: float = _PROBABILITY,
) -> Trace:
    """Find out from which licensees' copies a network was made.

    It may have been fine-tuned, pruned, quantized anew, mixed of several copies, its tensors named
    otherwise, its channels scaled and permuted. Training another network on its outputs leaves
    nothing to be found. What is found is that the suspect was made with the copy of a license; how
    it came from its licensee to where it was, is not in it.

    Args:
        suspect: A stream, or a folder of them; a safetensors file, a checkpoint; arrays or tensors
            by name; a PyTorch module.
        trial: The trial that was sold, which was locked with `traceable=True`.
        content_key: The vendor's, which `lock` made.
        licenses: Identifiers of the licenses of this trial, in hexadecimal.
        probability: Of accusing anybody who had no part, at most.

    Raises:
        ArgumentError: The trial is not traceable; or the probability is not between 0 and 1.
        WrongKeyError: The key is not the vendor's.
        NnguardError: The suspect cannot be read, or the trial not opened.

    Examples:
        >>> licenses = [licensing.License.load("ada-copy.license").terms.id]
        >>> nnguard.trace("ada-copy.nnc", "sold.nnc", "sold.key", licenses).accused[0].score > 30
        True
    """
    if not 0 < probability < 1:
        raise ArgumentError(f"probability: {probability:g} is not between 0 and 1")
    key = loaded(content_key, ContentKey, "content_key")
    opened = open_files(hash_files(as_model(trial, "trial")), key)
    if opened.masks is None:
        raise ArgumentError(
            "the trial is not traceable: all its licenses open the same model",
            hint="lock with --traceable",
        )
    caster = caster_of(opened, key)
    wanted = caster.marked_tensors()
    suspects = _tensors_of(suspect, {each.tensor.indices.size for each in wanted})
    evidence = collect(wanted, caster.biases.size, suspects)
    ids = tuple(dict.fromkeys(licenses))
    found, accused = _accuse(evidence, caster, ids, probability)
    return Trace(
        tuple(accused),
        ids,
        found,
        evidence.tensors,
        evidence.noise,
        tuple(each.name for each in wanted if each.name not in evidence.tensors),
        evidence.marks,
        probability,
    )


def _accuse(
    evidence: Evidence, caster: Caster, ids: Sequence[str], probability: float
) -> tuple[npt.NDArray[np.float64], list[Accusation]]:
    """Score licenses in several ways, and accuse those whom one of them proves to be guilty."""
    biases = caster.biases
    ways = weightings(evidence.estimate, biases)
    found = scores(ways, biases, map(caster.fingerprint, ids))
    bounds = proofs(ways, biases, found, probability)
    best = found.max(axis=0)
    guilty = sorted(bounds, key=lambda index: (bounds[index], -best[index]))
    return best, [Accusation(ids[at], float(best[at]), bounds[at]) for at in guilty]


def _tensors_of(
    suspect: Stream | StreamSet | WeightsLike, sizes: set[int]
) -> dict[str, npt.NDArray[np.float32]]:
    """Read a suspect's floating-point tensors of these sizes."""
    if isinstance(suspect, (Stream, StreamSet)) or (
        isinstance(suspect, (str, os.PathLike))
        and Path(suspect).suffix.lower() not in MODEL_SUFFIXES
    ):
        suspect = decompress(suspect, allow_trial=True)
    found: dict[str, npt.NDArray[np.float32]] = {}
    for tensor in open_weights(suspect):
        if tensor.size in sizes and tensor.type.format.is_float:
            values = tensor.values.read(0, tensor.size)
            weights = tensor.type.format.to_float32(values)
            found[tensor.name] = weights.reshape(tensor.shape)
    return found
