"""Indices are the stock quantizer's, though a tensor is quantized a piece at a time."""

from dataclasses import replace

import numpy as np
import pytest
from nncodec.extensions import deepCABAC

import nnguard
import samples
import stock
from nnguard._compression import quantizing
from nnguard._compression.quantizing import dequantize_into, fit_qp, quantize
from nnguard._stream import coding
from nnguard._stream.coding import Indices, piece_ranges, step_size
from nnguard._stream.headers import PayloadType, TensorHeader
from nnguard._stream.quantized import decode

QP, DENSITY = -24, 2
STEP = step_size(QP, DENSITY)


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


def stock_indices(weights: stock.Array, *, dependent: bool, scan_order: int = 0) -> Indices:
    indices = np.zeros(weights.shape, np.int32)
    deepCABAC.Encoder().quantLayer(
        weights, indices, int(dependent), DENSITY, QP, 0.0, 0, scan_order, 1
    )
    return indices


def indices_of(weights: stock.Array, *, dependent: bool, scan_order: int = 0) -> Indices:
    header = header_of(weights, dependent=dependent, scan_order=scan_order)
    pieces = list(quantize(header, Reader(weights), QP)())
    assert [len(piece) for piece in pieces] == [len(piece) for piece in piece_ranges(header)]
    return np.concatenate(pieces).reshape(weights.shape)


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut pieces so small that a test has many of them."""
    monkeypatch.setattr(coding, "_PIECE", 1000)
    return 1000


def weights_of(kind: str, shape: tuple[int, ...]) -> stock.Array:
    rng = np.random.default_rng(len(kind))
    weights = rng.normal(0, 0.05, shape) if kind == "normal" else rng.laplace(0, 0.05, shape)
    if kind == "sparse":
        weights[rng.random(shape) < 0.9] = 0
    if kind == "rounded":  # many paths are as good as each other
        weights = np.round(weights / STEP) * STEP
    if kind == "halves":
        weights = (np.round(weights / STEP) + 0.5) * STEP
    if kind == "large":
        weights *= 1e4
    if kind == "huge":
        weights *= 2.0**30 * STEP / np.abs(weights).max()
    if kind == "constant":
        weights = np.full(shape, -3.0)
    if kind == "zero":
        weights = np.zeros(shape)
    return weights.astype(np.float32)


KINDS = ["laplace", "normal", "sparse", "rounded", "halves", "large", "huge", "constant", "zero"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("shape", [(4700,), (3, 3001), (67, 40), (1, 900), (900, 1)], ids=str)
def test_indices_are_those_of_the_stock_quantizer(
    kind: str, dependent: bool, shape: tuple[int, ...], tiny_pieces: int
) -> None:
    weights = weights_of(kind, shape)
    for scan_order in range(5) if 1 < shape[0] < shape[-1] * shape[0] else [0]:
        expected = stock_indices(weights, dependent=dependent, scan_order=scan_order)
        found = indices_of(weights, dependent=dependent, scan_order=scan_order)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("dependent", [True, False])
def test_indices_of_trained_weights_are_those_of_the_stock_quantizer(dependent: bool) -> None:
    for weights in np.load(samples.FOLDER / "source.npz").values():
        if weights.dtype == np.float32:
            weights = np.ascontiguousarray(weights)
            expected = stock_indices(weights, dependent=dependent)
            assert np.array_equal(indices_of(weights, dependent=dependent), expected)


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("scan_order", [0, 1])
def test_weights_are_read_in_pieces(dependent: bool, scan_order: int, tiny_pieces: int) -> None:
    weights = weights_of("normal", (80, 90))
    reader = Reader(weights)
    header = header_of(weights, dependent=dependent, scan_order=scan_order)
    list(quantize(header, reader, QP)())
    assert max(stop - start for start, stop in reader.parts) <= tiny_pieces
    assert len(reader.parts) >= 8


@pytest.mark.parametrize("held", [0, 1 << 22])
@pytest.mark.parametrize("dependent", [True, False])
def test_indices_can_be_gone_through_again(
    dependent: bool, held: int, tiny_pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "_HELD", held)
    weights = weights_of("normal", (80, 90))
    pieces = quantize(header_of(weights, dependent=dependent), Reader(weights), QP)
    first, second = (np.concatenate(list(pieces())) for _ in range(2))
    assert np.array_equal(first, second)
    interleaved = zip(pieces(), pieces(), strict=True)
    assert all(np.array_equal(one, other) for one, other in interleaved)


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("scan_order", [0, 1])
def test_stream_of_many_pieces_is_the_stock_encoders(
    dependent: bool, scan_order: int, tiny_pieces: int
) -> None:
    weights = weights_of("laplace", (300, 100))
    settings = nnguard.Settings(qp=QP, dependent=dependent, scan_order=scan_order)
    stream = nnguard.compress({"w": weights}, settings)
    expected = stock.encode({"w": weights}, qp=QP, dependent=dependent, scan_order=scan_order)
    assert bytes(stream) == expected
    assert np.array_equal(nnguard.decompress(stream)["w"], stock.decode(expected)["w"])


def test_uniform_quantization_goes_to_the_nearest() -> None:
    weights = weights_of("laplace", (100, 100))
    found = indices_of(weights, dependent=False)
    assert np.abs(found * STEP - weights).max() <= STEP / 2 * (1 + 1e-6)


def test_trellis_errs_less_than_uniform_quantization_of_its_steps() -> None:
    """The indices of a state are two steps apart."""
    weights = weights_of("normal", (100, 100))
    coarse = header_of(weights, dependent=False)
    pieces = quantize(coarse, Reader(weights), QP + (1 << DENSITY))()
    uniform = np.concatenate(list(pieces)).reshape(weights.shape) * 2 * STEP
    trellis = indices_of(weights, dependent=True) * STEP
    errors = [float(np.square(found - weights).mean()) for found in (trellis, uniform)]
    assert 0.5 < errors[0] / errors[1] < 0.8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("dependent", [True, False])
def test_what_no_index_stands_for_does_no_harm(value: float, dependent: bool) -> None:
    """Callers refuse it first."""
    weights = weights_of("normal", (10, 90))
    weights[5, 5] = value
    assert indices_of(weights, dependent=dependent).shape == weights.shape


def test_dequantizing() -> None:
    indices = np.random.default_rng(0).integers(-(1 << 30), 1 << 30, (70, 50), np.int32)
    step = step_size(-33, 2)
    weights = np.full((70, 50), np.nan, np.float32)
    dequantize_into(indices, step, weights)
    assert np.array_equal(weights, indices.astype(np.float32) * np.float32(step))


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
    with pytest.raises(nnguard.errors.ModelError, match="tensor var has weights up to 3e"):
        nnguard.compress({"var": np.array([3e38, 1], np.float32)}, settings)
