"""Hashing the units of a stream, on all cores; copying them, and hashing the file, on the way."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nnguard._base.files import write_at
from nnguard._base.progress import Progress
from nnguard._stream.source import Source

if TYPE_CHECKING:
    from nnguard._stream.units import Unit

__all__ = ["UnitDigests", "pieces", "runs"]

_CHUNK_SIZE = 1 << 21
"""Bytes that are read at once while hashing."""

_AHEAD = 4 * _CHUNK_SIZE
"""Bytes that may wait for those in front of them while a whole file is hashed."""

_UNIT_THREADS = 2
"""Threads that hash units while another one hashes the whole: more would wait for that."""


class UnitDigests:
    """SHA-256 of all units of a stream, in the making; leaving the context stops the work.

    Args:
        units: The units.
        progress: See `Stream.start_hashing`.
        copy_to: Descriptor of a file to write the very bytes to that were hashed, if there is one.
        whole: Hash all of them in a row, too: the file. That takes one thread as long as the file
            is, so files of a set are better hashed side by side.
    """

    def __init__(
        self,
        units: tuple[Unit, ...],
        progress: Progress | None = None,
        copy_to: int | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self._whole = _InOrder(sum(unit.size for unit in units)) if whole else None
        places = [0, *itertools.accumulate(unit.size for unit in units)]

        def hash_batch(batch: range) -> list[bytes]:
            def copy(data: bytes, at: int) -> None:
                if copy_to is not None:
                    write_at(copy_to, data, places[batch.start] + at)
                if self._whole is not None:
                    self._whole.add(data, places[batch.start] + at)

            chosen = units[batch.start : batch.stop]
            digests = _hash_units(chosen, copy)
            if progress is not None:
                progress(sum(unit.size for unit in chosen))
            return digests

        self._batches = order = list(_batches(units))
        if self._whole is None:
            self._pool = ThreadPoolExecutor(os.cpu_count())
            # Largest first, so that no thread starts the longest unit when all others are done.
            order = sorted(order, key=lambda batch: -units[batch.start].size)
        else:
            self._pool = ThreadPoolExecutor(1 + _UNIT_THREADS)
            self._of_file = self._pool.submit(self._whole.hash)
        self._futures = {batch: self._pool.submit(hash_batch, batch) for batch in order}

    def result(self) -> list[bytes]:
        """Wait, and return the digests in the order of the units."""
        return [digest for batch in self._batches for digest in self._futures[batch].result()]

    def of_file(self) -> bytes:
        """Wait, and return the SHA-256 of all units in a row, where `whole` asked for it."""
        self.result()  # an error in one of them comes from here
        return self._of_file.result()

    def __enter__(self) -> UnitDigests:
        return self

    def __exit__(self, *_: object) -> None:
        if self._whole is not None:
            self._whole.stop()
        self._pool.shutdown(cancel_futures=True)


class _InOrder:
    """SHA-256 of bytes whose pieces come from several threads, some before their turn.

    Pieces have to be started in their order: one that waits for its turn takes a thread.

    Args:
        size: Bytes in all.
    """

    def __init__(self, size: int) -> None:
        self._size, self._done = size, 0
        self._early: dict[int, bytes] = {}
        self._stopped = False
        self._news = threading.Condition()

    def add(self, data: bytes, at: int) -> None:
        """Take a piece, or wait while it is too far ahead."""
        with self._news:
            self._news.wait_for(lambda: self._stopped or at <= self._done + _AHEAD)
            self._early[at] = data
            self._news.notify_all()

    def hash(self) -> bytes:
        """Hash pieces as they come; return the digest after the last, or when stopped."""
        digest = hashlib.sha256()
        while self._done < self._size and (data := self._take()):
            digest.update(data)
            with self._news:
                self._done += len(data)
                self._news.notify_all()
        return digest.digest()

    def stop(self) -> None:
        """Let nobody wait any longer."""
        with self._news:
            self._stopped = True
            self._news.notify_all()

    def _take(self) -> bytes:
        """Return the piece whose turn it is; nothing when stopped."""
        with self._news:
            self._news.wait_for(lambda: self._stopped or self._done in self._early)
            return self._early.pop(self._done, b"")


def runs(units: tuple[Unit, ...]) -> Iterator[tuple[Source, int, int]]:
    """Join units that lie in a row in the same source: source, offset, size of each run."""
    source, start, end = units[0].source, units[0].offset, units[0].offset
    for unit in units:
        if unit.source is not source or unit.offset != end:
            yield source, start, end - start
            source, start = unit.source, unit.offset
        end = unit.offset + unit.size
    yield source, start, end - start


def pieces(units: tuple[Unit, ...]) -> Iterator[bytes]:
    """Yield the bytes of units in a row, a chunk at a time at the most."""
    for source, start, size in runs(units):
        for at in range(start, start + size, _CHUNK_SIZE):
            yield source.read(at, min(_CHUNK_SIZE, start + size - at))


def _batches(units: tuple[Unit, ...]) -> Iterator[range]:
    """Split units into ranges of no more than a chunk, or of one unit that is larger."""
    start = size = 0
    for index, unit in enumerate(units):
        if size and size + unit.size > _CHUNK_SIZE:
            yield range(start, index)
            start, size = index, 0
        size += unit.size
    yield range(start, len(units))


def _hash_units(units: tuple[Unit, ...], deliver: Callable[[bytes, int], object]) -> list[bytes]:
    """Return the SHA-256 of each unit of a batch.

    Args:
        units: The batch.
        deliver: Takes what was hashed, and where in the batch it begins.
    """
    if len(units) == 1:
        return [_hash_in_chunks(units[0], deliver)]
    joined = b"".join(source.read(at, size) for source, at, size in runs(units))
    deliver(joined, 0)
    data = memoryview(joined)
    digests = []
    for unit in units:
        digests.append(hashlib.sha256(data[: unit.size]).digest())
        data = data[unit.size :]
    return digests


def _hash_in_chunks(unit: Unit, deliver: Callable[[bytes, int], object]) -> bytes:
    digest, done = hashlib.sha256(), 0
    for chunk in pieces((unit,)):
        digest.update(chunk)
        deliver(chunk, done)
        done += len(chunk)
    return digest.digest()
