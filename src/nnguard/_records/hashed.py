"""Streams with their hashes: what is locked, or a trial, by the names of files.

A model in one stream has one file, whose name is empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnguard._base.progress import Progress
from nnguard._base.workers import in_order
from nnguard._models.stream_set import Model, streams_of
from nnguard._records.digest import model_digest, set_digest
from nnguard._stream import Stream

__all__ = ["Files", "Hashed", "digest_of", "hash_files"]


@dataclass(frozen=True, slots=True, eq=False)
class Hashed:
    """A stream, and the SHA-256 of its units.

    Attributes:
        whole: SHA-256 of the file, where that was asked for.
    """

    stream: Stream
    digests: Sequence[bytes]
    whole: bytes = b""

    @property
    def digest(self) -> bytes:
        """The model digest."""
        return model_digest(self.digests)

    def spooled(self, folder: str | os.PathLike[str]) -> Hashed:
        """Return the same with the stream in a temporary file."""
        return Hashed(self.stream.spooled(folder), self.digests)


Files = Mapping[str, Hashed]


def hash_files(
    model: Model, progress: Progress | None = None, *, whole: bool = False
) -> dict[str, Hashed]:
    """Hash a stream, or all of a set.

    Args:
        model: What to hash.
        progress: Called with the number of bytes hashed since the last call.
        whole: Hash the files, too, in the same pass, and several side by side.
    """

    def hash_stream(stream: Stream) -> Hashed:
        with stream.start_hashing(progress, whole=whole) as hashing:
            digests = hashing.result()
            return Hashed(stream, digests, hashing.of_file() if whole else b"")

    streams = streams_of(model)
    each = in_order if whole else map
    return dict(zip(streams, each(hash_stream, [*streams.values()]), strict=True))


def digest_of(files: Files) -> bytes:
    """Return the model digest of a stream, or the set digest of a set."""
    if "" in files:
        return files[""].digest
    return set_digest({name: file.digest for name, file in files.items()})
