"""What a suspect network tells of fingerprints: an estimate for each entry of the code.

At each mark, the suspect's weight less the release's is the fingerprint, by the mark's sign, and
whatever else was done to the weight. That differs from mark to mark; the fingerprint is the same at
all marks of an entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnguard._stream.quantized import QuantizedTensor
from nnguard._tracing.alignment import Aligned, align
from nnguard._tracing.casting import MarkedTensor
from nnguard._tracing.masking import level_size

__all__ = ["Evidence", "Moves", "collect", "estimates_of", "noise_of"]

_CLIP = 3.0
"""Standard deviations beyond which a difference counts no more."""

_NORMAL = 1.4826
"""Standard deviations for each median deviation, of normal noise."""

_LEAST_NOISE = 0.05
"""Of a suspect that is a copy as it was: steps of the fingerprint."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was found in a suspect.

    Attributes:
        estimates: float64 arrays, for each entry: the fingerprint there, from about -1 to 1, the
            nearer to 0 the less is known; 0 where nothing is. Two: of marks together, which is
            best against noise, and of each mark cut off at the fingerprint itself, which is best
            where somebody knows the fingerprint at some marks, and moved them far.
        marks: How many marks were found, those at weights that were pruned not counted.
        tensors: For each masked tensor that was found, by name, how it was brought in line.
        noise: The same, what else was done to its weights: standard deviation, in steps of the
            fingerprint.
    """

    estimates: tuple[Numbers, ...]
    marks: int
    tensors: Mapping[str, str]
    noise: Mapping[str, float]


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
        each.name: _moves(each, aligned[each.name]) for each in release if each.name in aligned
    }
    moves = {name: each for name, each in found.items() if each.moved.size}
    noise = {name: noise_of(each, entries) for name, each in moves.items()}
    return Evidence(
        estimates_of([*moves.values()], [*noise.values()], entries),
        sum(each.moved.size for each in moves.values()),
        {name: aligned[name].how for name in moves},
        noise,
    )


class Moves(NamedTuple):
    """How far the marks of a tensor have moved in a suspect.

    Attributes:
        entries: int64 array (n), which entry each mark belongs to.
        moved: float64 array (n), how far, in the mark's direction: in steps of the fingerprint.
    """

    entries: npt.NDArray[np.int64]
    moved: Numbers


def estimates_of(
    moves: Sequence[Moves], noise: Sequence[float], entries: int
) -> tuple[Numbers, Numbers]:
    """Estimate the fingerprint at each entry, in two ways; see `Evidence`.

    Args:
        moves: Of each tensor.
        noise: The same; see `noise_of`.
        entries: Of the code.
    """
    together, cut, weights = np.zeros((3, entries))
    for (at, moved), deviation in zip(moves, noise, strict=True):
        limit, weight = 1 + _CLIP * deviation, deviation**-2
        together += weight * np.bincount(at, np.clip(moved, -limit, limit), entries)
        cut += weight * np.bincount(at, np.clip(moved, -1, 1), entries)
        weights += weight * np.bincount(at, minlength=entries)
    return _shrunk(together, weights), _shrunk(cut, weights)


def _moves(release: MarkedTensor, aligned: Aligned) -> Moves:
    """Return how far marks have moved; those at weights that were pruned are left out."""
    tensor, marks = release.tensor, release.marks
    theirs = aligned.weights.reshape(-1)[marks.positions].astype(np.float64)
    ours = tensor.step * tensor.indices.reshape(-1)[marks.positions]
    kept = theirs != 0
    moved = marks.signs[kept] * (theirs - ours)[kept] / level_size(tensor)
    return Moves(marks.entries[kept], moved)


def noise_of(moves: Moves, entries: int) -> float:
    """Return the standard deviation of noise: of deviations within entries, where there are any.

    Whoever knows the fingerprint at an entry may move all marks there by far, which is no noise.
    """
    at, moved = moves
    counts = np.bincount(at, minlength=entries)
    means = np.bincount(at, moved, entries) / np.maximum(counts, 1)
    several = counts[at] > 1
    unbiased = np.sqrt(counts / np.maximum(counts - 1, 1))[at]
    left = ((moved - means[at]) * unbiased)[several] if several.mean() > 0.5 else moved
    return max(_NORMAL * float(np.median(np.abs(left))), _LEAST_NOISE)


def _shrunk(sums: Numbers, weights: Numbers) -> Numbers:
    """Return estimates of fingerprints, of weighted sums: small where they are uncertain.

    A mean farther out than any fingerprint is one that somebody has put there, and tells nothing.
    """
    known = np.maximum(weights, 1e-12)
    means, deviations = sums / known, 1 / np.sqrt(known)
    sure, most = 1 + 2 * deviations, 1.5 + 3 * deviations
    faded = np.clip((most - np.abs(means)) / (most - sure), 0, 1)
    clipped = np.clip(means, -sure, sure) * faded
    return np.where(weights > 0, clipped / (1 + deviations**2), 0)


def _weights(tensor: QuantizedTensor) -> npt.NDArray[np.float32]:
    return (tensor.step * tensor.indices).astype(np.float32)
