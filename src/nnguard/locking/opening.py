"""Opening locks with a content key.

Nothing of a lock is acted on before its record has been authenticated, and nothing is returned that
has not the digest that the record names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nnguard.crypto.content import ContentKey
from nnguard.errors import (
    NoRecordError,
    UnlockError,
    VerificationError,
    WrongKeyError,
)
from nnguard.hiding import Extraction, RecordKind, extract, kind_name, peek
from nnguard.hiding.frame import FrameHeader
from nnguard.locking.hashed import Files, Hashed
from nnguard.locking.record import PEEK_SIZE, LockRecord
from nnguard.locking.restoring import restore
from nnguard.locking.tiers import MAX_TIERS
from nnguard.models.index import is_plain_name
from nnguard.shards import naming
from nnguard.stream import Stream

__all__ = ["Opened", "extract_lock", "lock_of", "open_files", "open_locks", "peek_lock"]

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
    digests: Sequence[bytes]
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
    files, tiers = open_files({"": Hashed(stream, digests)}, key, outermost=outermost)
    return Opened(files[""].stream, files[""].digests, tiers)


def open_files(
    trial: Files,
    key: ContentKey,
    *,
    outermost: Extraction | None = None,
    spool: str | os.PathLike[str] | None = None,
) -> tuple[dict[str, Hashed], tuple[str, ...]]:
    """Do what `open_locks` does with a stream, or with all of a set, one after the other.

    Args:
        trial: The streams, by name.
        key: See `open_locks`.
        outermost: See `open_locks`; of a single stream.
        spool: Folder for temporary files that hold what was opened; in memory, if None.

    Returns:
        What was locked, by name, and the tiers.
    """
    keys = {key.below(steps).id: key.below(steps) for steps in range(MAX_TIERS)}
    tiers: list[str] = []
    while True:
        found: dict[str, Hashed] = {}
        first: LockRecord | None = None
        for position, (name, hashed) in enumerate(sorted(trial.items())):
            with naming(name):
                locked, extraction = _take_out(hashed, outermost)
                record = lock_of(extraction)
                mine = keys.get(record.envelope.key_id)
                if mine is None:
                    raise WrongKeyError(
                        f"locked with content key {record.envelope.key_id.hex()}, "
                        f"not {key.id.hex()}",
                        hint="the key is of another release, or of a lower tier",
                    )
                first = first or record
                content = record.open(mine, bytes(extraction.header))
                _check_place(record, first, position, 0 if name == "" else len(trial))
                for own, file in restore(
                    locked, extraction, content, mine, record.envelope.nonce
                ).items():
                    _add(found, own or name, file if spool is None else _spooled(file, spool))
        if "" in trial and [*found] != [""]:
            raise UnlockError("the lock opens a set of streams, not one in the place of the trial")
        assert first is not None
        tiers.append(first.tier)
        if mine == key:
            return found, tuple(tiers)
        trial, outermost = found, None


def _take_out(hashed: Hashed, outermost: Extraction | None) -> tuple[Hashed, Extraction]:
    """Return the stream with the lock in it, below signatures, and what was taken out of it."""
    extraction = outermost or extract_lock(hashed.stream)
    while extraction.header.kind == RecordKind.SIGNATURE:
        digests = extraction.digests_of_original(hashed.digests)
        hashed = Hashed(extraction.original, digests)
        extraction = extract_lock(hashed.stream)
    return hashed, extraction


def _check_place(record: LockRecord, first: LockRecord, position: int, count: int) -> None:
    """Check what a lock says of its place among so many files; 0 for a stream of its own.

    Raises:
        VerificationError: It is not what the place is.
    """
    shard = record.shard
    if not count or shard is None:
        if count or shard is not None:
            what = "is not one of a locked set" if count else "is one of a locked set"
            raise VerificationError(f"the stream {what}")
        return
    if shard.count != count:
        raise VerificationError(f"it is one of {shard.count} files, and there are {count}")
    assert first.shard is not None
    same = shard.set_id == first.shard.set_id and record.tier == first.tier
    if not same or record.envelope.key_id != first.envelope.key_id:
        raise VerificationError("it is of another locked set than the first")
    if shard.position != position:
        raise VerificationError("it is in the place of another file of its set")


def _add(found: dict[str, Hashed], name: str, file: Hashed) -> None:
    if name in found:
        raise UnlockError(f"the locks open {name} twice")
    if name and not is_plain_name(name, ".nnc"):
        raise UnlockError("the lock opens a file whose name is not one of a set")
    found[name] = file


def _spooled(file: Hashed, folder: str | os.PathLike[str]) -> Hashed:
    return Hashed(file.stream.spooled(folder), file.digests)


def extract_lock(stream: Stream) -> Extraction:
    """Take the outermost record out of what is to be locked, by whoever is trusted.

    Raises:
        NoRecordError: There is none.
    """
    with _not_locked():
        return extract(stream, vouched=True)


def peek_lock(stream: Stream) -> LockRecord:
    """Return what the outermost lock says of itself, be it under a signature; nothing is verified.

    Raises:
        NoRecordError: There is no lock.
        VerificationError: It is malformed.
    """
    with _not_locked():
        header, head = peek(stream, PEEK_SIZE)
        if header.kind == RecordKind.SIGNATURE:
            header, head = peek(extract(stream).original, PEEK_SIZE)
        _check_kind(header)
        return LockRecord.peek(head)


@contextlib.contextmanager
def _not_locked() -> Iterator[None]:
    try:
        yield
    except NoRecordError as error:
        error.args = ("the stream is not locked: it holds no record of a lock",)
        error.hint = _HINT
        raise


def lock_of(extraction: Extraction) -> LockRecord:
    """Return the lock that was taken out.

    Raises:
        NoRecordError: The record is no lock.
        VerificationError: It is malformed.
    """
    _check_kind(extraction.header)
    return LockRecord.parse(extraction.record)


def _check_kind(header: FrameHeader) -> None:
    if header.kind != RecordKind.LOCK:
        raise NoRecordError(
            f"the stream is not locked: the outermost record is a {kind_name(header.kind)}",
            hint=_HINT,
        )
