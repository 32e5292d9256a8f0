"""Large tensors are quantized a part at a time, as well as in one go."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard.stream import quantizing
from nnguard.stream.coding import Indices, decode, decode_payload, encode_payload, step_size
from nnguard.stream.headers import PayloadType, TensorHeader
from nnguard.stream.quantizing import dequantize, dequantize_into, fit_qp, quantize

QP, DENSITY = -24, 2


def header_of(weights: stock.Array, *, dependent: bool = True, scan_order: int = 0) -> TensorHeader:
    return TensorHeader(
        name="w",
        payload_type=PayloadType.FLOAT,
        shape=weights.shape,
        dependent=dependent,
        unary_length=11,
        profile=1,
        qp_density=DENSITY,
        base_qp=0,
        scan_order=scan_order,
        data_format=None,
        payload_offset=0,
    )


class Reader:
    """The weights of a tensor, and what was read of them."""

    def __init__(self, weights: stock.Array) -> None:
        self.flat = weights.reshape(-1)
        self.parts: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> stock.Array:
        self.parts.append((start, stop))
        return self.flat[start:stop]

    @property
    def read_whole(self) -> bool:
        return (0, self.flat.size) in self.parts


def search(weights: stock.Array, **options: int) -> tuple[Indices, Reader]:
    reader = Reader(weights)
    header = header_of(weights, **options)  # type: ignore[arg-type]
    return quantize(header, reader, QP), reader


def error_of(weights: stock.Array, indices: Indices) -> float:
    found = indices.astype(np.float64) * step_size(QP, DENSITY)
    return float(np.square(found - weights).sum())


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make windows small enough that a test has many of them."""

    def shrink(chunk: int = 1 << 12, overlap: int = 1 << 9) -> None:
        monkeypatch.setattr(quantizing, "_WHOLE", chunk)
        monkeypatch.setattr(quantizing, "CHUNK", chunk)
        monkeypatch.setattr(quantizing, "_OVERLAP", overlap)

    return shrink


WEIGHTS = {
    name: array
    for name, array in np.load(samples.FOLDER / "source.npz").items()
    if array.size > 1 << 14
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_windows_find_what_the_whole_search_finds(name: str, windows: Callable[..., None]) -> None:
    whole, reader = search(WEIGHTS[name])
    assert reader.read_whole
    windows(chunk=1 << 13, overlap=1 << 11)
    found, reader = search(WEIGHTS[name])
    assert not reader.read_whole
    assert len(reader.parts) > 1
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("kind", ["laplace", "normal", "sparse", "rounded", "large"])
@pytest.mark.parametrize("extent", [4700, 9000, 12288, 30011])
def test_windows_give_a_path_that_every_decoder_follows(
    kind: str, extent: int, windows: Callable[..., None]
) -> None:
    rng = np.random.default_rng(extent)
    weights = rng.laplace(0, 0.05, extent) if kind != "normal" else rng.normal(0, 0.05, extent)
    if kind == "sparse":
        weights[rng.random(extent) < 0.9] = 0
    if kind == "rounded":  # many paths are as good as each other
        weights = np.round(weights / step_size(QP, DENSITY)) * step_size(QP, DENSITY)
    if kind == "large":
        weights *= 1e4
    weights = weights.astype(np.float32).reshape(1, extent)
    whole, _ = search(weights)
    windows()
    found, reader = search(weights)
    assert len(reader.parts) > 1
    header = header_of(weights)
    payload = encode_payload(header, found, QP, row_skipping=True, parameter_optimization=False)
    assert np.array_equal(decode_payload(header, payload, to_the_end=True)[0], found)
    # Rounding in the sum of costs decides between paths that are as good.
    assert error_of(weights, found) <= error_of(weights, whole) * (1 + 1e-6) + 1e-9


def test_stream_of_a_large_tensor_is_the_stock_encoders(windows: Callable[..., None]) -> None:
    weights = np.random.default_rng(3).laplace(0, 0.05, (300, 100)).astype(np.float32)
    windows()
    stream = nnguard.compress({"w": weights}, nnguard.Settings(qp=QP))
    assert bytes(stream) == stock.encode({"w": weights}, qp=QP)
    found = {unit.name: unit for unit in stream}["w"]
    assert np.array_equal(dequantize(decode(found)), stock.decode(bytes(stream))["w"])


@pytest.mark.parametrize("fill", [0.0, 1e-9])
def test_windows_that_cannot_be_joined_are_searched_whole(
    fill: float, windows: Callable[..., None]
) -> None:
    """Zeros leave the state of the trellis open."""
    weights = np.random.default_rng(4).laplace(0, 0.05, (4, 3000)).astype(np.float32)
    weights.reshape(-1)[:5500] = fill
    whole, _ = search(weights)
    windows()
    found, reader = search(weights)
    assert reader.read_whole
    assert len(reader.parts) > 1
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("zeros", [slice(3000, 5500), slice(5500, 7500)])
def test_windows_are_joined_beside_zeros(zeros: slice, windows: Callable[..., None]) -> None:
    """Where they lie around a joint, the window grows until it reaches beyond them."""
    weights = np.random.default_rng(4).laplace(0, 0.05, (4, 3000)).astype(np.float32)
    weights.reshape(-1)[zeros] = 0
    whole, _ = search(weights)
    windows()
    found, reader = search(weights)
    assert not reader.read_whole
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("value", [0.0, 0.01, -3.0])
def test_constant_tensor_in_windows(value: float, windows: Callable[..., None]) -> None:
    weights = np.full((5, 3000), value, np.float32)
    whole, _ = search(weights)
    windows()
    found, _ = search(weights)
    assert error_of(weights, found) <= error_of(weights, whole) * (1 + 1e-6) + 1e-9
    header = header_of(weights)
    payload = encode_payload(header, found, QP, row_skipping=True, parameter_optimization=False)
    assert np.array_equal(decode_payload(header, payload, to_the_end=True)[0], found)


@pytest.mark.parametrize("scan_order", [1, 3])
def test_blocks_are_searched_whole(scan_order: int, windows: Callable[..., None]) -> None:
    weights = WEIGHTS["fc1.weight"]
    windows()
    _, reader = search(weights, scan_order=scan_order)
    assert reader.parts == [(0, weights.size)]


def test_uniform_quantization_in_chunks(windows: Callable[..., None]) -> None:
    weights = WEIGHTS["fc1.weight"]
    whole, _ = search(weights, dependent=False)
    windows(chunk=1000)
    found, reader = search(weights, dependent=False)
    assert max(stop - start for start, stop in reader.parts) == 1000
    assert np.array_equal(found, whole)
    assert np.abs(found * step_size(QP, DENSITY) - weights).max() <= step_size(QP, DENSITY) / 2


def test_chunks_of_blocks_quantized_uniformly(windows: Callable[..., None]) -> None:
    weights = WEIGHTS["fc1.weight"]
    windows(chunk=1000)
    settings = nnguard.Settings(qp=-32, dependent=False, scan_order=1, row_skipping=False)
    expected = stock.encode(
        {"w": weights}, qp=-32, dependent=False, scan_order=1, row_skipping=False
    )
    assert bytes(nnguard.compress({"w": weights}, settings)) == expected


def test_dequantizing_in_place_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    indices = np.random.default_rng(0).integers(-(1 << 30), 1 << 30, (70, 50), np.int32)
    step = step_size(-33, 2)
    expected = indices.astype(np.float32) * np.float32(step)
    monkeypatch.setattr(quantizing, "CHUNK", 999)
    memory = indices.copy()
    weights = dequantize_into(memory, step)
    assert np.array_equal(weights, expected)
    assert np.shares_memory(weights, memory)


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("largest", [1e3, 1e8, 3e12, 1e17])
def test_weights_too_large_for_their_parameter(dependent: bool, largest: float) -> None:
    """Such as a running variance."""
    variance = np.array([largest, largest / 3, 1.0, 0.0, largest / 7], np.float32)
    stream = nnguard.compress({"var": variance}, nnguard.Settings(dependent=dependent))
    found = nnguard.decompress(stream)["var"]
    step = decode({unit.name: unit for unit in stream}["var"]).step
    # An index has 31 bits, and the step at most two quarters more than it must have.
    assert step <= max(step_size(-75, 2), 1.5 * largest / ((1 << 31) - 8))
    assert np.abs(found - variance).max() <= step + np.spacing(np.float32(largest))
    assert np.array_equal(found, stock.decode(bytes(stream))["var"])


@pytest.mark.parametrize("density", range(8))
@pytest.mark.parametrize("dependent", [True, False])
def test_parameter_is_raised_no_further_than_needed(density: int, dependent: bool) -> None:
    header = replace(header_of(np.zeros(2, np.float32)), dependent=dependent, qp_density=density)
    for largest in (0.0, 1.0, 12345.678, 1e8, 1e9, 2.0**33):
        wanted = -10 << density
        qp = fit_qp(header, np.array([-largest, largest / 3], np.float32), wanted)
        assert largest / step_size(qp, density) <= 1 << 31
        assert qp == wanted or largest / step_size(qp - 2, density) > (1 << 31) - 8


def test_weights_too_large_for_any_parameter_are_refused() -> None:
    settings = nnguard.Settings(qp=0, nonweight_qp=0, qp_density=0)
    with pytest.raises(nnguard.ModelError, match="tensor var has weights up to 3e"):
        nnguard.compress({"var": np.array([3e38, 1], np.float32)}, settings)
