"""Whatever parses is encoded to the same bytes; numbers are read as they were written."""

import contextlib
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from nnguard._hiding.frame import MAGIC, FrameHeader, parse_header
from nnguard._stream.bits import BitReader, BitWriter
from nnguard._stream.headers import (
    EntryPoint,
    PayloadType,
    TensorHeader,
    parse_model_parameters,
    parse_tensor_header,
    write_model_parameters,
    write_tensor_header,
)
from nnguard.errors import FormatError

CARRIERS = st.integers(0, 1 << 32)
HEADERS = st.builds(
    FrameHeader,
    st.integers(0, 255),
    st.integers(1, 255),
    st.integers(0, 1 << 28),
    st.lists(CARRIERS, min_size=1, max_size=4, unique=True).map(tuple),
)


@given(HEADERS, st.binary(max_size=40))
def test_header_is_read_as_written(header: FrameHeader, rest: bytes) -> None:
    assert parse_header(bytes(header) + rest + b"\0") == header


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
    for prefix in (b"", MAGIC):
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
        st.integers(0, 9).flatmap(
            lambda order: st.tuples(st.just("ie"), st.integers(-1 << 30, 1 << 30), st.just(order))
        ),
    ),
    max_size=12,
)


@given(FIELDS, st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9))
def test_fields_are_read_as_written(fields: list[tuple[str, int, int]], text: str) -> None:
    bits = samples.BitWriter().text(text)
    for kind, value, argument in fields:
        getattr(bits, kind)(value, argument)
    reader = BitReader(bytes(bits.align()))
    assert reader.text() == text
    for kind, value, argument in fields:
        assert getattr(reader, kind)(argument) == value
    reader.align()
    assert reader.byte_position == len(bytes(bits))


@given(FIELDS, st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9))
def test_fields_are_written_as_the_standard_says(
    fields: list[tuple[str, int, int]], text: str
) -> None:
    expected, writer = samples.BitWriter().text(text), BitWriter()
    writer.text(text)
    for kind, value, argument in fields:
        getattr(expected, kind)(value, argument)
        getattr(writer, kind)(argument, value)
    writer.align()
    assert writer.to_bytes() == bytes(expected.align())


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


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


@st.composite
def tensor_headers(draw: st.DrawFn) -> TensorHeader:
    """Return a header as the stock coder writes it, with entry points where it has blocks."""
    payload = draw(st.sampled_from([PayloadType.INT, PayloadType.FLOAT, PayloadType.RAW_FLOAT]))
    raw = payload == PayloadType.RAW_FLOAT
    shape = draw(st.lists(st.integers(0 if raw else 1, 3000), min_size=1, max_size=32).map(tuple))
    header = TensorHeader(
        name=draw(NAMES),
        payload_type=payload,
        shape=shape,
        dependent=payload == PayloadType.FLOAT and draw(st.booleans()),
        unary_length=draw(st.integers(1, 256)),
        profile=1,
        qp_density=draw(st.integers(0, 7)),
        base_qp=0,
        scan_order=draw(st.integers(0, 4)) if max(shape[1:], default=0) > 1 and all(shape) else 0,
        data_format=draw(st.none() | st.integers(0, 127)),
        payload_offset=0,
    )
    further = shape[0] - 1 >> 2 + header.scan_order if header.scan_order else 0
    distances = draw(st.lists(st.integers(0, 1 << 20), min_size=further, max_size=further))
    points = [
        EntryPoint(
            offset,
            draw(st.integers(0, 255)),
            draw(st.integers(0, 7)) if header.dependent else 0,
        )
        for offset in accumulate(distances)
    ]
    return replace(header, entry_points=tuple(points))


@given(tensor_headers(), st.integers(0, 1 << 20), st.binary(max_size=20))
def test_tensor_header_is_read_as_written(
    header: TensorHeader, position: int, payload: bytes
) -> None:
    model = parse_model_parameters(write_model_parameters(header.qp_density), 1, 0)
    written = write_tensor_header(header, position)
    name, found = parse_tensor_header(written + payload, 0, model, 0, carriers_only=False)
    assert name == header.name
    assert found == replace(header, payload_offset=len(written))
    assert write_tensor_header(found, position) == written


@given(st.integers(0, 7))
def test_model_parameters_are_read_as_written(density: int) -> None:
    found = parse_model_parameters(write_model_parameters(density), 1, 0)
    assert (found.qp_density, found.base_qp, found.profile) == (density, 0, 1)
    assert not found.indexed_names
    assert not found.parent_signalling
