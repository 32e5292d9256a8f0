"""What a lock's content makes of the degraded stream: the files that were locked.

Units of the trial are decoded, or encoded again, only where what the lock opens has them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from nnguard._base.workers import HERE, Workers
from nnguard._crypto.content_key import ContentKey
from nnguard._hiding import Extraction
from nnguard._hiding.carriers import cost_allowed
from nnguard._locking.choice import can_lock
from nnguard._locking.coding import recode_all
from nnguard._locking.scramble import unscramble
from nnguard._records.digest import model_digest
from nnguard._records.hashed import Hashed
from nnguard._records.lock import Difference, LockContent, LockedFile
from nnguard._records.replaced import Replaced
from nnguard._stream import Stream, Unit
from nnguard._stream.differences import add, cost_of_difference
from nnguard._stream.hashing import UnitDigests
from nnguard._stream.quantized import QuantizedTensor
from nnguard._stream.source import MemorySource
from nnguard._stream.stream import MAX_UNITS
from nnguard._stream.trellis import is_path
from nnguard._stream.units import Place, places_in, replaced
from nnguard.errors import FormatError, LimitError, UnlockError

__all__ = ["restore"]


def restore(
    locked: Hashed,
    extraction: Extraction,
    content: LockContent,
    key: ContentKey,
    nonce: bytes,
    *,
    workers: Workers = HERE,
) -> dict[str, Hashed]:
    """Return the files that a lock opens, by name, once each has the digest that the lock names.

    Args:
        locked: The stream with the lock in it.
        extraction: The lock, taken out.
        content: What it says.
        key: The content key.
        nonce: Of the lock's record.
        workers: Who decodes and encodes tensors.

    Raises:
        UnlockError: What is restored is not what was locked.
    """
    changed: dict[int, bytes] = {}
    if content.scrambled or content.replaced:
        changed = _undo_changes(extraction.original, content, key, nonce, workers)
    restored = _Degraded(locked, extraction, changed)
    return {file.name: _gather(file, restored, workers) for file in content.files}


class _Degraded:
    """The degraded stream, with its tensors put right where they are asked for.

    Args:
        locked: The stream with the lock in it.
        extraction: The lock, taken out.
        changed: Units that the lock scrambled, or replaced weights of, as they were.
    """

    def __init__(
        self, locked: Hashed, extraction: Extraction, changed: Mapping[int, bytes]
    ) -> None:
        self._locked, self._extraction, self._changed = locked, extraction, changed
        self._carriers = {*extraction.header.carriers}
        self._left = cost_allowed(locked.stream.size)
        self._found: dict[int, tuple[Place, bytes]] = {}

    def __len__(self) -> int:
        return len(self._locked.stream)

    def __getitem__(self, index: int) -> tuple[Place, bytes]:
        """Return where a unit lies, and its SHA-256."""
        if index not in self._found:
            self._found[index] = self._find(index)
        return self._found[index]

    def spend(self, unit: Unit, base: int) -> None:
        """Take what a difference costs off what all of a lock may cost.

        Raises:
            FormatError: It or its base is no quantized tensor.
            UnlockError: There is too little left.
        """
        self._left -= cost_of_difference(unit, self._locked.stream[base])
        if self._left < 0:
            raise UnlockError("the differences that the lock holds take too long to add")

    def unit(self, index: int) -> Unit:
        """Return a unit."""
        unit, data = self._locked.stream[index], self._put_right(index)
        return unit if data is None else replaced(unit, data)

    def _find(self, index: int) -> tuple[Place, bytes]:
        data = self._put_right(index)
        if data is None:
            unit = self._locked.stream[index]
            return (unit.source, unit.offset), self._locked.digests[index]
        return (MemorySource(data), 0), hashlib.sha256(data).digest()

    def _put_right(self, index: int) -> bytes | None:
        """Return the bytes of a unit that is another one in the stream with the lock in it."""
        if index in self._changed:
            return self._changed[index]
        if index not in self._carriers:
            return None
        if self._changed:  # all carriers were restored for these
            return self._extraction.restored[index]
        return self._extraction.restore(index)


def _gather(file: LockedFile, restored: _Degraded, workers: Workers) -> Hashed:
    """Return a stream that a lock opens.

    Raises:
        UnlockError: The parts make no well-formed stream, or not the one that was locked.
    """
    if any(part.stop > len(restored) for part in file.named):
        raise UnlockError("the lock names a unit that is not there")
    places: list[Place] = []
    known: dict[Place, bytes] = {}
    base_of: dict[int, int] = {}
    try:
        for part in file.units:
            if isinstance(part, range):
                found = dict(restored[index] for index in part)
                places += found
                known |= found
            elif isinstance(part, Difference):
                base_of[len(places)] = part.base
                [place] = places_in(part.unit)
                places.append(place)
            else:
                places += islice(places_in(part), MAX_UNITS + 1)
        stream = Stream.gather(places)
    except (FormatError, LimitError, ValueError):
        raise UnlockError("what the lock holds is not a well-formed stream") from None
    if base_of:
        stream = _with_sums(stream, base_of, restored, workers)
        places = [(unit.source, unit.offset) for unit in stream]
    digests = _digests(stream, places, known)
    if not hmac.compare_digest(model_digest(digests), file.digest):
        raise UnlockError("what was restored is not what was locked: the trial was changed")
    return Hashed(stream.pinned(digests), digests)


def _with_sums(
    stream: Stream, base_of: Mapping[int, int], restored: _Degraded, workers: Workers
) -> Stream:
    """Return a stream with differences added to their bases.

    Threads do that, and no executor: differences are secret.

    Args:
        stream: The stream, with differences in the place of sums.
        base_of: Positions of differences, and those of their bases in the degraded stream.
        restored: The degraded stream, put right.
        workers: How many threads.
    """

    def added(index: int, base: int) -> bytes:
        return add(stream[index], restored.unit(base))

    try:
        for index, base in base_of.items():
            restored.spend(stream[index], base)
        sums = workers.threads.in_order(added, base_of, base_of.values())
        return stream.replace(dict(zip(base_of, sums, strict=True)))
    except (FormatError, ValueError):
        raise UnlockError("a difference that the lock holds does not fit its base") from None


def _digests(stream: Stream, places: Sequence[Place], known: Mapping[Place, bytes]) -> list[bytes]:
    """Return the SHA-256 of all units; only those are hashed whose place is not known."""
    pairs = zip(places, stream, strict=True)
    carried = {place: unit for place, unit in pairs if place not in known}
    hashes: dict[Place, bytes] = {}
    if carried:
        with UnitDigests(tuple(carried.values())) as hashing:
            hashes = dict(zip(carried, hashing.result(), strict=True))
    return [known.get(place) or hashes[place] for place in places]


def _undo_changes(
    stream: Stream, content: LockContent, key: ContentKey, nonce: bytes, workers: Workers
) -> dict[int, bytes]:
    """Return the original units of all tensors that the lock changed."""
    keystream = key.keystream("scramble", nonce)
    replacements = {part.unit: part for part in content.replaced}
    scrambled = {*content.scrambled}
    _check(stream, content)

    def original(unit: int, tensor: QuantizedTensor) -> QuantizedTensor:
        if unit in scrambled:
            tensor = unscramble(tensor, unit, keystream)
        return _put_back(tensor, replacements[unit]) if unit in replacements else tensor

    try:
        units = sorted({*replacements, *scrambled})
        return recode_all(stream, units, original, workers=workers)
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
