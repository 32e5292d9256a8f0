"""Tensors of every number format go into a stream and come out as they were."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import nnguard
import stock
from nnguard._models.formats import FORMATS
from nnguard._stream.quantized import decode

DTYPES = {name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in FORMATS}
FLOATS = [name for name, form in FORMATS.items() if form.is_float]
INTEGERS = [name for name in FORMATS if name not in FLOATS]
SHAPES = [(), (1,), (7,), (1, 2), (2, 2), (5, 3, 2), (1, 1, 1, 1), (2, 3, 4, 5)]
EMPTY = [(0,), (0, 5), (3, 0), (3, 0, 2), (0, 2), (1, 0)]


def through(*arrays: stock.Array, **options: object) -> list[stock.Array]:
    """Compress arrays and decompress them; the stock decoder reads them too."""
    model = {f"tensor{number}": array for number, array in enumerate(arrays)}
    stream = nnguard.compress(model, nnguard.Settings(**options))  # type: ignore[arg-type]
    found = nnguard.decompress(stream)
    assert list(found) == list(model)
    read = stock.decode(bytes(stream))
    assert list(read) == list(model)
    assert {array.dtype.name for array in read.values()} <= {"float32", "int32"}
    return list(found.values())


def stock_values(array: stock.Array) -> stock.Array:
    stream = nnguard.compress({"w": array}, nnguard.Settings(dependent=False))
    return stock.decode(bytes(stream))["w"]


def limits(name: str) -> tuple[int, int]:
    if name == "bool":
        return 0, 1
    return int(np.iinfo(name).min), int(np.iinfo(name).max)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_come_out_as_they_were(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    least, most = limits(name)
    small = rng.integers(max(least, -3), min(most, 3), shape, endpoint=True)
    large = rng.integers(least, most, shape, np.uint64 if most >> 63 else np.int64, True)
    arrays = [np.asarray(array).astype(DTYPES[name]) for array in (small, large)]
    for found, array in zip(through(*arrays), arrays, strict=True):
        assert (found.dtype, found.shape) == (array.dtype, shape)
        assert np.array_equal(found, array)


@pytest.mark.parametrize("name", INTEGERS)
def test_limits_of_every_format(name: str) -> None:
    least, most = limits(name)
    values = {least, most, least // 2, most // 2, most // 2 + 1, 0, 1}
    values |= {value for power in (30, 31, 32) for value in ((1 << power) - 1, 1 << power)}
    values |= {-value for value in values}
    array = np.array(sorted(v for v in values if least <= v <= most), DTYPES[name])
    scalars = [array[index].reshape(()) for index in range(array.size)]
    found = through(array, *scalars)
    assert [entry.tolist() for entry in found] == [array.tolist(), *array.tolist()]
    assert {entry.dtype for entry in found} == {array.dtype}


@pytest.mark.parametrize("name", ["int32", "uint32", "int64", "uint64"])
def test_integers_that_look_like_nan(name: str, tmp_path: Path) -> None:
    """Large integers are stored where raw float32 would be; no bit may be quieted."""
    patterns = [0x7FC00001, 0x7F800001, 0xFF800001, 0xFFFFFFFF, 0x7F800000, 0x80000000, 0x7FBFFFFF]
    form = DTYPES[name]
    words = np.array(patterns * (form.itemsize // 4), np.uint32)
    array = words.view(form)
    assert through(array)[0].tobytes() == words.tobytes()
    assert stock_values(array).tobytes() == words.tobytes()
    stream = nnguard.compress({"w": array})
    path = tmp_path / "model.safetensors"
    nnguard.decompress_to_file(stream, path)
    assert path.read_bytes().endswith(words.tobytes())
    assert bytes(nnguard.compress(path)) == bytes(stream)


def test_integers_of_32_bits_are_those_of_the_stock_decoder() -> None:
    for name in ("bool", "int8", "uint8", "int16", "uint16", "int32"):
        least, most = limits(name)
        array = np.array([[max(least, -(1 << 30)), min(most, 1 << 30), 0, 1]], DTYPES[name])
        assert stock_values(array).dtype == np.int32
        assert stock_values(array).tolist() == array.astype(np.int32).tolist()


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("qp", [-20, -38])
def test_floats_come_out_within_half_a_step(name: str, shape: tuple[int, ...], qp: int) -> None:
    array = np.asarray(np.random.default_rng(1).normal(0, 1, shape)).astype(DTYPES[name])
    settings = nnguard.Settings(qp=qp, nonweight_qp=qp, dependent=False)
    stream = nnguard.compress({"w": array}, settings)
    found = nnguard.decompress(stream)["w"]
    assert (found.dtype, found.shape) == (array.dtype, shape)
    step = decode({unit.name: unit for unit in stream}["w"]).step
    half = step / 2 + 4 * float(ml_dtypes.finfo(array.dtype).eps)  # and the format's own rounding
    assert np.abs(found.astype(np.float64) - array.astype(np.float64)).max() <= half
    read = stock.decode(bytes(stream))["w"]
    assert read.dtype == np.float32
    assert np.array_equal(read.reshape(shape).astype(array.dtype), found)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", EMPTY)
def test_empty_tensors(name: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, DTYPES[name])
    found = through(array, np.ones(3, np.float32), array)
    for entry in (found[0], found[2]):
        assert (entry.dtype, entry.shape) == (array.dtype, shape)
    assert stock_values(array).shape == shape


def test_a_model_of_all_formats() -> None:
    arrays = [
        np.ones(shape, dtype)
        for dtype in DTYPES.values()
        for shape in ((), (2, 2), (), (0,), (3,), (1,))
    ]
    options = {"qp": -8, "nonweight_qp": -8, "dependent": False}
    for found, array in zip(through(*arrays, **options), arrays, strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array)


@pytest.mark.parametrize("order", [">", "="])
def test_byte_order_and_layout_do_not_count(order: str) -> None:
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    for name in ("int16", "int64", "float32", "float64"):
        array = base.astype(np.dtype(name).newbyteorder(order))
        views = (array, array.T, array[::2, ::-1], np.asfortranarray(array))
        for found, view in zip(through(*views, qp=-8, dependent=False), views, strict=True):
            assert found.dtype == np.dtype(name)
            assert np.array_equal(found, view)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 4999])
@pytest.mark.parametrize("bit_depth", [None, 8])
def test_nan_and_infinity_are_refused_by_name(
    name: str, value: float, at: int, bit_depth: int | None
) -> None:
    array = np.ones((50, 100), DTYPES[name])
    array.reshape(-1)[at] = value
    what = "NaN" if np.isnan(value) else "infinite"
    for dependent in (False, True):
        settings = nnguard.Settings(dependent=dependent, bit_depth=bit_depth)
        with pytest.raises(nnguard.errors.ModelError, match=f"tensor layer1.bad has {what}"):
            nnguard.compress({"fine": np.ones(3, np.float32), "layer1.bad": array}, settings)


@pytest.mark.parametrize("value", [3.5e38, -1e39, 1e308])
def test_float64_beyond_float32_is_refused(value: float) -> None:
    with pytest.raises(
        nnguard.errors.ModelError, match=r"tensor w has .*beyond the range of float32"
    ):
        nnguard.compress({"w": np.array([1.0, value])})


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dependent", [True, False])
def test_float16_never_becomes_infinite(sign: int, dependent: bool) -> None:
    """Quantization goes beyond its largest number."""
    array = np.array([[sign * 65504, sign * 60000]], np.float16)
    beyond = 0
    for qp in range(20, 80):
        settings = nnguard.Settings(qp=qp, dependent=dependent)
        stream = nnguard.compress({"w": array}, settings)
        assert np.isfinite(nnguard.decompress(stream)["w"]).all()
        beyond += np.abs(stock.decode(bytes(stream))["w"]).max() > 65520
    assert beyond > 10


@pytest.mark.parametrize("name", ["bfloat16", "float32", "float64"])
def test_weights_beyond_what_can_be_quantized_are_refused(name: str) -> None:
    array = np.array([[3e38, 1]], DTYPES[name])
    with pytest.raises(
        nnguard.errors.ModelError, match=r"tensor w has weights up to .*: too large"
    ):
        nnguard.compress({"w": array})


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_too_large_weights_become_the_largest_number(name: str) -> None:
    form, largest = FORMATS[name], float(ml_dtypes.finfo(DTYPES[name]).max)
    weights = np.array([3.4028235e38, -3.4028235e38, largest, -largest], np.float32)
    found = form.from_float32(weights).view(DTYPES[name]).astype(np.float64)
    assert found.tolist() == [largest, -largest, largest, -largest]


def float32_patterns() -> stock.Array:
    """Return numbers of all kinds: subnormal, halfway between two bfloat16, next to halfway."""
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (high[:, np.newaxis] | low).reshape(-1).view(np.float32)


def test_bfloat16_is_rounded_as_ml_dtypes_does() -> None:
    weights = float32_patterns()
    with np.errstate(all="ignore"):
        expected = weights.astype(ml_dtypes.bfloat16)
    finite = np.isfinite(weights) & np.isfinite(expected)
    assert finite.sum() > 380_000
    found = FORMATS["bfloat16"].from_float32(weights[finite])
    assert np.array_equal(found, expected[finite].view(np.uint16))


def test_bfloat16_is_read_as_ml_dtypes_does() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    found = FORMATS["bfloat16"].to_float32(bits)
    expected = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    number = ~np.isnan(expected)
    assert number.sum() > 65_000
    assert np.array_equal(found[number].view(np.uint32), expected[number].view(np.uint32))
    assert np.isnan(found[~number]).all()


@pytest.mark.parametrize(
    "dtype", [np.complex64, np.longdouble, "S3", "U3", "M8[s]", object, "f4,f4"]
)
def test_other_formats_are_refused_by_name(dtype: object) -> None:
    array = np.zeros(3, dtype)  # type: ignore[call-overload]
    with pytest.raises(nnguard.errors.ModelError, match=r"tensor odd is .* does not code"):
        nnguard.compress({"odd": array})


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "int4"])
def test_formats_of_ml_dtypes_that_are_not_coded(name: str) -> None:
    with pytest.raises(nnguard.errors.ModelError, match=f"tensor odd is {name}"):
        nnguard.compress({"odd": np.zeros(3, getattr(ml_dtypes, name))})
