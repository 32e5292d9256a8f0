"""Files of the safetensors format: what its library writes is read, what it reads is written."""

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import nnguard
import stock
from nnguard._models.formats import FORMATS
from nnguard._models.safetensors import MAX_HEADER, read_safetensors

DTYPES = {name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in FORMATS}
SETTINGS = nnguard.Settings(qp=-8, nonweight_qp=-8, dependent=False)
"""Under which small whole numbers stay as they are."""


def arrays_of(*names: str) -> dict[str, stock.Array]:
    rng = np.random.default_rng(0)
    return {
        f"{name}{shape}": np.asarray(rng.integers(0, 2, shape)).astype(DTYPES[name])
        for name in names or DTYPES
        for shape in ((), (1,), (2, 3), (0,), (3, 0), (1, 2, 1, 3))
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "data_offsets": list(offsets) if isinstance(offsets, tuple) else offsets,
    }


def both_read(path: Path, expected: dict[str, stock.Array]) -> None:
    """Check that a file gives the same through nnguard and through the library."""
    found = nnguard.decompress(nnguard.compress(path, SETTINGS))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)
    library = safetensors.numpy.load_file(path)
    for name, array in expected.items():
        assert library[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_files_of_the_library_are_read(name: str, path: Path) -> None:
    arrays = arrays_of(name)
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np", "größe": "1"})
    both_read(path, arrays)


def test_file_of_all_formats(path: Path) -> None:
    arrays = arrays_of()
    safetensors.numpy.save_file(arrays, path)
    both_read(path, arrays)


@pytest.mark.parametrize("workers", [1, 2])
def test_files_that_are_written_are_read_by_the_library(workers: int, path: Path) -> None:
    arrays = arrays_of()
    stream = nnguard.compress(arrays, SETTINGS)
    nnguard.decompress_to_file(stream, path, workers=workers)
    found = safetensors.numpy.load_file(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_tensors_that_are_written_are_aligned(path: Path) -> None:
    nnguard.decompress_to_file(nnguard.compress(arrays_of(), SETTINGS), path)
    for tensor in read_safetensors(path):
        assert tensor.values.offset % tensor.type.format.dtype.itemsize == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["größe", 'a"b\\c', "\n\t", "x" * 5000, "", "\U0001f600"])
def test_names_survive(name: str, path: Path) -> None:
    array = np.arange(4, dtype=np.int32)
    safetensors.numpy.save_file({name: array}, path)
    both_read(path, {name: array})
    nnguard.decompress_to_file(nnguard.compress(path), path, overwrite=True)
    both_read(path, {name: array})


def test_values_of_a_file_are_read_when_they_are_coded(path: Path) -> None:
    safetensors.numpy.save_file({"w": np.zeros((300, 300), np.float32)}, path)
    whole = path.read_bytes()
    tensors = read_safetensors(path)
    path.write_bytes(whole[:-4])
    with pytest.raises(nnguard.errors.ModelError, match="became shorter"):
        tensors[0].values.read(0, tensors[0].size)


DATA = bytes(8)
LIES: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "is an empty file"),
    "too short": (bytes(7), "does not fit"),
    "header beyond the file": (raw({}, length=3), "does not fit"),
    "huge header": (raw({}, length=(1 << 64) - 1), "does not fit"),
    "no header": (bytes(8), "not JSON"),
    "not JSON": (raw(b"{nonsense}"), "not JSON"),
    "cut JSON": (raw(b'{"w":'), "not JSON"),
    "rest behind the JSON": (raw(b"{} {}"), "not JSON"),
    "no UTF-8": (raw(b'{"\xff":1}'), "not JSON"),
    "list": (raw([]), "not a JSON object"),
    "number": (raw(b"12"), "not a JSON object"),
    "deep nesting": (raw(b"[" * 200_000), "not JSON"),
    "deep nesting in an entry": (raw(b'{"w":' + b"[" * 200_000), "not JSON"),
    "field twice": (
        raw(b'{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA),
        "something twice",
    ),
    "hole before": (raw({"w": entry(offsets=(4, 12))}, bytes(12)), "overlap or are unused"),
    "hole between": (
        raw({"v": entry(), "w": entry(offsets=(12, 20))}, bytes(20)),
        "overlap or are unused",
    ),
    "overlap": (
        raw({"v": entry(), "w": entry(offsets=(4, 12))}, bytes(12)),
        "overlap or are unused",
    ),
    "same place": (raw({"v": entry(), "w": entry()}, DATA), "overlap or are unused"),
    "bytes left over": (raw({"w": entry()}, bytes(9)), "tensors end at"),
    "bytes without tensors": (raw({}, b"\0"), "tensors end at"),
    "file too short": (raw({"w": entry()}, bytes(7)), "tensors end at"),
    "no data": (raw({"w": entry()}), "tensors end at"),
    "shape too small": (raw({"w": entry(shape=(1,))}, DATA), "is not 8 bytes"),
    "shape too large": (raw({"w": entry(shape=(3,))}, DATA), "is not 8 bytes"),
    "dtype of another size": (raw({"w": entry("F64")}, DATA), "is not 8 bytes"),
    "end before begin": (raw({"w": entry(offsets=(8, 0))}, DATA), "is not -8 bytes"),
    "negative dimension": (raw({"w": entry(shape=(-2,))}, DATA), "out of range"),
    "two negative dimensions": (raw({"w": entry(shape=(-2, -1))}, DATA), "out of range"),
    "negative offset": (raw({"w": entry(offsets=(-8, 0))}, DATA), "out of range"),
    "huge dimension": (raw({"w": entry(shape=(1 << 64,))}, DATA), "out of range"),
    "huge product": (raw({"w": entry(shape=(1 << 62, 1 << 62))}, DATA), "no stream can hold"),
    "huge offset": (raw({"w": entry(offsets=(0, 1 << 64))}, DATA), "out of range"),
    "very long number": (
        raw(b'{"w":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % (b"9" * 9000), DATA),
        "not JSON",
    ),
    "float dimension": (raw({"w": entry(shape=(2.0,))}, DATA), "out of range"),
    "bool dimension": (raw({"w": entry("F64", shape=(True,))}, DATA), "out of range"),
    "bool offset": (raw({"w": entry(offsets=(False, 8))}, DATA), "out of range"),
    "text dimension": (raw({"w": entry(shape=("2",))}, DATA), "out of range"),
    "NaN dimension": (raw({"w": entry(shape=(math.nan,))}, DATA), "out of range"),
    "shape is no list": (raw({"w": entry(shape=2)}, DATA), "malformed"),
    "shape is null": (raw({"w": entry(shape=None)}, DATA), "malformed"),
    "shape is text": (raw({"w": entry(shape="2")}, DATA), "malformed"),
    "one offset": (raw({"w": entry(offsets=(0,))}, DATA), "malformed"),
    "three offsets": (raw({"w": entry(offsets=(0, 8, 8))}, DATA), "malformed"),
    "offsets are null": (raw({"w": entry(offsets=None)}, DATA), "malformed"),
    "dtype is not text": (raw({"w": entry(5)}, DATA), "malformed"),
    "no dtype": (raw({"w": {"shape": [2], "data_offsets": [0, 8]}}, DATA), "malformed"),
    "no shape": (raw({"w": {"dtype": "F32", "data_offsets": [0, 8]}}, DATA), "malformed"),
    "no offsets": (raw({"w": {"dtype": "F32", "shape": [2]}}, DATA), "malformed"),
    "entry is a list": (raw({"w": [1, 2]}, DATA), "malformed"),
    "entry is null": (raw({"w": None}, DATA), "malformed"),
    "unknown dtype": (raw({"w": entry("F31")}, DATA), "does not code"),
    "dtype in small letters": (raw({"w": entry("f32")}, DATA), "does not code"),
}

OUR_LIMITS: dict[str, tuple[bytes, str]] = {
    "spaces first": (raw(b" " + json.dumps({"w": entry()}).encode(), DATA), "not a JSON object"),
    "name twice": (
        raw(b'{"w":%s,"w":%s}' % ((json.dumps(entry()).encode(),) * 2), DATA),
        "something twice",
    ),
    "one field more": (raw({"w": {**entry(), "more": 1}}, DATA), "malformed"),
    "name with a zero": (raw({"a\0b": entry()}, DATA), "cannot hold the name"),
    "name too long": (raw({"x" * 40_000: entry()}, DATA), "cannot hold the name"),
    "dtype that is not coded": (
        raw({"w": entry("F8_E4M3", (8,))}, DATA),
        r"F8_E4M3.*does not code",
    ),
    "no tensors": (raw({}), "no tensors"),
    "metadata alone": (raw({"__metadata__": {"a": "b"}}), "no tensors"),
}
"""What the library reads, or some versions of it."""


def test_the_file_that_is_lied_about_is_read(path: Path) -> None:
    """Else the cases below could be refused for another reason."""
    path.write_bytes(raw({"w": entry()}, DATA))
    both_read(path, {"w": np.zeros(2, np.float32)})


@pytest.mark.parametrize("case", LIES)
def test_lies_are_refused_as_the_library_refuses_them(case: str, path: Path) -> None:
    data, message = LIES[case]
    path.write_bytes(data)
    with pytest.raises(nnguard.errors.ModelError, match=message) as caught:
        nnguard.compress(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.numpy.load(data)


@pytest.mark.parametrize("case", OUR_LIMITS)
def test_what_the_library_may_read_is_refused(case: str, path: Path) -> None:
    data, message = OUR_LIMITS[case]
    path.write_bytes(data)
    with pytest.raises(nnguard.errors.ModelError, match=message):
        nnguard.compress(path)


def test_header_beyond_the_limit_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)  # takes no place on the disk
    with pytest.raises(nnguard.errors.LimitError, match=f"limit {MAX_HEADER}"):
        nnguard.compress(path)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.safe_open(path, "np")


def test_name_that_is_not_unicode_is_refused(path: Path) -> None:
    path.write_bytes(raw(b'{"\\ud800":%s}' % json.dumps(entry()).encode(), DATA))
    with pytest.raises(nnguard.errors.ModelError, match="not Unicode"):
        nnguard.compress(path)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.numpy.load(path.read_bytes())


def test_a_file_that_is_there_is_kept(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        nnguard.decompress_to_file(nnguard.compress({"w": np.ones(3, np.float32)}), path)
    assert path.read_bytes() == b"mine"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_without_an_index_is_not_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "model.safetensors"
    folder.mkdir()
    with pytest.raises(nnguard.errors.ModelError, match="has 0 files"):
        nnguard.compress(folder)
    with pytest.raises(FileNotFoundError):
        nnguard.compress(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("count", [33, 40_000, 300_000])
def test_dimensions_without_number_cost_nothing(count: int, path: Path) -> None:
    """Their product has as many digits as there are dimensions, and takes minutes."""
    path.write_bytes(raw({"w": entry(shape=(1 << 62,) * count)}, DATA))
    with pytest.raises(nnguard.errors.ModelError, match="no stream can hold the shape") as caught:
        nnguard.compress(path)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "header",
    [
        {"w": entry("F" * 1_000_000)},
        {"w" * 1_000_000: entry()},
        {"\ud800" * 100_000: entry()},
        {"w" * 30_000: entry(shape=(-1,))},
        {"w" * 30_000: 5},
        {"w" * 30_000: entry(shape=(3,))},
        {"w" * 30_000: entry(offsets=(4, 12))},
    ],
)
def test_messages_stay_short(header: dict[str, Any], path: Path) -> None:
    path.write_bytes(raw(header, DATA))
    with pytest.raises(nnguard.errors.ModelError) as caught:
        nnguard.compress(path)
    assert len(str(caught.value)) < 1000


def test_name_of_the_metadata_is_no_name_of_a_tensor(path: Path) -> None:
    """Files with such a tensor were written, and no library read them."""
    stream = nnguard.compress({"__metadata__": np.ones(3, np.float32), "w": np.ones(2, np.float32)})
    with pytest.raises(nnguard.errors.ModelError, match="a tensor called __metadata__"):
        nnguard.decompress_to_file(stream, path)
    assert not list(path.parent.iterdir())
    path.write_bytes(raw({"__metadata__": entry()}, DATA))
    with pytest.raises(nnguard.errors.ModelError, match="metadata hold more than text"):
        nnguard.compress(path)
