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

from nnguard._base.threads import Progress, in_order
from nnguard._hiding.carriers import (
    can_carry,
    carriers_cost,
    cost_of,
    max_cost,
    primary_candidates,
    weights_in,
)
from nnguard._hiding.frame import FrameHeader, frame_size, unframe_record
from nnguard._hiding.hqim import Numbers
from nnguard._hiding.packing import Joiner
from nnguard._hiding.tensor import find_header, numbers_in, restore_unit
from nnguard._stream import Stream
from nnguard.errors import FormatError, LimitError, NoRecordError, VerificationError

__all__ = ["Extraction", "extract", "locate", "peek"]


_FEW = 1 << 14
"""Weights that are decoded before another thread would have started."""


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

    @functools.cached_property
    def restored(self) -> dict[int, bytes]:
        """Position and original bytes of each carrier; they are encoded when first asked for."""
        carriers = self.header.carriers
        units = _mapping(self._stream, carriers)(self.restore, carriers)
        return dict(zip(carriers, units, strict=True))

    def restore(self, carrier: int) -> bytes:
        """Encode the original of one carrier, and no other."""
        return restore_unit(self._stream[carrier], self._widths[carrier])

    @functools.cached_property
    def _widths(self) -> dict[int, int]:
        return dict(zip(self.header.carriers, self.header.widths, strict=True))

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
    *,
    vouched: bool = False,
    progress: Progress = lambda _: None,
) -> Extraction:
    """Take the outermost record out of a stream.

    The stream is what `Plan.embed` makes of the result, byte for byte in every carrier; a stream
    for which that is not so is refused.

    Args:
        stream: The stream.
        vouched: Somebody who is trusted made it, so that it may cost more than `max_cost`.
        progress: Called with the bytes of each carrier, once the bits are out.

    Raises:
        NoRecordError: There is no record.
        FormatError: There is none, and where one would be, the tensor is damaged or foreign.
        VerificationError: The record was changed.
        LimitError: It lies in too many weights for a stream of this size.
    """
    header, cost = locate(stream)
    cost += _check_carriers(stream, header, vouched=vouched)
    joiner = Joiner(frame_size(header))

    def numbers(carrier: int, width: int) -> list[Numbers]:
        return list(numbers_in(stream[carrier], width))

    with _damaged_later():
        found = _mapping(stream, header.carriers)(numbers, header.carriers, header.widths)
        for carrier, each, width in zip(header.carriers, found, header.widths, strict=True):
            for part in each:
                joiner.add(part, width)
            progress(stream[carrier].size)
    record = unframe_record(header, joiner.data)
    if record is None or not joiner.clear:
        raise VerificationError("the hidden record was changed: its checksum does not fit")
    return Extraction(header, record, cost, stream)


def _mapping(stream: Stream, carriers: Sequence[int]) -> Callable[..., Iterator[Any]]:
    """Return what calls a function for each carrier: in threads, unless these are small."""
    weights = sum(weights_in(stream, carrier) for carrier in carriers)
    return map if weights <= _FEW else in_order


def peek(stream: Stream, size: int) -> tuple[FrameHeader, bytes]:
    """Return the outermost header and the first bytes of its record; nothing is checked.

    Args:
        stream: The stream.
        size: Bytes of the record, at most.

    Raises:
        NoRecordError: There is no record.
        FormatError: See `extract`.
        VerificationError: The record was changed.
    """
    header, _ = locate(stream)
    _check_carriers(stream, header, vouched=True)
    start = len(bytes(header))
    joiner = Joiner(start + min(size, header.record_size))
    cost, most = 0, max_cost(stream)
    with _damaged_later():
        for carrier, width in zip(header.carriers, header.widths, strict=True):
            if cost > most:  # with next to nothing in it
                break
            cost += cost_of(stream, carrier)
            for numbers in numbers_in(stream[carrier], width):
                joiner.add(numbers, width)
                if joiner.is_full:
                    return header, bytes(joiner.data[start:])
    raise VerificationError("the hidden record was changed: it ends too early")


def locate(stream: Stream) -> tuple[FrameHeader, int]:
    """Find the header of the outermost record, and tell what that cost, in weights."""
    damage: FormatError | None = None
    cost = 0
    for number, index in enumerate(primary_candidates(stream)):
        cost += cost_of(stream, index)
        try:
            header = find_header(stream[index])
        except FormatError as error:
            if number == 0:
                damage = error
            continue
        if header is not None and header.carriers[0] == index:
            return header, cost
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
