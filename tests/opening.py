"""Locks, opened with a content key: what tests ask for most."""

from __future__ import annotations

from dataclasses import dataclass

import nnguard
from nnguard._hiding import Extraction
from nnguard._locking.opening import open_files
from nnguard._records.hashed import Hashed, hash_files
from nnguard._records.lock import LockRecord
from nnguard._stream import Stream

__all__ = ["Opened", "lock_of", "open_locks"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A stream that was locked, the SHA-256 of its units, and the tiers that were opened."""

    stream: Stream
    digests: list[bytes]
    tiers: tuple[str, ...]


def open_locks(stream: Stream, key: nnguard.ContentKey) -> Opened:
    """Open all locks of a stream that a key opens."""
    opened = open_files(hash_files(stream), key)
    found: Hashed = opened.files[""]
    return Opened(found.stream, [*found.digests], opened.tiers)


def lock_of(extraction: Extraction) -> LockRecord:
    """Return the lock that was taken out of a stream."""
    return LockRecord.parse(extraction.record)
