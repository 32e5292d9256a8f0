"""Looking at a stream without a key: its units, its records, the room for more.

Nothing here is verified. Claims and key identifiers are what the file says of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnguard._hiding import (
    RecordKind,
    candidates,
    carriers_cost,
    extract,
    kind_name,
    max_cost,
    peek,
    room_of,
)
from nnguard._hiding.carriers import cost_of
from nnguard._hiding.frame import MAX_BITS, FrameHeader
from nnguard._hiding.tensor import Room
from nnguard._licensing.license import License
from nnguard._records.lock import PEEK_SIZE, LockRecord
from nnguard._records.signature import Attachment, SignatureRecord
from nnguard._stream import Stream, StreamLike, as_stream
from nnguard._stream.headers import LEAST_COST
from nnguard.errors import (
    FormatError,
    LicenseError,
    LimitError,
    NnguardError,
    NoRecordError,
    VerificationError,
)

__all__ = [
    "Capacity",
    "Inspection",
    "RecordInfo",
    "TensorInfo",
    "UnitInfo",
    "capacity",
    "inspect",
]


_ALWAYS_COUNTED = 1 << 24
_COUNTED_PER_BYTE = 16
"""What `capacity` decodes, in weights: so many for each byte of the stream, or so many in all,
whichever is more."""

_INSPECTED = 1 << 21
"""What `inspect` decodes, in weights, before it stops looking for more records; a unit counts as a
weight for each record, and a carrier as so many more as it costs at the least."""


@dataclass(frozen=True, slots=True)
class UnitInfo:
    """One unit of a stream.

    Attributes:
        name: Name of the tensor, or kind and position.
        size: Bytes.
        shape: The tensor's shape; None for units that are carried as opaque bytes.
        quantization: `URQ` or `TCQ`, `INT` or `RAW_FLOAT`; empty for opaque units.
    """

    name: str
    size: int
    shape: tuple[int, ...] | None
    quantization: str


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """A hidden record, as it describes itself.

    Attributes:
        kind: `signature`, `attachment`, or `record of kind N` for kinds of later versions.
        layer: 1 for the innermost.
        size: Bytes of the record.
        carriers: Names of the tensors that hold it.
        unverified: What the record says: key and claims, or the media type.
    """

    kind: str
    layer: int
    size: int
    carriers: tuple[str, ...]
    unverified: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a stream is made of.

    Attributes:
        size: Bytes.
        units: All units, in order.
        records: Hidden records, outermost first.
        note: Why no more records could be read, where that is so.
    """

    size: int
    units: tuple[UnitInfo, ...]
    records: tuple[RecordInfo, ...]
    note: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Room in one tensor.

    Attributes:
        name: The tensor's name.
        weights: How many it has.
        places: Of these, how many can hold bits: those that are not zero.
        bits: How many bits it can hold at the most, 16 in a place or fewer.
    """

    name: str
    weights: int
    places: int
    bits: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """Room in a stream.

    Attributes:
        places: Weights that can hold bits. A record that has no more bits than that, its frame
            included, takes one in each, and grows the file by about as much.
        bits: How many bits fit at the most, a record's frame included.
        tensors: The tensors that can carry, best primary carrier first.
    """

    places: int
    bits: int
    tensors: tuple[TensorInfo, ...]


def inspect(stream: StreamLike) -> Inspection:
    """Describe a stream and the records in it, without verifying anything.

    Raises:
        FormatError: The input is not a well-formed stream.
    """
    stream = as_stream(stream)
    records: list[RecordInfo] = []
    note = ""
    cost = 0
    current = stream
    while not records or records[-1].layer > 1:
        if cost > _INSPECTED:
            note = f"more records are below; not read after {len(records)}"
            break
        try:
            header, start = peek(current, PEEK_SIZE)
            if header.kind == RecordKind.LOCK:  # large, perhaps; what is below may be unreadable
                records.append(_describe(current, header, start))
                break
            extraction = extract(current)
        except NoRecordError:
            break
        except NnguardError as error:
            note = str(error)
            break
        records.append(_describe(current, header, extraction.record))
        current = extraction.original
        cost += extraction.cost + len(stream) + LEAST_COST * len(header.carriers)
    return Inspection(
        size=stream.size,
        units=tuple(_unit_info(stream, at) for at in range(len(stream))),
        records=tuple(records),
        note=note,
    )


def capacity(stream: StreamLike, *, progress: Callable[[int], object] | None = None) -> Capacity:
    """Count the bits that a stream can hold. Decodes every tensor that can carry.

    Args:
        stream: A stream or the path of one.
        progress: Called with the number of weights whenever so many more were decoded.

    Raises:
        FormatError: The input is not a well-formed stream.
        LimitError: These tensors have more weights than a stream of this size accounts for: 16 for
            each byte, and 2^24 in any case.
    """
    stream = as_stream(stream)
    tensors: list[TensorInfo] = []
    rooms: list[Room] = []
    order = candidates(stream)
    cost = sum(max(cost_of(stream, index), LEAST_COST) for index in order)
    if cost > (most := max(_ALWAYS_COUNTED, _COUNTED_PER_BYTE * stream.size)):
        raise LimitError(
            f"decoding the {len(order)} tensors that can carry costs as much as {cost} weights; "
            f"limit {most} for a stream of {stream.size} bytes"
        )
    for index in order:
        header = stream[index].tensor
        assert header is not None
        room = room_of(stream, index)
        places = room.places if room.width() else 0
        tensors.append(TensorInfo(header.name, header.size, places, room.bits()))
        rooms.append(room)
        if progress is not None:
            progress(header.size)
    in_all = [
        sum(room.bits(width) for room in rooms)
        for width in range(1, MAX_BITS + 1)  # of a weight, at most
        if carriers_cost(
            stream, {at: room.width(width) for at, room in zip(order, rooms, strict=True)}
        )
        <= max_cost(stream)
    ]
    places = sum(tensor.places for tensor in tensors)
    return Capacity(places, max(in_all, default=0), tuple(tensors))


def _unit_info(stream: Stream, at: int) -> UnitInfo:
    unit = stream[at]
    try:
        tensor = stream.coded_tensor(at, with_entry_points=False)
    except FormatError:  # damaged, in what only decoding reads
        tensor = None
    if tensor is None:
        return UnitInfo(unit.name, unit.size, None, "")
    kind = tensor.payload_type.name
    if kind == "FLOAT":
        kind = "TCQ" if tensor.dependent else "URQ"
    return UnitInfo(unit.name, unit.size, tensor.shape, kind)


def _describe(stream: Stream, header: FrameHeader, record: bytes) -> RecordInfo:
    """Describe a record in a stream; of a lock, its first bytes are enough."""
    unverified: dict[str, Any] = {}
    try:
        if header.kind == RecordKind.SIGNATURE:
            signature = SignatureRecord.parse(record)
            unverified = {"key_id": signature.key_id.hex(), **signature.claims.to_json()}
        elif header.kind == RecordKind.ATTACHMENT:
            attachment, _ = Attachment.parse(record)
            unverified = {"media_type": attachment.media_type, "bytes": len(attachment.payload)}
        elif header.kind == RecordKind.LOCK:
            lock = LockRecord.peek(record)
            unverified = {"tier": lock.tier, "content_key_id": lock.envelope.key_id.hex()}
            if lock.shard is not None:
                unverified["shard"] = f"{lock.shard.position + 1} of {lock.shard.count}"
        elif header.kind == RecordKind.LICENSE:
            unverified = License.parse(record).terms.to_json()
    except (VerificationError, FormatError, LicenseError) as error:
        unverified = {"malformed": str(error)}
    carriers = tuple(stream[carrier].name for carrier in header.carriers)
    return RecordInfo(
        kind_name(header.kind), header.layer, header.record_size, carriers, unverified
    )
