"""One lock in the making: weights are chosen, replaced or scrambled, and a record is hidden."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property, partial

import numpy as np

from nnguard._base.workers import HERE, Workers
from nnguard._crypto.content_key import ContentKey
from nnguard._hiding.carriers import weights_in
from nnguard._locking.choice import (
    Choice,
    apply,
    choose,
    count_weights,
    tensors_to_touch,
    usable_tensors,
)
from nnguard._locking.coding import encode_all, read_all
from nnguard._locking.scramble import scramble
from nnguard._locking.sealing import hide
from nnguard._locking.search import Scores
from nnguard._locking.tiers import Tier
from nnguard._locking.twins import find_twins
from nnguard._records.hashed import Hashed
from nnguard._records.lock import LockContent, LockedFile, LockShard
from nnguard._records.replaced import Replaced
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor

__all__ = ["LockBuilder"]


class LockBuilder:
    """One lock in the making: the tensors, decoded, and all weights that may be replaced.

    Args:
        release: What is locked.
        tier: How.
        key: The content key.
        scrambled: Positions of the tensors to scramble.
        shard: Which part of a set the stream is.
        spared: Positions of tensors in which no weight is replaced.
        workers: Who decodes and encodes tensors.
    """

    def __init__(
        self,
        release: Hashed,
        tier: Tier,
        key: ContentKey,
        scrambled: Sequence[int],
        shard: LockShard | None = None,
        *,
        spared: Container[int] = (),
        workers: Workers = HERE,
    ) -> None:
        self._stream, self._digest = release.stream, release.digest
        self._tier, self._key, self._shard = tier, key, shard
        self._soft, self._workers = tier.soft, workers
        self._importance = None if tier.soft is None else tier.soft.importance
        self.weights, self.twins = count_weights(self._stream), find_twins(self._stream)
        self._spared = spared
        self.tensors: dict[int, QuantizedTensor] = {}
        self._scrambled = sorted(self._read(scrambled))
        self.draw()

    @property
    def scrambled(self) -> int:
        """Weights in tensors that are scrambled."""
        return sum(self.tensors[unit].indices.size for unit in self._scrambled)

    @cached_property
    def _usable(self) -> list[int]:
        return usable_tensors(self._stream, self._importance, self.twins, self._spared)

    @property
    def _most(self) -> int:
        return 0 if self._soft is None else self._soft.most_of(self.weights)

    def draw(self) -> None:
        """Choose weights to replace in the smallest tensors, others each time."""
        self.renew()
        touched: list[int] = []
        if self._most:
            randomness = self._key.keystream("choice", self._seed)
            touched = tensors_to_touch(self._stream, self._usable, self._most, randomness)
        self.draw_in(touched)

    def renew(self) -> None:
        """Choose otherwise from now on."""
        self._seed = self._key.new_nonce()

    def draw_in(self, units: Sequence[int]) -> None:
        """Choose weights to replace in these tensors; the same ones until `renew`."""
        tensors = self._read(self._with_twins(units))
        self.choice = self._choose({unit: tensors[unit] for unit in units if unit in tensors})

    def probe(self, scores: Scores, most: int) -> list[int]:
        """Return the positions of the largest tensors, the one that is needed most first."""
        found: dict[int, float] = {}
        for unit in sorted(self._usable, key=partial(weights_in, self._stream))[-most:]:
            units = self._with_twins([unit])
            tensors = read_all(self._stream, units, workers=self._workers)
            choice = self._choose({unit: tensors[unit]} if unit in tensors else {})
            scores.next_draw()
            found[unit] = scores.of(choice, apply(choice, tensors, self.twins))
        return sorted(found, key=lambda unit: found[unit])

    def _choose(self, tensors: Mapping[int, QuantizedTensor]) -> Choice:
        randomness = self._key.keystream("choice", self._seed)
        return choose(tensors, self._most, randomness, self._importance)

    def changed(self, choice: Choice) -> dict[int, QuantizedTensor]:
        """Return the tensors that a choice changes, changed."""
        return apply(choice, self.tensors, self.twins)

    def _with_twins(self, units: Sequence[int]) -> list[int]:
        return [each for unit in units for each in self.twins.get(unit, (unit,))]

    def _read(self, units: Sequence[int]) -> dict[int, QuantizedTensor]:
        """Decode tensors that were not decoded before; leave out those of no use."""
        missing = [unit for unit in units if unit not in self.tensors]
        self.tensors |= read_all(self._stream, missing, workers=self._workers)
        return {unit: self.tensors[unit] for unit in units if unit in self.tensors}

    def finish(self, choice: Choice) -> Stream:
        """Replace the chosen weights, scramble, and hide the record."""
        changed = self.changed(choice)
        nonce = self._key.new_nonce()
        keystream = self._key.keystream("scramble", nonce)
        for unit in self._scrambled:
            changed[unit] = scramble(changed.get(unit, self.tensors[unit]), unit, keystream)
        units = encode_all(sorted(changed), changed.__getitem__, workers=self._workers)
        degraded = self._stream.replace(units)
        replaced = tuple(self._replaced(choice))
        file = LockedFile("", self._digest, (range(len(self._stream)),))
        content = LockContent(tuple(self._scrambled), replaced, (file,))
        return hide(
            degraded,
            content,
            self._tier.name,
            self._key,
            nonce,
            shard=self._shard,
            workers=self._workers,
        )

    def _replaced(self, choice: Choice) -> Iterator[Replaced]:
        for unit, pairs in sorted(choice.by_unit(self.twins), key=lambda change: change[0]):
            positions = np.sort(pairs.reshape(-1))
            yield Replaced(unit, positions, self.tensors[unit].indices.reshape(-1)[positions])
