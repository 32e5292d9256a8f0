"""The marked weights of a release, flat and by value: what attacks and accusations work on.

Attacks move marked weights by amounts; nothing else of a network tells of a fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from unittest import mock

import numpy as np
import numpy.typing as npt
from torch import Tensor

import nnguard
from nnguard._crypto.content_key import ContentKey
from nnguard._tracing.casting import Caster, MarkedTensor, mask, take_off
from nnguard._tracing.choosing import choose
from nnguard._tracing.evidence import Estimate, estimate_of, moves_of, noise_of
from nnguard._tracing.masking import (
    level_size,
    levels_of,
    masked_in,
    place,
    read,
    with_levels,
)

__all__ = ["Marked", "Part", "Values"]

Values = npt.NDArray[np.float32]
"""One for each mark of a release."""

_KEY = ContentKey(bytes(range(32)))


@dataclass(frozen=True, eq=False)
class Part(MarkedTensor):
    """A tensor with marks: what its weights are, plain and with each fingerprint.

    `covered` are all masked weights, marked or not; `core` tells whether that is all of them.
    """

    covered: npt.NDArray[np.int64]
    core: bool

    @property
    def amplitude(self) -> np.float32:
        """How far a mark moves its weight."""
        return np.float32(level_size(self.tensor))

    def moved(self, by: int) -> Values:
        """Return the marked weights, with a fingerprint of -1, 0 or 1."""
        at = self.marks.positions
        levels = levels_of(self.tensor)[at] + by * self.marks.signs
        found = with_levels(self.tensor, at, levels).indices.reshape(-1)[at]
        return (found * self.tensor.step).astype(np.float32)


class Marked:
    """The marks of a release, one tensor after the other, as `nnguard lock --traceable` has them.

    Args:
        stream: The release.
    """

    def __init__(self, stream: nnguard.Stream) -> None:
        chosen, self.entries = choose(stream, [])
        with mock.patch.object(ContentKey, "new_nonce", return_value=bytes(12)):
            self.masked, self.masks = mask(stream, chosen, self.entries, None, _KEY)
        self.caster = Caster(_KEY, self.masked, self.masks)
        if bytes(self.caster.release()) != bytes(stream):
            raise AssertionError("the vendor does not get the release back")
        tensors = read(self.masked, self.masks)
        places = place(_KEY.below(), self.masks.nonce)
        self.parts = [
            Part(
                own.unit,
                own.tensor,
                own.marks,
                masked_in(tensors[part.unit], part, places),
                not part.sparsity,
            )
            for part, own in zip(self.masks.tensors, self.caster.marked_tensors(), strict=True)
        ]
        sizes = [part.marks.positions.size for part in self.parts]
        self.starts = np.cumsum([0, *sizes])
        pairs = zip(self.starts[:-1], self.starts[1:], strict=True)
        self._runs = [slice(int(start), int(stop)) for start, stop in pairs]
        self.entry = np.concatenate([part.marks.entries for part in self.parts])
        self.sign = np.concatenate([part.marks.signs for part in self.parts]).astype(np.float32)
        self.up, self.ours, self.down = (
            np.concatenate([part.moved(by) for part in self.parts]) for by in (1, 0, -1)
        )
        self.amplitude = np.repeat([part.amplitude for part in self.parts], sizes)
        self.step = np.repeat([np.float32(part.tensor.step) for part in self.parts], sizes)

    def values(self, levels: npt.NDArray[np.floating]) -> Values:
        """Return marked weights whose entries have fingerprints of any size, -1 to 1 or beyond."""
        at = levels.astype(np.float32)[self.entry]
        return (self.up + self.down) / 2 + at * (self.up - self.down) / 2

    def copy(self, license_id: str) -> nnguard.Stream:
        """Return a licensee's copy, as a license makes it; without a signature."""
        key = self.caster.key_for(license_id)
        return take_off(self.masked, self.masks, _KEY.below(), key)

    def at(self, state: Mapping[str, Tensor]) -> Values:
        """Return what a state has at the marks."""
        found = [state[part.name].numpy().reshape(-1)[part.marks.positions] for part in self.parts]
        return np.concatenate(found).astype(np.float32)

    def put(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return a state with other values at the marks."""
        found = {name: value.clone() for name, value in state.items()}
        for part, run in zip(self.parts, self._runs, strict=True):
            flat = found[part.name].view(-1)
            flat[part.marks.positions] = flat.new_tensor(values[run])
        return found

    def estimate(self, suspect: Values) -> Estimate:
        """Return what a suspect tells of each entry, as `nnguard trace` has it."""
        parts = zip(self.parts, self._runs, strict=True)
        moves = [moves_of(part, suspect[run]) for part, run in parts if suspect[run].any()]
        return estimate_of(moves, noise_of(moves, self.entries), self.entries)
