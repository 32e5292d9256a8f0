"""Records into streams and out again.

Law: `extract(embed(stream, record))` returns the record and a stream of the same bytes. A record is
embedded in a stream and yields a stream, so records nest; the last one in is the first one out.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnguard.errors import (
    CapacityError,
    FormatError,
    LimitError,
    NnguardError,
    NoRecordError,
    VerificationError,
)
from nnguard.hiding import carriers as carrying
from nnguard.hiding import hqim
from nnguard.hiding.carriers import (
    can_carry,
    candidates,
    cost_of,
    find_header,
    primary_candidates,
    weights_in,
)
from nnguard.hiding.frame import FrameHeader, frame_record, unframe_record
from nnguard.stream import Stream, coding
from nnguard.stream.coding import QuantizedTensor, encode

__all__ = [
    "Extraction",
    "Plan",
    "capacity_of",
    "embed",
    "extract",
    "lies_as_planned",
    "max_cost",
    "plan_record",
]

MAX_COST = carrying.MAX_WEIGHTS
"""Of all carriers of a record, at most; a reader decodes and encodes them."""

_FULL_COST_BITS = 4
"""Where a weight holds more bits than this, the carriers may cost less."""

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
    _tensors: tuple[QuantizedTensor, ...]

    @property
    def weights(self) -> int:
        """Weights of all tensors that hold bits; every reader decodes them."""
        return sum(tensor.indices.size for tensor in self._tensors)

    def embed(self, record: bytes) -> Stream:
        """Return the stream with the record in it.

        Args:
            record: `header.record_size` bytes.
        """
        bits = _to_bits(frame_record(self.header, record))
        units: dict[int, bytes] = {}
        for carrier, tensor in zip(self.header.carriers, self._tensors, strict=True):
            room = carrying.capacity(tensor, self.header.bits_per_weight)
            units[carrier] = encode(carrying.mark(tensor, bits[:room], self.header.bits_per_weight))
            bits = bits[room:]
        marked_stream = self.stream.replace(units)
        before = {index: self.stream[index].read() for index in units}
        try:
            taken = extract(marked_stream)
            found = taken.header == self.header and taken.record == record
            if found and taken.restored == before:
                return marked_stream
        except NnguardError:
            pass
        raise FormatError("this stream misleads the search for a record; it cannot carry one")


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """A record taken out of a stream.

    Attributes:
        header: The frame's header.
        record: The record's bytes.
        original: The stream as it was before the record went in.
        restored: Position and original bytes of each carrier.
        cost: What was decoded, in weights, the search for the header included.
    """

    header: FrameHeader
    record: bytes
    original: Stream
    restored: dict[int, bytes]
    cost: int

    def digests_of_original(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return the SHA-256 of every unit of the original.

        Args:
            digests: Those of the stream with the record in it.
        """
        result = list(digests)
        for index, unit in self.restored.items():
            result[index] = hashlib.sha256(unit).digest()
        return result


def plan_record(stream: Stream, kind: int, size: int) -> Plan:
    """Choose where a record goes, decoding only the tensors that it goes into.

    A weight holds as few bits as it takes. The primary carrier is the first in order that has room
    for the header. What it does not hold goes into others, so that few weights more than needed are
    coded anew.

    Args:
        stream: The stream.
        kind: A `RecordKind`.
        size: Bytes of the record.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: The stream holds too many records, or the record is too large.
    """
    planner = _Planner(stream)
    below = _outermost(stream)
    header = FrameHeader(kind, 1 if below is None else 1 + below.layer, size, ())
    failure: CapacityError | None = None
    for bits_per_weight in range(1, hqim.MAX_BITS + 1):
        try:
            plan = planner.plan(replace(header, bits_per_weight=bits_per_weight), below)
        except CapacityError as error:
            if failure is None or error.available > failure.available:
                failure = error
        else:
            if plan is not None:
                return plan
    raise failure or CapacityError(
        "no tensor that could be the primary carrier has room for the list of carriers",
        needed=_bits_of(header),
        available=0,
        hint="carriers have 256 weights or more and are not coded in blocks (scan_order)",
    )


def embed(stream: Stream, record: bytes, *, kind: int) -> Stream:
    """Hide a record in a stream; see `plan_record` for errors."""
    return plan_record(stream, kind, len(record)).embed(record)


def extract(stream: Stream) -> Extraction:
    """Take the outermost record out of a stream and restore the stream that it went into.

    The stream is what `Plan.embed` makes of the result, byte for byte in every carrier; a stream
    for which that is not so is refused.

    Raises:
        NoRecordError: There is no record.
        FormatError: There is none, and where one would be, the tensor is damaged or foreign.
        VerificationError: The record was changed.
    """
    header, primary, looked_at = _locate(stream)
    cost = looked_at + _check_carriers(stream, header)
    bits: list[hqim.Bits] = []
    restored: dict[int, bytes] = {}
    for carrier in header.carriers:
        try:
            tensor = primary if carrier == header.carriers[0] else _decode(stream, carrier)
        except FormatError as error:
            error.hint = "the stream holds a record, so it was damaged after that"
            raise
        found, restored[carrier] = _take_out(tensor, header.bits_per_weight)
        bits.append(found)
    hidden = bits[0] if len(bits) == 1 else np.concatenate(bits)
    record = unframe_record(header, hqim.whole_bytes(hidden))
    if record is None or hidden[_to_bits(frame_record(header, record)).size :].any():
        raise VerificationError("the hidden record was changed: its checksum does not fit")
    return Extraction(header, record, stream.replace(restored), restored, cost)


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


def capacity_of(stream: Stream, index: int) -> list[int]:
    """Return the bits that the unit at a position can hold, at 1 to 16 in a weight.

    All 0 for no carrier.
    """
    try:
        if can_carry(stream[index]):
            return carrying.capacities(_decode(stream, index))
    except FormatError:
        pass
    return [0] * hqim.MAX_BITS


class _Planner:
    """Plans for one stream; what was decoded is kept, since several plans are tried."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoded: dict[int, tuple[QuantizedTensor, list[int]] | None] = {}
        self._primaries = primary_candidates(stream)
        self._sizes = sorted((weights_in(stream, index), index) for index in candidates(stream))

    def plan(self, header: FrameHeader, below: FrameHeader | None) -> Plan | None:
        """Choose carriers for a header that says how many bits a weight holds.

        Args:
            header: Without carriers.
            below: That of the outermost record in the stream.

        Returns:
            The plan; None where no tensor has room for the header.

        Raises:
            CapacityError: The record does not fit into all tensors together.
        """
        for primary in self._primaries:
            if self._decode(primary) is not None:
                for choose in (_best, _largest):  # few weights; if these are too many to list, few
                    plan = self._add_carriers(header, primary, choose)
                    if plan is not None:
                        return plan
            # A reader stops at the primary carrier of the record below: it finds no later one.
            if below is not None and primary == below.carriers[0]:
                break
        return None

    def _add_carriers(
        self,
        header: FrameHeader,
        primary: int,
        choose: Callable[[Sequence[tuple[int, int]], int], int],
    ) -> Plan | None:
        """Add carriers to a header until the record fits; None where the header does not."""
        per_weight = header.bits_per_weight
        chosen: dict[int, QuantizedTensor] = {}
        others = [(size, index) for size, index in self._sizes if index != primary]
        room = cost = in_primary = 0
        index, most = primary, max_cost(self._stream, per_weight)
        while True:
            cost += cost_of(self._stream, index)
            if (decoded := self._decode(index)) is not None:
                tensor, capacities = decoded
                more = capacities[per_weight - 1]
                if more or not chosen:
                    chosen[index] = tensor
                    room += more
                    in_primary = in_primary or more
            header = replace(header, carriers=tuple(chosen))
            needed = _bits_of(header)
            if 8 * len(bytes(header)) > in_primary:
                return None
            if needed <= room:
                return Plan(self._stream, header, tuple(chosen.values()))
            if not others:
                raise _too_large(needed, room)
            index = others.pop(choose(others, -(-(needed - room) // per_weight)))[1]
            if cost + cost_of(self._stream, index) > most:
                raise _too_large(needed, room)

    def _decode(self, index: int) -> tuple[QuantizedTensor, list[int]] | None:
        """Return the tensor at a position and its capacities; None where the decoder refuses it."""
        if index not in self._decoded:
            try:
                tensor = _decode(self._stream, index)
                self._decoded[index] = tensor, carrying.capacities(tensor)
            except FormatError:
                self._decoded[index] = None
        return self._decoded[index]


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


def _locate(stream: Stream) -> tuple[FrameHeader, QuantizedTensor, int]:
    """Find the header of the outermost record and the tensor that it is in, and what that cost."""
    damage: FormatError | None = None
    cost = 0
    for number, index in enumerate(primary_candidates(stream)):
        cost += cost_of(stream, index)
        try:
            tensor = _decode(stream, index)
        except FormatError as error:
            if number == 0:
                damage = error
            continue
        header = find_header(tensor)
        if header is not None and header.carriers[0] == index:
            return header, tensor, cost
    if damage is not None:
        damage.hint = "no record was found; it would lie in this tensor"
        raise damage
    raise NoRecordError("the stream holds no record")


def _check_carriers(stream: Stream, header: FrameHeader) -> int:
    """Refuse a header that lists what cannot be, before anything is done about it.

    Returns:
        What decoding its carriers costs, in weights.
    """
    cost, most = 0, max_cost(stream, header.bits_per_weight)
    for carrier in header.carriers:
        if carrier >= len(stream) or not can_carry(stream[carrier]):
            raise VerificationError("the header of the hidden record does not fit the stream")
        cost += cost_of(stream, carrier)
    if cost > most:
        raise LimitError(
            f"the record lies in tensors that cost as much as {cost} weights; limit {most} "
            f"for a stream of {stream.size} bytes"
        )
    return cost


def max_cost(stream: Stream, bits_per_weight: int) -> int:
    """Return what decoding all carriers of a record may cost, in weights.

    More bits take more memory. Weights that hold them take as many in the stream.
    """
    most = min(MAX_COST, max(carrying.ALWAYS, carrying.COST_PER_BYTE * stream.size))
    return most * _FULL_COST_BITS // max(_FULL_COST_BITS, bits_per_weight)


def _bits_of(header: FrameHeader) -> int:
    """Return how many bits header, record and checksum have."""
    return 8 * (len(bytes(header)) + header.record_size + _CHECKSUM_SIZE)


def _outermost(stream: Stream) -> FrameHeader | None:
    """Return the header of the outermost record, if there is one."""
    try:
        return _locate(stream)[0]
    except (FormatError, NoRecordError):
        return None


def _decode(stream: Stream, index: int) -> QuantizedTensor:
    return coding.decode(stream[index], max_weights=carrying.MAX_WEIGHTS)


def _take_out(tensor: QuantizedTensor, bits_per_weight: int) -> tuple[hqim.Bits, bytes]:
    """Take the bits out of one carrier: all its places, and its unit's original bytes.

    A payload has one form only for what it decodes to, so comparing indices is enough to know that
    the unit is the one that embedding makes.
    """
    name = tensor.header.name
    try:
        bits, original = carrying.unmark(tensor, bits_per_weight)
        again = carrying.mark(original, bits, bits_per_weight)
        if np.array_equal(again.indices, tensor.indices):
            return bits, encode(original)
    except ValueError:
        pass
    raise VerificationError(f"tensor {name} was changed", tensors=[name])


def _to_bits(data: bytes) -> hqim.Bits:
    return np.unpackbits(np.frombuffer(data, np.uint8))
