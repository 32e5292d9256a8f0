"""Units: where their bytes lie, and the size field in front of each.

What stands behind a unit's header is not looked at here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nnguard._stream.headers import PayloadType, TensorHeader, UnitKind
from nnguard._stream.source import MemorySource, Source
from nnguard.errors import FormatError, VerificationError

__all__ = [
    "Place",
    "Unit",
    "frame_unit",
    "places_in",
    "read_unit",
    "replaced",
    "size_field",
    "usual_size_field",
]

_SHORT_SIZE_LIMIT = 1 << 15
"""Units below this size, short size field included, carry the short size field."""

_HEADER_READ = 160
"""First read of a unit's header; enough for all but long names, which are read again."""

_LABELS = {kind.value: kind.name for kind in UnitKind}

Place = tuple[Source, int]
"""Where a unit lies: in what, and where it begins there."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit: where its bytes lie, and what its header says.

    Attributes:
        source: Where the bytes are.
        offset: Where the unit starts in `source`.
        size: Bytes, size field included.
        kind: `nnr_unit_type`; a number that is not in `UnitKind` is carried as opaque bytes.
        name: Name of the tensor, or kind and position for all other units.
        tensor: The header of a tensor that nnguard understands, else None.
        digest: SHA-256 that the bytes must still have when they are read whole or saved; None where
            nothing has verified them, or nothing can change them.
    """

    source: Source
    offset: int
    size: int
    kind: int
    name: str
    tensor: TensorHeader | None
    digest: bytes | None = None

    @property
    def quantized(self) -> TensorHeader | None:
        """The header of a quantized tensor; None of all other units."""
        if self.tensor is None or self.tensor.payload_type != PayloadType.FLOAT:
            return None
        return self.tensor

    def read(self) -> bytes:
        """Return the unit's bytes.

        Raises:
            VerificationError: They have changed since they were verified.
        """
        data = self.source.read(self.offset, self.size)
        if self.digest is not None:
            self.check(hashlib.sha256(data).digest())
        return data

    def by_value(self) -> Unit:
        """Return the unit with its bytes in memory, for another process."""
        return replace(self, source=MemorySource(self.read(), start=self.offset))

    def check(self, digest: bytes) -> None:
        """Compare the SHA-256 of bytes that were read with that of those that were verified.

        Raises:
            VerificationError: They differ.
        """
        if self.digest not in (None, digest):
            raise VerificationError(
                f"{self.name} changed after it was verified",
                tensors=[self.name],
                hint="keep files where nobody else can write",
            )


def places_in(data: bytes | memoryview) -> Iterator[Place]:
    """Yield where each unit begins in bytes that are units in a row, but need not be a stream.

    Raises:
        FormatError: They are not.
    """
    source, offset = MemorySource(data), 0
    while offset < source.size:
        yield source, offset
        offset += read_unit(source, offset, 0)[0].size


def frame_unit(body: bytes) -> bytes:
    """Prefix a unit's bytes after the size field with the size field of the stock coder."""
    return usual_size_field(len(body)) + body


def usual_size_field(size: int) -> bytes:
    """Return the size field of the stock coder for so many bytes after it."""
    if size + 2 < _SHORT_SIZE_LIMIT:
        return (size + 2).to_bytes(2, "big")
    return (size + 4 | 1 << 31).to_bytes(4, "big")


def size_field(unit: bytes) -> int:
    """Return the length of the size field at the start of a unit."""
    return 4 if unit[0] & 0x80 else 2


def read_unit(source: Source, offset: int, index: int) -> tuple[Unit, int, bytes]:
    """Read a unit's header: the unit, where its kind's own fields begin, and its first bytes.

    The fields begin at 0 where a partial data counter makes the unit opaque.
    """
    head = source.read(offset, min(_HEADER_READ, source.size - offset))
    size_bytes = size_field(head)
    fields_at = size_bytes + 1
    if len(head) < fields_at:
        raise FormatError("unit header ends too early", offset=offset)
    size = int.from_bytes(head[:size_bytes], "big") & (0x7FFFFFFF if size_bytes == 4 else 0x7FFF)
    if size < fields_at or size > source.size - offset:
        raise FormatError(
            f"unit of {size} bytes where {source.size - offset} are left", offset=offset
        )
    kind = head[size_bytes] >> 2
    if head[size_bytes] & 1:
        fields_at = 0
    unit = Unit(source, offset, size, kind, f"{_LABELS.get(kind, kind)}[{index}]", None)
    return unit, fields_at, head[:size]


def replaced(old: Unit, data: bytes) -> Unit:
    """Return the unit with other bytes, which begin with the same header."""
    new, _, _ = read_unit(MemorySource(data), 0, 0)
    if old.tensor is None or new.size != len(data):
        raise ValueError(f"these bytes cannot stand for unit {old.name}")
    header = old.source.read(old.offset, old.tensor.payload_offset)
    old_field, new_field = size_field(header), size_field(data)
    payload_offset = len(header) - old_field + new_field
    if header[old_field:] != data[new_field:payload_offset]:
        raise ValueError(f"these bytes have not the header of unit {old.name}")
    tensor = replace(old.tensor, payload_offset=payload_offset)
    return Unit(new.source, 0, new.size, old.kind, old.name, tensor)
