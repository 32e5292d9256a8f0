"""What a suspect network tells of fingerprints: an estimate for each entry of the code.

At each mark, the suspect's weight less the release's is the fingerprint, by the mark's sign, and
whatever else was done to the weight. That differs from mark to mark; the fingerprint is the same at
all marks of an entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnguard._stream.quantized import QuantizedTensor
from nnguard._tracing.alignment import align
from nnguard._tracing.casting import MarkedTensor
from nnguard._tracing.masking import level_size

__all__ = [
    "Estimate",
    "Evidence",
    "Moves",
    "TracedTensor",
    "collect",
    "estimate_of",
    "moves_of",
    "noise_of",
]

_CLIP = 3.0
"""Standard deviations beyond which a difference counts no more."""

_NORMAL = 1.4826
"""Standard deviations for each median deviation, of normal noise."""

_LEAST_NOISE = 0.05
"""Of a suspect that is a copy as it was: steps of the fingerprint."""

_PASSES = 4
"""Iterations: what marks should be follows from the noise, and the noise from that."""

_LEAST_SHARE = 0.1
"""Of the variance that is seen in a tensor, how much is put down to its own noise, at least."""

_ALONE = 0.9
"""Share in the mean of an entry, beyond which a mark has no others to be compared with."""

Numbers = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """What was found of the fingerprint at each entry.

    Attributes:
        means: float64 array (L), in steps of the fingerprint: 1 or -1 for a copy as it was.
        deviations: float64 array (L), standard deviations of the means; infinite where an entry has
            no marks.
    """

    means: Numbers
    deviations: Numbers


@dataclass(frozen=True, slots=True)
class TracedTensor:
    """A masked tensor that was found in the suspect.

    Attributes:
        how: How it was brought in line with the release's, in a few words.
        noise: How far weights were moved by something else, in steps of the fingerprint: standard
            deviation, 0.05 or more. Where too few other marks are found to tell, the fingerprint
            itself counts as noise, of about 1.5.
    """

    how: str
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was found in a suspect.

    Attributes:
        estimate: Of the fingerprint.
        marks: How many marks were found, those at weights that were pruned not counted.
        tensors: Masked tensors that were found, by name.
    """

    estimate: Estimate
    marks: int
    tensors: Mapping[str, TracedTensor]


def collect(
    release: Sequence[MarkedTensor],
    entries: int,
    suspect: Mapping[str, npt.NDArray[np.generic]],
) -> Evidence:
    """Compare a suspect with the release.

    Args:
        release: Its tensors that have marks.
        entries: Of the code.
        suspect: Its tensors by name, as many as may be of use.
    """
    aligned = align({each.name: _weights(each.tensor) for each in release}, suspect)
    found = {
        each.name: moves_of(each, aligned[each.name].weights.reshape(-1)[each.marks.positions])
        for each in release
        if each.name in aligned
    }
    moves = {name: each for name, each in found.items() if each.moved.size}
    noise = noise_of([*moves.values()], entries)
    return Evidence(
        estimate_of([*moves.values()], noise, entries),
        sum(each.moved.size for each in moves.values()),
        {
            name: TracedTensor(aligned[name].how, own)
            for name, own in zip(moves, noise, strict=True)
        },
    )


class Moves(NamedTuple):
    """How far the marks of a tensor have moved in a suspect.

    Attributes:
        entries: int64 array (n), which entry each mark belongs to.
        moved: float64 array (n), how far, in the mark's direction: in steps of the fingerprint.
    """

    entries: npt.NDArray[np.int64]
    moved: Numbers


def estimate_of(moves: Sequence[Moves], noise: Sequence[float], entries: int) -> Estimate:
    """Estimate the fingerprint at each entry: means over marks, none counted beyond all noise.

    Args:
        moves: Of each tensor.
        noise: The same; see `noise_of`.
        entries: Of the code.
    """
    return _means(_cut(moves, noise), noise, entries)


def _cut(moves: Sequence[Moves], noise: Sequence[float]) -> list[Moves]:
    """Return moves of which none is farther than noise takes a fingerprint."""
    limits = [1 + _CLIP * deviation for deviation in noise]
    return [
        Moves(at, np.clip(moved, -limit, limit))
        for (at, moved), limit in zip(moves, limits, strict=True)
    ]


def _means(moves: Sequence[Moves], noise: Sequence[float], entries: int) -> Estimate:
    sums, weights = np.zeros((2, entries))
    for (at, moved), deviation in zip(moves, noise, strict=True):
        sums += np.bincount(at, moved, entries) / deviation**2
        weights += np.bincount(at, minlength=entries) / deviation**2
    known = weights > 0
    means = np.divide(sums, weights, out=np.zeros(entries), where=known)
    deviations = np.divide(1, np.sqrt(weights), out=np.full(entries, np.inf), where=known)
    return Estimate(means, deviations)


def moves_of(release: MarkedTensor, theirs: npt.NDArray[np.floating]) -> Moves:
    """Return how far marks have moved; those at weights that were pruned are left out.

    Args:
        release: A tensor of the release.
        theirs: What the suspect has at its marks.
    """
    tensor, marks = release.tensor, release.marks
    ours = tensor.step * tensor.indices.reshape(-1)[marks.positions]
    kept = theirs != 0
    moved = marks.signs[kept] * (theirs.astype(np.float64) - ours)[kept] / level_size(tensor)
    return Moves(marks.entries[kept], moved)


def noise_of(moves: Sequence[Moves], entries: int) -> list[float]:
    """Return the standard deviation of noise in each tensor.

    That is how far marks are from where other marks of their entries are, in whatever tensor.
    Whoever knows the fingerprint at an entry may move all its marks by far, which is no noise.
    """
    noise = [max(_spread(each.moved), _LEAST_NOISE) for each in moves]
    moves = _cut(moves, noise)
    for _ in range(_PASSES):
        means = _means(moves, noise, entries)
        noise = [_own(each, own, means) for each, own in zip(moves, noise, strict=True)]
    return noise


def _own(moves: Moves, noise: float, found: Estimate) -> float:
    """Return the noise of one tensor, by what the other marks of its entries tell."""
    means, deviations = (each[moves.entries] for each in found)
    share = (deviations / noise) ** 2  # that a mark has in the mean of its entry
    several = share < _ALONE
    if several.mean() < 0.5:
        return noise
    share, moved = share[several], moves.moved[several]
    others = (means[several] - share * moved) / (1 - share)
    seen = _spread(moved - others) ** 2
    uncertain = float(np.median(deviations[several] ** 2 / (1 - share)))  # of the others
    return math.sqrt(max(seen - uncertain, _LEAST_SHARE * seen, _LEAST_NOISE**2))


def _spread(values: Numbers) -> float:
    """Return the standard deviation, as if all but a few values were normal."""
    return _NORMAL * float(np.median(np.abs(values)))


def _weights(tensor: QuantizedTensor) -> npt.NDArray[np.float32]:
    return (tensor.step * tensor.indices).astype(np.float32)
