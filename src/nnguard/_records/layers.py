"""The layers of a stream: every record lies in a stream, which may hold another record below it.

    for layer in layers(stream):
        print(kind_name(layer.kind), layer.header.record_size)

The walk is lazy: a layer is taken out when somebody asks what is in it, or below it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from nnguard._base.progress import Progress
from nnguard._base.workers import HERE, Workers
from nnguard._hiding import Extraction, Found, FrameHeader, extract, locate, peek
from nnguard._records.kinds import RecordKind
from nnguard._stream import Stream
from nnguard._stream.headers import LEAST_COST
from nnguard.errors import FormatError, NoRecordError

__all__ = ["Layer", "layers"]

_MOST = 255
"""Layers of a stream, at most (SPEC 8)."""


class Layer:
    """A record, and the stream below it.

    Every attribute raises `NoRecordError` where there is no record, and the errors of
    `nnguard._hiding.extract` where there is one that does not come out.

    Args:
        stream: The stream with the record in it.
        vouched: See `nnguard._hiding.extract`.
        progress: See `nnguard._hiding.extract`.
        workers: See `nnguard._hiding.extract`.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        vouched: bool = False,
        progress: Progress = lambda _: None,
        workers: Workers = HERE,
    ) -> None:
        self.stream = stream
        self._extract = functools.partial(
            extract, vouched=vouched, progress=progress, workers=workers
        )

    @functools.cached_property
    def _found(self) -> Found:
        return locate(self.stream)

    @property
    def header(self) -> FrameHeader:
        """The frame's header, which only one tensor is decoded for."""
        return self._found.header

    @property
    def kind(self) -> int:
        """What the record is: a `RecordKind`, or the number of an unknown one."""
        return self.header.kind

    def peek(self, size: int) -> bytes:
        """Return the first bytes of the record, `size` at most; nothing is checked."""
        return peek(self.stream, size, self._found)[1]

    @functools.cached_property
    def extraction(self) -> Extraction:
        """The record and its carriers, taken out of the stream and checked against it."""
        return self._extract(self.stream, self._found)

    @property
    def cost(self) -> int:
        """What taking the record out took, in weights; a carrier counts as some at the least."""
        return self.extraction.cost + LEAST_COST * len(self.header.carriers)

    @property
    def record(self) -> bytes:
        """The record's bytes."""
        return self.extraction.record

    @property
    def below(self) -> Stream:
        """The stream as it was before the record went in."""
        return self.extraction.original

    def digests_below(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return the SHA-256 of every unit of `below`, given those of `stream`."""
        return self.extraction.digests_of_original(digests)


def layers(
    stream: Stream,
    *,
    vouched: bool = False,
    progress: Progress = lambda _: None,
    workers: Workers = HERE,
) -> Iterator[Layer]:
    """Walk down the layers of a stream, the outermost first.

    The first layer comes even where the stream holds no record: asking it for anything raises
    `NoRecordError`. What lies under a lock only a content key restores, so a lock is the last. A
    layer whose number says that it is the last is believed only where no header is found below:
    otherwise, whoever signs what others prepared could sign a lock unseen.

    Args:
        stream: The stream.
        vouched: See `nnguard._hiding.extract`.
        progress: See `nnguard._hiding.extract`.
        workers: See `nnguard._hiding.extract`.
    """
    for _ in range(_MOST):
        layer = Layer(stream, vouched=vouched, progress=progress, workers=workers)
        yield layer
        if layer.kind == RecordKind.LOCK:
            return
        if layer.header.layer <= 1 and not _has_header(layer.below):
            return
        stream = layer.below


def _has_header(stream: Stream) -> bool:
    """Tell whether there is one more record, whatever the number of the layer above says."""
    try:
        locate(stream)
    except (FormatError, NoRecordError):
        return False
    return True
