"""Records go in where they cost least, and hostile records are refused."""

from dataclasses import replace

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard.hiding import candidates, capacity_of, embed, extract, hqim, plan_record
from nnguard.hiding.carriers import stride_of
from nnguard.hiding.frame import Carrier, FrameHeader, frame_record
from nnguard.hiding.hqim import Peak
from nnguard.stream.coding import encode, find_settings


def hide(stream: nnguard.Stream, bits_of: bytes, unit: int, *peaks: Peak) -> nnguard.Stream:
    """Hide bytes at peaks of one unit, as an attacker would: nothing is checked."""
    tensor = find_settings(stream[unit])
    assert tensor is not None
    bits = np.unpackbits(np.frombuffer(bits_of, np.uint8))
    marked = hqim.embed(tensor.indices, peaks, bits, stride=stride_of(tensor.header))
    plain = replace(tensor.with_indices(marked), parameter_optimisation=False)
    return stream.replace({unit: encode(plain)})


@pytest.fixture(scope="module")
def wide() -> nnguard.Stream:
    """Two tensors with a peak of some thousand places each, and one that is not eligible."""
    rng = np.random.default_rng(3)
    arrays = {
        "a": rng.laplace(0, 0.02, (60, 100)).astype(np.float32),
        "b": rng.laplace(0, 0.02, (60, 101)).astype(np.float32),
        "bias": rng.normal(0, 1, 6000).astype(np.float32),
    }
    return nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20, dependent=False))


def unit_of(stream: nnguard.Stream, name: str) -> int:
    return [unit.name for unit in stream].index(name)


def hostile(
    wide: nnguard.Stream, *others: Carrier, record: bytes = b"x", **changes: int
) -> nnguard.Stream:
    """Return a stream whose header, in the zeros of tensor `b`, lists other carriers too."""
    primary = candidates(wide)[0]
    peak = Peak(0, 1)
    header = FrameHeader(1, 1, len(record), (Carrier(primary, True, (peak,)), *others))
    return hide(wide, frame_record(replace(header, **changes), record), primary, peak)


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
    room = sum(capacity_of(stream, index) for index in candidates(stream))
    plan_record(stream, 2, room // 24)


def test_only_carriers_change() -> None:
    stream = nnguard.Stream.open(samples.path_of("resnet20.default"))
    marked = embed(stream, bytes(300), kind=2)
    carriers = {carrier.unit for carrier in extract(marked).header.carriers}
    changed = {
        index
        for index, (before, after) in enumerate(zip(stream, marked, strict=True))
        if before.read() != after.read()
    }
    assert changed == carriers
    assert len(carriers) < len(candidates(stream)) / 3


def test_layers_are_numbered_and_come_out_in_reverse() -> None:
    stream = nnguard.Stream.open(samples.path_of("urq"))
    marked = stream
    for layer in range(1, 6):
        marked = embed(marked, bytes([layer]) * 20 * layer, kind=layer)
    for layer in range(5, 0, -1):
        taken = extract(marked)
        assert (taken.header.layer, taken.header.kind) == (layer, layer)
        assert taken.record == bytes([layer]) * 20 * layer
        marked = taken.original
    assert bytes(marked) == bytes(stream)


def test_same_record_gives_the_same_stream() -> None:
    stream = nnguard.Stream.open(samples.path_of("default"))
    assert bytes(embed(stream, b"record", kind=1)) == bytes(embed(stream, b"record", kind=1))


def test_plan_says_where_and_at_what_cost() -> None:
    stream = nnguard.Stream.open(samples.path_of("default"))
    small, large = plan_record(stream, 1, 100), plan_record(stream, 1, 1000)
    assert 0 < small.distortion < large.distortion
    marked = small.embed(bytes(100))
    assert extract(marked).header == small.header
    with pytest.raises(ValueError, match="99 bytes"):
        small.embed(bytes(99))


def test_weights_change_no_more_than_expected() -> None:
    stream = nnguard.Stream.open(samples.path_of("urq"))
    plan = plan_record(stream, 1, 2000)
    marked = plan.embed(np.random.default_rng(0).bytes(2000))
    squares = 0.0
    for carrier in plan.header.carriers:
        before, after = find_settings(stream[carrier.unit]), find_settings(marked[carrier.unit])
        assert before is not None
        assert after is not None
        moved = (after.indices - before.indices).astype(float)
        squares += float(np.sum((moved * before.step) ** 2))
    assert 0 < squares < 1.1 * plan.distortion


def test_record_that_does_not_fit_says_how_much_would() -> None:
    stream = nnguard.Stream.open(samples.path_of("qp20"))
    with pytest.raises(nnguard.CapacityError) as caught:
        embed(stream, bytes(1 << 20), kind=2)
    error = caught.value
    assert error.needed > 8 << 20
    assert error.available == sum(capacity_of(stream, index) for index in candidates(stream))
    assert str(error.needed) in str(error)
    assert str(error.available) in str(error)


def test_largest_record_fits_and_one_more_byte_does_not(wide: nnguard.Stream) -> None:
    fits, too_large = 0, 1 << 20
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        try:
            plan_record(wide, 2, middle)
            fits = middle
        except nnguard.CapacityError:
            too_large = middle
    record = np.random.default_rng(0).bytes(fits)
    taken = extract(embed(wide, record, kind=2))
    assert taken.record == record
    assert bytes(taken.original) == bytes(wide)
    available = sum(capacity_of(wide, index) for index in candidates(wide))
    assert 0.7 * available < 8 * fits < available


def test_stream_without_carriers_is_refused() -> None:
    arrays = {"bias": np.ones(500, np.float32), "tiny": np.ones((5, 5), np.float32)}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays))
    assert candidates(stream) == []
    with pytest.raises(nnguard.CapacityError) as caught:
        embed(stream, b"", kind=1)
    assert caught.value.available == 0
    with pytest.raises(nnguard.NoRecordError):
        extract(stream)


@pytest.mark.parametrize("name", [*samples.SIGNABLE, *samples.OPAQUE])
def test_stock_streams_hold_no_record(name: str) -> None:
    with pytest.raises(nnguard.NoRecordError):
        extract(nnguard.Stream.open(samples.path_of(name)))


def test_stream_that_cannot_be_encoded_again_is_refused() -> None:
    # The stock encoder clips these indices after it has fitted its contexts to them.
    stream = nnguard.Stream.open(samples.path_of("bitdepth8"))
    with pytest.raises(nnguard.FormatError, match=r"fc1\.weight"):
        extract(stream)
    with pytest.raises(nnguard.CapacityError) as caught:
        embed(stream, b"", kind=1)
    assert caught.value.available == 0


def test_candidates_of_like_size_come_in_order_of_the_stream() -> None:
    arrays = {
        "far": np.ones((20, 20), np.float32),
        "double": np.ones((512, 256), np.float32),
        "half": np.ones((128, 256), np.float32),
        "best": np.ones((256, 256), np.float32),
        "vector": np.ones(65536, np.float32),
        "small": np.ones((5, 51), np.float32),
    }
    stream = nnguard.Stream.from_bytes(stock.encode(arrays))
    names = [stream[index].name for index in candidates(stream)]
    assert names == ["best", "double", "half", "far"]


def test_tensor_that_was_not_coded_the_stock_way_is_passed_over(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    data = bytearray(wide[primary].read())
    data[-1] ^= 1
    damaged = wide.replace({primary: bytes(data)})
    marked = embed(damaged, b"record", kind=1)
    taken = extract(marked)
    assert taken.record == b"record"
    assert primary not in taken.restored
    assert bytes(taken.original) == bytes(damaged)


def test_hostile_header_is_read_as_the_writer_made_it(wide: nnguard.Stream) -> None:
    taken = extract(hostile(wide, record=b"hello"))
    assert taken.record == b"hello"
    assert bytes(taken.original) == bytes(wide)


@pytest.mark.parametrize("unit", [0, 1, 5, 1000, (1 << 32) - 1])
def test_carrier_that_cannot_be_one_is_refused(wide: nnguard.Stream, unit: int) -> None:
    assert unit not in candidates(wide)
    stream = hostile(wide, Carrier(unit, True, (Peak(0, 1),)))
    with pytest.raises(nnguard.VerificationError, match="does not fit the stream"):
        extract(stream)


def test_carrier_that_is_listed_twice_is_no_header(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    stream = hostile(wide, Carrier(primary, True, (Peak(5, 1),)))
    with pytest.raises(nnguard.NnguardError):
        extract(stream)


def test_header_that_names_another_primary_carrier_is_passed_over(wide: nnguard.Stream) -> None:
    primary, other = candidates(wide)[:2]
    header = FrameHeader(1, 1, 1, (Carrier(other, True, (Peak(0, 1),)),))
    stream = hide(wide, frame_record(header, b"x"), primary, Peak(0, 1))
    with pytest.raises(nnguard.NoRecordError):
        extract(stream)


@pytest.mark.parametrize("value", [4097, 1 << 30])
def test_peak_far_out_is_refused(wide: nnguard.Stream, value: int) -> None:
    stream = hostile(wide, Carrier(candidates(wide)[1], True, (Peak(value, 1),)))
    with pytest.raises(nnguard.VerificationError):
        extract(stream)


def test_record_longer_than_its_places_is_refused(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    header = FrameHeader(1, 1, 1 << 20, (Carrier(primary, True, (Peak(0, 1),)),))
    stream = hide(wide, bytes(header) + bytes(20), primary, Peak(0, 1))
    with pytest.raises(nnguard.VerificationError, match="checksum"):
        extract(stream)


def test_bits_behind_the_record_are_refused(wide: nnguard.Stream) -> None:
    primary = candidates(wide)[0]
    header = FrameHeader(1, 1, 1, (Carrier(primary, True, (Peak(0, 1),)),))
    stream = hide(wide, frame_record(header, b"x") + b"\0\1", primary, Peak(0, 1))
    with pytest.raises(nnguard.VerificationError):
        extract(stream)


def test_values_moved_without_a_peak_are_another_original(wide: nnguard.Stream) -> None:
    shifted = hide(wide, b"", candidates(wide)[0], Peak(3, 1))
    original = extract(hostile(shifted)).original
    assert bytes(original) != bytes(wide)


def test_carrier_in_a_second_encoding_is_refused(wide: nnguard.Stream) -> None:
    stream = hostile(wide)
    primary = candidates(wide)[0]
    tensor = find_settings(stream[primary])
    assert tensor is not None
    again = stream.replace({primary: encode(replace(tensor, parameter_optimisation=True))})
    assert bytes(again) != bytes(stream)
    with pytest.raises(nnguard.VerificationError) as caught:
        extract(again)
    assert caught.value.tensors == (stream[primary].name,)


def test_many_peaks_are_a_limit() -> None:
    rows = 1 << 11
    arrays = {"w": np.zeros((rows, 1 << 10), np.float32)}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays, dependent=False))
    (primary,) = candidates(stream)
    peaks = (Peak(0, 1), *(Peak(20 + i % 4000, 1) for i in range(3000)))
    header = FrameHeader(1, 1, 1, (Carrier(primary, True, peaks),))
    hidden = hide(stream, frame_record(header, b"x"), primary, Peak(0, 1))
    with pytest.raises(nnguard.LimitError, match="limit"):
        extract(hidden)


def test_too_many_layers_are_a_limit(wide: nnguard.Stream) -> None:
    stream = hostile(wide, layer=255)
    assert extract(stream).header.layer == 255
    with pytest.raises(nnguard.LimitError, match="255 records"):
        embed(stream, b"x", kind=1)


@pytest.mark.parametrize("size", [(1 << 28) + 1, 1 << 40])
def test_record_that_is_too_large_is_refused_at_once(wide: nnguard.Stream, size: int) -> None:
    with pytest.raises((nnguard.CapacityError, nnguard.LimitError)):
        plan_record(wide, 1, size)
