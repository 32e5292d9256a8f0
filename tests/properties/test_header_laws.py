"""Whatever parses is encoded to the same bytes; numbers are read as they were written."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnguard.errors import FormatError
from nnguard.hiding.frame import Carrier, FrameHeader, parse_head, parse_header
from nnguard.hiding.hqim import Peak
from nnguard.stream.bits import BitReader
from samples import BitWriter

PEAKS = st.builds(
    lambda magnitude, up: Peak(magnitude if up else -magnitude, 1 if up else -1),
    st.integers(0, 4096),
    st.booleans(),
)
CARRIERS = st.builds(
    Carrier,
    st.integers(0, 1 << 32),
    st.booleans(),
    st.lists(PEAKS, min_size=1, max_size=6).map(tuple),
)
HEADERS = st.builds(
    FrameHeader,
    st.integers(0, 255),
    st.integers(1, 255),
    st.integers(0, 1 << 28),
    st.lists(CARRIERS, min_size=1, max_size=4, unique_by=lambda c: c.unit).map(tuple),
)


@given(HEADERS, st.binary(max_size=40))
def test_header_is_read_as_written(header: FrameHeader, rest: bytes) -> None:
    assert parse_header(bytes(header) + rest) == header
    assert parse_head(header.head + rest + b"\0") == (header.layer, header.carriers[0])


@given(HEADERS, st.data())
def test_whatever_parses_encodes_to_the_same_bytes(
    header: FrameHeader, data: st.DataObject
) -> None:
    encoded = bytearray(bytes(header))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(0, 255))
    parsed = parse_header(bytes(encoded))
    assert parsed is None or bytes(parsed) == bytes(encoded)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_header_or_none(data: bytes) -> None:
    for prefix in (b"", b"\x9eNQ\x01"):
        parse_head(prefix + data)
        parse_header(prefix + data)


FIELDS = st.lists(
    st.one_of(
        st.integers(0, 40).flatmap(
            lambda width: st.tuples(st.just("u"), st.integers(0, (1 << width) - 1), st.just(width))
        ),
        st.integers(1, 40).flatmap(
            lambda width: st.tuples(
                st.just("i"), st.integers(-1 << width - 1, (1 << width - 1) - 1), st.just(width)
            )
        ),
        st.integers(0, 9).flatmap(
            lambda order: st.tuples(st.just("ue"), st.integers(0, 1 << 31), st.just(order))
        ),
    ),
    max_size=12,
)


@given(FIELDS, st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9))
def test_fields_are_read_as_written(fields: list[tuple[str, int, int]], text: str) -> None:
    bits = BitWriter().text(text)
    for kind, value, argument in fields:
        getattr(bits, kind)(value, argument)
    reader = BitReader(bytes(bits.align()))
    assert reader.text() == text
    for kind, value, argument in fields:
        assert getattr(reader, kind)(argument) == value
    reader.align()
    assert reader.byte_position == len(bytes(bits))


@given(
    st.binary(max_size=12), st.lists(st.tuples(st.sampled_from(["u", "ue"]), st.integers(0, 20)))
)
def test_reader_never_passes_the_end(data: bytes, reads: list[tuple[str, int]]) -> None:
    reader = BitReader(data, offset=100)
    with contextlib.suppress(FormatError):
        for kind, argument in reads:
            getattr(reader, kind)(argument)
    assert reader.byte_position <= len(data)
    with pytest.raises(FormatError) as caught:
        reader.u(8 * len(data) + 1)
    assert caught.value.offset == 100 + len(data)
