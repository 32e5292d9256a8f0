"""Records go into few small tensors, and hostile records are refused."""

from dataclasses import replace

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._hiding import candidates, embed, extract, peek, plan_record, room_of
from nnguard._hiding.carriers import can_carry, primary_candidates
from nnguard._hiding.frame import MAX_BITS, FrameHeader, frame_record
from nnguard._hiding.hqim import max_value
from nnguard._hiding.tensor import Carrier
from nnguard._stream.coding import qp_range
from nnguard._stream.quantized import QuantizedTensor, decode, encode
from one_tensor import embed_in, restore_unit, with_qp


def tensor_of(stream: nnguard.Stream, unit: int) -> QuantizedTensor:
    return decode(stream[unit])


def hide(stream: nnguard.Stream, data: bytes, unit: int) -> nnguard.Stream:
    """Hide bytes in one unit, as an attacker would: nothing is checked."""
    marked = embed_in(tensor_of(stream, unit), np.unpackbits(np.frombuffer(data, np.uint8)))
    return stream.replace({unit: encode(marked)})


def network(*sizes: int, qp: int = -20, dependent: bool = False) -> nnguard.Stream:
    """Return a stream of tensors with so many rows of 50 weights, and one that cannot carry."""
    rng = np.random.default_rng(3)
    arrays = {f"w{rows}": rng.laplace(0, 0.5, (rows, 50)).astype(np.float32) for rows in sizes}
    arrays["bias"] = rng.normal(0, 1, 255).astype(np.float32)
    return nnguard.Stream.from_bytes(stock.encode(arrays, qp=qp, dependent=dependent))


@pytest.fixture(scope="module")
def wide() -> nnguard.Stream:
    """Two tensors of some thousand weights, and one that cannot carry."""
    return network(60, 61)


def hostile(
    wide: nnguard.Stream, *others: int, record: bytes = b"x", **changes: int
) -> nnguard.Stream:
    """Return a stream whose header, in the first tensor, lists other carriers too."""
    primary = candidates(wide)[0]
    header = FrameHeader(1, 1, len(record), (primary, *others))
    return hide(wide, frame_record(replace(header, **changes), record), primary)


def smallest(*, dependent: bool) -> tuple[nnguard.Stream, nnguard.Stream, int]:
    """Return a stream of one small tensor, the stream with eight zero bytes in it, its position."""
    weights = np.random.default_rng(3).laplace(0, 0.05, (24, 16)).astype(np.float32)
    stream = nnguard.Stream.from_bytes(stock.encode({"w": weights}, qp=-20, dependent=dependent))
    return stream, embed(stream, bytes(8), kind=1), candidates(stream)[0]


def carriers_of(stream: nnguard.Stream, size: int) -> list[str]:
    """Return the names of the tensors that a record of so many bytes would go into."""
    return [stream[carrier].name for carrier in plan_record(stream, 1, size).header.carriers]


@pytest.mark.parametrize("name", samples.SIGNABLE)
@pytest.mark.parametrize("size", [0, 1, 300])
def test_record_comes_out_of_stock_streams(name: str, size: int) -> None:
    stream = nnguard.Stream.open(samples.path_of(name))
    record = bytes(range(256)) * 2
    marked = embed(stream, record[:size], kind=7)
    taken = extract(nnguard.Stream.from_bytes(bytes(marked)))
    assert (taken.record, taken.header.kind, taken.header.layer) == (record[:size], 7, 1)
    assert bytes(taken.original) == samples.read(name)


def test_large_record_takes_several_carriers() -> None:
    stream = nnguard.Stream.open(samples.path_of("resnet20.default"))
    record = np.random.default_rng(0).bytes(4000)
    taken = extract(embed(stream, record, kind=2))
    assert len(taken.header.carriers) > 1
    assert taken.record == record
    assert bytes(taken.original) == bytes(stream)


def test_record_of_a_third_of_the_room_fits() -> None:
    stream = nnguard.Stream.open(samples.path_of("resnet20.default"))
    room = sum(room_of(stream, index).bits(1) for index in candidates(stream))
    plan_record(stream, 2, room // 24)


def test_only_carriers_change() -> None:
    stream = nnguard.Stream.open(samples.path_of("resnet20.default"))
    marked = embed(stream, bytes(300), kind=2)
    carriers = {*extract(marked).header.carriers}
    changed = {
        index
        for index, (before, after) in enumerate(zip(stream, marked, strict=True))
        if before.read() != after.read()
    }
    assert changed == carriers
    assert len(carriers) < len(candidates(stream)) / 3


@pytest.mark.parametrize("name", ["default", "urq"])
def test_layers_are_numbered_and_come_out_in_reverse(name: str) -> None:
    stream = nnguard.Stream.open(samples.path_of(name))
    marked = stream
    for layer in range(1, 7):
        marked = embed(marked, bytes([layer]) * 20 * layer, kind=layer)
    for layer in range(6, 0, -1):
        taken = extract(marked)
        assert (taken.header.layer, taken.header.kind) == (layer, layer)
        assert taken.record == bytes([layer]) * 20 * layer
        marked = taken.original
    assert bytes(marked) == bytes(stream)


def test_same_record_gives_the_same_stream() -> None:
    stream = nnguard.Stream.open(samples.path_of("default"))
    assert bytes(embed(stream, b"record", kind=1)) == bytes(embed(stream, b"record", kind=1))


def test_plan_says_where() -> None:
    stream = nnguard.Stream.open(samples.path_of("default"))
    plan = plan_record(stream, 1, 100)
    assert extract(plan.embed(bytes(100))).header == plan.header
    with pytest.raises(ValueError, match="99 bytes"):
        plan.embed(bytes(99))


def test_carriers_are_as_large_as_the_record_needs() -> None:
    stream = network(40, 60, 100, 200, 400)  # 2,000 to 20,000 weights, nearly all of a bit
    assert carriers_of(stream, 200) == ["w40"]
    assert carriers_of(stream, 500) == ["w40", "w60"]
    assert carriers_of(stream, 1400) == ["w40", "w200"]
    assert carriers_of(stream, 800) == ["w40", "w100"]
    assert carriers_of(stream, 900) == ["w40", "w100", "w60"]
    assert carriers_of(stream, 3000) == ["w40", "w400", "w60"]


@pytest.mark.parametrize("dependent", [False, True])
def test_many_bits_go_into_few_weights(dependent: bool) -> None:
    """A large signature costs readers about what a small one costs."""
    stream = network(60, 100, 200, dependent=dependent)
    for size, width in ((100, 1), (300, 2), (3400, 15), (5000, 16)):
        plan = plan_record(stream, 1, size, cheap=True)
        assert max(plan.header.widths) <= width
        assert plan.weights <= 3000
        found = extract(plan.embed(bytes(range(250)) * (size // 250) + bytes(size % 250)))
        assert found.header == plan.header


def test_bits_that_are_not_used_are_not_paid_for() -> None:
    """A large tensor beside small ones takes few bits a weight, not as many as it could."""
    stream = network(30, 60, 1000)
    plan = plan_record(stream, 1, 3400, cheap=True)
    assert plan.bits < 1.3 * 8 * 3400
    assert plan.embed(bytes(3400)).size - stream.size < 1.5 * 3400


def test_file_grows_by_little_more_than_the_record() -> None:
    for name in ("resnet20.default", "resnet20.urq38"):
        stream = nnguard.Stream.open(samples.path_of(name))
        for size in (200, 2000, 20_000):
            marked = embed(stream, np.random.default_rng(0).bytes(size), kind=2)
            assert size < marked.size - stream.size < 1.6 * size + 300


@pytest.mark.parametrize("nonzero", [100, 140])
def test_tensor_without_room_for_the_header_is_not_the_primary_carrier(nonzero: int) -> None:
    """A header that lists one carrier has 136 bits, one that lists two has 144."""
    sparse = np.zeros(2048, np.float32)
    sparse[:nonzero] = 0.25
    arrays = {"sparse": sparse.reshape(64, 32), "dense": np.full((16, 17), 0.25, np.float32)}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20, dependent=False))
    assert stream[candidates(stream)[0]].name == "sparse"
    assert carriers_of(stream, 8) == ["dense"]
    taken = extract(embed(stream, bytes(range(8)), kind=1))
    assert taken.record == bytes(range(8))
    assert bytes(taken.original) == bytes(stream)


def test_record_that_does_not_fit_says_how_much_would() -> None:
    stream = nnguard.Stream.open(samples.path_of("qp20"))
    with pytest.raises(nnguard.errors.CapacityError) as caught:
        embed(stream, bytes(1 << 20), kind=2)
    error = caught.value
    assert error.needed > 8 << 20
    places = sum(room_of(stream, index).bits(1) for index in candidates(stream))
    assert error.available == nnguard.capacity(stream).bits > 4 * places, "limited by its cost"
    assert str(error.needed) in str(error)
    assert str(error.available) in str(error)


def test_largest_record_fits_and_one_more_byte_does_not(wide: nnguard.Stream) -> None:
    fits, too_large = 0, 1 << 20
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        try:
            plan_record(wide, 2, middle)
            fits = middle
        except nnguard.errors.CapacityError:
            too_large = middle
    record = np.random.default_rng(0).bytes(fits)
    taken = extract(embed(wide, record, kind=2))
    assert taken.record == record
    assert bytes(taken.original) == bytes(wide)
    available = sum(room_of(wide, index).bits(1) for index in candidates(wide))
    assert available - 8 * fits < 8 * 32


def test_stream_without_carriers_is_refused() -> None:
    arrays = {"bias": np.ones(255, np.float32), "tiny": np.ones((5, 51), np.float32)}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays))
    assert candidates(stream) == []
    with pytest.raises(nnguard.errors.CapacityError) as caught:
        embed(stream, b"", kind=1)
    assert caught.value.available == 0
    with pytest.raises(nnguard.errors.NoRecordError):
        extract(stream)


@pytest.mark.parametrize("name", [*samples.SIGNABLE, *samples.OPAQUE])
def test_stock_streams_hold_no_record(name: str) -> None:
    with pytest.raises(nnguard.errors.NoRecordError):
        extract(nnguard.Stream.open(samples.path_of(name)))


def test_candidates_of_like_size_come_in_order_of_the_stream() -> None:
    arrays = {
        "far": np.ones((16, 16), np.float32),
        "double": np.ones((64, 64), np.float32),
        "half": np.ones((64, 16), np.float32),
        "best": np.ones((64, 32), np.float32),
        "vector": np.ones(2048, np.float32),
        "cube": np.ones((8, 8, 32), np.float32),
        "small": np.ones((5, 51), np.float32),
    }
    stream = nnguard.Stream.from_bytes(stock.encode(arrays))
    names = [stream[index].name for index in candidates(stream)]
    assert names == ["best", "vector", "cube", "double", "half", "far"]


def test_damaged_tensor_is_passed_over(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    data = bytearray(wide[primary].read())
    data[-1] ^= 1
    damaged = wide.replace({primary: bytes(data)})
    marked = embed(damaged, b"record", kind=1)
    taken = extract(marked)
    assert taken.record == b"record"
    assert primary not in taken.restored
    assert bytes(taken.original) == bytes(damaged)


@pytest.mark.parametrize("dependent", [False, True])
def test_start_states_and_row_flags_stay(dependent: bool) -> None:
    """Another encoder chose them: they are what no search gives, and rows of zeros are coded."""
    weights = np.random.default_rng(3).laplace(0, 0.5, (60, 50)).astype(np.float32)
    weights[::3] = 0
    stream = nnguard.Stream.from_bytes(stock.encode({"w": weights}, qp=-20, dependent=dependent))
    (unit,) = candidates(stream)
    tensor = tensor_of(stream, unit)
    contexts = len(tensor.parameters.start_states)
    states, zero = bytes(n % 9 for n in range(contexts)), ~tensor.indices.any(axis=1)
    flags = bytes(flag and row % 2 for row, flag in enumerate(zero.tolist()))
    assert 0 < sum(flags) < zero.sum()
    parameters = replace(tensor.parameters, start_states=states, skipped_rows=flags)
    stream = stream.replace({unit: encode(replace(tensor, parameters=parameters))})
    marked = embed(stream, b"record", kind=1)
    assert tensor_of(marked, unit).parameters == replace(parameters, qp=tensor.qp - 4)
    assert bytes(extract(marked).original) == bytes(stream)


def test_same_weights_coded_otherwise_are_another_original(wide: nnguard.Stream) -> None:
    """The record comes out; that the original is not what was signed is what its digest tells."""
    stream = embed(wide, b"record", kind=1)
    primary = candidates(wide)[0]
    tensor = tensor_of(stream, primary)
    states = bytes(len(tensor.parameters.start_states))
    parameters = replace(tensor.parameters, start_states=states)
    again = stream.replace({primary: encode(replace(tensor, parameters=parameters))})
    assert bytes(again) != bytes(stream)
    assert extract(again).record == b"record"
    assert bytes(extract(again).original) != bytes(wide)


def long_field(stream: nnguard.Stream, unit: int) -> nnguard.Stream:
    """Return the stream with four bytes of size for a unit where two would do."""
    data = stream[unit].read()
    return stream.replace({unit: (len(data) + 2 | 1 << 31).to_bytes(4, "big") + data[2:]})


def test_carrier_with_an_unusual_size_field_is_refused(wide: nnguard.Stream) -> None:
    first, second = candidates(wide)
    marked = embed(wide, bytes(500), kind=1)
    assert extract(marked).header.carriers == (first, second)
    for unit in (first, second):
        with pytest.raises(nnguard.errors.FormatError, match="unusual size field"):
            extract(long_field(marked, unit))


def test_tensor_with_an_unusual_size_field_is_passed_over(wide: nnguard.Stream) -> None:
    first, second = candidates(wide)
    stream = long_field(wide, first)
    taken = extract(embed(stream, b"record", kind=1))
    assert taken.header.carriers == (second,)
    assert bytes(taken.original) == bytes(stream)


def test_damage_counts_where_a_record_would_lie(wide: nnguard.Stream) -> None:
    first, second = candidates(wide)
    with pytest.raises(nnguard.errors.FormatError, match="is damaged"):
        extract(damaged(wide, first))
    with pytest.raises(nnguard.errors.NoRecordError):
        extract(damaged(wide, second))


@pytest.mark.parametrize("end", [-1, -2, -100, 0])
def test_payload_that_breaks_off_in_a_second_carrier(wide: nnguard.Stream, end: int) -> None:
    marked = embed(wide, bytes(500), kind=1)
    second = candidates(wide)[1]
    header = marked[second].tensor
    assert header is not None
    data = marked[second].read()
    cut = data[2:end] if end else data[2 : header.payload_offset]
    broken = marked.replace({second: (len(cut) + 2).to_bytes(2, "big") + cut})
    with pytest.raises(nnguard.errors.FormatError, match="is damaged"):
        extract(broken)


@pytest.mark.parametrize("dependent", [False, True])
def test_small_tensor_is_read_whole_as_it_is_in_pieces(*, dependent: bool) -> None:
    stream = network(60, 20, dependent=dependent)
    marked = embed(stream, bytes(range(250)) * 3, kind=1)
    header = extract(marked).header
    for carrier, width in zip(header.carriers, header.widths, strict=True):
        whole, pieces = (Carrier(marked[carrier], keep=keep) for keep in (True, False))
        assert whole.find_header() == pieces.find_header()
        numbers = [np.concatenate([*each.numbers(width)]) for each in (whole, pieces)]
        assert np.array_equal(*numbers)
        assert whole.restore(width) == pieces.restore(width) == stream[carrier].read()
        broken = damaged(marked, carrier)[carrier]
        for keep in (True, False):
            with pytest.raises(nnguard.errors.FormatError, match="is damaged"):
                Carrier(broken, keep=keep).restore(width)
    assert len(header.carriers) == 2


def damaged(stream: nnguard.Stream, unit: int) -> nnguard.Stream:
    data = bytearray(stream[unit].read())
    data[-1] ^= 1
    return stream.replace({unit: bytes(data)})


def test_indices_that_the_stock_encoder_clipped_carry() -> None:
    """Their start states are not those that a search for them gives."""
    stream = nnguard.Stream.open(samples.path_of("bitdepth8"))
    taken = extract(embed(stream, bytes(range(100)), kind=1))
    assert taken.record == bytes(range(100))
    assert bytes(taken.original) == samples.read("bitdepth8")


def unit_of(weights: int, size: int) -> bytes:
    """Return a unit of so many bytes whose header says so many weights."""
    long = size >= 1 << 15
    empty = samples.data_unit("w", (weights,), b"", long=long)
    unit = samples.data_unit("w", (weights,), bytes(size - len(empty)), long=long)
    assert len(unit) == size
    return unit


@pytest.mark.parametrize(
    ("weights", "size", "eligible"),
    [
        (255, 1000, False),
        (256, 40, True),
        (1 << 18, 40, True),
        ((1 << 18) + 1, 40, False),
        ((1 << 18) + 8, (1 << 15) + 1, True),
        ((1 << 18) + 9, (1 << 15) + 1, False),
        (1 << 28, 1 << 25, True),
        (1 << 28, (1 << 25) - 1, False),
        ((1 << 28) + 1, 1 << 26, False),
    ],
)
def test_weights_of_a_carrier_have_limits(weights: int, size: int, eligible: bool) -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(unit_of(weights, size)))
    assert can_carry(stream[2]) == eligible
    assert candidates(stream) == ([2] if eligible else [])


@pytest.mark.parametrize(
    ("unary_length", "weights"), [(1, 1 << 18), (11, 1 << 18), (22, 1 << 17), (256, 11 << 10)]
)
def test_long_codes_count_for_more(unary_length: int, weights: int) -> None:
    for more, eligible in ((0, True), (1, False)):
        unit = nnguard.Stream.from_bytes(samples.stream_of(unit_of(weights + more, 40)))[2]
        assert unit.tensor is not None
        header = replace(unit.tensor, unary_length=unary_length)
        assert can_carry(replace(unit, tensor=header)) == eligible


def test_reader_looks_at_a_quarter_of_a_million_weights() -> None:
    half, rest = 1 << 17, (1 << 17) - 2048
    for more in (0, 1):
        units = [unit_of(size, 40) for size in (half + more, 2048, rest)]
        stream = nnguard.Stream.from_bytes(samples.stream_of(*units))
        assert candidates(stream) == [3, 4, 2]
        assert primary_candidates(stream) == ([3, 4] if more else [3, 4, 2])
    large = nnguard.Stream.from_bytes(samples.stream_of(*2 * [unit_of(1 << 19, 1 << 16)]))
    assert primary_candidates(large) == [2]


def test_plan_that_no_reader_finds_is_refused() -> None:
    stream = network(*range(40, 50))
    plan = plan_record(stream, 1, 6)
    ninth = candidates(stream)[8]
    header = replace(plan.header, carriers=(ninth,))
    moved = replace(plan, header=header, _places=(room_of(stream, ninth).bits(1),))
    with pytest.raises(nnguard.errors.FormatError, match="misleads the search"):
        moved.embed(b"record")


def test_vector_carries() -> None:
    rng = np.random.default_rng(3)
    arrays = {"scale": rng.uniform(0.5, 2, 2000), "w": rng.laplace(0, 0.5, (60, 50))}
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    data = stock.encode(single, qp=-20, nonweight_qp=-20)
    stream = nnguard.Stream.from_bytes(data)
    assert carriers_of(stream, 100) == ["scale"]
    marked = embed(stream, bytes(range(100)), kind=1)
    taken = extract(marked)
    assert taken.record == bytes(range(100))
    assert bytes(taken.original) == data
    assert (stock.decode(bytes(marked))["scale"] > 0).all()


def test_hostile_header_is_read_as_the_writer_made_it(wide: nnguard.Stream) -> None:
    taken = extract(hostile(wide, record=b"hello"))
    assert taken.record == b"hello"
    assert bytes(taken.original) == bytes(wide)


@pytest.mark.parametrize("unit", [0, 1, 5, 1000, (1 << 32) - 1, (1 << 38) - 1])
def test_carrier_that_cannot_be_one_is_refused(wide: nnguard.Stream, unit: int) -> None:
    assert unit not in candidates(wide)
    stream = hostile(wide, unit)
    with pytest.raises(nnguard.errors.VerificationError, match="does not fit the stream"):
        extract(stream)


def test_carrier_that_is_listed_twice_is_no_header(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    stream = hostile(wide, primary)
    with pytest.raises(nnguard.errors.NoRecordError):
        extract(stream)


def test_header_that_names_another_primary_carrier_is_passed_over(wide: nnguard.Stream) -> None:
    primary, other = candidates(wide)[:2]
    header = FrameHeader(1, 1, 1, (other,))
    with pytest.raises(nnguard.errors.NoRecordError):
        extract(hide(wide, frame_record(header, b"x"), primary))


def test_record_longer_than_its_places_is_refused(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    header = FrameHeader(1, 1, 1 << 20, (primary,))
    with pytest.raises(nnguard.errors.VerificationError, match="checksum"):
        extract(hide(wide, bytes(header) + bytes(20), primary))


def test_bits_behind_the_record_are_refused(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    header = FrameHeader(1, 1, 1, (primary,))
    with pytest.raises(nnguard.errors.VerificationError):
        extract(hide(wide, frame_record(header, b"x") + b"\0\1", primary))


@pytest.mark.parametrize("dependent", [False, True])
def test_every_carried_bit_counts(dependent: bool) -> None:
    """Those of the header, of the record, of its checksum, and the zeros behind them."""
    stream, marked, primary = smallest(dependent=dependent)
    bits, original = restore_unit(tensor_of(marked, primary))
    for place in range(bits.size):
        changed = bits.copy()
        changed[place] ^= 1
        with pytest.raises((nnguard.errors.VerificationError, nnguard.errors.NoRecordError)):
            extract(marked.replace({primary: encode(embed_in(original, changed))}))
    assert bytes(extract(marked).original) == bytes(stream)


def test_value_that_moves_by_one_is_refused() -> None:
    _, marked, primary = smallest(dependent=False)
    tensor = tensor_of(marked, primary)
    for at in np.argwhere(tensor.indices):
        indices = tensor.indices.copy()
        value = indices[tuple(at)]
        indices[tuple(at)] = np.sign(value) * (abs(value) ^ 1)
        changed = marked.replace({primary: encode(tensor.with_indices(indices))})
        with pytest.raises((nnguard.errors.VerificationError, nnguard.errors.NoRecordError)):
            extract(changed)


def test_step_that_cannot_be_halved_carries_nothing(wide: nnguard.Stream) -> None:
    tensor = tensor_of(wide, candidates(wide)[0])
    least, _ = qp_range(tensor.header.qp_density)
    first = candidates(wide)[0]

    def room(qp: int) -> int:
        return room_of(wide.replace({first: encode(with_qp(tensor, qp))}), first).bits(1)

    assert room(least + 4) == np.count_nonzero(tensor.indices)
    assert room(least + 3) == 0


def test_value_that_cannot_be_doubled_carries_nothing(wide: nnguard.Stream) -> None:
    first = candidates(wide)[0]
    tensor = tensor_of(wide, first)
    indices = tensor.indices.copy()
    for bits, most in ((1, max_value(1)), (3, max_value(3))):
        for value in (most, -most, most + 1, -most - 1):
            indices[0, 0] = value
            changed = wide.replace({first: encode(tensor.with_indices(indices))})
            width = bits if abs(value) == most else bits - 1
            assert room_of(changed, first).bits(bits) == width * np.count_nonzero(indices)


def test_weights_hold_as_many_bits_as_it_takes(wide: nnguard.Stream) -> None:
    room = sum(room_of(wide, index).bits(1) for index in candidates(wide)) // 8
    for size, bits in ((room - 60, 1), (room, 2), (3 * room, 4), (15 * room, MAX_BITS)):
        record = np.random.default_rng(bits).bytes(size)
        marked = embed(wide, record, kind=9)
        taken = extract(marked)
        assert ({*taken.header.widths}, taken.record) == ({bits}, record)
        assert bytes(taken.original) == bytes(wide)
        again = extract(embed(marked, b"on top", kind=9))
        assert (again.header.layer, bytes(again.original)) == (2, bytes(marked))
    with pytest.raises(nnguard.errors.CapacityError):
        embed(wide, bytes(17 * room), kind=9)


def test_units_that_cannot_carry_hold_nothing(wide: nnguard.Stream) -> None:
    places = [room_of(wide, index).bits(1) for index in range(len(wide))]
    assert [index for index, bits in enumerate(places) if bits] == candidates(wide)


def test_carrier_whose_step_cannot_be_doubled_is_refused() -> None:
    rng = np.random.default_rng(3)
    arrays = {f"w{n}": rng.laplace(0, 0.5, (n, 50)).astype(np.float32) for n in (60, 61)}
    largest = {"w61": 127}
    stream = nnguard.Stream.from_bytes(
        stock.encode(arrays, qp=-20, dependent=False, qp_per_tensor=largest)
    )
    other = candidates(stream)[1]
    with pytest.raises(nnguard.errors.VerificationError) as caught:
        extract(hostile(stream, other))
    assert caught.value.tensors == ("w61",)


def test_as_many_records_as_the_step_can_be_halved() -> None:
    weights = np.random.default_rng(3).laplace(0, 1e-4, (60, 50)).astype(np.float32)
    stream = nnguard.Stream.from_bytes(stock.encode({"w": weights}, qp=-110))
    marked = stream
    for layer in range(1, 5):
        marked = embed(marked, bytes([layer]), kind=layer)
    with pytest.raises(nnguard.errors.CapacityError):
        embed(marked, b"x", kind=1)
    for layer in range(4, 0, -1):
        taken = extract(marked)
        assert (taken.header.layer, taken.record) == (layer, bytes([layer]))
        marked = taken.original
    assert bytes(marked) == bytes(stream)


def test_primary_carrier_of_the_record_below_has_no_room_for_a_longer_list() -> None:
    """A reader would stop at the first tensor, so the second cannot be the primary carrier."""
    sparse = np.zeros(2048, np.float32)
    sparse[:150] = 0.25  # a header that lists two carriers has 144 bits, one that lists three 152
    arrays = {
        "sparse": sparse.reshape(64, 32),
        "larger": np.full((16, 40), 0.25, np.float32),
        "smaller": np.full((16, 20), 0.25, np.float32),
    }
    stream = nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20, dependent=False))
    assert carriers_of(stream, 80) == ["larger", "smaller"]
    marked = embed(stream, b"", kind=2)
    assert carriers_of(stream, 0) == ["sparse", "smaller"]
    assert carriers_of(marked, 62) == ["sparse", "larger"]
    assert extract(embed(marked, bytes(80), kind=2)).header.widths[0] == 2


def test_pruned_rows_stay_pruned() -> None:
    weights = np.random.default_rng(0).normal(0, 1, (80, 50)).astype(np.float32)
    weights[::2] = 0
    stream = nnguard.Stream.from_bytes(stock.encode({"w": weights}, qp=-20))
    marked = embed(stream, bytes(range(200)), kind=2)
    before, after = (stock.decode(bytes(each))["w"] for each in (stream, marked))
    assert np.array_equal(before == 0, after == 0)
    assert (before == 0).mean() > 0.3


def test_weights_of_all_carriers_are_a_limit(
    wide: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = hostile(wide, candidates(wide)[1])
    monkeypatch.setattr("nnguard._hiding.carriers._MAX_COST", 6000)
    with pytest.raises(nnguard.errors.LimitError, match="6050 weights; limit 6000"):
        extract(stream)
    assert extract(embed(wide, bytes(300), kind=1)).header.widths[0] == 1
    assert extract(embed(wide, bytes(500), kind=1)).header.widths[0] == 2


def test_weights_of_many_bits_may_cost_less(
    wide: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of weights that hold nothing would take sixteen bytes of memory for each."""
    room = sum(room_of(wide, index).bits(1) for index in candidates(wide)) // 8
    one, sixteen = embed(wide, bytes(room // 2), kind=9), embed(wide, bytes(15 * room), kind=9)
    cost = sum(wide[index].tensor.cost for index in extract(sixteen).header.carriers)
    monkeypatch.setattr("nnguard._hiding.carriers._MAX_COST", 4 * cost)
    assert {*extract(sixteen).header.widths} == {MAX_BITS}
    monkeypatch.setattr("nnguard._hiding.carriers._MAX_COST", 4 * cost - 1)
    assert extract(one).header.widths[0] == 1
    with pytest.raises(nnguard.errors.LimitError, match="cost as much"):
        extract(sixteen)


def test_a_look_shows_the_header_and_the_first_bytes(wide: nnguard.Stream) -> None:
    record = np.random.default_rng(1).bytes(700)
    marked = embed(wide, record, kind=9)
    header = extract(marked).header
    assert len(header.carriers) == 2
    for size in (0, 1, 300, 700, 5000):
        assert peek(marked, size) == (header, record[:size])
    with pytest.raises(nnguard.errors.NoRecordError):
        peek(wide, 1)


@pytest.mark.parametrize("dependent", [False, True])
def test_large_records_go_densely_into_few_weights(dependent: bool) -> None:
    stream = network(40, 50, 60, 200, dependent=dependent)
    record = np.random.default_rng(1).bytes(6000)
    dense = plan_record(stream, 9, len(record), dense=True)
    assert min(dense.header.widths) >= 7
    assert dense.weights < plan_record(stream, 9, len(record)).weights / 2
    assert dense.bits < 1.3 * 8 * len(record)
    taken = extract(dense.embed(record))
    assert (taken.record, bytes(taken.original)) == (record, bytes(stream))


def test_who_is_vouched_for_may_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = network(60, 61, 200)
    monkeypatch.setattr("nnguard._hiding.carriers._MAX_COST", 5000)
    with pytest.raises(nnguard.errors.CapacityError):
        plan_record(stream, 9, 10_000)
    marked = plan_record(stream, 9, 10_000, dense=True).embed(bytes(10_000))
    with pytest.raises(nnguard.errors.LimitError, match="cost as much"):
        extract(marked)
    assert extract(marked, vouched=True).record == bytes(10_000)


def test_too_many_layers_are_a_limit(wide: nnguard.Stream) -> None:
    stream = hostile(wide, layer=255)
    assert extract(stream).header.layer == 255
    with pytest.raises(nnguard.errors.LimitError, match="255 records"):
        embed(stream, b"x", kind=1)


@pytest.mark.parametrize("size", [(1 << 31) - (1 << 16) + 1, 1 << 40])
def test_record_that_is_too_large_is_refused_at_once(wide: nnguard.Stream, size: int) -> None:
    with pytest.raises(nnguard.errors.LimitError, match="too large to hide"):
        plan_record(wide, 1, size)


def test_layer_is_one_more_than_what_a_reader_finds() -> None:
    """The second record's primary carrier may come before that of the first one."""

    def vector(size: int, used: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        values = np.zeros(size, np.float32)
        values[:used] = 3 / 1024
        return values

    sizes = {"a": (2048, 152), "b": (1700, 1700), "c": (2600, 2600), "d": (9000, 20)}
    arrays = {name: vector(*size) for name, size in sizes.items()}
    stream = nnguard.compress(arrays, nnguard.Settings(dependent=False, nonweight_qp=-40))
    one = embed(stream, bytes(245), kind=2)
    two = embed(one, bytes(262), kind=2)
    outer = extract(two)
    assert outer.header.layer == 2
    assert bytes(outer.original) == bytes(one)
    assert len(nnguard.inspect(two).records) == 2


@pytest.mark.parametrize("dense", [False, True])
def test_each_carrier_holds_as_many_bits_as_it_can(dense: bool) -> None:
    """One that has a large index holds few; it does not keep the others from holding more."""
    rng = np.random.default_rng(3)
    norm = rng.uniform(0.5, 2, 2048).astype(np.float32)
    arrays = {"norm": norm, "w": rng.laplace(0, 0.5, (60, 50)).astype(np.float32)}
    stream = nnguard.compress(arrays, nnguard.Settings(dependent=False, qp=-20, nonweight_qp=-74))
    narrow, wide = (room_of(stream, index).width() for index in candidates(stream))
    assert narrow < 12 < wide
    record = rng.bytes(6500)
    marked = plan_record(stream, 9, len(record), dense=dense).embed(record)
    taken = extract(marked, vouched=True)
    assert taken.header.widths[0] < taken.header.widths[1]
    assert taken.header.widths[0] == (narrow - 2 if dense else narrow)
    assert (taken.record, bytes(taken.original)) == (record, bytes(stream))


def test_plan_over_many_tensors_makes_few_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each plan, not one for each tensor that is tried: they are as long as the list."""
    made: list[int] = []
    encode = FrameHeader.__bytes__

    def counted(header: FrameHeader) -> bytes:
        made.append(len(header.carriers))
        return encode(header)

    arrays = {"first": np.ones(2048, np.float32), "more": np.zeros(256, np.float32)}
    units = samples.split(stock.encode(arrays, nonweight_qp=-20, dependent=False))
    stream = nnguard.Stream.from_bytes(b"".join(units) + 500 * units[-1])
    monkeypatch.setattr(FrameHeader, "__bytes__", counted)
    with pytest.raises(nnguard.errors.CapacityError):
        plan_record(stream, 9, 1 << 16)
    assert len(made) < 100


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("size", [12_000, 35_000, 55_000])
def test_where_weights_count_the_file_grows_by_less(size: int, *, dependent: bool) -> None:
    """At most by a twentieth more than the bits; with the start states as they are, by more."""
    stream = network(400, 300, qp=-24, dependent=dependent)
    record = np.random.default_rng(1).bytes(size)
    plan = plan_record(stream, 3, size, dense=True)
    suited = plan.suited()
    assert suited.header == plan.header
    taken = extract(suited.embed(record), vouched=True)
    assert (taken.record, bytes(taken.original)) == (record, bytes(suited.stream))
    before, after = stock.decode(bytes(stream)), stock.decode(bytes(suited.stream))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    grown = suited.embed(record).size - stream.size
    assert grown < plan.embed(record).size - stream.size
    assert size < grown < 1.05 * plan.bits / 8


def test_units_that_are_kept_are_coded_as_they_were() -> None:
    stream = network(400, 300, qp=-24)
    plan = plan_record(stream, 3, 50_000, dense=True)
    first, second = plan.header.carriers
    suited = plan.suited({first})
    assert suited.stream[first].read() == stream[first].read()
    assert suited.stream[second].read() != stream[second].read()


@pytest.mark.parametrize("dependent", [True, False])
def test_start_states_for_signs_and_zeros_are_kept(*, dependent: bool) -> None:
    stream = network(400, qp=-24, dependent=dependent)
    (carrier,) = (at for at in candidates(stream) if stream[at].name == "w400")
    before = decode(stream[carrier])
    plan = plan_record(stream, 3, 10_000, dense=True)
    after = decode(plan.suited().stream[carrier])
    others = 3 * (8 if dependent else 1) + 3
    states = before.parameters.start_states, after.parameters.start_states
    assert states[0][:others] == states[1][:others]
    assert states[0][others:] != states[1][others:]
    assert replace(before.parameters, start_states=b"") == replace(
        after.parameters, start_states=b""
    )
    assert np.array_equal(before.indices, after.indices)
