"""One tensor, entropy-coded: exact whoever encoded it, refused where it is damaged."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._compression.quantizing import dequantize
from nnguard._stream import _coder, coding
from nnguard._stream.coding import (
    Indices,
    Parameters,
    decode_payload,
    decode_pieces,
    encode_payload,
    find_zero_rows,
    parameters_of,
    piece_ranges,
    search_start_states,
    usual_start_states,
)
from nnguard._stream.headers import PayloadType, TensorHeader
from nnguard._stream.quantized import MAX_WEIGHTS, decode, encode
from nnguard._stream.units import Unit

LARGEST = (1 << 31) - 1


def header_of(
    shape: tuple[int, ...] = (20, 32),
    *,
    dependent: bool = False,
    scan_order: int = 0,
    unary_length: int = 11,
    payload_type: PayloadType = PayloadType.FLOAT,
) -> TensorHeader:
    return TensorHeader(
        name="w",
        payload_type=payload_type,
        shape=shape,
        dependent=dependent,
        unary_length=unary_length,
        profile=1,
        qp_density=2,
        base_qp=0,
        scan_order=scan_order,
        data_format=None,
        payload_offset=0,
    )


def random_indices(header: TensorHeader) -> Indices:
    """Return indices that a tensor can have, with rows of zeros among them."""
    rng = np.random.default_rng(header.size)
    indices = np.rint(rng.laplace(0, 1.5, header.shape)).astype(np.int32)
    indices[rng.random(header.shape[0]) < 0.3] = 0
    return samples.indices_of(indices, header.scan_order) if header.dependent else indices


def encoded(
    header: TensorHeader, indices: Indices, parameters: Parameters | None = None
) -> tuple[TensorHeader, bytes]:
    """Encode indices; return the header with entry points, and the payload."""
    parameters = parameters or Parameters(-38, usual_start_states(header), b"")
    payload, points = encode_payload(header, [indices.reshape(-1)], parameters)
    return replace(header, entry_points=points), payload


def in_parts(
    header: TensorHeader, payload: bytes, size: int | None = None, **options: Any
) -> Iterator[tuple[range, Indices, Parameters]]:
    """Decode a payload that comes in parts of some size; in one, if None."""
    size = size or max(len(payload), 1)
    parts = (payload[at : at + size] for at in range(0, len(payload), size))
    return decode_pieces(header, parts, len(payload), **options)


def quantized(stream: nnguard.Stream) -> list[Unit]:
    return [
        unit
        for unit in stream
        if unit.tensor is not None and unit.tensor.payload_type == samples.FLOAT
    ]


def weight_of(data: bytes) -> Unit:
    return max(quantized(nnguard.Stream.from_bytes(data)), key=lambda unit: unit.size)


# What is decoded encodes to the same bytes


@pytest.mark.parametrize("name", samples.ALL)
def test_tensors_of_the_stock_encoder_are_encoded_to_the_same_bytes(name: str) -> None:
    for unit in quantized(nnguard.Stream.open(samples.path_of(name))):
        assert encode(decode(unit)) == unit.read(), unit.name


@pytest.mark.parametrize("name", samples.ALL)
def test_payloads_of_the_stock_encoder_are_encoded_to_the_same_bytes(name: str) -> None:
    """Those in blocks and of integers, too."""
    stream = nnguard.Stream.open(samples.path_of(name))
    coded = 0
    for index, unit in enumerate(stream):
        header = stream.coded_tensor(index) if unit.kind == samples.NDU else None
        if header is None or header.payload_type == PayloadType.RAW_FLOAT:
            continue
        payload = unit.read()[header.payload_offset :]
        indices, parameters = decode_payload(header, payload)
        again, points = encode_payload(header, [indices.reshape(-1)], parameters)
        assert (again, points) == (payload, header.entry_points), unit.name
        coded += 1
    assert coded >= 9


@pytest.mark.parametrize("name", ["default", "urq_nopopt", "norowskip", "density3", "bitdepth8"])
def test_weights_are_those_of_the_stock_decoder(name: str) -> None:
    expected = stock.decode(samples.read(name))
    for unit in quantized(nnguard.Stream.open(samples.path_of(name))):
        weights = dequantize(decode(unit))
        assert weights.dtype == np.float32
        assert np.array_equal(weights, expected[unit.name])


@pytest.mark.parametrize("name", ["default", "density3", "qp20"])
def test_step_is_the_distance_of_weights(name: str) -> None:
    for unit in quantized(nnguard.Stream.open(samples.path_of(name))):
        tensor = decode(unit)
        assert np.allclose(dequantize(tensor), tensor.indices * tensor.step, rtol=1e-6)


def test_unit_with_a_size_field_that_no_encoder_writes_is_refused() -> None:
    data = samples.split(samples.small_stream())[4]
    long = samples.unit(samples.NDU, data[3:], long=True)
    unit = nnguard.Stream.from_bytes(samples.stream_of(long))[2]
    with pytest.raises(nnguard.errors.FormatError, match="unusual size field") as caught:
        decode(unit)
    assert caught.value.offset == unit.offset


# What an encoder chose comes back


@pytest.mark.parametrize("optimized", [True, False])
@pytest.mark.parametrize("skipping", [True, False])
def test_choices_of_the_stock_encoder_are_read(optimized: bool, skipping: bool) -> None:
    array = np.random.default_rng(0).laplace(0, 0.05, (50, 40)).astype(np.float32)
    array[10:20] = 0
    data = stock.encode(
        {"w": array}, parameter_optimization=optimized, row_skipping=skipping, qp=-30
    )
    tensor = decode(weight_of(data))
    chosen = tensor.parameters
    pieces = [tensor.indices.reshape(-1)]
    searched = search_start_states(tensor.header, pieces, chosen.skipped_rows)
    assert chosen.qp == tensor.qp == -30
    assert chosen.start_states == (searched if optimized else usual_start_states(tensor.header))
    assert chosen.skipped_rows == (find_zero_rows(tensor.header, pieces) if skipping else b"")
    assert np.flatnonzero(np.frombuffer(chosen.skipped_rows, bool)).tolist() == (
        list(range(10, 20)) if skipping else []
    )


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("scan_order", range(3))
@pytest.mark.parametrize("unary_length", [1, 8, 256])
def test_any_choice_comes_back(dependent: bool, scan_order: int, unary_length: int) -> None:
    """Also what the stock encoder never chooses: any start states, some zero rows unflagged."""
    header = header_of(dependent=dependent, scan_order=scan_order, unary_length=unary_length)
    rng = random.Random(unary_length)
    indices = random_indices(header)
    zero = np.flatnonzero(~indices.any(axis=1)).tolist()
    assert len(zero) > 4
    for flagged in ([], zero[::2], zero[1:], zero):
        skipped = bytes(int(row in flagged) for row in range(20))
        states = bytes(rng.randrange(9) for _ in usual_start_states(header))
        parameters = Parameters(rng.choice([-128, -1, 0, 127]), states, skipped)
        found, read = decode_payload(*encoded(header, indices, parameters))
        assert read == parameters
        assert np.array_equal(found, indices)


def test_zero_rows_that_a_foreign_encoder_left_unflagged_survive() -> None:
    source = dict(np.load(samples.FOLDER / "source.npz"))["fc1.weight"].copy()
    source[10:30] = 0
    tensor = decode(weight_of(stock.encode({"w": source}, qp=-32)))
    flags = np.frombuffer(tensor.parameters.skipped_rows, np.uint8)
    assert flags.sum() >= 20
    fewer = flags.copy()
    fewer[np.flatnonzero(flags)[::3]] = 0
    for skipped in (fewer.tobytes(), bytes(flags.size), b""):
        foreign = replace(tensor, parameters=replace(tensor.parameters, skipped_rows=skipped))
        data = samples.stream_of(encode(foreign))
        unit = nnguard.Stream.from_bytes(data)[2]
        again = decode(unit)
        assert again.parameters == foreign.parameters
        assert np.array_equal(again.indices, tensor.indices)
        assert encode(again) == unit.read()


def test_rows_that_are_skipped_have_to_be_zero() -> None:
    tensor = decode(weight_of(samples.small_stream()))
    flags = bytes(29) + b"\1"
    skipping = replace(tensor, parameters=replace(tensor.parameters, skipped_rows=flags))
    with pytest.raises(ValueError, match=r"tensor conv\.weight skips rows that are not zero"):
        encode(skipping)
    zero = tensor.indices.copy()
    zero[29] = 0
    assert encode(skipping.with_indices(zero))


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("unary_length", [1, 11, 256])
def test_large_indices_survive(dependent: bool, unary_length: int) -> None:
    header = header_of((2, 5), dependent=dependent, unary_length=unary_length)
    indices = np.zeros((2, 5), np.int32)
    indices[0, :4] = [1 << 20, -(1 << 20), LARGEST - 1, -(LARGEST - 1)]
    if not dependent:
        indices[1] = [LARGEST, -LARGEST, -LARGEST - 1, 1 << 30, -(1 << 30)]
    header, payload = encoded(header, indices)
    assert np.array_equal(decode_payload(header, payload)[0], indices)


# Damage


def test_payload_that_is_missing_is_refused() -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(samples.data_unit("w", payload=b"")))
    with pytest.raises(
        nnguard.errors.FormatError, match="payload of tensor w is damaged"
    ) as caught:
        decode(stream[2])
    assert caught.value.offset == stream.size


@pytest.fixture(
    params=[
        (dependent, scan_order, payload_type)
        for dependent, payload_type in [
            (True, PayloadType.FLOAT),
            (False, PayloadType.FLOAT),
            (False, PayloadType.INT),
        ]
        for scan_order in (0, 1)
    ],
    ids=str,
)
def small(request: pytest.FixtureRequest) -> tuple[TensorHeader, bytes]:
    """A tensor whose payload has some 200 bytes, with all that a payload can have."""
    dependent, scan_order, payload_type = request.param
    header = header_of(dependent=dependent, scan_order=scan_order, payload_type=payload_type)
    indices = random_indices(header)
    skipped = find_zero_rows(header, _pieces_of(header, indices))
    states = search_start_states(header, [indices.reshape(-1)], skipped)
    assert any(skipped)
    assert any(states)
    qp = -38 if payload_type == PayloadType.FLOAT else 0
    header, payload = encoded(header, indices, Parameters(qp, states, skipped))
    assert np.array_equal(decode_payload(header, payload)[0], indices)
    return header, payload


def _pieces_of(header: TensorHeader, indices: Indices) -> Iterator[Indices]:
    flat = indices.reshape(-1)
    return (flat[piece.start : piece.stop] for piece in piece_ranges(header))


def test_payload_that_ends_too_early_is_refused_at_every_byte(
    small: tuple[TensorHeader, bytes],
) -> None:
    header, payload = small
    for length in range(len(payload)):
        with pytest.raises(
            nnguard.errors.FormatError, match="payload of tensor w is damaged"
        ) as caught:
            decode_payload(header, payload[:length], offset=1000)
        assert caught.value.offset is not None
        assert 1000 <= caught.value.offset <= 1000 + length


def test_bytes_behind_the_end_are_refused(small: tuple[TensorHeader, bytes]) -> None:
    header, payload = small
    for rest in (b"\0", b"\x80", b"\xff", bytes(100), payload):
        with pytest.raises(nnguard.errors.FormatError, match="bytes behind the end") as caught:
            decode_payload(header, payload + rest, offset=1000)
        assert caught.value.offset == 1000 + len(payload)


def test_every_flipped_bit_is_refused_or_read(small: tuple[TensorHeader, bytes]) -> None:
    """What is read after all encodes to the bytes that it came from: there are no two for one."""
    header, payload = small
    read = 0
    for bit in range(8 * len(payload)):
        changed = bytearray(payload)
        changed[bit // 8] ^= 128 >> bit % 8
        try:
            indices, parameters = decode_payload(header, bytes(changed))
        except nnguard.errors.FormatError:
            continue
        read += 1
        again, points = encode_payload(header, [indices.reshape(-1)], parameters)
        assert (again, points) == (bytes(changed), header.entry_points)
    assert read < len(payload)


def test_wrong_stop_bits_are_refused(small: tuple[TensorHeader, bytes]) -> None:
    header, payload = small
    stop = payload[-1] & -payload[-1]
    wrong = [payload[-1] ^ stop]
    wrong += [payload[-1] | bit for bit in (1, 2, 4, 64) if bit < stop]
    for last in wrong:
        with pytest.raises(nnguard.errors.FormatError, match=r"(wrong stop bits|no end)") as caught:
            decode_payload(header, payload[:-1] + bytes([last]), offset=1000)
        assert caught.value.offset is not None
        assert 1000 + len(payload) - 2 <= caught.value.offset < 1000 + len(payload)


@pytest.mark.parametrize("first", [510, 511])
def test_first_bits_that_no_encoder_writes_are_refused(first: int) -> None:
    payload = (first << 71).to_bytes(10, "big")
    with pytest.raises(
        nnguard.errors.FormatError, match="first bits that no encoder writes"
    ) as caught:
        decode_payload(header_of(), payload, offset=1000)
    assert caught.value.offset == 1000
    with pytest.raises(nnguard.errors.FormatError) as other:
        decode_payload(header_of(), (509 << 71).to_bytes(10, "big"))
    assert "first bits" not in str(other.value)


@pytest.mark.parametrize("unary_length", [1, 11, 256])
@pytest.mark.parametrize(
    ("dependent", "payload_type", "largest"),
    [
        (False, PayloadType.INT, LARGEST),
        (False, PayloadType.INT, -LARGEST - 1),
        (False, PayloadType.FLOAT, LARGEST),
        (False, PayloadType.FLOAT, -LARGEST - 1),
        (True, PayloadType.FLOAT, LARGEST - 1),
        (True, PayloadType.FLOAT, -LARGEST + 1),
    ],
)
def test_integers_beyond_32_bits_are_refused(
    dependent: bool, payload_type: PayloadType, largest: int, unary_length: int
) -> None:
    """Payloads like that of the largest there is: of a longer prefix, or of more behind it."""
    header = header_of(
        (1,), dependent=dependent, payload_type=payload_type, unary_length=unary_length
    )
    parameters = Parameters(0, usual_start_states(header), b"")
    _, payload = encoded(header, np.array([largest], np.int32), parameters)
    assert decode_payload(header, payload)[0].tolist() == [largest]
    number, size, refused = int.from_bytes(payload, "big"), len(payload), 0
    for bit, sign in itertools.product(range(8 * size), (1, -1)):
        other = (number + sign * (1 << bit)) % (1 << 8 * size)
        try:
            (index,) = decode_payload(header, other.to_bytes(size, "big"))[0].tolist()
        except nnguard.errors.FormatError as error:
            refused += "an index beyond 32 bits" in str(error)
        else:
            assert abs(index) <= abs(largest)
    assert refused


def in_blocks(*, dependent: bool) -> tuple[TensorHeader, bytes]:
    header = header_of((40, 30), dependent=dependent, scan_order=1)
    return encoded(header, random_indices(header))


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("at", range(4))
def test_entry_points_that_do_not_fit_are_refused(dependent: bool, at: int) -> None:
    header, payload = in_blocks(dependent=dependent)
    assert len(header.entry_points) == 4
    point = header.entry_points[at]
    wrong = [
        point._replace(offset=point.offset + 1),
        point._replace(offset=point.offset - 1),
        point._replace(offset=8 * len(payload)),
        point._replace(offset=1 << 40),
        point._replace(value=point.value ^ 1),
        point._replace(value=point.value ^ 255),
    ]
    if dependent:
        wrong += [point._replace(state=point.state ^ bit) for bit in (1, 2, 4)]
    for other in wrong:
        points = [*header.entry_points[:at], other, *header.entry_points[at + 1 :]]
        damaged = replace(header, entry_points=tuple(points))
        with pytest.raises(nnguard.errors.FormatError, match="payload of tensor w is damaged"):
            decode_payload(damaged, payload)
        for block_row in (at, at + 1):  # whoever decodes a part notices, on either side
            with pytest.raises(nnguard.errors.FormatError, match="payload of tensor w is damaged"):
                list(in_parts(damaged, payload, block_rows=range(block_row, block_row + 1)))


@pytest.mark.parametrize("dependent", [True, False])
def test_damaged_payloads_neither_crash_nor_print(
    dependent: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    unit = weight_of(samples.small_stream(dependent=dependent, weights=1000))
    data = unit.read()
    assert unit.tensor is not None
    start = unit.tensor.payload_offset
    rng = random.Random(0)
    damaged = []
    for _ in range(250):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 4, 100])):
            changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    damaged += [data[:start] + fill * 50 for fill in (b"\0", b"\xff", b"\xaa", b"\x55")]
    found = 0
    for payload in damaged:
        body = payload[2:]
        reread = nnguard.Stream.from_bytes(
            samples.stream_of((len(body) + 2).to_bytes(2, "big") + body)
        )[2]
        try:
            tensor = decode(reread)
        except nnguard.errors.FormatError:
            continue
        found += 1
        assert encode(tensor) == reread.read()
    assert found < len(damaged) / 2
    assert capfd.readouterr() == ("", "")


# Limits


@pytest.mark.parametrize(
    "shape", [(MAX_WEIGHTS + 1,), (1 << 31, 1 << 31), ((1 << 32) - 1,) * 32, (1, MAX_WEIGHTS * 2)]
)
def test_huge_tensor_is_refused_before_it_takes_memory(shape: tuple[int, ...]) -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(samples.data_unit("w", shape)))
    with pytest.raises(nnguard.errors.LimitError, match="limit"):
        decode(stream[2])


def test_only_quantized_tensors_are_decoded() -> None:
    stream = nnguard.Stream.from_bytes(samples.small_stream())
    for unit in stream:
        if unit not in quantized(stream):
            with pytest.raises(ValueError, match="not a quantized tensor"):
                decode(unit)


# Pieces

SHAPES = [
    (1,),
    (1001,),
    (1, 1),
    (1, 1001),
    (1001, 1),
    (7, 99),
    (8, 100),
    (9, 101),
    (65, 3, 5),
    (3, 700, 1, 2),
]


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut pieces so small that a test has many of them."""
    monkeypatch.setattr(coding, "_PIECE", 256)
    return 256


@pytest.mark.parametrize("scan_order", range(5))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pieces_cover_a_tensor_in_order(
    shape: tuple[int, ...], scan_order: int, tiny_pieces: int
) -> None:
    header = header_of(shape, scan_order=scan_order)
    pieces = list(piece_ranges(header))
    assert list(itertools.chain(*pieces)) == list(range(header.size))
    assert all(pieces)
    unit = header.block_height * header.width if header.in_blocks else header.width
    assert max(map(len, pieces)) <= max(tiny_pieces, unit * header.in_blocks)
    for piece in pieces:
        if header.in_blocks or len(piece) >= header.width:
            assert piece.start % unit == 0
            assert piece.stop % unit == 0 or piece.stop == header.size


@pytest.mark.parametrize("scan_order", range(1, 4))
def test_rows_of_blocks_have_pieces_of_their_own(scan_order: int, tiny_pieces: int) -> None:
    header = header_of((65, 3, 5), scan_order=scan_order)
    unit = header.block_height * header.width
    for start, stop in itertools.combinations(range(header.block_rows + 1), 2):
        found = list(itertools.chain(*piece_ranges(header, range(start, stop))))
        assert found == list(range(start * unit, min(stop * unit, header.size)))


@pytest.mark.parametrize("skipping", [True, False])
@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("scan_order", range(3))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pieces_are_coded_as_the_whole(
    shape: tuple[int, ...],
    scan_order: int,
    dependent: bool,
    skipping: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header = header_of(shape, dependent=dependent, scan_order=scan_order)
    indices = random_indices(header)
    flat = indices.reshape(-1)
    skipped = b""
    if skipping and not (dependent and header.in_blocks):  # where states are not those of zeros
        skipped = find_zero_rows(header, _pieces_of(header, indices))
    states = search_start_states(header, [flat], skipped)
    whole = encoded(header, indices, Parameters(3, states, skipped))

    monkeypatch.setattr(coding, "_PIECE", 256)
    pieces = list(_pieces_of(header, indices))
    assert search_start_states(header, pieces, skipped) == states
    payload, points = encode_payload(header, pieces, Parameters(3, states, skipped))
    assert (replace(header, entry_points=points), payload) == whole
    found, parameters = decode_payload(*whole)
    assert np.array_equal(found, indices)
    assert parameters == Parameters(3, states, skipped)


@pytest.mark.parametrize("shape", [(1000,), (7, 99), (40, 300), (1, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("scan_order", [0, 2])
def test_zero_rows_are_found(shape: tuple[int, ...], scan_order: int, tiny_pieces: int) -> None:
    header = header_of(shape, scan_order=scan_order)
    indices = random_indices(header)
    found = find_zero_rows(header, _pieces_of(header, indices))
    if 1 in (shape[0], header.width):
        assert found == b""
    else:
        assert list(found) == [int(not row.any()) for row in indices]
        assert any(found)
    assert find_zero_rows(replace(header, profile=0), _pieces_of(header, indices)) == b""


# Parts of a payload


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 1 << 20])
@pytest.mark.parametrize("dependent", [True, False])
def test_payload_may_come_in_parts(dependent: bool, size: int, tiny_pieces: int) -> None:
    header = header_of(dependent=dependent)
    indices = random_indices(header)
    _, payload = encoded(header, indices)
    found = [part.copy() for _, part, _ in in_parts(header, payload, size)]
    assert np.array_equal(np.concatenate(found), indices.reshape(-1))
    _, _, decoder = next(iter(in_parts(header, payload, size)))
    assert parameters_of(decoder) == decode_payload(header, payload)[1]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_damage_is_found_in_parts_as_in_the_whole(size: int) -> None:
    header = header_of(dependent=True)
    _, payload = encoded(header, random_indices(header))
    damaged = [payload[:length] for length in range(len(payload))]
    damaged += [payload + rest for rest in (b"\0", b"\x80", bytes(50))]
    damaged += [payload[:-1] + bytes([payload[-1] ^ bit]) for bit in (1, 16, 128)]
    damaged += [b"\xff" + payload[1:]]
    for each in damaged:
        with pytest.raises(nnguard.errors.FormatError) as whole:
            decode_payload(header, each, offset=1000)
        with pytest.raises(nnguard.errors.FormatError) as in_part:
            list(in_parts(header, each, size, offset=1000))
        assert (str(in_part.value), in_part.value.offset) == (str(whole.value), whole.value.offset)


def test_error_in_reading_a_part_is_the_error() -> None:
    header = header_of()
    _, payload = encoded(header, random_indices(header))

    def parts() -> Iterator[bytes]:
        yield payload[:20]
        raise OSError("the disk is on fire")

    with pytest.raises(OSError, match="on fire"):
        list(decode_pieces(header, parts(), len(payload)))


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("scan_order", range(1, 5))
def test_rows_of_blocks_are_decoded_on_their_own(dependent: bool, scan_order: int) -> None:
    header = header_of((150, 75), dependent=dependent, scan_order=scan_order)
    indices = random_indices(header)
    header, payload = encoded(header, indices)
    assert len(header.entry_points) == header.block_rows - 1
    alone = [range(at, at + 1) for at in reversed(range(header.block_rows))]
    for rows in (*alone, range(1, 3)):
        covered = 0
        for piece, part, _ in in_parts(header, payload, block_rows=rows):
            assert np.array_equal(part, indices.reshape(-1)[piece.start : piece.stop])
            covered += len(piece)
        edge = 4 << scan_order
        assert covered == 75 * (min(rows.stop * edge, 150) - min(rows.start * edge, 150))


def test_arrays_of_another_kind_are_not_converted_behind_the_back() -> None:
    """What is written into a converted copy would be lost."""
    weights = np.ones(4, np.float32)
    for indices in (np.zeros(4, np.int64), np.zeros(8, np.int32)[::2]):
        with pytest.raises(TypeError):
            _coder.quantize(weights, 1.0, indices)
    with pytest.raises(TypeError):
        _coder.quantize(weights.astype(np.float64), 1.0, np.zeros(4, np.int32))
