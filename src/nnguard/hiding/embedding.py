"""Records into streams and out again.

Law: `extract(embed(stream, record))` returns the record and a stream of the same bytes. A record is
embedded in a stream and yields a stream, so records nest; the last one in is the first one out.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nnguard.errors import (
    CapacityError,
    FormatError,
    LimitError,
    NnguardError,
    NoRecordError,
    VerificationError,
)
from nnguard.hiding import carriers as carrying
from nnguard.hiding.carriers import (
    can_carry,
    candidates,
    cost_of,
    primary_candidates,
    weights_in,
)
from nnguard.hiding.frame import MAX_BITS, FrameHeader, frame_record, unframe_record
from nnguard.hiding.hqim import Numbers
from nnguard.hiding.marking import NO_ROOM, Room, find_header, mark, numbers_in, room_in, unmark
from nnguard.hiding.packing import Joiner
from nnguard.stream import Stream
from nnguard.stream.threads import in_order

__all__ = [
    "Extraction",
    "Plan",
    "carriers_cost",
    "embed",
    "extract",
    "lies_as_planned",
    "max_cost",
    "peek",
    "plan_record",
    "room_of",
]

MAX_COST = carrying.MAX_WEIGHTS
"""Of all carriers of a record, at most; a reader decodes and encodes them."""

_LEFT = 2
"""How often the step of a dense plan's primary carrier can still be halved: a signature follows."""

_USUAL_WIDTH = 4
"""A carrier whose weights hold more bits than this costs more."""

_CHECKSUM_SIZE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Where a record of a given size goes; made by `plan_record`.

    Attributes:
        stream: The stream that the record goes into.
        header: The frame's header. Records authenticate its bytes.
    """

    stream: Stream
    header: FrameHeader
    _places: tuple[int, ...]

    @property
    def bits(self) -> int:
        """All bits that the carriers hold, the unused ones at the end included."""
        return sum(map(operator.mul, self.header.widths, self._places))

    @property
    def weights(self) -> int:
        """Weights of all tensors that hold bits; every reader decodes them."""
        return sum(weights_in(self.stream, carrier) for carrier in self.header.carriers)

    def embed(self, record: bytes) -> Stream:
        """Return the stream with the record in it.

        Args:
            record: `header.record_size` bytes.
        """
        data, header = frame_record(self.header, record), self.header
        bits = map(operator.mul, header.widths, self._places)

        def marked(carrier: int, width: int, begin: int) -> bytes:
            return mark(self.stream[carrier], data, begin, width)

        begins = itertools.accumulate(bits, initial=0)
        units = in_order(marked, header.carriers, header.widths, begins)
        marked_stream = self.stream.replace(dict(zip(header.carriers, units, strict=True)))
        try:
            taken = extract(marked_stream, vouched=True)
            if (taken.header, taken.record) == (header, record) and all(
                taken.restore(carrier) == self.stream[carrier].read() for carrier in header.carriers
            ):
                return marked_stream
        except NnguardError:
            pass
        raise FormatError("this stream misleads the search for a record; it cannot carry one")


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
        return dict(zip(carriers, in_order(self.restore, carriers), strict=True))

    def restore(self, carrier: int) -> bytes:
        """Encode the original of one carrier, and no other."""
        width = self.header.widths[self.header.carriers.index(carrier)]
        return unmark(self._stream[carrier], width)

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


def plan_record(stream: Stream, kind: int, size: int, *, dense: bool = False) -> Plan:
    """Choose where a record goes.

    The primary carrier is the first in order that has room for the header. What it does not hold
    goes into others, so that few weights more than needed are coded anew. A weight holds as few
    bits as it takes.

    Args:
        stream: The stream.
        kind: A `RecordKind`.
        size: Bytes of the record.
        dense: Put many bits into each of few weights, which is faster for large records; and let
            carriers cost more than `max_cost`. Readers then have to know whose the stream is.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: The stream holds too many records, or the record is too large.
    """
    planner = _Planner(stream, dense=dense)
    below = _outermost(stream)
    header = FrameHeader(kind, 1 if below is None else 1 + below.layer, size, ())
    bytes(replace(header, carriers=(0,), bits_per_weight=1))  # within its limits?
    failures: list[CapacityError] = []

    def plans(widths: Iterable[int]) -> Iterator[Plan]:
        for width in widths:
            try:
                plan = planner.plan(header, width, below)
            except CapacityError as error:
                failures.append(error)
            else:
                if plan is not None:
                    yield plan

    if dense:  # a small file, but not for many times the weights to decode
        best = min(plans(range(MAX_BITS, 0, -1)), key=_price, default=None)
    else:
        best = next(plans(range(1, MAX_BITS + 1)), None)
    if best is not None:
        return best
    raise max(failures, key=lambda failure: failure.available, default=None) or CapacityError(
        "no tensor that could be the primary carrier has room for the list of carriers",
        needed=_bits_of(header),
        available=0,
        hint="carriers have 256 weights or more and are not coded in blocks (scan_order)",
    )


def embed(stream: Stream, record: bytes, *, kind: int) -> Stream:
    """Hide a record in a stream; see `plan_record` for errors."""
    return plan_record(stream, kind, len(record)).embed(record)


def extract(
    stream: Stream,
    *,
    vouched: bool = False,
    progress: Callable[[int], object] = lambda _: None,
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
    header, cost = _locate(stream)
    cost += _check_carriers(stream, header, vouched=vouched)
    joiner = Joiner(_bits_of(header) // 8)

    def numbers(carrier: int, width: int) -> list[Numbers]:
        return list(numbers_in(stream[carrier], width))

    with _damaged_later():
        found = in_order(numbers, header.carriers, header.widths)
        for carrier, each, width in zip(header.carriers, found, header.widths, strict=True):
            for part in each:
                joiner.add(part, width)
            progress(stream[carrier].size)
    record = unframe_record(header, joiner.data)
    if record is None or not joiner.clear:
        raise VerificationError("the hidden record was changed: its checksum does not fit")
    return Extraction(header, record, cost, stream)


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
    header, _ = _locate(stream)
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


def lies_as_planned(extraction: Extraction) -> bool:
    """Tell whether a record has the layer and the carriers that `plan_record` gives it.

    For a record that nobody signed where it lies: with this there is one file for an original and a
    record.
    """
    try:
        plan = plan_record(
            extraction.original, extraction.header.kind, extraction.header.record_size
        )
    except (CapacityError, LimitError):
        return False
    return plan.header == extraction.header


def room_of(stream: Stream, index: int) -> Room:
    """Return what the unit at a position can hold; nothing, where it is no carrier."""
    try:
        return room_in(stream[index]) if can_carry(stream[index]) else NO_ROOM
    except FormatError:
        return NO_ROOM


class _Planner:
    """Plans for one stream; what was found out is kept, since several plans are tried."""

    def __init__(self, stream: Stream, *, dense: bool) -> None:
        self._stream = stream
        self._dense = dense
        self._rooms: dict[int, Room | None] = {}
        self._primaries = primary_candidates(stream)
        self._sizes = sorted((weights_in(stream, index), index) for index in candidates(stream))

    def plan(self, header: FrameHeader, most: int, below: FrameHeader | None) -> Plan | None:
        """Choose carriers for a header.

        Args:
            header: Without carriers.
            most: Bits of a weight, at most; tensors that cannot hold so many hold fewer.
            below: That of the outermost record in the stream.

        Returns:
            The plan; None where no tensor has room for the header.

        Raises:
            CapacityError: The record does not fit into all tensors together.
        """
        for primary in self._primaries:
            if (room := self._room(primary)) is not None and self._width(room, most, first=True):
                for choose in (_best, _largest):  # few weights; if these are too many to list, few
                    plan = self._add_carriers(header, most, primary, choose)
                    if plan is not None:
                        return plan
            # A reader stops at the primary carrier of the record below: it finds no later one.
            if below is not None and primary == below.carriers[0]:
                break
        return None

    def _width(self, room: Room, most: int, *, first: bool) -> int:
        """Return how many bits a weight holds; a dense plan leaves room for a signature on top."""
        width = room.width(most)
        if first and self._dense:
            return min(width, room.width() - _LEFT)
        return width

    def _add_carriers(
        self,
        header: FrameHeader,
        most: int,
        primary: int,
        choose: Callable[[Sequence[tuple[int, int]], int], int],
    ) -> Plan | None:
        """Add carriers to a header until the record fits; None where the header does not."""
        chosen: dict[int, tuple[int, int]] = {}
        others = [(size, index) for size, index in self._sizes if index != primary]
        bits = cost = in_primary = 0
        limit = max_cost(self._stream) * _USUAL_WIDTH // max(_USUAL_WIDTH, most)
        index = primary
        while True:
            room = self._room(index)
            width = 0 if room is None else self._width(room, most, first=not chosen)
            cost += cost_of(self._stream, index)
            if room is not None and width and (room.places or not chosen):
                chosen[index] = room.places, width
                bits += room.places * width
                in_primary = in_primary or bits
            places, widths = zip(*chosen.values(), strict=True)
            header = replace(header, carriers=tuple(chosen), bits_per_weight=widths)
            needed = _bits_of(header)
            if 8 * len(bytes(header)) > in_primary:
                return None
            if needed <= bits:
                return Plan(self._stream, header, places)
            if not others:
                raise _too_large(needed, bits)
            index = others.pop(choose(others, -(-(needed - bits) // most)))[1]
            if not self._dense and cost + cost_of(self._stream, index) > limit:
                raise _too_large(needed, bits)

    def _room(self, index: int) -> Room | None:
        """Return what the tensor at a position can hold; None where the decoder refuses it."""
        if index not in self._rooms:
            try:
                self._rooms[index] = room_in(self._stream[index])
            except FormatError:
                self._rooms[index] = None
        return self._rooms[index]


def _price(plan: Plan) -> int:
    return 4 * plan.bits + plan.weights


def _best(others: Sequence[tuple[int, int]], rest: int) -> int:
    """Return which tensor takes bits that are left, so that few weights are coded anew.

    The smallest that has so many, unless it is larger by more than a quarter and there are
    smaller ones: then the largest of these, and what is still left goes elsewhere.

    Args:
        others: Sizes, ascending, and positions.
        rest: How many weights it takes for what is left.
    """
    sizes = [size for size, _ in others]
    enough = bisect.bisect_left(sizes, rest)
    if enough < len(sizes) and (not enough or 4 * sizes[enough] <= 5 * rest):
        return enough
    return enough - 1


def _largest(others: Sequence[tuple[int, int]], _: int) -> int:
    return len(others) - 1


def _too_large(needed: int, room: int) -> CapacityError:
    return CapacityError(
        "the record does not fit into the stream",
        needed=needed,
        available=room,
        hint="a larger network, or one compressed at a finer step, has more room",
    )


def _locate(stream: Stream) -> tuple[FrameHeader, int]:
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


def max_cost(stream: Stream) -> int:
    """Return what decoding all carriers of a record may cost, in weights."""
    return min(MAX_COST, max(carrying.ALWAYS, carrying.COST_PER_BYTE * stream.size))


def carriers_cost(stream: Stream, widths: Mapping[int, int]) -> int:
    """Return what carriers cost, in weights; many bits in a weight take more memory.

    Args:
        stream: The stream.
        widths: Positions of carriers to how many bits a weight holds; those with none cost nothing.
    """
    parts = sum(
        cost_of(stream, carrier) * max(width, _USUAL_WIDTH)
        for carrier, width in widths.items()
        if width
    )
    return -(-parts // _USUAL_WIDTH)


def _bits_of(header: FrameHeader) -> int:
    """Return how many bits header, record and checksum have."""
    return 8 * (len(bytes(header)) + header.record_size + _CHECKSUM_SIZE)


def _outermost(stream: Stream) -> FrameHeader | None:
    """Return the header of the outermost record, if there is one."""
    try:
        return _locate(stream)[0]
    except (FormatError, NoRecordError):
        return None
