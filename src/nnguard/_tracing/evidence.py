"""What a suspect network tells of fingerprints: an estimate for each entry of the vendor's tables.

At each mark, the suspect's weight less the release's is the fingerprint, and whatever else was done
to the weight. That differs from mark to mark; the fingerprint is the same at all marks of an entry,
but for the marks' signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import Keystream
from nnguard._records.masks import MaskedTensor, Masks
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._tracing.alignment import align
from nnguard._tracing.masking import marks_of

__all__ = ["Evidence", "collect", "weights_of"]

_CLIP = 3.0
"""Standard deviations beyond which a difference counts no more."""

_NORMAL = 1.4826
"""Standard deviations for each median deviation, of normal noise."""

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was found in a suspect.

    Attributes:
        estimates: float64 array, for each entry of all tables: the fingerprint there, from about -1
            to 1, the nearer to 0 the less is known; 0 where nothing is.
        marks: How many marks were found, those at weights that were pruned not counted.
        tensors: For each masked tensor that was found, by name, how it was brought in line.
        noise: The same, what else was done to its weights: standard deviation, in steps of the
            fingerprint.
    """

    estimates: npt.NDArray[np.float64]
    marks: int
    tensors: Mapping[str, str]
    noise: Mapping[str, float]


def weights_of(release: Stream, masks: Masks) -> dict[str, Weights]:
    """Return the masked tensors of a release, by name."""
    tensors = (decode(release[part.unit]) for part in masks.tensors)
    return {tensor.header.name: _weights(tensor) for tensor in tensors}


def collect(
    release: Stream, masks: Masks, places: Keystream, suspect: Mapping[str, npt.NDArray[np.generic]]
) -> Evidence:
    """Compare a suspect with the release.

    Args:
        release: The release, without masks and records.
        masks: What the lock says.
        places: Decides where the marks are; see `masking.place`.
        suspect: Its tensors by name, as many as may be of use.
    """
    aligned = align(weights_of(release, masks), suspect)
    estimates: list[npt.NDArray[np.float64]] = []
    how: dict[str, str] = {}
    noise: dict[str, float] = {}
    found = 0
    for part in masks.tensors:
        name = release[part.unit].name
        if name not in aligned:
            estimates.append(np.zeros(part.entries))
            continue
        tensor = decode(release[part.unit])
        own, marks, noise[name] = _estimate(tensor, part, places, aligned[name].weights)
        estimates.append(own)
        how[name] = aligned[name].how
        found += marks
    return Evidence(np.concatenate(estimates), found, how, noise)


def _estimate(
    tensor: QuantizedTensor, part: MaskedTensor, places: Keystream, suspect: Weights
) -> tuple[npt.NDArray[np.float64], int, float]:
    """Return estimates for the entries of one tensor, how many marks there are, and the noise."""
    marks = marks_of(part, tensor.indices.shape, places)
    theirs = suspect.reshape(-1)[marks.positions].astype(np.float64)
    ours = tensor.step * tensor.indices.reshape(-1)[marks.positions]
    kept = np.isfinite(theirs) & ((theirs != 0) | (ours == 0))
    if not kept.any():
        return np.zeros(part.entries), 0, 0.0
    amplitude = tensor.step * (4 if tensor.header.dependent else 1)
    moved = marks.signs[kept] * (theirs - ours)[kept] / amplitude
    noise = max(_NORMAL * float(np.median(np.abs(moved))), 0.1)
    moved = np.clip(moved, -_CLIP * noise - 1, _CLIP * noise + 1)
    entries = marks.entries[kept]
    counts = np.bincount(entries, minlength=part.entries)
    sums = np.bincount(entries, moved, minlength=part.entries)
    used = np.maximum(counts, 1)
    variances = noise**2 / used
    limits = 1 + 2 * np.sqrt(variances)
    means = np.clip(sums / used, -limits, limits)
    return np.where(counts, means / (1 + variances), 0), int(kept.sum()), noise


def _weights(tensor: QuantizedTensor) -> Weights:
    return (tensor.step * tensor.indices).astype(np.float32)
