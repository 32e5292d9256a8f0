"""Hashing the units of a stream, on all cores; and copying them on the way."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nnguard._base.files import write_at
from nnguard._base.threads import Progress
from nnguard._stream.source import Source

if TYPE_CHECKING:
    from nnguard._stream.units import Unit

__all__ = ["UnitDigests", "runs"]

_CHUNK_SIZE = 1 << 21
"""Bytes that are read at once while hashing."""


class UnitDigests:
    """SHA-256 of all units of a stream, in the making; leaving the context stops the work.

    Args:
        units: The units.
        progress: See `Stream.start_hashing`.
        copy_to: Descriptor of a file to write the very bytes to that were hashed, if there is one.
    """

    def __init__(
        self,
        units: tuple[Unit, ...],
        progress: Progress | None = None,
        copy_to: int | None = None,
    ) -> None:
        places = [0, *itertools.accumulate(unit.size for unit in units)]

        def hash_batch(batch: range) -> list[bytes]:
            def copy(data: bytes, at: int) -> None:
                if copy_to is not None:
                    write_at(copy_to, data, places[batch.start] + at)

            chosen = units[batch.start : batch.stop]
            digests = _hash_units(chosen, copy)
            if progress is not None:
                progress(sum(unit.size for unit in chosen))
            return digests

        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._batches = list(_batches(units))
        # Largest first, so that no thread starts the longest unit when all others are done.
        order = sorted(self._batches, key=lambda batch: -units[batch.start].size)
        self._futures = {batch: self._pool.submit(hash_batch, batch) for batch in order}

    def result(self) -> list[bytes]:
        """Wait, and return the digests in the order of the units."""
        return [digest for batch in self._batches for digest in self._futures[batch].result()]

    def __enter__(self) -> UnitDigests:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def runs(units: tuple[Unit, ...]) -> Iterator[tuple[Source, int, int]]:
    """Join units that lie in a row in the same source: source, offset, size of each run."""
    source, start, end = units[0].source, units[0].offset, units[0].offset
    for unit in units:
        if unit.source is not source or unit.offset != end:
            yield source, start, end - start
            source, start = unit.source, unit.offset
        end = unit.offset + unit.size
    yield source, start, end - start


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
    digest = hashlib.sha256()
    for start in range(0, unit.size, _CHUNK_SIZE):
        chunk = unit.source.read(unit.offset + start, min(_CHUNK_SIZE, unit.size - start))
        digest.update(chunk)
        deliver(chunk, start)
    return digest.digest()
