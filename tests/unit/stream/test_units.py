"""Streams are read and written byte for byte."""

import hashlib
import os
from pathlib import Path

import pytest

import nnguard
import samples
from nnguard._stream.source import FileSource


@pytest.mark.parametrize("name", samples.ALL)
def test_stream_is_written_as_it_was_read(tmp_path: Path, name: str) -> None:
    data = samples.read(name)
    from_file = nnguard.Stream.open(samples.path_of(name))
    from_bytes = nnguard.Stream.from_bytes(data)
    for stream in (from_file, from_bytes):
        assert bytes(stream) == data
        assert stream.size == len(data)
        assert len(stream) == len(stream.units) == len(samples.split(data))
        assert [unit.read() for unit in stream] == samples.split(data)
    from_file.save(tmp_path / "a.nnc")
    from_bytes.save(tmp_path / "b.nnc")
    assert (tmp_path / "a.nnc").read_bytes() == (tmp_path / "b.nnc").read_bytes() == data


def test_digests_are_those_of_the_units() -> None:
    for source in (samples.path_of("default"), samples.path_of("resnet20.urq38")):
        stream, seen = nnguard.Stream.open(source), []
        expected = [hashlib.sha256(unit).digest() for unit in samples.split(source.read_bytes())]
        assert stream.sha256_of_units() == expected
        with stream.start_hashing(seen.append) as digests:
            assert digests.result() == expected
        assert sum(seen) == stream.size


def test_digests_of_large_units() -> None:
    big = samples.unit(9, bytes(5 << 20))
    units = [
        samples.unit(9, b"a"),
        big,
        samples.unit(9, b"b"),
        samples.unit(9, bytes(1 << 20)),
        big,
    ]
    stream = nnguard.Stream.from_bytes(samples.stream_of(*units))
    assert stream.sha256_of_units()[2:] == [hashlib.sha256(unit).digest() for unit in units]


SHAPES = {
    "many small units": [samples.unit(9, bytes([at % 256]) * 999) for at in range(9000)],
    "one large unit": [samples.unit(9, bytes(20 << 20))],
    "large ones between small ones": [
        samples.unit(9, bytes([at]) * (size << 10))
        for at, size in enumerate([1, 9000, 3, 5000, 2, 2, 2, 13000, 1])
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_file_is_hashed_in_the_pass_that_hashes_its_units(tmp_path: Path, shape: str) -> None:
    data = samples.stream_of(*SHAPES[shape])
    (tmp_path / "a.nnc").write_bytes(data)
    stream = nnguard.Stream.open(tmp_path / "a.nnc")
    reads = []
    source = stream[0].source
    with pytest.MonkeyPatch.context() as patch:
        read = FileSource.read
        patch.setattr(
            FileSource, "read", lambda self, at, size: reads.append(size) or read(self, at, size)
        )
        with stream.start_hashing(whole=True) as hashing:
            assert hashing.of_file() == hashlib.sha256(data).digest()
            digests = hashing.result()
    assert sum(reads) == source.size
    assert digests == stream.sha256_of_units()


def test_file_that_shrinks_while_it_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.nnc").write_bytes(samples.stream_of(*SHAPES["large ones between small ones"]))
    stream = nnguard.Stream.open(tmp_path / "a.nnc")
    os.truncate(tmp_path / "a.nnc", 6 << 20)
    with (
        pytest.raises(nnguard.errors.FormatError, match="shorter"),
        stream.start_hashing(whole=True) as hashing,
    ):
        hashing.of_file()


def test_hashing_that_nobody_waits_for_ends() -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(*SHAPES["many small units"]))
    for whole in (False, True):
        with stream.start_hashing(whole=whole):
            pass


@pytest.mark.parametrize("pinned", [False, True])
def test_file_is_hashed_while_it_is_written(tmp_path: Path, pinned: bool) -> None:
    data = samples.stream_of(*SHAPES["large ones between small ones"])
    (tmp_path / "a.nnc").write_bytes(data)
    stream = nnguard.Stream.open(tmp_path / "a.nnc")
    if pinned:
        stream = stream.pinned(stream.sha256_of_units())
    assert stream.save_hashed(tmp_path / "b.nnc") == hashlib.sha256(data).digest()
    assert (tmp_path / "b.nnc").read_bytes() == data


@pytest.fixture
def stream() -> nnguard.Stream:
    units = (samples.data_unit("a"), samples.unit(9, b"opaque"), samples.data_unit("b"))
    return nnguard.Stream.from_bytes(samples.stream_of(*units))


def test_replaced_units_leave_all_others(tmp_path: Path, stream: nnguard.Stream) -> None:
    stream.save(tmp_path / "a.nnc")
    before = samples.split(bytes(stream))
    longer = samples.data_unit("b", payload=b"longer than before")
    changed = nnguard.Stream.open(tmp_path / "a.nnc").replace({4: longer})
    assert samples.split(bytes(changed)) == [*before[:4], longer]
    assert [unit.name for unit in changed] == [unit.name for unit in stream]
    changed.save(tmp_path / "b.nnc")
    assert (tmp_path / "b.nnc").read_bytes() == bytes(changed)
    assert (tmp_path / "a.nnc").read_bytes() == bytes(stream)


def test_nothing_replaced_is_the_same_stream(stream: nnguard.Stream) -> None:
    same = stream.replace({index: stream[index].read() for index in (2, 4)})
    assert bytes(same) == bytes(stream)


@pytest.mark.parametrize(
    "data",
    [
        samples.data_unit("other"),
        samples.unit(9, b"a"),
        samples.data_unit("a") + b"\0",
        samples.data_unit("a", (32, 16)),
    ],
    ids=["name", "kind", "more", "shape"],
)
def test_unit_of_another_header_is_refused(stream: nnguard.Stream, data: bytes) -> None:
    with pytest.raises(ValueError, match="these bytes"):
        stream.replace({2: data})


def test_save_overwrites_only_when_told(tmp_path: Path, stream: nnguard.Stream) -> None:
    path = tmp_path / "a.nnc"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        stream.save(path)
    assert path.read_bytes() == b"mine"
    stream.save(path, overwrite=True)
    assert path.read_bytes() == bytes(stream)
    assert list(tmp_path.iterdir()) == [path]


def test_save_to_the_file_that_is_open(tmp_path: Path, stream: nnguard.Stream) -> None:
    path = tmp_path / "a.nnc"
    stream.save(path)
    opened = nnguard.Stream.open(path)
    changed = opened.replace({2: samples.data_unit("a", payload=b"new")})
    changed.save(path, overwrite=True)
    assert path.read_bytes() == bytes(changed) != bytes(stream)
    assert bytes(opened) == bytes(stream), "the stream that was open is the one it was"


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    source, target = tmp_path / "a.nnc", tmp_path / "b.nnc"
    source.write_bytes(samples.read("default"))
    target.write_bytes(b"mine")
    stream = nnguard.Stream.open(source)
    os.truncate(source, 5000)
    with pytest.raises(nnguard.errors.FormatError, match="shorter"):
        stream.save(target, overwrite=True)
    assert target.read_bytes() == b"mine"
    assert sorted(tmp_path.iterdir()) == [source, target]
    with pytest.raises(FileNotFoundError):
        stream.save(tmp_path / "no" / "c.nnc")
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_saved_file_has_the_permissions_of_a_new_file(
    tmp_path: Path, stream: nnguard.Stream
) -> None:
    stream.save(tmp_path / "a.nnc")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.nnc").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.nnc"
    path.write_bytes(samples.read("default"))
    stream = nnguard.Stream.open(path)
    os.truncate(path, 5000)
    for read in (stream.__bytes__, stream.sha256_of_units, stream[-1].read):
        with pytest.raises(nnguard.errors.FormatError, match="shorter") as caught:
            read()
        assert caught.value.offset is not None
        assert 5000 <= caught.value.offset < stream.size


def test_copy_without_help_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom((8 << 20) + 5000)
    (tmp_path / "a").write_bytes(data)

    def refuse(*_: object) -> int:
        raise OSError

    for path, part in (("kernel", None), ("fallback", refuse)):
        if part is not None:
            monkeypatch.setattr(os, "copy_file_range", part, raising=False)
        with (tmp_path / path).open("wb", buffering=0) as target:
            target.write(b"before")
            FileSource(tmp_path / "a").copy(100, len(data) - 200, target)
            target.write(b"after")
        assert (tmp_path / path).read_bytes() == b"before" + data[100:-100] + b"after"


@pytest.mark.parametrize(
    "unit",
    [
        samples.unit(9, b"unknown kind"),
        samples.unit(63),
        samples.unit(samples.LPS, b"layer"),
        samples.unit(samples.TPL, b"\0\1"),
        samples.unit(samples.QNT, b"\0"),
        samples.unit(samples.AGG, b"aggregate"),
        samples.data_unit("w", partial=True),
        samples.data_unit("w", scan_order=3),
        samples.data_unit("w", payload_type=samples.BLOCK),
        samples.unit(9, b"x" * 40000),
        samples.unit(9, b"x", long=True),
        samples.data_unit("w", long=True),
    ],
)
def test_unit_of_any_kind_is_carried(unit: bytes) -> None:
    data = samples.stream_of(samples.data_unit("a"), unit, samples.data_unit("b"))
    stream = nnguard.Stream.from_bytes(data)
    assert len(stream) == 5
    assert stream[3].read() == unit
    assert bytes(stream) == data


def test_data_after_a_layer_parameter_set_is_opaque() -> None:
    data = samples.stream_of(
        samples.data_unit("a"), samples.unit(samples.LPS, b"layer"), samples.data_unit("b")
    )
    stream = nnguard.Stream.from_bytes(data)
    assert stream[2].tensor is not None
    assert stream[4].tensor is None


def test_long_names() -> None:
    for length in (100, 160, 300, 5000, 60_000):
        name = "ü" * (length // 2)
        stream = nnguard.Stream.from_bytes(samples.stream_of(samples.data_unit(name)))
        assert stream[2].name == name
        assert stream[2].tensor is not None


def test_name_without_measure_is_refused() -> None:
    with pytest.raises(nnguard.errors.FormatError, match="no end"):
        nnguard.Stream.from_bytes(samples.stream_of(samples.data_unit("x" * 70_000)))


@pytest.mark.parametrize("size", [(1 << 15) - 1, 1 << 15, (1 << 15) + 1, 1 << 16])
def test_both_size_fields_are_read(size: int) -> None:
    short = size < 1 << 15
    body = bytes(size - (3 if short else 5))
    unit = samples.unit(9, body, long=not short)
    assert len(unit) == size
    stream = nnguard.Stream.from_bytes(samples.stream_of(unit))
    assert stream[2].size == size


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"\0", "not an NNCodec stream", 0),
        (b"\0\3", "not an NNCodec stream", 0),
        (samples.model_unit(), "not an NNCodec stream", 0),
        (samples.unit(samples.STR), "not an NNCodec stream", 0),
        (samples.start_unit() * 2, "second start unit", 4),
        (samples.stream_of(samples.model_unit()), "second model parameter set", 11),
        (samples.start_unit() + samples.data_unit(), "before the model parameter set", 4),
        (samples.stream_of(b"\0"), "too early", 11),
        (samples.stream_of(b"\0\0\0"), "unit of 0 bytes", 11),
        (samples.stream_of(b"\0\2\0"), "unit of 2 bytes", 11),
        (samples.stream_of(b"\0\4\x24"), "unit of 4 bytes where 3 are left", 11),
        (samples.stream_of(b"\x80\0\0\4\x24"), "unit of 4 bytes", 11),
        (samples.stream_of(b"\xff\xff\xff\xff\x24"), "unit of 2147483647 bytes", 11),
        (samples.stream_of(samples.unit(9)) + b"\0", "too early", 14),
    ],
)
def test_damage_is_found_where_it_is(
    tmp_path: Path, data: bytes, message: str, offset: int
) -> None:
    (tmp_path / "a").write_bytes(data)
    for read in (
        lambda: nnguard.Stream.from_bytes(data),
        lambda: nnguard.Stream.open(tmp_path / "a"),
    ):
        with pytest.raises(nnguard.errors.FormatError, match=message) as caught:
            read()
        assert caught.value.offset == offset
        assert f"at byte {offset}" in str(caught.value)


def test_every_truncation_is_noticed() -> None:
    data = samples.small_stream()
    ends = {0}
    for unit in samples.split(data):
        ends.add(max(ends) + len(unit))
    for length in set(range(len(data))) - ends:
        with pytest.raises(nnguard.errors.FormatError):
            nnguard.Stream.from_bytes(data[:length])


def test_start_unit_with_a_partial_data_counter_is_refused() -> None:
    data = samples.unit(samples.STR, b"\0\1", partial=True) + samples.model_unit()
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.Stream.from_bytes(data)


def test_model_parameters_with_a_partial_data_counter_are_not_misread() -> None:
    model = samples.unit(samples.MPS, b"\0" + samples.model_unit()[3:], partial=True)
    data = samples.start_unit() + model + samples.data_unit("w")
    try:
        stream = nnguard.Stream.from_bytes(data)
    except nnguard.errors.FormatError:
        return
    header = stream[2].tensor
    assert header is None or header.qp_density == 2


def test_model_parameters_with_a_long_name_are_read() -> None:
    bits = samples.BitWriter().u(0, 5).u(1, 3).u(0, 1).u(1, 1).u(0, 6)
    bits.text("base model " * 30).u(2, 3).i(0, 13)
    data = samples.start_unit() + samples.unit(samples.MPS, bytes(bits)) + samples.data_unit("w")
    header = nnguard.Stream.from_bytes(data)[2].tensor
    assert header is not None
    assert header.qp_density == 2


def test_number_of_units_is_limited(
    stream: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(stream)
    monkeypatch.setattr("nnguard._stream.stream.MAX_UNITS", len(stream))
    assert len(nnguard.Stream.from_bytes(data)) == len(stream)
    monkeypatch.setattr("nnguard._stream.stream.MAX_UNITS", len(stream) - 1)
    with pytest.raises(nnguard.errors.LimitError):
        nnguard.Stream.from_bytes(data)


@pytest.mark.parametrize(("size", "most"), [(3, 1 << 15), (31, 1 << 15), (33, 1 << 16)])
def test_units_have_32_bytes_where_there_are_many(size: int, most: int) -> None:
    units = [samples.unit(samples.AGG, bytes(size - 3))] * (most - 2)
    start = samples.start_unit() + samples.model_unit()
    assert len(nnguard.Stream.from_bytes(start + b"".join(units))) == most
    if size < 32:
        with pytest.raises(nnguard.errors.LimitError, match="more than 32768 units in"):
            nnguard.Stream.from_bytes(start + b"".join([*units, units[0]]))


def test_folder_is_no_stream(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="a folder, where a file is expected"):
        nnguard.Stream.open(tmp_path)


def test_file_that_the_system_reads_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux ends a read short of 2^31 bytes."""
    (tmp_path / "file").write_bytes(bytes(range(20)))
    source = FileSource(tmp_path / "file")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: pread(file, min(size, 7), offset))
    assert source.read(1, 18) == bytes(range(1, 19))
    with pytest.raises(nnguard.errors.FormatError, match="shorter") as caught:
        source.read(1, 30)
    assert caught.value.offset == 20
