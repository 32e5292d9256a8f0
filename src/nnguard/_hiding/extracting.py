"""Records out of streams.

A record is embedded in a stream and yields a stream, so records nest; the last one in is the first
one out. Everything here may come from an attacker: what decoding costs is checked beforehand.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnguard._base.progress import Progress
from nnguard._base.workers import HERE, Workers
from nnguard._hiding.carriers import (
    can_carry,
    carriers_cost,
    cost_of,
    max_cost,
    primary_candidates,
    weights_in,
)
from nnguard._hiding.frame import FrameHeader, frame_size, unframe_record
from nnguard._hiding.packing import Joiner
from nnguard._hiding.tensor import Carrier
from nnguard._stream import Stream
from nnguard.errors import FormatError, LimitError, NoRecordError, VerificationError

__all__ = ["Extraction", "Found", "extract", "locate", "peek"]


_FEW = 1 << 14
"""Weights that are decoded before another thread would have started, and kept: 64 KiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where the outermost record of a stream is.

    Attributes:
        header: The frame's header.
        cost: What was decoded to find it, in weights.
        primary: The tensor that it is in.
    """

    header: FrameHeader
    cost: int
    primary: Carrier


@dataclass(frozen=True, eq=False)
class Extraction:
    """A record taken out of a stream.

    Attributes:
        header: The frame's header.
        record: The record's bytes.
        cost: What was decoded, in weights, the search for the header included.
    """

    header: FrameHeader
    record: bytes
    cost: int
    _stream: Stream
    _carriers: Sequence[Carrier]
    _workers: Workers = HERE

    @functools.cached_property
    def restored(self) -> dict[int, bytes]:
        """Position and original bytes of each carrier; they are encoded when first asked for."""
        return dict(zip(self.header.carriers, self.originals(), strict=True))

    def originals(self) -> Iterator[bytes]:
        """Encode the original of each carrier, in the order of the header."""
        mapping = _mapping(self._stream, self.header.carriers, self._workers)
        return mapping(Carrier.restore, self._carriers, self.header.widths)

    def restore(self, carrier: int) -> bytes:
        """Encode the original of one carrier, and no other."""
        width, tensor = self._tensors[carrier]
        return tensor.restore(width)

    @functools.cached_property
    def _tensors(self) -> dict[int, tuple[int, Carrier]]:
        tensors = zip(self.header.widths, self._carriers, strict=True)
        return dict(zip(self.header.carriers, tensors, strict=True))

    @functools.cached_property
    def original(self) -> Stream:
        """The stream as it was before the record went in."""
        return self._stream.replace(self.restored)

    def digests_of_original(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return the SHA-256 of every unit of the original.

        Args:
            digests: Those of the stream with the record in it.
        """
        result = list(digests)
        for index, unit in self.restored.items():
            result[index] = hashlib.sha256(unit).digest()
        return result


def extract(
    stream: Stream,
    found: Found | None = None,
    *,
    vouched: bool = False,
    progress: Progress = lambda _: None,
    workers: Workers = HERE,
) -> Extraction:
    """Take the outermost record out of a stream.

    The stream is what `Plan.embed` makes of the result, byte for byte in every carrier; a stream
    for which that is not so is refused.

    Args:
        stream: The stream.
        found: Where the record is, if that was looked for.
        vouched: Somebody who is trusted made it, so that it may cost more than `max_cost`.
        progress: Called with the bytes of each carrier, once the bits are out.
        workers: Who decodes the carriers, and encodes the originals.

    Raises:
        NoRecordError: There is no record.
        FormatError: There is none, and where one would be, the tensor is damaged or foreign.
        VerificationError: The record was changed.
        LimitError: It lies in too many weights for a stream of this size.
    """
    found = found or locate(stream)
    header = found.header
    cost = found.cost + _check_carriers(stream, header, vouched=vouched)
    carriers = _carriers(stream, found)
    joiner = Joiner(frame_size(header))
    with _damaged_later():
        mapping = _mapping(stream, header.carriers, workers)
        held = mapping(Carrier.all_numbers, carriers, header.widths)
        for carrier, each, width in zip(carriers, held, header.widths, strict=True):
            for part in each:
                joiner.add(part, width)
            progress(carrier.unit.size)
    record = unframe_record(header, joiner.data)
    if record is None or not joiner.clear:
        raise VerificationError("the hidden record was changed: its checksum does not fit")
    return Extraction(header, record, cost, stream, carriers, workers)


def _carriers(stream: Stream, found: Found) -> list[Carrier]:
    """Return all carriers of a record, which are decoded once if they are small."""
    keep = _are_few(stream, found.header.carriers)
    others = (Carrier(stream[each], keep=keep) for each in found.header.carriers[1:])
    return [found.primary, *others]


def _mapping(
    stream: Stream, carriers: Sequence[int], workers: Workers
) -> Callable[..., Iterator[Any]]:
    """Return what calls a function for each carrier: workers, unless these are small."""
    return map if _are_few(stream, carriers) else workers.in_order


def _are_few(stream: Stream, carriers: Sequence[int]) -> bool:
    """Tell whether tensors are small, all of them together."""
    return sum(weights_in(stream, carrier) for carrier in carriers) <= _FEW


def peek(stream: Stream, size: int, found: Found | None = None) -> tuple[FrameHeader, bytes]:
    """Return the outermost header and the first bytes of its record; nothing is checked.

    Args:
        stream: The stream.
        size: Bytes of the record, at most.
        found: Where the record is, if that was looked for.

    Raises:
        NoRecordError: There is no record.
        FormatError: See `extract`.
        VerificationError: The record was changed.
    """
    found = found or locate(stream)
    header = found.header
    _check_carriers(stream, header, vouched=True)
    start = len(bytes(header))
    joiner = Joiner(start + min(size, header.record_size))
    cost, most = 0, max_cost(stream)
    with _damaged_later():
        tensors = _carriers(stream, found)
        for carrier, tensor, width in zip(header.carriers, tensors, header.widths, strict=True):
            if cost > most:  # with next to nothing in it
                break
            cost += cost_of(stream, carrier)
            for numbers in tensor.numbers(width):
                joiner.add(numbers, width)
                if joiner.is_full:
                    return header, bytes(joiner.data[start:])
    raise VerificationError("the hidden record was changed: it ends too early")


def locate(stream: Stream) -> Found:
    """Find the header of the outermost record.

    Raises:
        NoRecordError: There is no record.
        FormatError: See `extract`.
    """
    damage: FormatError | None = None
    cost = 0
    for number, index in enumerate(primary_candidates(stream)):
        cost += cost_of(stream, index)
        primary = Carrier(stream[index], keep=_are_few(stream, [index]))
        try:
            header = primary.find_header()
        except FormatError as error:
            if number == 0:
                damage = error
            continue
        if header is not None and header.carriers[0] == index:
            return Found(header, cost, primary)
    if damage is not None:
        damage.hint = "no record was found; it would lie in this tensor"
        raise damage
    raise NoRecordError("the stream holds no record")


def _check_carriers(stream: Stream, header: FrameHeader, *, vouched: bool) -> int:
    """Refuse a header that lists what cannot be, before anything is done about it.

    Returns:
        What decoding its carriers costs, in weights.
    """
    most = max_cost(stream)
    for carrier in header.carriers:
        if carrier >= len(stream) or not can_carry(stream[carrier]):
            raise VerificationError("the header of the hidden record does not fit the stream")
    cost = carriers_cost(stream, dict(zip(header.carriers, header.widths, strict=True)))
    if cost > most and not vouched:
        raise LimitError(
            f"the record lies in tensors that cost as much as {cost} weights; limit {most} "
            f"for a stream of {stream.size} bytes"
        )
    return cost


@contextlib.contextmanager
def _damaged_later() -> Iterator[None]:
    """Say of a damaged tensor that the record was there first."""
    try:
        yield
    except FormatError as error:
        error.hint = "the stream holds a record, so it was damaged after that"
        raise
