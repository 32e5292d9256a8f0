"""One lock in the making: weights are chosen, replaced or scrambled, and a record is hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nnguard.crypto.content import ContentKey
from nnguard.crypto.keys import Signer
from nnguard.errors import FormatError, NoRecordError, UnlockError
from nnguard.hiding import RecordKind, extract, plan_record
from nnguard.hiding.carriers import weights_in
from nnguard.locking.choice import (
    Choice,
    Importance,
    apply,
    choose,
    count_weights,
    tensors_to_touch,
    usable_tensors,
)
from nnguard.locking.coding import encode_all, read_all
from nnguard.locking.record import LockContent, LockRecord, Replaced
from nnguard.locking.scramble import scramble, tensors_to_scramble
from nnguard.locking.search import CurvePoint, Evaluate, Scores
from nnguard.locking.tiers import Locked, Tier
from nnguard.records import Claims, SignatureRecord, model_digest
from nnguard.signing import sign
from nnguard.stream import Stream
from nnguard.stream.coding import QuantizedTensor

__all__ = ["Making", "Options"]


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """What all tiers of a release have in common."""

    evaluate: Evaluate | None
    importance: Importance | None
    signer: Signer | None
    progress: Callable[[CurvePoint], object] | None


class Making:
    """One lock in the making: the tensors, decoded, and all weights that may be replaced."""

    def __init__(self, stream: Stream, tier: Tier, key: ContentKey, options: Options) -> None:
        self._stream, self._tier, self._key, self._options = stream, tier, key, options
        self.weights = count_weights(stream)
        self.tensors: dict[int, QuantizedTensor] = {}
        scrambled = self._read(tensors_to_scramble(stream, tier.scramble, self.weights))
        self._scrambled = sorted(scrambled)
        self._digest = model_digest(stream.sha256_of_units())
        self.draw()
        if not self._scrambled and not len(self.choice):
            raise UnlockError(
                "the network has no weights that a lock could change",
                hint="it changes quantized tensors of two dimensions or more, not coded in blocks",
            )

    def draw(self) -> None:
        """Choose weights to replace in the smallest tensors, others each time."""
        self.renew()
        count, importance = self._tier.most_of(self.weights), self._options.importance
        randomness = self._key.keystream("choice", self._seed)
        self.draw_in(tensors_to_touch(self._stream, count, randomness, importance) if count else [])

    def renew(self) -> None:
        """Choose otherwise from now on."""
        self._seed = self._key.new_nonce()

    def draw_in(self, units: Sequence[int]) -> None:
        """Choose weights to replace in these tensors; the same ones until `renew`."""
        self.choice = self._choose(self._read(units))

    def probe(self, scores: Scores, most: int) -> list[int]:
        """Return the positions of the largest tensors, the one that is needed most first."""
        usable = usable_tensors(self._stream, self._options.importance)
        found: dict[int, float] = {}
        for unit in sorted(usable, key=partial(weights_in, self._stream))[-most:]:
            tensors = read_all(self._stream, [unit])
            found[unit] = scores.of(tensors, self._choose(tensors))
        return sorted(found, key=lambda unit: found[unit])

    def _choose(self, tensors: Mapping[int, QuantizedTensor]) -> Choice:
        randomness = self._key.keystream("choice", self._seed)
        return choose(
            tensors, self._tier.most_of(self.weights), randomness, self._options.importance
        )

    def _read(self, units: Sequence[int]) -> dict[int, QuantizedTensor]:
        """Decode tensors that were not decoded before; leave out those of no use."""
        missing = [unit for unit in units if unit not in self.tensors]
        self.tensors |= read_all(self._stream, missing)
        return {unit: self.tensors[unit] for unit in units if unit in self.tensors}

    def finish(self, choice: Choice) -> Locked:
        """Replace the chosen weights, scramble, hide the record, and sign."""
        changed = apply(choice, self.tensors)
        nonce = self._key.new_nonce()
        keystream = self._key.keystream("signs", nonce)
        for unit in self._scrambled:
            changed[unit] = scramble(changed.get(unit, self.tensors[unit]), unit, keystream)
        content = LockContent(
            self._digest,
            tuple(_replaced(choice, self.tensors)),
            tuple(self._scrambled),
        )
        trial = self._hide(changed, content, nonce)
        return Locked(
            _sign(trial, self._stream, self._tier.name, self._options.signer),
            self._key,
            self._tier.name,
            len(choice),
            sum(self.tensors[unit].indices.size for unit in self._scrambled),
            self.weights,
            (),
        )

    def _hide(
        self, changed: Mapping[int, QuantizedTensor], content: LockContent, nonce: bytes
    ) -> Stream:
        """Hide the record in the stream with the changed tensors; the nonce seals it alone."""
        key, tier = self._key, self._tier.name
        size = len(LockRecord.seal(key, key.new_nonce(), tier, content, b""))
        units = encode_all(self._stream, sorted(changed), changed.__getitem__)
        plan = plan_record(self._stream.replace(units), RecordKind.LOCK, size)
        return plan.embed(LockRecord.seal(key, nonce, tier, content, bytes(plan.header)))


def _replaced(choice: Choice, tensors: Mapping[int, QuantizedTensor]) -> Iterator[Replaced]:
    for unit in sorted({*choice.units.tolist()}):
        positions = choice.positions[choice.units == unit]
        positions.sort()
        values = tensors[unit].indices.reshape(-1)[positions]
        yield Replaced(unit, positions, values)


def _sign(trial: Stream, release: Stream, tier: str, signer: Signer | None) -> Stream:
    """Sign a trial with the claims of the release, if there are any."""
    if signer is None:
        return trial
    claims = Claims()
    try:
        extraction = extract(release)
        if extraction.header.kind == RecordKind.SIGNATURE:
            claims = SignatureRecord.parse(extraction.record).claims
    except (FormatError, NoRecordError):  # not signed, perhaps by a foreign encoder
        pass
    return sign(
        trial,
        signer,
        issuer=claims.issuer,
        name=claims.name,
        version=claims.version,
        metadata={**claims.metadata, "locked": tier},
    )
