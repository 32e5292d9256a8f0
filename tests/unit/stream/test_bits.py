"""Fields are read and written as the standard says, and never read past the end."""

import pytest

import samples
from nnguard._stream.bits import BitReader, BitWriter
from nnguard.errors import FormatError


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
    data = bytes(samples.BitWriter().u(1, zeros + 1).u(0, zeros + 7))
    if zeros + 7 <= 32:
        assert BitReader(data).ue(7) == ((1 << zeros) - 1) << 7
    else:
        with pytest.raises(FormatError, match="too large"):
            BitReader(data).ue(7)


@pytest.mark.parametrize("read", ["u", "ue", "i", "ie"])
def test_end_of_data(read: str) -> None:
    for data in (b"", b"\0", b"\0\0\0"):
        with pytest.raises(FormatError, match="too early") as caught:
            getattr(BitReader(data, offset=20), read)(30)
        assert caught.value.offset == 20 + len(data)


@pytest.mark.parametrize(
    ("order", "value", "digits"),
    [
        (0, 0, "1"),
        (0, 1, "010"),
        (0, 2, "011"),
        (0, 3, "00100"),
        (1, 0, "10"),
        (1, 2, "0100"),
        (7, 127, "11111111"),
        (7, 128, "0100000000"),
    ],
)
def test_golomb_codes_are_written(order: int, value: int, digits: str) -> None:
    writer = BitWriter()
    writer.ue(order, value)
    writer.u(-len(digits) % 8, 0)
    expected = digits.ljust(-(-len(digits) // 8) * 8, "0")
    assert writer.to_bytes() == int(expected, 2).to_bytes(len(expected) // 8, "big")


@pytest.mark.parametrize(
    ("value", "digits"),
    [(0, "1"), (1, "010"), (-1, "011"), (2, "00100"), (-2, "00101"), (3, "00110")],
)
def test_signed_golomb_codes(value: int, digits: str) -> None:
    writer = BitWriter()
    writer.ie(0, value)
    writer.u(-len(digits) % 8, 0)
    assert writer.to_bytes() == int(digits.ljust(8, "0"), 2).to_bytes(1, "big")
    assert BitReader(writer.to_bytes()).ie(0) == value


@pytest.mark.parametrize(("width", "value"), [(0, 1), (3, 8), (8, 256), (4, -1)])
def test_numbers_that_do_not_fit_are_not_written(width: int, value: int) -> None:
    with pytest.raises(ValueError, match=f"{value} does not fit into {width} bits"):
        BitWriter().u(width, value)


def test_nothing_written_is_no_bytes() -> None:
    assert BitWriter().to_bytes() == b""


@pytest.mark.parametrize("before", range(8))
def test_alignment_is_written(before: int) -> None:
    writer = BitWriter()
    writer.u(before, 0)
    writer.align()
    assert writer.to_bytes() == bytes([1 << 7 - before])
