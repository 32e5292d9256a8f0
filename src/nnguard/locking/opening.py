"""Opening locks with a content key.

Nothing of a lock is acted on before its record has been authenticated, and nothing is returned that
has not the digest that the record names. Units of the trial are decoded, or encoded again, only
where what the lock opens has them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnguard.crypto.content import ContentKey
from nnguard.errors import (
    FormatError,
    LimitError,
    NoRecordError,
    UnlockError,
    VerificationError,
    WrongKeyError,
)
from nnguard.hiding import Extraction, RecordKind, extract, kind_name
from nnguard.hiding.carriers import can_carry
from nnguard.locking.choice import MAX_WEIGHTS
from nnguard.locking.coding import encode_all
from nnguard.locking.record import LockContent, LockedFile, LockRecord, Replaced
from nnguard.locking.scramble import scramble
from nnguard.locking.tiers import MAX_TIERS
from nnguard.records import model_digest
from nnguard.stream import Stream, Unit
from nnguard.stream.coding import QuantizedTensor, decode
from nnguard.stream.hashing import UnitDigests
from nnguard.stream.source import MemorySource
from nnguard.stream.trellis import is_path
from nnguard.stream.units import MAX_UNITS, Place, places_in

__all__ = ["Opened", "extract_lock", "lock_of", "open_locks"]

_HINT = "nnguard lock makes a trial of a release"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A stream that was locked.

    Attributes:
        stream: What was locked, byte for byte.
        digests: SHA-256 of its units.
        tiers: Names of the locks that were opened, the outermost first.
    """

    stream: Stream
    digests: list[bytes]
    tiers: tuple[str, ...]


def open_locks(
    stream: Stream,
    digests: Sequence[bytes],
    key: ContentKey,
    *,
    outermost: Extraction | None = None,
) -> Opened:
    """Open all locks that a key opens, and take off the signatures between them.

    These signatures are not checked: each lock names the digest of all that is inside.

    Args:
        stream: The trial.
        digests: SHA-256 of its units.
        key: Of the highest tier that is to be opened.
        outermost: What was taken out of the trial, if it was.

    Raises:
        NoRecordError: The stream is not locked.
        WrongKeyError: The locks are of another key.
        VerificationError: The trial was changed.
        UnlockError: What is restored is not what was locked.
    """
    keys = {key.below(steps).id: key.below(steps) for steps in range(MAX_TIERS)}
    tiers: list[str] = []
    extraction = outermost or extract_lock(stream)
    while True:
        if extraction.header.kind == RecordKind.SIGNATURE:
            stream, digests = extraction.original, extraction.digests_of_original(digests)
            extraction = extract_lock(stream)
            continue
        record = lock_of(extraction)
        mine = keys.get(record.envelope.key_id)
        if mine is None:
            raise WrongKeyError(
                f"locked with content key {record.envelope.key_id.hex()}, not {key.id.hex()}",
                hint="the key is of another release, or of a lower tier",
            )
        stream, digests = _open(stream, extraction, digests, record, mine)
        tiers.append(record.tier)
        if mine == key:
            return Opened(stream, digests, tuple(tiers))
        extraction = extract_lock(stream)


def extract_lock(stream: Stream) -> Extraction:
    """Take the outermost record out of what is to be locked.

    Raises:
        NoRecordError: There is none.
    """
    try:
        return extract(stream)
    except NoRecordError:
        raise NoRecordError(
            "the stream is not locked: it holds no record of a lock", hint=_HINT
        ) from None


def lock_of(extraction: Extraction) -> LockRecord:
    """Return the lock that was taken out.

    Raises:
        NoRecordError: The record is no lock.
        VerificationError: It is malformed.
    """
    kind = extraction.header.kind
    if kind != RecordKind.LOCK:
        raise NoRecordError(
            f"the stream is not locked: the outermost record is a {kind_name(kind)}", hint=_HINT
        )
    return LockRecord.parse(extraction.record)


def _open(
    stream: Stream,
    extraction: Extraction,
    digests: Sequence[bytes],
    record: LockRecord,
    key: ContentKey,
) -> tuple[Stream, list[bytes]]:
    """Return what one lock holds, and the SHA-256 of its units, once both have been proven."""
    content = record.open(key, bytes(extraction.header))
    if record.shard is not None:
        raise VerificationError("the stream is one of a locked set, and cannot be opened alone")
    if len(content.files) != 1 or content.files[0].name:
        raise UnlockError("the lock opens a set of streams, not one that takes the trial's place")
    changed: dict[int, bytes] = {}
    if content.scrambled or content.replaced:
        changed = _restore(extraction.original, content, key, record.envelope.nonce)
    return _gather(content.files[0], _Restored(stream, extraction, digests, changed))


class _Restored:
    """The degraded stream with its tensors put right, made of what is asked for.

    Args:
        stream: The stream with the lock in it.
        extraction: The lock, taken out.
        digests: SHA-256 of the units of `stream`.
        changed: Units that the lock scrambled, or replaced weights of, as they were.
    """

    def __init__(
        self,
        stream: Stream,
        extraction: Extraction,
        digests: Sequence[bytes],
        changed: Mapping[int, bytes],
    ) -> None:
        self._stream, self._extraction = stream, extraction
        self._digests, self._changed = digests, changed
        self._carriers = {*extraction.header.carriers}
        self._found: dict[int, tuple[Place, bytes]] = {}

    def __len__(self) -> int:
        return len(self._stream)

    def __getitem__(self, index: int) -> tuple[Place, bytes]:
        """Return where a unit lies, and its SHA-256."""
        if index not in self._found:
            self._found[index] = self._find(index)
        return self._found[index]

    def _find(self, index: int) -> tuple[Place, bytes]:
        if index in self._changed:
            unit = self._changed[index]
        elif index in self._carriers:
            unit = self._extraction.restored[index]
        else:
            found = self._stream[index]
            return (found.source, found.offset), self._digests[index]
        return (MemorySource(unit), 0), hashlib.sha256(unit).digest()


def _gather(file: LockedFile, restored: _Restored) -> tuple[Stream, list[bytes]]:
    """Return the stream that a lock opens, and the SHA-256 of its units.

    Raises:
        UnlockError: It is none, or not the one that was locked.
    """
    ranges = [part for part in file.units if isinstance(part, range)]
    if any(part.stop > len(restored) for part in ranges):
        raise UnlockError("the lock names a unit that is not there")
    if sum(map(len, ranges)) > MAX_UNITS:
        raise UnlockError("the lock names more units than a stream may have")
    places: list[Place] = []
    known: dict[Place, bytes] = {}
    try:
        for part in file.units:
            if isinstance(part, range):
                found = dict(restored[index] for index in part)
                places += found
                known |= found
            else:
                places += places_in(part)
        stream = Stream.gather(places)
    except (FormatError, LimitError):
        raise UnlockError("what the lock holds is no well-formed stream") from None
    digests = _digests(stream, places, known)
    if not hmac.compare_digest(model_digest(digests), file.digest):
        raise UnlockError("what was restored is not what was locked: the trial was changed")
    return stream.pinned(digests), digests


def _digests(stream: Stream, places: Sequence[Place], known: Mapping[Place, bytes]) -> list[bytes]:
    """Return the SHA-256 of all units; only those are hashed whose place is not known."""
    pairs = zip(places, stream, strict=True)
    carried = {place: unit for place, unit in pairs if place not in known}
    hashes: dict[Place, bytes] = {}
    if carried:
        with UnitDigests(tuple(carried.values())) as hashing:
            hashes = dict(zip(carried, hashing.result(), strict=True))
    return [known.get(place) or hashes[place] for place in places]


def _restore(
    stream: Stream, content: LockContent, key: ContentKey, nonce: bytes
) -> dict[int, bytes]:
    """Return the original units of all tensors that the lock changed."""
    keystream = key.keystream("scramble", nonce)
    replaced = {part.unit: part for part in content.replaced}
    scrambled = {*content.scrambled}
    _check(stream, content)

    def original(unit: int) -> QuantizedTensor:
        tensor = decode(stream[unit])
        if unit in scrambled:
            tensor = scramble(tensor, unit, keystream)
        return _put_back(tensor, replaced[unit]) if unit in replaced else tensor

    try:
        return encode_all(stream, sorted({*replaced, *scrambled}), original)
    except (FormatError, ValueError):
        raise UnlockError("a tensor that the lock names cannot be restored") from None


def _check(stream: Stream, content: LockContent) -> None:
    """Refuse a lock that names what is not there, or a tensor twice."""
    for units in ([part.unit for part in content.replaced], [*content.scrambled]):
        if units != sorted(set(units)):
            raise UnlockError("the lock names tensors twice, or out of order")
        if not all(0 <= unit < len(stream) and _can_restore(stream[unit]) for unit in units):
            raise UnlockError("the lock names a tensor that cannot be locked")
    for part in content.replaced:
        tensor = stream[part.unit].tensor
        if tensor is None or int(part.positions[-1]) >= tensor.size:
            raise UnlockError("the lock names a weight that is not there")


def _can_restore(unit: Unit) -> bool:
    """Tell from a unit's header whether a lock may have changed its weights."""
    tensor = unit.tensor
    return tensor is not None and can_carry(unit) and tensor.size <= MAX_WEIGHTS


def _put_back(tensor: QuantizedTensor, part: Replaced) -> QuantizedTensor:
    indices = tensor.indices.reshape(-1).copy()
    indices[part.positions] = np.asarray(part.values, np.int32)
    if tensor.header.dependent and not is_path(indices):
        raise ValueError("an index that its state does not have")
    return tensor.with_indices(indices)
