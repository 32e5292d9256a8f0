"""Looking at a stream without a key."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import nnguard
import samples
from nnguard._hiding import embed
from nnguard._stream.headers import write_tensor_header
from nnguard._stream.units import frame_unit

Signed = Callable[[str], nnguard.Stream]


def test_units_are_described() -> None:
    for name, expected in (("default", "TCQ"), ("urq", "URQ")):
        found = nnguard.inspect(samples.path_of(name))
        assert found.size == len(samples.read(name))
        assert sum(unit.size for unit in found.units) == found.size
        units = {unit.name: unit for unit in found.units}
        assert units["fc1.weight"].shape == (128, 576)
        assert units["fc1.weight"].quantization == expected
        assert (units["MPS[1]"].shape, units["MPS[1]"].quantization) == (None, "")
        assert (found.records, found.note) == ((), "")


@pytest.mark.parametrize(("name", "expected"), [("scan2", "TCQ"), ("scan1_urq", "URQ")])
def test_tensors_in_blocks_are_described(name: str, expected: str) -> None:
    units = {unit.name: unit for unit in nnguard.inspect(samples.path_of(name)).units}
    assert (units["fc1.weight"].shape, units["fc1.weight"].quantization) == ((128, 576), expected)


def test_damaged_headers_are_opaque() -> None:
    """`inspect` reads what stands before the entry points, which opening a stream does not."""
    data = samples.read("scan2")
    units = samples.split(data)
    at = next(index for index, unit in enumerate(units) if b"fc1.weight" in unit)
    header = nnguard.Stream.from_bytes(data).coded_tensor(at)
    assert header is not None
    kind = units[at][4:5] if units[at][0] & 0x80 else units[at][2:3]
    few = replace(header, entry_points=header.entry_points[:1])
    for changed, shape in ((few, (128, 576)), (replace(header, scan_order=7), None)):
        units[at] = frame_unit(kind + write_tensor_header(changed, 0))
        stream = nnguard.Stream.from_bytes(b"".join(units))
        with pytest.raises(nnguard.errors.FormatError):
            stream.coded_tensor(at)
        unit = nnguard.inspect(stream).units[at]
        assert (unit.name, unit.shape) == ("fc1.weight", shape)


def test_records_are_described(signed: Signed, key: nnguard.SigningKey) -> None:
    stream = nnguard.attach(signed("default"), b"card", media_type="text/markdown")
    outer, inner = nnguard.inspect(stream).records
    assert (outer.kind, outer.layer) == ("attachment", 2)
    assert outer.unverified == {"media_type": "text/markdown", "bytes": 4}
    assert (inner.kind, inner.layer) == ("signature", 1)
    assert inner.unverified["key_id"] == key.public_key.id.hex()
    assert inner.unverified["name"] == "default"
    assert outer.carriers[0] == inner.carriers[0] == "fc2.weight"


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 255])
def test_records_of_other_kinds_are_described(model: nnguard.Stream, kind: int) -> None:
    (record,) = nnguard.inspect(embed(model, b"\xff junk", kind=kind)).records
    assert record.size == 6
    if kind in (1, 2, 3, 4):
        assert "malformed" in record.unverified
    else:
        assert str(kind) in record.kind


def test_damage_is_noted(release: nnguard.Stream) -> None:
    units = samples.split(bytes(release))
    at = max(range(len(units)), key=lambda index: len(units[index]))
    units[at] = units[at][:-20] + bytes(20)
    found = nnguard.inspect(nnguard.Stream.from_bytes(b"".join(units)))
    assert found.records == ()
    assert "conv.weight" in found.note


def test_records_without_end_are_not_all_read() -> None:
    """A reader looks at eight tensors for each, of which only the last has room."""
    network = {f"zeros{n}": np.zeros((256, 128), np.float32) for n in range(7)}
    network["room"] = np.ones((256, 128), np.float32)
    stream = nnguard.compress(network)
    for _ in range(12):
        stream = embed(stream, b"x", kind=9)
    found = nnguard.inspect(stream)
    assert [record.layer for record in found.records] == [12, 11, 10, 9, 8, 7, 6, 5]
    assert found.note == "more records are below; not read after 8"
    assert len(nnguard.inspect(embed(nnguard.compress(network), b"x", kind=9)).records) == 1


def test_capacity_does_not_count_for_ever() -> None:
    zeros = {f"w{n}": np.zeros((512, 512), np.float32) for n in range(65)}
    stream = nnguard.compress(zeros)
    assert stream.size < 4000
    with pytest.raises(nnguard.errors.LimitError, match=r"65 tensors .* cost.* limit 16777216"):
        nnguard.capacity(stream)
    del zeros["w0"]
    assert nnguard.capacity(nnguard.compress(zeros)).bits == 0


def test_capacity_does_not_count_tensors_for_ever() -> None:
    least = {f"w{n}": np.zeros(256, np.float32) for n in range(8193)}
    with pytest.raises(nnguard.errors.LimitError, match="8193 tensors"):
        nnguard.capacity(nnguard.compress(least))


def test_capacity_is_what_can_be_attached(model: nnguard.Stream) -> None:
    seen: list[int] = []
    room = nnguard.capacity(model, progress=seen.append)
    (tensor,) = room.tensors
    assert (tensor.name, tensor.weights, tensor.bits) == ("conv.weight", 3000, room.bits)
    assert room.bits == 16 * room.places == 16 * tensor.places
    assert sum(seen) == 3000
    with pytest.raises(nnguard.errors.CapacityError) as caught:
        nnguard.attach(model, bytes(room.bits // 8))
    assert caught.value.available == room.bits
    for most in (room.places, room.bits):
        data = bytes(range(256)) * 99
        attached = nnguard.attach(model, data[: most // 8 - 100])
        assert nnguard.detach(attached)[0].payload == data[: most // 8 - 100]


def test_capacity_of_streams_without_carriers() -> None:
    room = nnguard.capacity(samples.path_of("scan2"))
    assert (room.places, room.bits, room.tensors) == (0, 0, ())


def test_capacity_counts_tensors_of_one_dimension() -> None:
    rng = np.random.default_rng(3)
    shapes = {"conv.weight": (60, 100), "norm.scale": (2048,), "norm.shift": (255,)}
    arrays = {name: rng.normal(1, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    found = [
        (each.name, each.weights) for each in nnguard.capacity(nnguard.compress(arrays)).tensors
    ]
    assert found == [("norm.scale", 2048), ("conv.weight", 6000)], "the best first, none too small"


def test_finer_steps_have_more_room_for_the_same_damage() -> None:
    coarse, fine = (nnguard.capacity(samples.path_of(name)) for name in ("qp20", "qp50_urq"))
    assert fine.places > coarse.places / 2 > 0
