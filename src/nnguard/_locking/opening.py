"""Opening locks with a content key.

Nothing of a lock is acted on before its record has been authenticated, and nothing is returned that
has not the digest that the record names.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from nnguard._base.progress import Counter, Progress
from nnguard._base.workers import HERE, Workers
from nnguard._crypto.content_key import ContentKey
from nnguard._hiding import Extraction
from nnguard._locking.restoring import restore
from nnguard._locking.tiers import MAX_TIERS
from nnguard._models.index import is_plain_name
from nnguard._models.stream_set import Model, naming, streams_of
from nnguard._records.hashed import Files, Hashed
from nnguard._records.kinds import RecordKind, kind_name
from nnguard._records.layers import layers
from nnguard._records.lock import PEEK_SIZE, LockRecord
from nnguard._records.masks import Masks
from nnguard._stream import Stream
from nnguard.errors import (
    NoRecordError,
    UnlockError,
    VerificationError,
    WrongKeyError,
)

__all__ = ["Opened", "check_lock", "check_places", "lock_id", "open_files"]

_LOOKED_AT = 256
"""Files of a set that was changed, to say what is wrong with it."""

_HINT = "nnguard lock makes a trial of a release"


class Opened(NamedTuple):
    """What locks opened.

    Attributes:
        files: What was locked, byte for byte, by name.
        tiers: Names of the locks, the outermost first.
        carried: How many of the locks were of a trial that is another network.
        masks: Those that are on what was locked, which only a license takes off; None if none are.
        key_id: Identifier of the key of the innermost lock.
    """

    files: dict[str, Hashed]
    tiers: tuple[str, ...]
    carried: int
    masks: Masks | None
    key_id: bytes


def open_files(
    trial: Files,
    key: ContentKey,
    *,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    workers: Workers = HERE,
) -> Opened:
    """Open all locks that a key opens, of one file after the other, and the signatures between.

    These signatures are not checked: each lock names the digest of all that is inside.

    Args:
        trial: A stream without a name, or all of a set.
        key: Of the highest tier that is to be opened.
        spool: Folder for temporary files that hold what was opened; in memory, if None.
        progress: Called with the number of bytes of the trial opened since the last call.
        workers: Who decodes and encodes tensors.

    Raises:
        NoRecordError: The stream is not locked.
        WrongKeyError: The locks are of another key.
        VerificationError: The trial was changed.
        UnlockError: What is restored is not what was locked.
    """
    keys = {key.below(steps).id: key.below(steps) for steps in range(MAX_TIERS)}
    tiers: list[str] = []
    carried = 0
    while True:
        found: dict[str, Hashed] = {}
        first: LockRecord | None = None
        carries, masks = False, None
        for position, (name, hashed) in enumerate(sorted(trial.items())):
            with naming(name):
                place = position, len(trial) if name else 0
                counter = Counter(progress if not tiers else None, hashed.stream.size)
                lock = _open(hashed, keys, first, *place, counter.add, workers)
                counter.finish()
                first, carries, masks = first or lock.record, carries or lock.carries, lock.masks
                while lock.files:  # one file after the other is let go
                    own, file = lock.files.popitem()
                    if (own or name) in found:
                        raise UnlockError(f"the locks open {own or name} twice")
                    found[own or name] = file if spool is None else file.spooled(spool)
                    del file
        assert first is not None
        if not found:
            raise UnlockError("the locks open no file")
        tiers.append(first.tier)
        carried += carries
        if first.envelope.key_id == key.id or masks is not None:
            return Opened(found, tuple(tiers), carried, masks, first.envelope.key_id)
        trial = found


class _Lock(NamedTuple):
    """A lock that was opened: its record without the content, and the files that it opens.

    Of a stream by itself, also the masks that are on it.
    """

    record: LockRecord
    carries: bool
    masks: Masks | None
    files: dict[str, Hashed]


def _open(
    hashed: Hashed,
    keys: Mapping[bytes, ContentKey],
    first: LockRecord | None,
    position: int,
    count: int,
    progress: Progress,
    workers: Workers,
) -> _Lock:
    """Open the outermost lock of one stream.

    Args:
        hashed: The stream.
        keys: Those that may open it, by their identifiers.
        first: The lock of the first file of the set; None for that itself.
        position: Of the file.
        count: Files of the set; 0 for a stream of its own.
        progress: See `nnguard._hiding.extract`.
        workers: Who decodes and encodes tensors.
    """
    locked, extraction = _take_out(hashed, progress, workers)
    record = LockRecord.parse(extraction.record)
    key_id = record.envelope.key_id
    if key_id not in keys:
        ours = next(iter(keys)).hex()
        raise WrongKeyError(
            f"locked with content key {key_id.hex()}, not {ours}",
            hint="the key is of another release, or of a lower tier",
        )
    content = record.open(keys[key_id], bytes(extraction.header))
    _check_place(record, first or record, position, count)
    names = [file.name for file in content.files]
    if not count and names != [""]:
        raise UnlockError("the lock opens a set of streams, not one in the place of the trial")
    if count and any(file.masks is not None for file in content.files):
        raise UnlockError("the lock masks a stream of a set")
    if not all(is_plain_name(name, ".nnc") for name in names if name):
        raise UnlockError("the lock opens a file whose name is not one of a set")
    record = replace(record, envelope=replace(record.envelope, ciphertext=b""))
    extraction = replace(extraction, record=b"")  # both are as large as what they hold
    carries = any(file.carried for file in content.files)
    nonce = record.envelope.nonce
    files = restore(locked, extraction, content, keys[key_id], nonce, workers=workers)
    masks = None if count else content.files[0].masks
    return _Lock(record, carries, masks, files)


def _take_out(hashed: Hashed, progress: Progress, workers: Workers) -> tuple[Hashed, Extraction]:
    """Return the stream with the lock in it, below signatures, and the lock that was taken out."""
    with _not_locked():
        for layer in layers(hashed.stream, vouched=True, progress=progress, workers=workers):
            if layer.extraction.header.kind != RecordKind.SIGNATURE:
                break
            hashed = Hashed(layer.below, layer.digests_below(hashed.digests))
    _check_kind(layer.kind)
    return hashed, layer.extraction


def _check_place(record: LockRecord, first: LockRecord, position: int, count: int) -> None:
    """Check what a lock says of its place among so many files; 0 for a stream of its own.

    Raises:
        VerificationError: It is not what the place is.
    """
    shard = record.shard
    if not count:
        if shard is not None:
            raise VerificationError(
                "the stream is one of a locked set", hint="give the whole folder"
            )
        return
    if shard is None or first.shard is None:
        raise VerificationError("the stream is not one of a locked set")
    if shard.count != count:
        raise VerificationError(f"it is one of {shard.count} files, and there are {count}")
    same = shard.set_id == first.shard.set_id and record.tier == first.tier
    if not same or record.envelope.key_id != first.envelope.key_id:
        raise VerificationError("it is of another locked set than the first")
    if shard.position != position:
        raise VerificationError("it is in the place of another file of its set")


def lock_id(trial: Model) -> str:
    """Return the identifier of the content key of a trial's outermost lock, in hexadecimal.

    Raises:
        NoRecordError: The stream is not locked; of a set, the first one.
    """
    return _peek_lock(next(iter(streams_of(trial).values()))).envelope.key_id.hex()


def check_lock(trial: Model, lock: str) -> None:
    """Refuse a set of which some files are of a lock, and others are not; the first of these.

    Nothing is verified, and of a large set only the first files are looked at.

    Raises:
        VerificationError: There is one.
    """
    files = dict(itertools.islice(streams_of(trial).items(), _LOOKED_AT))
    ids = dict.fromkeys(files, "")
    for name, stream in files.items():
        with contextlib.suppress(NoRecordError):
            ids[name] = _peek_lock(stream).envelope.key_id.hex()
    if lock in ids.values():
        for name, found in ids.items():
            with naming(name):
                if found != lock:
                    raise VerificationError("it is of another lock than the license")


def check_places(trial: Model) -> None:
    """Refuse a set of which a file is missing, swapped, or of another set, by its name.

    A stream by itself is refused if it is a file of a set. Nothing is verified, and of a large set
    only the first files are looked at: what passes may still be changed.

    Raises:
        VerificationError: There is one.
        NoRecordError: A stream is not locked.
    """
    if isinstance(trial, Stream):
        record = _peek_lock(trial)
        _check_place(record, record, 0, 0)
        return
    records = {}
    for name, stream in itertools.islice(trial.streams.items(), _LOOKED_AT):
        with naming(name):
            records[name] = _peek_lock(stream)
    for position, (name, record) in enumerate(records.items()):
        with naming(name):
            _check_place(record, next(iter(records.values())), position, len(trial.streams))


def _peek_lock(stream: Stream) -> LockRecord:
    """Return what the outermost lock says of itself, even under a signature; nothing is verified.

    Raises:
        NoRecordError: There is no lock.
        VerificationError: It is malformed.
    """
    with _not_locked():
        for layer in itertools.islice(layers(stream), 2):
            if layer.kind != RecordKind.SIGNATURE:
                break
        _check_kind(layer.kind)
        return LockRecord.peek(layer.peek(PEEK_SIZE))


@contextlib.contextmanager
def _not_locked() -> Iterator[None]:
    try:
        yield
    except NoRecordError as error:
        error.args = ("the stream is not locked: it holds no record of a lock",)
        error.hint = _HINT
        raise


def _check_kind(kind: int) -> None:
    if kind != RecordKind.LOCK:
        raise NoRecordError(
            f"the stream is not locked: the outermost record is a {kind_name(kind)}",
            hint=_HINT,
        )
