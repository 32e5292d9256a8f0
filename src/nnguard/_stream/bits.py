"""Reading the bit fields of a unit's header, never past its end, and writing them."""

from __future__ import annotations

from nnguard.errors import FormatError

__all__ = ["BitReader", "BitWriter"]

_MAX_GOLOMB_ORDER = 32
"""Exp-Golomb codes beyond this many bits name no size that a tensor can have."""


class BitReader:
    """Reads fields, most significant bit first, from a bounded run of bytes.

    Args:
        data: The bytes.
        offset: Where they lie in the stream, for error messages.
    """

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        # A string of digits: finding the next one and slicing are single calls.
        self._digits = bin(int.from_bytes(b"\1" + data, "big"))[3:]
        self._position = 0
        self._offset = offset

    @property
    def byte_position(self) -> int:
        """Bytes touched so far."""
        return (self._position + 7) // 8

    @property
    def offset(self) -> int:
        """Where in the stream the next bit lies, in bytes."""
        return self._offset + self._position // 8

    def u(self, width: int) -> int:
        """Read an unsigned integer of `width` bits; `u(n)` of the standard."""
        end = self._position + width
        if end > len(self._digits):
            raise self._too_short()
        value = int(self._digits[self._position : end] or "0", 2)
        self._position = end
        return value

    def flag(self) -> bool:
        """Read one bit."""
        return self.u(1) == 1

    def i(self, width: int) -> int:
        """Read a two's complement integer of `width` bits; `i(n)` of the standard."""
        value = self.u(width)
        return value - (1 << width) if value >> (width - 1) else value

    def ue(self, order: int) -> int:
        """Read an unsigned Exp-Golomb code of the given order; `ue(k)` of the standard."""
        one = self._digits.find("1", self._position)
        if one < 0:
            raise self._too_short()
        zeros = one - self._position
        if order + zeros > _MAX_GOLOMB_ORDER:
            raise FormatError("number in unit header is too large", offset=self.offset)
        self._position = one + 1
        return (((1 << zeros) - 1) << order) + self.u(order + zeros)

    def ie(self, order: int) -> int:
        """Read a signed Exp-Golomb code of the given order; `ie(k)` of the standard."""
        code = self.ue(order)
        return (code + 1) // 2 if code & 1 else -(code // 2)

    def text(self) -> str:
        """Read a zero-terminated UTF-8 string that starts on a byte; `st(v)` of the standard."""
        start = self._position // 8
        end = self._data.find(0, start)
        if end < 0:
            raise FormatError("string in unit header has no end", offset=self.offset)
        try:
            value = self._data[start:end].decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("string in unit header is not UTF-8", offset=self.offset) from None
        self._position = 8 * (end + 1)
        return value

    def align(self) -> None:
        """Read the alignment: a one, then zeros to the end of the byte."""
        offset = self.offset
        rest = 8 - self._position % 8
        if self.u(rest) != 1 << (rest - 1):
            raise FormatError("alignment bits of unit header are damaged", offset=offset)

    def _too_short(self) -> FormatError:
        return FormatError("unit header ends too early", offset=self._offset + len(self._data))


class BitWriter:
    """Writes the fields that `BitReader` reads, most significant bit first."""

    def __init__(self) -> None:
        self._digits: list[str] = []

    def u(self, width: int, value: int) -> None:
        """Write an unsigned integer of `width` bits.

        Raises:
            ValueError: The value does not fit.
        """
        if not 0 <= value < 1 << width:
            raise ValueError(f"{value} does not fit into {width} bits")
        if width:
            self._digits.append(f"{value:0{width}b}")

    def i(self, width: int, value: int) -> None:
        """Write a two's complement integer of `width` bits.

        Raises:
            ValueError: The value does not fit.
        """
        self.u(1, int(value < 0))
        self.u(width - 1, value if value >= 0 else value + (1 << width - 1))

    def ue(self, order: int, value: int) -> None:
        """Write an unsigned Exp-Golomb code of the given order."""
        scaled = (value >> order) + 1
        zeros = scaled.bit_length() - 1
        self.u(zeros, 0)
        self.u(1, 1)
        self.u(order + zeros, value - (((1 << zeros) - 1) << order))

    def ie(self, order: int, value: int) -> None:
        """Write a signed Exp-Golomb code of the given order; `ie(k)` of the standard."""
        self.ue(order, 2 * value - 1 if value > 0 else -2 * value)

    def text(self, value: str) -> None:
        """Write a zero-terminated UTF-8 string; what was written before ends on a byte."""
        for byte in value.encode():
            self.u(8, byte)
        self.u(8, 0)

    def align(self) -> None:
        """Write the alignment."""
        self.u(1, 1)
        self.u(-sum(map(len, self._digits)) % 8, 0)

    def to_bytes(self) -> bytes:
        """Return what was written; it ends on a byte."""
        digits = "".join(self._digits)
        return int(digits or "0", 2).to_bytes(len(digits) // 8, "big")
