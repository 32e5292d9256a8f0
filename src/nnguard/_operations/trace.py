"""Whose copy a network is: comparing it with all copies that a vendor has licensed.

    trace = nnguard.trace("suspect.safetensors", "trial.nnc", "content.key", licenses)
    print(trace.accused)

Law: whoever is accused without having had a part in the suspect is so by chance, and the
probability of that is below `probability`, whatever the suspect is (`docs/SPEC.md`, section 6.7).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nnguard._base.arguments import loaded
from nnguard._compression.decompress import decompress
from nnguard._crypto.content_key import ContentKey, ContentKeyLike
from nnguard._licensing.license import License
from nnguard._locking.opening import open_files
from nnguard._models.sources import WeightsLike, files_of_weights, open_weights
from nnguard._models.stream_set import StreamSet, as_model
from nnguard._operations.copies import caster_of
from nnguard._records.hashed import digest_of, hash_files
from nnguard._stream import Stream, StreamLike
from nnguard._tracing.accusation import LOG10_FLOOR, proofs, scores, weightings
from nnguard._tracing.casting import Caster
from nnguard._tracing.evidence import Evidence, TracedTensor, collect
from nnguard.errors import ArgumentError

__all__ = ["PROBABILITY", "Accusation", "Trace", "trace"]

_ID = re.compile("[0-9a-f]{32}")

PROBABILITY = 1e-9
"""Of accusing anybody who had no part, at most, unless something else is asked for."""


class Sold(Protocol):
    """What is used of an entry of a ledger."""

    @property
    def license_id(self) -> str:
        """Identifier of the license, in hexadecimal."""

    @property
    def stream(self) -> str:
        """Digest of the trial that it is for, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Accusation:
    """A license whose copy had a part in the suspect.

    Attributes:
        license_id: In hexadecimal.
        score: The highest in several ways of scoring: standard deviations of what licenses score
            that had no part.
        log10_probability: Logarithm to base 10 of an upper bound on the probability that any of the
            licenses that were compared, had none of them a part, would be accused by as much: the
            lowest in these ways.
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
        scores: float64 array, of each license; see `Accusation.score`.
        tensors: Masked tensors that were found in the suspect, by their names in the release.
        missing: Names of those that were not found.
        marks: Weights of the suspect that were compared.
        probability: Upper bound on the probability of accusing anybody who had no part.

    Examples:
        >>> with licensing.Ledger("sold.db") as ledger:
        ...     sold = ledger.entries()
        >>> trace = nnguard.trace("ada-copy.nnc", "sold.nnc", "sold.key", sold)
        >>> customers = {entry.license_id: entry.customer for entry in sold}
        >>> [customers[accusation.license_id] for accusation in trace.accused]
        ['Ada']
    """

    accused: tuple[Accusation, ...]
    license_ids: tuple[str, ...] = field(repr=False)
    scores: npt.NDArray[np.float64] = field(repr=False)
    tensors: Mapping[str, TracedTensor] = field(repr=False)
    missing: tuple[str, ...]
    marks: int
    probability: float

    @property
    def other_scores(self) -> npt.NDArray[np.float64]:
        """Scores of the licenses that are not accused."""
        accused = [accusation.license_id for accusation in self.accused]
        return self.scores[~np.isin(self.license_ids, accused)]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; of the scores, the highest that was not accused."""
        others = self.other_scores
        return {
            "accused": [accusation.to_json() for accusation in self.accused],
            "licenses": len(self.license_ids),
            "highest_other_score": float(others.max()) if others.size else None,
            "probability": self.probability,
            "marks": self.marks,
            "tensors": {
                name: {"how": found.how, "noise": found.noise}
                for name, found in self.tensors.items()
            },
            "missing": list(self.missing),
        }


def trace(
    suspect: Stream | StreamSet | WeightsLike,
    trial: StreamLike,
    content_key: ContentKeyLike,
    licenses: Iterable[License | Sold | str],
    *,
    probability: float = PROBABILITY,
) -> Trace:
    """Find out from which licensees' copies a network was made.

    It may have been fine-tuned, pruned, quantized anew, mixed of several copies, its tensors named
    otherwise, its channels scaled and permuted. Training another network on its outputs leaves
    nothing to be found. What is found is that the suspect was made with the copy of a license; how
    it came from its licensee to where it was, is not in it.

    Args:
        suspect: A stream, a safetensors file, a checkpoint, or a folder of such; arrays or tensors
            by name; a PyTorch module.
        trial: The trial that was sold, which was locked with `traceable=True`.
        content_key: The vendor's, which `lock` made.
        licenses: Licenses, entries of a ledger, or identifiers of licenses, in hexadecimal.
            Licenses and entries of other trials are left out.
        probability: Upper bound on that of accusing anybody who had no part; 1e-38 at least.

    Raises:
        ArgumentError: The trial is not traceable, an argument is none of these, or no license is of
            this trial.
        WrongKeyError: The key is not the vendor's.
        NnguardError: The suspect cannot be read, or the trial not opened.

    Examples:
        >>> license_ = licensing.License.load("ada-copy.license")
        >>> nnguard.trace("ada-copy.nnc", "sold.nnc", "sold.key", [license_]).accused[0].score > 30
        True
    """
    if not 10**LOG10_FLOOR <= probability < 1:
        raise ArgumentError(f"probability: {probability:g} is not between 1e-38 and 1")
    given = _read_licenses(licenses)
    key = loaded(content_key, ContentKey, "content_key")
    files = hash_files(as_model(trial, "trial"))
    opened = open_files(files, key)
    if opened.masks is None:
        raise ArgumentError(
            "the trial is not traceable: all its licenses open the same model",
            hint="lock with --traceable",
        )
    digest = digest_of(files).hex()
    ids = tuple(license_id for license_id, stream in given.items() if stream in ("", digest))
    if not ids:
        raise ArgumentError("licenses: there are none of this trial")
    caster = caster_of(opened, key)
    wanted = caster.marked_tensors()
    least = min((each.tensor.indices.size for each in wanted), default=1)
    suspects = _tensors_of(suspect, least)
    evidence = collect(wanted, caster.biases.size, suspects)
    found, accused = _accuse(evidence, caster, ids, probability)
    return Trace(
        accused=tuple(accused),
        license_ids=ids,
        scores=found,
        tensors=evidence.tensors,
        missing=tuple(each.name for each in wanted if each.name not in evidence.tensors),
        marks=evidence.marks,
        probability=probability,
    )


def _read_licenses(licenses: Iterable[License | Sold | str]) -> dict[str, str]:
    """Return the identifiers of licenses, each once, and of which trial, if they say so."""
    if isinstance(licenses, str):
        raise ArgumentError("licenses: give a list of licenses, or of their identifiers")
    found: dict[str, str] = {}
    for each in licenses:
        if isinstance(each, str):
            license_id, stream = each.lower(), ""
        elif isinstance(each, License):
            license_id, stream = each.terms.id, each.terms.stream
        else:
            license_id, stream = each.license_id, each.stream
        if not _ID.fullmatch(license_id):
            raise ArgumentError(
                f"licenses: {license_id!r} is not the identifier of a license, of 32 hexadecimal "
                "digits"
            )
        found[license_id] = stream
    return found


def _accuse(
    evidence: Evidence, caster: Caster, ids: Sequence[str], probability: float
) -> tuple[npt.NDArray[np.float64], list[Accusation]]:
    """Score licenses in several ways, and accuse those whom one of these accuses."""
    biases = caster.biases
    ways = weightings(evidence.estimate, biases)
    found = scores(ways, biases, map(caster.fingerprint, ids))
    bounds = proofs(ways, biases, found, probability)
    best = found.max(axis=0)
    surest = sorted(bounds, key=lambda index: (bounds[index], -best[index]))
    return best, [Accusation(ids[at], float(best[at]), bounds[at]) for at in surest]


def _tensors_of(
    suspect: Stream | StreamSet | WeightsLike, least: int
) -> dict[str, npt.NDArray[np.generic]]:
    """Read a suspect's tensors of so many weights, or more."""
    parts: list[WeightsLike]
    if isinstance(suspect, (Stream, StreamSet)):
        parts = [decompress(suspect, allow_trial=True)]
    elif isinstance(suspect, (str, os.PathLike)):
        parts = [*files_of_weights(suspect)] or [decompress(suspect, allow_trial=True)]
    else:
        parts = [suspect]
    found: dict[str, npt.NDArray[np.generic]] = {}
    for tensor in itertools.chain.from_iterable(map(open_weights, parts)):
        if tensor.size >= least:
            weights = tensor.type.format.to_numbers(tensor.values.read(0, tensor.size))
            found[tensor.name] = weights.reshape(tensor.shape)
    return found
