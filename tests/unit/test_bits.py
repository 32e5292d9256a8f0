"""Fields of a header are read as the standard says, and never past the end."""

import pytest

from nnguard.errors import FormatError
from nnguard.stream.bits import BitReader
from samples import BitWriter


@pytest.mark.parametrize(
    ("digits", "order", "value"),
    [("1", 0, 0), ("010", 0, 1), ("011", 0, 2), ("00100", 0, 3), ("10", 1, 0), ("0100", 1, 2)],
)
def test_golomb_codes(digits: str, order: int, value: int) -> None:
    data = int(digits.ljust(8, "0"), 2).to_bytes(1, "big")
    assert BitReader(data).ue(order) == value


def test_signed_numbers() -> None:
    reader = BitReader(bytes([0b1000_0111, 0b1111_1110]))
    assert [reader.i(4), reader.i(4), reader.i(8)] == [-8, 7, -2]


def test_reading_moves_on() -> None:
    reader = BitReader(bytes([0b1010_1100, 0xFF, 0]), offset=10)
    assert (reader.flag(), reader.flag(), reader.u(3)) == (True, False, 0b101)
    assert (reader.byte_position, reader.offset) == (1, 10)
    assert reader.u(0) == 0
    assert reader.u(4) == 0b1001
    assert (reader.byte_position, reader.offset) == (2, 11)


@pytest.mark.parametrize("digits", ["1", "10", "1000", "10000000"])
def test_alignment(digits: str) -> None:
    reader = BitReader(int(digits.rjust(8, "1"), 2).to_bytes(1, "big"))
    reader.u(8 - len(digits))
    reader.align()
    assert reader.byte_position == 1


@pytest.mark.parametrize("byte", [0b0000_0000, 0b1000_0001, 0b0100_0000, 0b1111_1111])
def test_alignment_that_is_damaged(byte: int) -> None:
    with pytest.raises(FormatError, match="alignment") as caught:
        BitReader(bytes([byte]), offset=7).align()
    assert caught.value.offset == 7


def test_text() -> None:
    reader = BitReader("größe\0".encode() + b"\x80")
    assert reader.text() == "größe"
    assert reader.u(8) == 0x80


@pytest.mark.parametrize(("data", "message"), [(b"abc", "no end"), (b"\xff\0", "UTF-8")])
def test_text_that_is_damaged(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        BitReader(data, offset=3).text()
    assert caught.value.offset == 3


@pytest.mark.parametrize("zeros", range(28, 60))
def test_numbers_have_a_limit(zeros: int) -> None:
    data = bytes(BitWriter().u(1, zeros + 1).u(0, zeros + 7))
    if zeros + 7 <= 32:
        assert BitReader(data).ue(7) == ((1 << zeros) - 1) << 7
    else:
        with pytest.raises(FormatError, match="too large"):
            BitReader(data).ue(7)


@pytest.mark.parametrize("read", ["u", "ue", "i"])
def test_end_of_data(read: str) -> None:
    for data in (b"", b"\0", b"\0\0\0"):
        with pytest.raises(FormatError, match="too early") as caught:
            getattr(BitReader(data, offset=20), read)(30)
        assert caught.value.offset == 20 + len(data)
