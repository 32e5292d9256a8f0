"""Looking at a model without a key: its units and its records.

Nothing here is verified. Claims and key identifiers are what the file says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnguard._base.html import html_table
from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard._licensing.license import License
from nnguard._models.stream_set import ModelLike, as_model
from nnguard._records.attachment import Attachment
from nnguard._records.kinds import RecordKind, kind_name
from nnguard._records.layers import Layer, layers
from nnguard._records.lock import PEEK_SIZE, LockRecord
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import (
    FormatError,
    LicenseError,
    NnguardError,
    NoRecordError,
    VerificationError,
)

__all__ = [
    "Inspection",
    "RecordInfo",
    "UnitInfo",
    "inspect",
]


_INSPECTED = 1 << 21
"""What `inspect` decodes, in weights, before it stops looking for more records; a unit counts as a
weight for each record, and a carrier as the least that one costs."""


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
        kind: `signature`, `attachment`, `lock`, `license`, or `record of kind N` for kinds of later
            versions.
        layer: 1 for the innermost.
        size: Bytes of the record.
        carriers: Names of the tensors that hold it.
        unverified: What the record says: key and claims, media type, tier, or terms of the license.
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
        shards: Of a set, the names of the files and what each is made of.

    Examples:
        >>> found = nnguard.inspect("release.nnc")
        >>> [record.kind for record in found.records]
        ['signature']
    """

    size: int
    units: tuple[UnitInfo, ...] = field(default=(), repr=False)
    records: tuple[RecordInfo, ...] = ()
    note: str = ""
    shards: Mapping[str, Inspection] = field(default=EMPTY, repr=False)

    def _repr_html_(self) -> str:
        """Return a summary as a table, for notebooks."""
        parts = self.shards.values() or [self]
        records = [f"{record.kind}, {record.size:,} bytes" for p in parts for record in p.records]
        rows = {
            "size": f"{self.size:,} bytes",
            "shards": ", ".join(self.shards),
            "tensors": sum(unit.shape is not None for part in parts for unit in part.units),
            "records": "; ".join(records) or "none",
            "note": self.note,
        }
        return html_table("Not verified", rows)


def inspect(model: ModelLike) -> Inspection:
    """Describe a model and the records in it, without verifying anything.

    Args:
        model: A stream, or a folder of shards.

    Raises:
        FormatError: The input is not a well-formed stream.

    Examples:
        >>> nnguard.inspect("trial.nnc").records[0].kind
        'signature'
    """
    model = as_model(model)
    if isinstance(model, Stream):
        return _inspect(model)
    shards = {name: _inspect(stream) for name, stream in model.streams.items()}
    return Inspection(model.size, shards=FrozenMapping(shards))


def _inspect(stream: Stream) -> Inspection:
    records: list[RecordInfo] = []
    note = ""
    cost = 0
    try:
        for layer in layers(stream):
            if cost > _INSPECTED:
                note = f"more records are below; not read after {len(records)}"
                break
            records.append(_describe(layer))
            if layer.kind == RecordKind.LOCK:
                break
            cost += layer.cost + len(stream)
    except NoRecordError:
        pass
    except NnguardError as error:
        note = str(error)
    return Inspection(
        size=stream.size,
        units=tuple(_unit_info(stream, at) for at in range(len(stream))),
        records=tuple(records),
        note=note,
    )


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


def _describe(layer: Layer) -> RecordInfo:
    """Describe a record; of a lock, which may be large, its first bytes are enough."""
    kind, header = layer.kind, layer.header
    record = layer.peek(PEEK_SIZE) if kind == RecordKind.LOCK else layer.record
    try:
        unverified = _read(kind, record)
    except (VerificationError, FormatError, LicenseError) as error:
        unverified = {"malformed": str(error)}
    carriers = tuple(layer.stream[carrier].name for carrier in header.carriers)
    return RecordInfo(kind_name(kind), header.layer, header.record_size, carriers, unverified)


def _read(kind: int, record: bytes) -> dict[str, Any]:
    """Return what a record says of itself."""
    if kind == RecordKind.SIGNATURE:
        signature = SignatureRecord.parse(record)
        return {
            "key_id": signature.key_id.hex(),
            "algorithm": signature.algorithm,
            **signature.claims.to_json(),
        }
    if kind == RecordKind.ATTACHMENT:
        attachment, _ = Attachment.parse(record)
        return {"media_type": attachment.media_type, "bytes": len(attachment.payload)}
    if kind == RecordKind.LOCK:
        lock = LockRecord.peek(record)
        found: dict[str, Any] = {"tier": lock.tier, "content_key_id": lock.envelope.key_id.hex()}
        if lock.shard is not None:
            found["shard"] = f"{lock.shard.position + 1} of {lock.shard.count}"
        return found
    if kind == RecordKind.LICENSE:
        return License.parse(record).terms.to_json()
    return {}
