"""The frame around a record: a header that says where the bits are, the record, a checksum.

The header's head lies in one peak, which a reader finds by synchronisation; it lists the peaks of
the primary carrier. These hold the rest of the header, the directory, which lists all other
carriers.

Byte tables in `docs/SPEC.md`, section 5. Everything here may come from an attacker: counts are
limited and checked before they are acted on.
"""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass

from nnguard.errors import LimitError
from nnguard.hiding.hqim import Peak

__all__ = [
    "FIXED_SIZE",
    "MAGIC",
    "MAX_RECORD_SIZE",
    "Carrier",
    "FrameHeader",
    "RecordKind",
    "frame_record",
    "kind_name",
    "parse_head",
    "parse_header",
    "unframe_record",
]

MAGIC = b"\x9eNQ\x01"
"""First bytes of a head; the last is the version of the frame."""

FIXED_SIZE = 14
"""Bytes of a head before the primary carrier."""

_CHECKSUM_SIZE = 4
_MAX_LAYER = 255
_MAX_LIST_SIZE = (1 << 16) - 1

MAX_RECORD_SIZE = 1 << 28
"""Bytes of the largest record."""


class RecordKind(enum.IntEnum):
    """What a record is."""

    SIGNATURE = 1
    ATTACHMENT = 2
    LOCK = 3
    LICENSE = 4


@dataclass(frozen=True, slots=True)
class Carrier:
    """One tensor that holds bits.

    Attributes:
        unit: Position of its unit in the stream.
        parameter_optimisation: The encoder's setting for this unit.
        peaks: Where the bits are, in the order of extraction; all point away from zero.
    """

    unit: int
    parameter_optimisation: bool
    peaks: tuple[Peak, ...]


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a reader must know before it can take the record out.

    Attributes:
        kind: What the record is; kinds that are unknown are kept as numbers.
        layer: 1 for the first record in a stream, one more for each that was put on top.
        record_size: Bytes.
        carriers: The tensors, the primary carrier first.
    """

    kind: int
    layer: int
    record_size: int
    carriers: tuple[Carrier, ...]

    @property
    def head(self) -> bytes:
        """The part that lies in the first peak and lists the primary carrier's peaks.

        Raises:
            LimitError: The stream has too many layers, or the record or a list is too large.
        """
        body = _carrier_bytes(self.carriers[0])
        size = FIXED_SIZE + len(body) + _CHECKSUM_SIZE
        directory_size = len(self.directory)
        if self.layer > _MAX_LAYER:
            raise LimitError(f"the stream already holds {_MAX_LAYER} records")
        if self.record_size > MAX_RECORD_SIZE or max(size, directory_size) > _MAX_LIST_SIZE:
            raise LimitError(f"a record of {self.record_size} bytes is too large to hide")
        fields = (
            MAGIC
            + bytes([self.kind, self.layer])
            + size.to_bytes(2, "big")
            + directory_size.to_bytes(2, "big")
            + self.record_size.to_bytes(4, "big")
        )
        return _with_checksum(fields + body)

    @property
    def directory(self) -> bytes:
        """The part that lists all other carriers; empty where there are none."""
        body = b"".join(map(_carrier_bytes, self.carriers[1:]))
        return _with_checksum(body) if body else b""

    def __bytes__(self) -> bytes:
        """Encode the header, as it is hidden and authenticated."""
        return self.head + self.directory


def kind_name(kind: int) -> str:
    """Return what a kind of record is called."""
    names = {known.value: known.name.lower() for known in RecordKind}
    return names.get(kind, f"record of kind {kind}")


def parse_head(data: bytes) -> tuple[int, Carrier] | None:
    """Decode the layer and the primary carrier from the head of a header at the start of `data`.

    Returns:
        Layer and carrier, or None where there is no head: no magic, a wrong checksum.
    """
    size = int.from_bytes(data[6:8], "big")
    if not data.startswith(MAGIC) or not FIXED_SIZE < size - _CHECKSUM_SIZE < len(data):
        return None
    carriers = _parse_carriers(data[FIXED_SIZE:size])
    checked = _with_checksum(data[: size - _CHECKSUM_SIZE]) == data[:size]
    well_formed = checked and data[5] > 0 and carriers and len(carriers) == 1
    return (data[5], carriers[0]) if carriers and well_formed else None


def parse_header(data: bytes) -> FrameHeader | None:
    """Decode the header at the start of `data`, all that the primary carrier holds.

    Returns:
        The header, or None where there is none. What it says of the stream is not checked.
    """
    head = parse_head(data)
    if head is None:
        return None
    _, primary = head
    size, directory_size = (
        int.from_bytes(data[6:8], "big"),
        int.from_bytes(data[8:10], "big"),
    )
    others = _parse_carriers(data[size : size + directory_size]) if directory_size else ()
    if others is None or len({primary.unit, *(c.unit for c in others)}) != 1 + len(others):
        return None
    record_size = int.from_bytes(data[10:14], "big")
    header = FrameHeader(data[4], data[5], record_size, (primary, *others))
    if record_size > MAX_RECORD_SIZE or bytes(header) != data[: size + directory_size]:
        return None
    return header


def frame_record(header: FrameHeader, record: bytes) -> bytes:
    """Join header, record and the record's checksum to the bytes that are hidden."""
    if len(record) != header.record_size:
        raise ValueError(f"record of {len(record)} bytes for a header of {header.record_size}")
    return bytes(header) + _with_checksum(record)


def unframe_record(header: FrameHeader, data: bytes) -> bytes | None:
    """Return the record in hidden bytes, or None where they are too few or the checksum differs."""
    start = len(bytes(header))
    end = start + header.record_size + _CHECKSUM_SIZE
    record = data[start : end - _CHECKSUM_SIZE]
    return record if len(data) >= end and _with_checksum(record) == data[start:end] else None


def _with_checksum(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(_CHECKSUM_SIZE, "big")


def _varint(number: int) -> bytes:
    """Encode a number in groups of seven bits, least significant first (LEB128)."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varints(data: bytes) -> list[int] | None:
    """Decode a run of numbers below 2**42, or None where the last has no end."""
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number, shift = 0, 0
        elif shift > 35:
            return None
    return None if shift else numbers


def _carrier_bytes(carrier: Carrier) -> bytes:
    numbers = [carrier.unit << 1 | carrier.parameter_optimisation, len(carrier.peaks)]
    numbers += [abs(peak.value) << 1 | (peak.direction < 0) for peak in carrier.peaks]
    return b"".join(map(_varint, numbers))


def _parse_carriers(data: bytes) -> tuple[Carrier, ...] | None:
    """Decode a list of carriers and its checksum's place; None where it does not add up."""
    numbers = _varints(data[:-_CHECKSUM_SIZE])
    carriers: list[Carrier] = []
    at = 0
    while numbers and at + 2 <= len(numbers):
        unit, count = numbers[at : at + 2]
        at += 2 + count
        if not count or at > len(numbers):
            return None
        try:
            peaks = tuple(map(_peak, numbers[at - count : at]))
        except ValueError:
            return None
        carriers.append(Carrier(unit >> 1, bool(unit & 1), peaks))
    return tuple(carriers) if numbers and at == len(numbers) else None


def _peak(number: int) -> Peak:
    direction = -1 if number & 1 else 1
    return Peak(direction * (number >> 1), direction)
