"""The frame around a record: a header that says where the bits are, the record, a checksum.

The header lies in the primary carrier, where a reader looks for it, and lists all carriers.

Byte tables in `docs/SPEC.md`, section 5. Everything here may come from an attacker: counts are
limited and checked before they are acted on.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from nnguard.errors import LimitError

__all__ = [
    "MAGIC",
    "MAX_BITS",
    "MAX_HEADER_SIZE",
    "MAX_RECORD_SIZE",
    "SIZE_END",
    "FrameHeader",
    "frame_record",
    "frame_size",
    "header_size",
    "parse_header",
    "size_in_list",
    "unframe_record",
]

MAGIC = b"\x9eNQ\x04"
"""First bytes of a header; the last is the version of the frame."""

_FIXED_SIZE = 12
"""Bytes of a header before the carriers."""

SIZE_END = 8
"""So many bytes of a header tell its size."""

MAX_BITS = 16
"""Bits that a weight holds, at most."""

_CHECKSUM_SIZE = 4
_MAX_LAYER = 255
MAX_HEADER_SIZE = (1 << 16) - 1
"""Bytes of the largest header."""

MAX_RECORD_SIZE = (1 << 31) - (1 << 16)
"""Bytes of the largest record."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a reader must know before it can take the record out.

    Attributes:
        kind: What the record is; kinds that are unknown are kept as numbers.
        layer: 1 for the first record in a stream, one more for each that was put on top.
        record_size: Bytes.
        carriers: Positions of the units of the tensors that hold bits, the primary carrier first.
        widths: Bits that a weight of each carrier holds, 1 to 16; 1, if not given.
    """

    kind: int
    layer: int
    record_size: int
    carriers: tuple[int, ...]
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.widths:
            object.__setattr__(self, "widths", (1,) * len(self.carriers))

    def __bytes__(self) -> bytes:
        """Encode the header, as it is hidden and authenticated.

        Raises:
            LimitError: The stream has too many layers, or the record or the list is too large.
        """
        pairs = zip(self.carriers, self.widths, strict=True)
        body = b"".join(_in_list(carrier, width) for carrier, width in pairs)
        size = _FIXED_SIZE + len(body) + _CHECKSUM_SIZE
        if self.layer > _MAX_LAYER:
            raise LimitError(f"the stream already holds {_MAX_LAYER} records")
        if self.record_size > MAX_RECORD_SIZE or size > MAX_HEADER_SIZE:
            raise LimitError(f"a record of {self.record_size} bytes is too large to hide")
        fields = (
            MAGIC
            + bytes([self.kind, self.layer])
            + size.to_bytes(2, "big")
            + self.record_size.to_bytes(4, "big")
        )
        return fields + body + _checksum(fields + body)


def header_size(data: bytes) -> int:
    """Return the bytes of the header that may begin with `data`, `SIZE_END` bytes; 0 for none."""
    begins = len(data) >= SIZE_END and data.startswith(MAGIC)
    return int.from_bytes(data[6:SIZE_END], "big") if begins else 0


def parse_header(data: bytes) -> FrameHeader | None:
    """Decode the header at the start of `data`.

    Returns:
        The header, or None where there is none. What it says of the stream is not checked.
    """
    size = header_size(data)
    if not _FIXED_SIZE < size - _CHECKSUM_SIZE < len(data):
        return None
    numbers = _varints(data[_FIXED_SIZE : size - _CHECKSUM_SIZE])
    record_size = int.from_bytes(data[8:12], "big")
    if not numbers or not data[5] or record_size > MAX_RECORD_SIZE:
        return None
    carriers = tuple(number // MAX_BITS for number in numbers)
    widths = tuple(number % MAX_BITS + 1 for number in numbers)
    header = FrameHeader(data[4], data[5], record_size, carriers, widths)
    distinct = len({*carriers}) == len(carriers)
    return header if distinct and bytes(header) == data[:size] else None


def frame_size(header: FrameHeader) -> int:
    """Return the bytes of header, record and checksum together."""
    return len(bytes(header)) + header.record_size + _CHECKSUM_SIZE


def frame_record(header: FrameHeader, record: bytes) -> bytes:
    """Join header, record and the record's checksum to the bytes that are hidden."""
    if len(record) != header.record_size:
        raise ValueError(f"record of {len(record)} bytes for a header of {header.record_size}")
    return b"".join([bytes(header), record, _checksum(record)])


def unframe_record(header: FrameHeader, data: bytes | bytearray) -> bytes | None:
    """Return the record in hidden bytes, or None where they are too few or the checksum differs."""
    start = len(bytes(header))
    end = start + header.record_size
    with memoryview(data) as whole:
        right = whole[end : end + _CHECKSUM_SIZE] == _checksum(whole[start:end])
        return bytes(whole[start:end]) if right else None


def size_in_list(carrier: int, width: int) -> int:
    """Return the bytes by which a carrier with so many bits in a weight makes a header larger."""
    return len(_in_list(carrier, width))


def _in_list(carrier: int, width: int) -> bytes:
    return _varint(MAX_BITS * carrier + width - 1)


def _checksum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_SIZE, "big")


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
