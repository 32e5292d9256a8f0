"""Opening locks with a content key.

Nothing of a lock is acted on before its record has been authenticated, and nothing is returned that
has not the digest that the record names.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnguard.crypto.content import ContentKey
from nnguard.errors import FormatError, NoRecordError, UnlockError, WrongKeyError
from nnguard.hiding import Extraction, RecordKind, extract, kind_name
from nnguard.locking.choice import can_lock
from nnguard.locking.coding import encode_all
from nnguard.locking.record import LockContent, LockRecord, Replaced
from nnguard.locking.scramble import scramble
from nnguard.locking.tiers import MAX_TIERS
from nnguard.records import model_digest
from nnguard.stream import Stream
from nnguard.stream.coding import QuantizedTensor, decode
from nnguard.stream.trellis import is_path

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


def open_locks(outermost: Extraction, digests: Sequence[bytes], key: ContentKey) -> Opened:
    """Open all locks that a key opens, and take off the signatures between them.

    These signatures are not checked: each lock names the digest of all that is inside.

    Args:
        outermost: What was taken out of the trial.
        digests: SHA-256 of the units of the trial.
        key: Of the highest tier that is to be opened.

    Raises:
        NoRecordError: The stream is not locked.
        WrongKeyError: The locks are of another key.
        VerificationError: The trial was changed.
        UnlockError: What is restored is not what was locked.
    """
    keys = {key.below(steps).id: key.below(steps) for steps in range(MAX_TIERS)}
    tiers: list[str] = []
    extraction = outermost
    while True:
        digests = extraction.digests_of_original(digests)
        if extraction.header.kind == RecordKind.SIGNATURE:
            extraction = extract_lock(extraction.original)
            continue
        record = lock_of(extraction)
        mine = keys.get(record.envelope.key_id)
        if mine is None:
            raise WrongKeyError(
                f"locked with content key {record.envelope.key_id.hex()}, not {key.id.hex()}",
                hint="the key is of another release, or of a lower tier",
            )
        stream, digests = _open(extraction, digests, record, mine)
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


def _open(
    extraction: Extraction, digests: Sequence[bytes], record: LockRecord, key: ContentKey
) -> tuple[Stream, list[bytes]]:
    """Return what one lock holds, and the SHA-256 of its units, once both have been proven."""
    content = record.open(key, bytes(extraction.header))
    units = _restore(extraction.original, content, key, record.envelope.nonce)
    restored = [
        hashlib.sha256(units[index]).digest() if index in units else digest
        for index, digest in enumerate(digests)
    ]
    if not hmac.compare_digest(model_digest(restored), content.digest):
        raise UnlockError("what was restored is not what was locked: the trial was changed")
    return extraction.original.replace(units).pinned(restored), restored


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


def _restore(
    stream: Stream, content: LockContent, key: ContentKey, nonce: bytes
) -> dict[int, bytes]:
    """Return the original units of all tensors that the lock changed."""
    keystream = key.keystream("signs", nonce)
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
        if not all(0 <= unit < len(stream) and can_lock(stream[unit]) for unit in units):
            raise UnlockError("the lock names a tensor that cannot be locked")
    for part in content.replaced:
        tensor = stream[part.unit].tensor
        if tensor is None or int(part.positions[-1]) >= tensor.size:
            raise UnlockError("the lock names a weight that is not there")


def _put_back(tensor: QuantizedTensor, part: Replaced) -> QuantizedTensor:
    indices = tensor.indices.reshape(-1).copy()
    indices[part.positions] = np.asarray(part.values, np.int32)
    if tensor.header.dependent and not is_path(indices):
        raise ValueError("an index that its state does not have")
    return tensor.with_indices(indices)
