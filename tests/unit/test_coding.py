"""One tensor, entropy-coded: exact where it is the stock coder's, harmless where it is damaged."""

import random
from dataclasses import replace

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard.stream.coding import (
    MAX_INDEX,
    MAX_WEIGHTS,
    decode,
    encode,
    find_settings,
)
from nnguard.stream.quantizing import dequantize
from nnguard.stream.units import Unit


def quantized(stream: nnguard.Stream) -> list[Unit]:
    return [
        unit
        for unit in stream
        if unit.tensor is not None and unit.tensor.payload_type == samples.FLOAT
    ]


def weight_of(data: bytes) -> Unit:
    return max(quantized(nnguard.Stream.from_bytes(data)), key=lambda unit: unit.size)


@pytest.mark.parametrize("name", [*samples.SIGNABLE, *samples.OPAQUE])
def test_stock_tensors_are_encoded_to_the_same_bytes(name: str) -> None:
    for unit in quantized(nnguard.Stream.open(samples.path_of(name))):
        tensor = find_settings(unit)
        assert tensor is not None, unit.name
        assert encode(tensor) == unit.read()


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


@pytest.mark.parametrize("optimized", [True, False])
@pytest.mark.parametrize("skipping", [True, False])
def test_settings_are_found(optimized: bool, skipping: bool) -> None:
    array = np.random.default_rng(0).laplace(0, 0.05, (50, 40)).astype(np.float32)
    array[10:20] = 0
    data = stock.encode(
        {"w": array}, parameter_optimization=optimized, row_skipping=skipping, qp=-30
    )
    tensor = find_settings(weight_of(data))
    assert tensor is not None
    assert (tensor.parameter_optimization, tensor.row_skipping) == (optimized, skipping)


def test_tensor_of_another_encoder_has_no_settings() -> None:
    stream = nnguard.Stream.open(samples.path_of("bitdepth8"))
    assert [find_settings(unit) for unit in quantized(stream) if unit.name == "fc1.weight"] == [
        None
    ]


@pytest.mark.parametrize(
    "shape", [(MAX_WEIGHTS + 1,), (1 << 31, 1 << 31), ((1 << 32) - 1,) * 32, (1, MAX_WEIGHTS * 2)]
)
def test_huge_tensor_is_refused_before_it_takes_memory(shape: tuple[int, ...]) -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(samples.data_unit("w", shape)))
    for read in (decode, find_settings):
        with pytest.raises(nnguard.LimitError, match="limit"):
            read(stream[2])


def test_payload_that_is_missing_is_refused() -> None:
    stream = nnguard.Stream.from_bytes(samples.stream_of(samples.data_unit("w", payload=b"")))
    with pytest.raises(nnguard.FormatError, match="payload"):
        decode(stream[2])


def test_only_quantized_tensors_are_decoded() -> None:
    stream = nnguard.Stream.from_bytes(samples.small_stream())
    for unit in stream:
        if unit not in quantized(stream):
            with pytest.raises(ValueError, match="not a quantized tensor"):
                decode(unit)


def test_indices_that_cannot_be_coded_are_refused() -> None:
    tensor = decode(weight_of(samples.small_stream()))
    for value in (MAX_INDEX + 1, -MAX_INDEX - 1, np.iinfo(np.int32).min):
        indices = tensor.indices.copy()
        indices[0] = value
        with pytest.raises(ValueError, match="beyond"):
            encode(tensor.with_indices(indices))


@pytest.mark.parametrize("dependent", [True, False])
def test_large_indices_survive(dependent: bool) -> None:
    unit = weight_of(samples.small_stream(dependent=dependent))
    tensor = decode(unit)
    indices = np.zeros_like(tensor.indices)
    indices.reshape(-1)[:4] = [1 << 20, -(1 << 20), MAX_INDEX, -MAX_INDEX]
    stream = nnguard.Stream.from_bytes(samples.small_stream(dependent=dependent))
    at = [unit.name for unit in stream].index("conv.weight")
    written = stream.replace({at: encode(tensor.with_indices(indices))})
    assert np.array_equal(decode(written[at]).indices, indices)


@pytest.mark.parametrize("dependent", [True, False])
def test_damaged_payloads_neither_crash_nor_print(
    dependent: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    unit = weight_of(samples.small_stream(dependent=dependent, weights=1000))
    data = unit.read()
    assert unit.tensor is not None
    start = unit.tensor.payload_offset
    rng = random.Random(0)
    damaged = [data[:length] for length in range(start, len(data), 5)]
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
            tensor = find_settings(reread)
        except nnguard.FormatError:
            continue
        found += tensor is not None
        if tensor is not None:
            assert encode(tensor) == reread.read()
    assert found < len(damaged) / 2
    assert capfd.readouterr() == ("", "")


def test_row_skipping_flag_is_kept() -> None:
    tensor = find_settings(weight_of(samples.small_stream()))
    assert tensor is not None
    other = replace(tensor, row_skipping=not tensor.row_skipping)
    assert encode(other) != encode(tensor)
