"""One lock in the making: weights are chosen, replaced or scrambled, and a record is hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import Signer
from nnguard._hiding.carriers import weights_in
from nnguard._locking.choice import (
    Choice,
    Importance,
    apply,
    choose,
    count_weights,
    tensors_to_touch,
    usable_tensors,
)
from nnguard._locking.coding import encode_all, read_all
from nnguard._locking.scramble import scramble, tensors_to_scramble
from nnguard._locking.sealing import hide, sign_trial
from nnguard._locking.search import CurvePoint, Evaluate, Scores
from nnguard._locking.tiers import Locked, Tier
from nnguard._locking.twins import find_twins
from nnguard._records.lock import LockContent, LockedFile, LockShard, Replaced
from nnguard._records.signature import model_digest
from nnguard._stream import Stream
from nnguard._stream.coding import QuantizedTensor
from nnguard.errors import UnlockError

__all__ = ["Making", "Options"]


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """What all tiers of a release have in common."""

    evaluate: Evaluate | None
    importance: Importance | None
    signer: Signer | None
    progress: Callable[[CurvePoint], object] | None


class Making:
    """One lock in the making: the tensors, decoded, and all weights that may be replaced.

    Args:
        stream: What is locked.
        tier: How.
        key: The content key.
        options: What all tiers have in common.
        shard: Which part of a set the stream is; it may then be left as it is.
        scrambled: Positions of the tensors to scramble; those of the tier, if None.
    """

    def __init__(
        self,
        stream: Stream,
        tier: Tier,
        key: ContentKey,
        options: Options,
        shard: LockShard | None = None,
        scrambled: Sequence[int] | None = None,
    ) -> None:
        self._shard = shard
        self._stream, self._tier, self._key, self._options = stream, tier, key, options
        self.weights, self.twins = count_weights(stream), find_twins(stream)
        self.tensors: dict[int, QuantizedTensor] = {}
        if scrambled is None:
            scrambled = tensors_to_scramble(stream, tier.scrambling, self.twins)
        self._scrambled = sorted(self._read(scrambled))
        self._digest = model_digest(stream.sha256_of_units())
        self.draw()
        if not self._scrambled and not len(self.choice) and shard is None:
            raise UnlockError(
                "the network has no weights that a lock could change",
                hint="it changes quantized tensors of two dimensions or more, not coded in blocks",
            )

    def draw(self) -> None:
        """Choose weights to replace in the smallest tensors, others each time."""
        self.renew()
        count, importance = self._tier.most_of(self.weights), self._options.importance
        randomness = self._key.keystream("choice", self._seed)
        touched = (
            tensors_to_touch(self._stream, count, randomness, importance, self.twins)
            if count
            else []
        )
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
        usable = usable_tensors(self._stream, self._options.importance, self.twins)
        found: dict[int, float] = {}
        for unit in sorted(usable, key=partial(weights_in, self._stream))[-most:]:
            tensors = read_all(self._stream, self._with_twins([unit]))
            choice = self._choose({unit: tensors[unit]} if unit in tensors else {})
            scores.next_draw()
            found[unit] = scores.of(choice, apply(choice, tensors, self.twins))
        return sorted(found, key=lambda unit: found[unit])

    def _choose(self, tensors: Mapping[int, QuantizedTensor]) -> Choice:
        randomness = self._key.keystream("choice", self._seed)
        return choose(
            tensors, self._tier.most_of(self.weights), randomness, self._options.importance
        )

    def changed(self, choice: Choice) -> dict[int, QuantizedTensor]:
        """Return the tensors that a choice changes, changed."""
        return apply(choice, self.tensors, self.twins)

    def _with_twins(self, units: Sequence[int]) -> list[int]:
        return [each for unit in units for each in self.twins.get(unit, (unit,))]

    def _read(self, units: Sequence[int]) -> dict[int, QuantizedTensor]:
        """Decode tensors that were not decoded before; leave out those of no use."""
        missing = [unit for unit in units if unit not in self.tensors]
        self.tensors |= read_all(self._stream, missing)
        return {unit: self.tensors[unit] for unit in units if unit in self.tensors}

    def finish(self, choice: Choice) -> Locked:
        """Replace the chosen weights, scramble, hide the record, and sign."""
        changed = self.changed(choice)
        nonce = self._key.new_nonce()
        keystream = self._key.keystream("scramble", nonce)
        for unit in self._scrambled:
            changed[unit] = scramble(changed.get(unit, self.tensors[unit]), unit, keystream)
        units = encode_all(sorted(changed), changed.__getitem__)
        replaced = tuple(self._replaced(choice))
        file = LockedFile("", self._digest, (range(len(self._stream)),))
        content = LockContent(tuple(self._scrambled), replaced, (file,))
        name = self._tier.name
        trial = hide(
            self._stream.replace(units), content, name, self._key, nonce, shard=self._shard
        )
        return Locked(
            stream=sign_trial(trial, self._stream, name, self._options.signer),
            content_key=self._key,
            tier=name,
            replaced=choice.weights,
            scrambled=sum(self.tensors[unit].indices.size for unit in self._scrambled),
            weights=self.weights,
        )

    def _replaced(self, choice: Choice) -> Iterator[Replaced]:
        for unit, pairs in sorted(choice.by_unit(self.twins), key=lambda change: change[0]):
            positions = np.sort(pairs.reshape(-1))
            yield Replaced(unit, positions, self.tensors[unit].indices.reshape(-1)[positions])
