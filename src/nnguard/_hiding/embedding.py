"""Records into streams.

Law: `extract(embed(stream, record))` returns the record and a stream of the same bytes.
"""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nnguard._base.progress import Progress
from nnguard._base.workers import HERE, Workers
from nnguard._hiding.carriers import (
    USUAL_WIDTH,
    can_carry,
    candidates,
    cost_of,
    max_cost,
    primary_candidates,
    weights_in,
)
from nnguard._hiding.extracting import Extraction, extract, locate
from nnguard._hiding.frame import (
    MAX_BITS,
    MAX_HEADER_SIZE,
    FrameHeader,
    frame_record,
    frame_size,
    size_in_list,
)
from nnguard._hiding.tensor import NO_ROOM, Room, embed_bits, room_in, suit
from nnguard._stream import Stream, Unit
from nnguard.errors import (
    CapacityError,
    FormatError,
    LimitError,
    NnguardError,
    NoRecordError,
    WorkerError,
)

__all__ = ["Plan", "embed", "lies_as_planned", "plan_record", "room_of"]

_LEFT = 2
"""How often the step of a dense plan's primary carrier can still be halved: a signature follows."""


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
        return self._begins[-1]

    @property
    def _begins(self) -> list[int]:
        """Where the bits of each carrier begin, and where those of the last one end."""
        bits = map(operator.mul, self.header.widths, self._places)
        return [*itertools.accumulate(bits, initial=0)]

    @property
    def weights(self) -> int:
        """Weights of all tensors that hold bits; every reader decodes them."""
        return sum(weights_in(self.stream, carrier) for carrier in self.header.carriers)

    def suited(
        self,
        kept: Container[int] = (),
        *,
        workers: Workers = HERE,
        progress: Progress = lambda _: None,
    ) -> Plan:
        """Return the plan for a stream of the same weights, which as a rule grows by less.

        For a stream whose weights count, not its bytes: start states of the carriers are chosen for
        what they will hold.

        Args:
            kept: Positions of units that stay as they are.
            workers: Who decodes and encodes the carriers.
            progress: Called with the bytes of each carrier.
        """
        needed = 8 * frame_size(self.header)
        held = [min(end, needed) - begin for begin, end in itertools.pairwise(self._begins)]
        rows = zip(self.header.carriers, self.header.widths, held, strict=True)
        jobs = [row for row in rows if row[0] not in kept]
        carriers = [self.stream[carrier] for carrier, _, _ in jobs]
        widths, shares = [width for _, width, _ in jobs], [bits for _, _, bits in jobs]
        units = {}
        for (carrier, _, _), unit in zip(
            jobs, workers.in_order(suit, carriers, widths, shares), strict=True
        ):
            units[carrier] = unit
            progress(self.stream[carrier].size)
        return replace(self, stream=self.stream.replace(units))

    def embed(
        self,
        record: bytes,
        *,
        workers: Workers = HERE,
        progress: Progress = lambda _: None,
    ) -> Stream:
        """Return the stream with the record in it.

        Args:
            record: `header.record_size` bytes.
            workers: Who decodes and encodes the carriers.
            progress: Called with bytes of carriers: of each, three times a third.
        """

        def told(units: Iterable[bytes]) -> Iterator[bytes]:
            for unit, carrier in zip(units, carriers, strict=True):
                progress(carrier.size // 3)
                yield unit

        data, header = frame_record(self.header, record), self.header
        carriers = [self.stream[carrier] for carrier in header.carriers]
        begins = self._begins
        shares = (data[begin // 8 : -(-end // 8)] for begin, end in itertools.pairwise(begins))
        within = (begin % 8 for begin in begins)
        units = workers.in_order(embed_bits, carriers, shares, within, header.widths)
        carrying = self.stream.replace(dict(zip(header.carriers, told(units), strict=True)))
        del data  # as large as a network, perhaps
        try:
            taken = extract(
                carrying, vouched=True, progress=lambda size: progress(size // 3), workers=workers
            )
            found = (taken.header, taken.record) == (header, record)
            if found and all(map(operator.eq, told(taken.originals()), map(Unit.read, carriers))):
                return carrying
        except WorkerError:
            raise
        except NnguardError:
            pass
        raise FormatError("this stream misleads the search for a record; it cannot carry one")


def plan_record(
    stream: Stream,
    kind: int,
    size: int,
    *,
    dense: bool = False,
    cheap: bool = False,
    workers: Workers = HERE,
) -> Plan:
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
        cheap: Put as many bits into a weight as costs least, in bits that the file grows by and in
            weights that every reader decodes; otherwise, as few as there can be.
        workers: Who decodes what a dense plan needs in any case.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: The stream holds too many records, or the record is too large.
    """
    planner = _Planner(stream, workers, dense=dense)
    below = _outermost(stream)
    header = FrameHeader(kind, 1 if below is None else 1 + below.layer, size, ())
    bytes(replace(header, carriers=(0,), widths=(1,)))  # within its limits?
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

    if dense or cheap:  # a small file, but not for many times the weights to decode
        price = _price_for_owner if dense else _price_for_all
        best = min(plans(range(MAX_BITS, 0, -1)), key=price, default=None)
    else:
        best = next(plans(range(1, MAX_BITS + 1)), None)
    if best is not None:
        return best
    raise max(failures, key=lambda failure: failure.available, default=None) or CapacityError(
        "no tensor that could be the primary carrier has room for the list of carriers",
        needed=8 * frame_size(header),
        available=0,
        hint="carriers have 256 weights or more and are not coded in blocks (scan_order)",
    )


def embed(stream: Stream, record: bytes, *, kind: int) -> Stream:
    """Hide a record in a stream; see `plan_record` for errors."""
    return plan_record(stream, kind, len(record)).embed(record)


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
    """Return what the unit at a position can hold; nothing, where it is not a carrier."""
    try:
        return room_in(stream[index]) if can_carry(stream[index]) else NO_ROOM
    except FormatError:
        return NO_ROOM


class _Planner:
    """Plans for one stream; what was found out is kept, since several plans are tried."""

    def __init__(self, stream: Stream, workers: Workers, *, dense: bool) -> None:
        self._stream, self._workers = stream, workers
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
        size = len(bytes(header))
        behind = frame_size(header) - size
        limit = max_cost(self._stream) * USUAL_WIDTH // max(USUAL_WIDTH, most)
        index = primary
        if self._dense:
            self._decode_largest(others, 8 * behind // most)
        while True:
            room = self._room(index)
            width = 0 if room is None else self._width(room, most, first=not chosen)
            cost += cost_of(self._stream, index)
            if room is not None and width and (room.places or not chosen):
                chosen[index] = room.places, width
                bits += room.places * width
                in_primary = in_primary or bits
                size += size_in_list(index, width)
            needed = 8 * (size + behind)
            fits = 8 * size <= in_primary
            if size > MAX_HEADER_SIZE or not fits or needed <= bits:
                places, widths = zip(*chosen.values(), strict=True)
                header = replace(header, carriers=tuple(chosen), widths=widths)
                bytes(header)  # within its limits?
                return Plan(self._stream, header, places) if fits else None
            if not others:
                raise _too_large(needed, bits)
            index = others.pop(choose(others, -(-(needed - bits) // most)))[1]
            if not self._dense and cost + cost_of(self._stream, index) > limit:
                raise _too_large(needed, bits)

    def _decode_largest(self, others: Sequence[tuple[int, int]], rest: int) -> None:
        """Look into the largest tensors, side by side: into all that so many weights take."""
        largest = [*reversed(others)]
        totals = itertools.accumulate(size for size, _ in largest)
        wanted = [
            index
            for (_, index), total in zip(largest, totals, strict=True)
            if total <= rest and index not in self._rooms
        ]
        rooms = self._workers.in_order(_room_in, [self._stream[index] for index in wanted])
        self._rooms.update(zip(wanted, rooms, strict=True))

    def _room(self, index: int) -> Room | None:
        """Return what the tensor at a position can hold; None where the decoder refuses it."""
        if index not in self._rooms:
            self._rooms[index] = _room_in(self._stream[index])
        return self._rooms[index]


def _room_in(unit: Unit) -> Room | None:
    """Return what a tensor can hold; None where the decoder refuses it."""
    try:
        return room_in(unit)
    except FormatError:
        return None


def _price_for_owner(plan: Plan) -> int:
    return 4 * plan.bits + plan.weights


def _price_for_all(plan: Plan) -> int:
    """Return what a plan costs where every verification decodes all of its weights."""
    return plan.bits + 2 * plan.weights


def _best(others: Sequence[tuple[int, int]], rest: int) -> int:
    """Return which tensor takes bits that are left, so that few weights are coded anew.

    The smallest that has so many, unless it is larger by more than a quarter and there are
    smaller ones: then the largest of these, and what is still left goes elsewhere.

    Args:
        others: Sizes, ascending, and positions.
        rest: How many weights it takes for what is left.
    """
    enough = bisect.bisect_left(others, (rest, 0))
    if enough < len(others) and (not enough or 4 * others[enough][0] <= 5 * rest):
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


def _outermost(stream: Stream) -> FrameHeader | None:
    """Return the header of the outermost record, if there is one."""
    try:
        return locate(stream).header
    except (FormatError, NoRecordError):
        return None
