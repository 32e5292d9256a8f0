"""The marked weights of a release, flat and by value: what attacks and accusations work on.

marked = Marked.of(stream)
held = marked.values(counts, of=5)   # what five licensees have, when they mix their copies
estimates = marked.estimates(suspect)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

import nnguard
from nnguard._crypto.content_key import ContentKey
from nnguard._records.masks import Masks
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._tracing.casting import Caster
from nnguard._tracing.choosing import choose_masks
from nnguard._tracing.masking import Marks, add, marks_of, place, shifted

__all__ = ["Marked", "Values"]

Values = npt.NDArray[np.float32]
"""One for each mark of a release."""

_KEY = ContentKey(bytes(range(32)))
_CLIP, _NORMAL = 3.0, 1.4826


@dataclass(frozen=True, eq=False)
class _Part:
    """The marks of one tensor: what its weights are, plain and with each fingerprint."""

    tensor: QuantizedTensor
    marks: Marks
    ours: Values
    up: Values
    down: Values

    @property
    def amplitude(self) -> float:
        return self.tensor.step * (4 if self.tensor.header.dependent else 1)


class Marked:
    """The marks of a release, one tensor after the other.

    Args:
        stream: The release.
        masks: What is masked; see `of`.
    """

    def __init__(self, stream: nnguard.Stream, masks: Masks) -> None:
        self.stream, self.masks = stream, masks
        self.caster = Caster(_KEY, masks)
        places = place(_KEY.below(), masks)
        self.parts = [_part(decode(stream[p.unit]), p, places) for p in masks.tensors]
        sizes = [part.ours.size for part in self.parts]
        self.entries = masks.entries
        self.starts = np.cumsum([0, *sizes])
        firsts = np.cumsum([0, *(p.entries for p in masks.tensors)])
        pairs = zip(self.parts, firsts, strict=False)
        self.entry = np.concatenate([part.marks.entries + first for part, first in pairs])
        self.sign = np.concatenate([part.marks.signs for part in self.parts]).astype(np.float32)
        self.ours = np.concatenate([part.ours for part in self.parts])
        self.up = np.concatenate([part.up for part in self.parts])
        self.down = np.concatenate([part.down for part in self.parts])
        amplitudes = np.array([part.amplitude for part in self.parts], np.float32)
        self.amplitude = np.repeat(amplitudes, sizes)
        self.step = np.repeat([np.float32(part.tensor.step) for part in self.parts], sizes)

    @classmethod
    def of(cls, stream: nnguard.Stream) -> Marked:
        """Choose marks as `nnguard lock --traceable` does, with the same nonce each time."""
        return cls(stream, replace(choose_masks(stream, []), nonce=bytes(12)))

    @property
    def names(self) -> list[str]:
        """Return the names of the masked tensors."""
        return [part.tensor.header.name for part in self.parts]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many marks each entry has."""
        return np.bincount(self.entry, minlength=self.entries)

    def values(self, levels: npt.NDArray[np.floating]) -> Values:
        """Return marked weights whose entries have fingerprints of any size, -1 to 1 or beyond."""
        at = levels.astype(np.float32)[self.entry]
        middle, half = (self.up + self.down) / 2, (self.up - self.down) / 2
        return middle + at * half

    def copy(self, fingerprint: npt.NDArray[np.int8]) -> nnguard.Stream:
        """Return a licensee's copy, without a signature."""
        ends = np.cumsum([part.entries for part in self.masks.tensors])[:-1]
        numbers = np.split(fingerprint.astype(np.int64), ends)
        return add(self.stream, self.masks, place(_KEY.below(), self.masks), numbers)

    def at(self, state: Mapping[str, Tensor]) -> Values:
        """Return what a state has at the marks."""
        return np.concatenate(
            [
                state[part.tensor.header.name].numpy().reshape(-1)[part.marks.positions]
                for part in self.parts
            ]
        ).astype(np.float32)

    def put(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return a state with other values at the marks."""
        found = {name: value.clone() for name, value in state.items()}
        pieces = np.split(values, self.starts[1:-1])
        for part, piece in zip(self.parts, pieces, strict=True):
            flat = found[part.tensor.header.name].view(-1)
            flat[part.marks.positions] = flat.new_tensor(piece)
        return found

    def estimates(self, suspect: Values) -> npt.NDArray[np.float64]:
        """Return what a suspect tells of each entry, as `nnguard._tracing.evidence` has it."""
        found = np.empty(self.entries)
        first = 0
        for part, own in zip(self.parts, self._slices, strict=True):
            theirs, ours = suspect[own], part.ours
            last = first + self.masks.tensors[self.parts.index(part)].entries
            kept = np.isfinite(theirs) & ((theirs != 0) | (ours == 0))
            entry = self.entry[own][kept] - first
            moved = self.sign[own][kept] * (theirs - ours)[kept] / np.float32(part.amplitude)
            found[first:last] = _estimate(moved, entry, last - first)
            first = last
        return found

    @cached_property
    def _slices(self) -> list[slice]:
        pairs = zip(self.starts[:-1], self.starts[1:], strict=True)
        return [slice(int(a), int(b)) for a, b in pairs]


def _estimate(
    moved: npt.NDArray[np.float32], entry: npt.NDArray[np.int64], entries: int
) -> npt.NDArray[np.float64]:
    if not moved.size:
        return np.zeros(entries)
    noise = max(_NORMAL * float(np.median(np.abs(moved))), 0.1)
    clipped = np.clip(moved, -_CLIP * noise - 1, _CLIP * noise + 1)
    counts = np.bincount(entry, minlength=entries)
    sums = np.bincount(entry, clipped, minlength=entries)
    used = np.maximum(counts, 1)
    variances = noise**2 / used
    limits = 1 + 2 * np.sqrt(variances)
    means = np.clip(sums / used, -limits, limits)
    return np.where(counts, means / (1 + variances), 0)


def _part(tensor: QuantizedTensor, part: object, places: object) -> _Part:
    marks = marks_of(part, tensor.indices.shape, places)  # type: ignore[arg-type]
    ones = np.ones(part.entries, np.int64)  # type: ignore[attr-defined]

    def weights(changed: QuantizedTensor) -> Values:
        found = changed.indices.reshape(-1)[marks.positions] * tensor.step
        return found.astype(np.float32)

    return _Part(
        tensor,
        marks,
        weights(tensor),
        weights(shifted(tensor, part, marks, ones)),  # type: ignore[arg-type]
        weights(shifted(tensor, part, marks, -ones)),  # type: ignore[arg-type]
    )
