"""The header of a record: one encoding, and every change is noticed."""

import zlib

import pytest

from nnguard._hiding.frame import (
    MAGIC,
    MAX_RECORD_SIZE,
    FrameHeader,
    frame_record,
    parse_header,
    unframe_record,
)
from nnguard._records.kinds import kind_name
from nnguard.errors import LimitError

BODY = b"\x50"
HEADER = FrameHeader(1, 2, 333, (5, 300, 2), (1, 16, 2))


def checked(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "big")


def header_of(body: bytes, *, record: int = 0, size: int | None = None) -> bytes:
    """Return a header around any list of carriers, its checksum right."""
    size = 12 + len(body) + 4 if size is None else size
    fields = MAGIC + b"\1\1" + size.to_bytes(2, "big")
    return checked(fields + record.to_bytes(4, "big") + body)


@pytest.mark.parametrize("header", [HEADER, FrameHeader(255, 255, 0, (5,))])
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
    header = parse_header(header_of(BODY) + b"\0")
    assert header is not None
    assert header.carriers == (5,)
    assert bytes(header) == header_of(BODY)


@pytest.mark.parametrize(
    "body",
    [b"", b"\x85", b"\x85\0", b"\xff" * 6 + b"\1", b"\x50\x60\x53"],
    ids=["empty", "number without end", "longer form", "huge number", "unit twice"],
)
def test_list_that_does_not_add_up_is_no_header(body: bytes) -> None:
    assert parse_header(header_of(body) + b"\0" * 8) is None


@pytest.mark.parametrize("size", [0, 11, 15, 16, 18, 65535])
def test_size_that_does_not_add_up_is_no_header(size: int) -> None:
    assert parse_header(header_of(BODY, size=size) + b"\0" * 8) is None


def test_numbers_have_up_to_six_bytes() -> None:
    largest = (1 << 42) - 1
    header = parse_header(header_of(b"\xff" * 5 + b"\x7f") + b"\0")
    assert header is not None
    assert (header.carriers, header.widths) == ((largest // 16,), (16,))
    assert parse_header(bytes(FrameHeader(1, 1, 0, (largest // 16 + 1,))) + b"\0") is None


def test_bytes_of_the_header() -> None:
    fields = b"\x9eNQ\x04" + b"\1\2" + b"\0\x14" + b"\0\0\1\x4d"
    assert bytes(HEADER) == checked(fields + b"\x50" + b"\xcf\x25" + b"\x21")


@pytest.mark.parametrize("bits", [1, 2, 16])
def test_bits_per_weight(bits: int) -> None:
    header = parse_header(header_of(bytes([0x50 + bits - 1])) + b"\0")
    assert header == FrameHeader(1, 1, 0, (5,), (bits,))


@pytest.mark.parametrize("version", [1, 2, 3, 5])
def test_other_versions_of_the_frame_are_no_header(version: int) -> None:
    fields = bytearray(header_of(BODY)[:-4])
    fields[3] = version
    assert parse_header(checked(bytes(fields)) + b"\0") is None


def test_record_size_has_a_limit() -> None:
    assert parse_header(header_of(BODY, record=MAX_RECORD_SIZE) + b"\0") is not None
    assert parse_header(header_of(BODY, record=MAX_RECORD_SIZE + 1) + b"\0") is None
    with pytest.raises(LimitError):
        bytes(FrameHeader(1, 1, MAX_RECORD_SIZE + 1, (5,)))


def test_layer_0_is_no_header() -> None:
    fields = bytearray(header_of(BODY)[:-4])
    fields[5] = 0
    assert parse_header(checked(bytes(fields)) + b"\0") is None


def test_layers_have_a_limit() -> None:
    with pytest.raises(LimitError, match="255"):
        bytes(FrameHeader(1, 256, 1, (5,)))


def test_list_has_a_limit() -> None:
    carriers = tuple(1 << 20 | unit for unit in range(22_000))
    with pytest.raises(LimitError, match="too large"):
        bytes(FrameHeader(1, 1, 1, carriers))


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


def test_longest_header() -> None:
    """Its size has two bytes."""
    longest = FrameHeader(1, 1, 0, (0,) * (65_535 - 16))
    assert len(bytes(longest)) == 65_535
    with pytest.raises(LimitError):
        bytes(FrameHeader(1, 1, 0, (0,) * (65_536 - 16)))
