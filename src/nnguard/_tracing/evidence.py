"""What a suspect network tells of fingerprints: an estimate for each entry of the code.

At each mark, the suspect's weight less the release's is the fingerprint, by the mark's sign, and
whatever else was done to the weight. That differs from mark to mark; the fingerprint is the same at
all marks of an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._tracing.alignment import Aligned, align
from nnguard._tracing.casting import Marks

__all__ = ["Evidence", "collect"]

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
    release: Stream,
    marks: Mapping[int, Marks],
    entries: int,
    suspect: Mapping[str, npt.NDArray[np.generic]],
) -> Evidence:
    """Compare a suspect with the release.

    Args:
        release: The release, without records.
        marks: Those of its tensors, by unit.
        entries: Of the code.
        suspect: Its tensors by name, as many as may be of use.
    """
    tensors = {release[unit].name: decode(release[unit]) for unit in marks}
    aligned = align({name: _weights(tensor) for name, tensor in tensors.items()}, suspect)
    sums, cut, weights = np.zeros((3, entries))
    noise: dict[str, float] = {}
    found = 0
    for unit, own in marks.items():
        name = release[unit].name
        if name in aligned:
            at, moved = _moved(tensors[name], own, aligned[name])
            if at.size:
                noise[name] = _noise_of(at, moved, entries)
                limit = 1 + _CLIP * noise[name]
                weight = noise[name] ** -2
                sums += weight * np.bincount(at, np.clip(moved, -limit, limit), entries)
                cut += weight * np.bincount(at, np.clip(moved, -1, 1), entries)
                weights += weight * np.bincount(at, minlength=entries)
                found += at.size
    how = {name: aligned[name].how for name in noise}
    estimates = (_estimates(sums, weights), _estimates(cut, weights))
    return Evidence(estimates, found, how, noise)


def _moved(
    tensor: QuantizedTensor, marks: Marks, aligned: Aligned
) -> tuple[npt.NDArray[np.int64], Numbers]:
    """Return of each mark its entry, and how far its weight has moved in the mark's direction.

    In steps of the fingerprint. Marks at weights that were pruned are left out.
    """
    theirs = aligned.weights.reshape(-1)[marks.positions].astype(np.float64)
    ours = tensor.step * tensor.indices.reshape(-1)[marks.positions]
    kept = theirs != 0
    amplitude = tensor.step * (4 if tensor.header.dependent else 1)
    return marks.entries[kept], marks.signs[kept] * (theirs - ours)[kept] / amplitude


def _noise_of(at: npt.NDArray[np.int64], moved: Numbers, entries: int) -> float:
    """Return the standard deviation of noise: of deviations within entries, where there are any.

    Whoever knows the fingerprint at an entry may move all marks there by far, which is no noise.
    """
    counts = np.bincount(at, minlength=entries)
    means = np.bincount(at, moved, entries) / np.maximum(counts, 1)
    several = counts[at] > 1
    within = (moved - means[at])[several] * np.sqrt(
        (counts / np.maximum(counts - 1, 1))[at[several]]
    )
    left = within if several.mean() > 0.5 else moved
    return max(_NORMAL * float(np.median(np.abs(left))), _LEAST_NOISE)


def _estimates(sums: Numbers, weights: Numbers) -> Numbers:
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
