"""The header of a record: one encoding, and every change is noticed."""

import zlib

import pytest

from nnguard.errors import LimitError
from nnguard.hiding.frame import (
    MAGIC,
    MAX_RECORD_SIZE,
    Carrier,
    FrameHeader,
    frame_record,
    kind_name,
    parse_head,
    parse_header,
    unframe_record,
)
from nnguard.hiding.hqim import Peak

PRIMARY = Carrier(5, True, (Peak(3, 1), Peak(-2, -1), Peak(4096, 1)))
OTHERS = (Carrier(300, False, (Peak(-200, -1),)), Carrier(2, True, (Peak(0, 1), Peak(1, 1))))
HEADER = FrameHeader(1, 2, 333, (PRIMARY, *OTHERS))


def checked(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "big")


def head(body: bytes, *, directory: int = 0, record: int = 0, size: int | None = None) -> bytes:
    """Return a head around any list of carriers, its checksum right."""
    size = 14 + len(body) + 4 if size is None else size
    fields = MAGIC + b"\1\1" + size.to_bytes(2, "big") + directory.to_bytes(2, "big")
    return checked(fields + record.to_bytes(4, "big") + body)


@pytest.mark.parametrize("header", [HEADER, FrameHeader(255, 255, 0, (PRIMARY,))])
def test_header_is_read_as_written(header: FrameHeader) -> None:
    assert parse_header(bytes(header) + b"\0" * 40) == header
    assert bytes(header).startswith(MAGIC)


def test_every_change_of_a_byte_is_noticed() -> None:
    encoded = bytes(HEADER) + b"\0" * 8
    for at in range(len(bytes(HEADER))):
        for change in range(1, 256):
            changed = bytearray(encoded)
            changed[at] ^= change
            assert parse_header(bytes(changed)) is None, (at, change)


def test_every_truncation_is_noticed() -> None:
    for length in range(len(bytes(HEADER))):
        assert parse_header(bytes(HEADER)[:length]) is None


def test_helper_makes_what_the_frame_makes() -> None:
    body = bytes([5 << 1 | 1, 1, 3 << 1])
    header = parse_header(head(body) + b"\0")
    assert header is not None
    assert header.carriers == (Carrier(5, True, (Peak(3, 1),)),)
    assert bytes(header) == head(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0b",
        b"\x0b\0",
        b"\x0b\2\6",
        b"\x0b\1\6\x0d\1\6",
        b"\x0b\1\x86",
        b"\x8b\0\1\6",
        b"\x0b\1\x86\0",
        b"\x0b\x81\0\6",
        b"\x0b" + b"\xff" * 9 + b"\1\6",
        b"\x0b\1" + b"\xff\xff\xff\xff\xff\x1f",
    ],
    ids=[
        "empty",
        "no count",
        "no peaks",
        "too few peaks",
        "two carriers",
        "number without end",
        "unit in a longer form",
        "peak in a longer form",
        "count in a longer form",
        "huge count",
        "peak beyond 32 bits",
    ],
)
def test_list_that_does_not_add_up_is_no_header(body: bytes) -> None:
    assert parse_header(head(body) + b"\0" * 8) is None


@pytest.mark.parametrize("size", [0, 17, 18, 20, 22, 65535])
def test_size_that_does_not_add_up_is_no_header(size: int) -> None:
    body = bytes([5 << 1, 1, 3 << 1])
    assert parse_head(head(body, size=size) + b"\0" * 8) is None


def test_record_size_has_a_limit() -> None:
    body = bytes([5 << 1, 1, 3 << 1])
    assert parse_header(head(body, record=MAX_RECORD_SIZE) + b"\0") is not None
    assert parse_header(head(body, record=MAX_RECORD_SIZE + 1) + b"\0") is None
    with pytest.raises(LimitError):
        bytes(FrameHeader(1, 1, MAX_RECORD_SIZE + 1, (PRIMARY,)))


def test_layers_have_a_limit() -> None:
    with pytest.raises(LimitError, match="255"):
        bytes(FrameHeader(1, 256, 1, (PRIMARY,)))


def test_directory_that_is_damaged_is_no_header() -> None:
    body = bytes([5 << 1, 1, 3 << 1])
    directory = checked(bytes([7 << 1, 1, 3 << 1]))
    whole = head(body, directory=len(directory)) + directory
    assert parse_header(whole + b"\0") is not None
    assert parse_header(whole[:-1] + b"\0") is None
    same_unit = checked(bytes([5 << 1, 1, 3 << 1]))
    assert parse_header(head(body, directory=len(same_unit)) + same_unit) is None


def test_record_is_unframed() -> None:
    record = bytes(range(111)) * 3
    framed = frame_record(HEADER, record)
    assert unframe_record(HEADER, framed + b"\0") == record
    for length in range(len(framed)):
        assert unframe_record(HEADER, framed[:length]) is None
    for at in range(len(bytes(HEADER)), len(framed)):
        changed = bytearray(framed)
        changed[at] ^= 1
        assert unframe_record(HEADER, bytes(changed)) is None
    with pytest.raises(ValueError, match="332 bytes"):
        frame_record(HEADER, record[:-1])


def test_kinds_have_names() -> None:
    assert kind_name(1) == "signature"
    assert kind_name(2) == "attachment"
    assert "77" in kind_name(77)
