"""Headers are read as the stock coder writes them; what is not known makes a unit opaque."""

from dataclasses import replace

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._stream.headers import (
    EntryPoint,
    PayloadType,
    TensorHeader,
    write_model_parameters,
    write_tensor_header,
)


def header_of(*units: bytes) -> TensorHeader | None:
    return nnguard.Stream.from_bytes(samples.stream_of(*units))[2].tensor


def test_header_of_the_stock_encoder() -> None:
    arrays = {
        "w": np.ones((3, 200, 70000), np.float32)[:, :, :3].copy(),
        "counts": np.arange(5, dtype=np.int32),
        "scalar": np.float32(1.5) * np.ones((), np.float32),
    }
    stream = nnguard.Stream.from_bytes(
        stock.encode(arrays, qp_density=3, unary_length_minus1=4, dependent=False)
    )
    headers = {unit.name: unit.tensor for unit in stream if unit.tensor is not None}
    assert set(headers) == set(arrays)
    w = headers["w"]
    assert (w.payload_type, w.shape, w.dependent) == (PayloadType.FLOAT, (3, 200, 3), False)
    assert (w.unary_length, w.qp_density, w.profile, w.size) == (5, 3, 1, 1800)
    assert headers["counts"].payload_type == PayloadType.INT
    assert headers["scalar"].shape == (1,)


@pytest.mark.parametrize("dependent", [True, False])
def test_quantization_of_the_stock_encoder(dependent: bool) -> None:
    stream = nnguard.Stream.from_bytes(samples.small_stream(dependent=dependent))
    tensors = [unit.tensor for unit in stream if unit.tensor is not None]
    weights = [tensor for tensor in tensors if len(tensor.shape) > 1]
    assert [tensor.dependent for tensor in weights] == [dependent]


@pytest.mark.parametrize("shape", [(1,), (7, 1), (1, 2, 3, 4, 5), (127, 128), (1 << 20, 4095)])
def test_shapes(shape: tuple[int, ...]) -> None:
    header = header_of(samples.data_unit("w", shape))
    assert header is not None
    assert header.shape == shape
    assert header.size == int(np.prod(shape, dtype=object))


def test_payload_offset_is_where_the_payload_begins() -> None:
    for name in ("", "a", "weights of all kinds"):
        unit = samples.data_unit(name, (16, 32), b"payload")
        header = header_of(unit)
        assert header is not None
        assert unit[header.payload_offset :] == b"payload"


@pytest.mark.parametrize(
    "unit",
    [
        samples.data_unit("w", payload_type=samples.BLOCK),
        samples.data_unit("w", payload_type=9),
        samples.data_unit("w", scan_order=1),
        samples.data_unit("w", codebook=True),
        samples.data_unit("w", (0, 5)),
    ],
    ids=["block", "unknown payload", "scan order", "codebook", "empty"],
)
def test_tensor_that_is_not_understood_is_opaque(unit: bytes) -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(unit))
    assert (stream[2].name, stream[2].tensor) == ("w", None)
    assert bytes(stream) == samples.stream_of(unit)


@pytest.mark.parametrize("count", [0, 33, 1000])
def test_number_of_dimensions_has_a_limit(count: int) -> None:
    with pytest.raises(nnguard.errors.FormatError, match=f"{count} dimensions"):
        header_of(samples.data_unit("w", (1,) * count))


def test_model_without_quantization_has_no_quantized_tensors() -> None:
    units = (samples.start_unit(), samples.model_unit(quantized=False), samples.data_unit("w"))
    stream = nnguard.Stream.from_bytes(b"".join(units))
    assert (stream[2].name, stream[2].tensor) == ("w", None)


def test_base_qp_belongs_to_every_tensor() -> None:
    units = (samples.start_unit(), samples.model_unit(base_qp=-7), samples.data_unit("w"))
    header = nnguard.Stream.from_bytes(b"".join(units))[2].tensor
    assert header is not None
    assert header.base_qp == -7


def test_profiles_that_are_not_known_are_opaque() -> None:
    units = (samples.start_unit(9), samples.model_unit(), samples.data_unit("w"))
    assert nnguard.Stream.from_bytes(b"".join(units))[2].tensor is None


def test_every_truncation_of_a_header_is_noticed() -> None:
    full = samples.data_unit("weight", (300, 20, 3))
    header = header_of(full)
    assert header is not None
    for length in range(3, header.payload_offset):
        cut = samples.unit(samples.NDU, full[3:length])
        with pytest.raises(nnguard.errors.FormatError) as caught:
            header_of(cut)
        start = len(samples.stream_of())
        assert caught.value.offset is not None
        assert start < caught.value.offset <= start + length


def test_every_truncation_of_a_model_parameter_set_is_noticed() -> None:
    body = samples.model_unit()[3:]
    for length in range(len(body)):
        data = samples.start_unit() + samples.unit(samples.MPS, body[:length])
        with pytest.raises(nnguard.errors.FormatError, match="too early"):
            nnguard.Stream.from_bytes(data)


@pytest.mark.parametrize("name", samples.ALL)
def test_headers_of_the_stock_encoder_are_written_again(name: str) -> None:
    stream = nnguard.Stream.open(samples.path_of(name))
    position = 0
    for index, unit in enumerate(stream):
        if unit.kind != samples.NDU:
            continue
        header, data = stream.coded_tensor(index), unit.read()
        assert header is not None
        fields_at = 5 if data[0] & 0x80 else 3
        written = write_tensor_header(header, position)
        assert written == data[fields_at : header.payload_offset]
        position += 1
    assert position >= 9


@pytest.mark.parametrize("name", samples.ALL)
def test_model_parameters_of_the_stock_encoder_are_written_again(name: str) -> None:
    stream = nnguard.Stream.open(samples.path_of(name))
    assert write_model_parameters(3 if name == "density3" else 2) == stream[1].read()[3:]


def test_header_of_blocks_has_its_entry_points() -> None:
    stream = nnguard.Stream.open(samples.path_of("scan2"))
    found = 0
    for index, unit in enumerate(stream):
        header = stream.coded_tensor(index)
        if header is None or header.scan_order == 0:
            continue
        assert unit.tensor is None, "nothing is hidden in it"
        points = header.entry_points
        assert len(points) == header.block_rows - 1 == (header.shape[0] - 1) // 16
        assert [point.offset for point in points] == sorted({point.offset for point in points})
        assert all(0 <= point.value < 256 and 0 <= point.state < 8 for point in points)
        found += len(points)
    assert found > 5


def blocks_of(shape: tuple[int, ...], scan_order: int, *distances: int) -> bytes:
    """Return the fields of a TCQ tensor whose entry points have these distances."""
    bits = samples.BitWriter().u(samples.FLOAT, 5).u(0b001, 3).text("w")
    bits.u(0, 1).u(0, 1).u(1, 1).u(0b10, 2).u(0, 4).ue(len(shape), 1)
    for size in shape:
        bits.ue(size, 7)
    bits.ue(0, 1).u(scan_order, 4)
    for number, distance in enumerate(distances):
        bits.u(7, 8).u(number % 8, 3)
        if number:
            bits.ie(distance, 7)
        else:
            bits.ue(distance, 11)
    return samples.unit(samples.NDU, bytes(bits.align()))


def coded_header(unit: bytes) -> TensorHeader | None:
    return nnguard.Stream.from_bytes(samples.stream_of(unit)).coded_tensor(2)


def test_entry_points_are_told_by_how_distances_change() -> None:
    header = coded_header(blocks_of((40, 9), 1, 100, 0, -40, 5))
    assert header is not None
    assert header.block_rows == 5
    assert header.entry_points == (
        EntryPoint(100, 7, 0),
        EntryPoint(200, 7, 1),
        EntryPoint(260, 7, 2),
        EntryPoint(325, 7, 3),
    )


def test_entry_points_do_not_go_backwards() -> None:
    with pytest.raises(nnguard.errors.FormatError, match="backward") as caught:
        coded_header(blocks_of((40, 9), 1, 100, -101, 0, 0))
    assert caught.value.offset is not None


@pytest.mark.parametrize("scan_order", range(5, 16))
def test_blocks_that_the_standard_does_not_have_are_refused(scan_order: int) -> None:
    unit = blocks_of((9, 9), scan_order)
    assert header_of(unit) is None, "but they are carried"
    with pytest.raises(nnguard.errors.FormatError, match=f"scan order {scan_order}"):
        coded_header(unit)


def test_column_has_no_entry_points() -> None:
    header = coded_header(blocks_of((8, 1), 1))
    assert header is not None
    assert not header.in_blocks
    with pytest.raises(nnguard.errors.FormatError, match="blocks in a tensor that has none"):
        coded_header(blocks_of((9, 1), 1, 5))


@pytest.mark.parametrize(
    ("shape", "scan_order", "blocks"),
    [((1, 9), 4, 0), ((9, 1), 4, 0), ((9,), 0, 0), ((9, 9), 0, 0), ((8, 9), 1, 1), ((9, 9), 1, 2)],
)
def test_rows_of_blocks(shape: tuple[int, ...], scan_order: int, blocks: int) -> None:
    header = header_of(samples.data_unit("w", shape))
    assert header is not None
    header = replace(header, scan_order=scan_order)
    assert (header.in_blocks, header.block_rows) == (blocks > 0, max(blocks, 1))
