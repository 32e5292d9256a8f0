"""Files without a size: read to their end, if there is one."""

from __future__ import annotations

import io

import pytest

import nnguard
import nnguard._stream
from nnguard.errors import FormatError, LimitError


class Endless(io.RawIOBase):
    """Repeats its last byte forever."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or self.given > 1 << 24:
            raise MemoryError
        found = self.head[self.given : self.given + size].ljust(size, self.head[-1:])
        self.given += size
        return found


def test_what_is_not_a_stream_is_not_read_to_its_end() -> None:
    zeros = Endless(b"\0")
    with pytest.raises(FormatError, match="no start unit"):
        nnguard.inspect(zeros)  # type: ignore[arg-type]
    assert zeros.given <= 1 << 20


def test_a_stream_without_an_end_is_refused_before_memory_is(
    model: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 1 << 11)  # pages of 2 kB, 2,048 of them
    with pytest.raises(LimitError, match="bytes of memory"):
        nnguard.inspect(Endless(bytes(model)))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_a_file_that_gives_little_at_a_time_is_read_whole(model: nnguard.Stream, size: int) -> None:
    class Slow(io.BytesIO):
        def read(self, most: int | None = -1, /) -> bytes:
            return super().read(size)

    assert bytes(nnguard._stream.as_stream(Slow(bytes(model)))) == bytes(model)
