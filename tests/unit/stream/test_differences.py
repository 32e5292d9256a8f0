"""Tensors as differences to others: what is subtracted comes back, byte for byte."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import stock
from nnguard._stream import Stream, Unit
from nnguard._stream.differences import add, may_pay, subtract
from nnguard._stream.quantized import decode, integers_of
from nnguard._stream.units import replaced
from nnguard.errors import FormatError

SHAPES = [(5000,), (70, 90), (3, 40000), (33, 5, 7), (1, 3)]
"""Pieces are 2^15 weights, or whole rows; a row may be larger."""


def unit_of(weights: stock.Array, qp: int = -22, *, dependent: bool = False) -> Unit:
    data = stock.encode({"w": weights}, qp=qp, nonweight_qp=qp, dependent=dependent)
    [unit] = [unit for unit in Stream.from_bytes(data) if unit.name == "w"]
    return unit


def drawn(shape: tuple[int, ...], seed: int, scale: float = 0.2) -> stock.Array:
    return np.random.default_rng(seed).laplace(0, scale, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("of_unit", "of_base"), [*itertools.product([False, True], repeat=2)])
def test_law(shape: tuple[int, ...], of_unit: bool, of_base: bool) -> None:
    weights = drawn(shape, 1)
    base = unit_of(weights, dependent=of_base)
    unit = unit_of(weights + drawn(shape, 2, 0.01), dependent=of_unit)
    difference = replaced(unit, subtract(unit, base))
    integers = [integers_of(decode(each)) for each in (unit, base, difference)]
    assert np.array_equal(integers[0] - integers[1], integers[2])
    assert add(difference, base) == unit.read()


def test_differences_of_networks_that_are_near_are_small() -> None:
    weights = drawn((300, 300), 1)
    base = unit_of(weights)
    near, far = unit_of(weights + drawn((300, 300), 2, 0.005)), unit_of(drawn((300, 300), 3))
    assert may_pay(near, base)
    assert len(subtract(near, base)) < 0.4 * near.size
    assert not may_pay(far, base)
    assert len(subtract(far, base)) > far.size


def test_other_shapes() -> None:
    unit, base = unit_of(drawn((6, 4), 1)), unit_of(drawn((4, 6), 1))
    with pytest.raises(FormatError, match="different shapes"):
        subtract(unit, base)


def test_integers() -> None:
    """Units with integers, and units without a tensor."""
    stream = Stream.from_bytes(stock.encode({"n": np.arange(30, dtype=np.int32)}))
    unit = unit_of(drawn((30,), 1))
    for other in stream:
        for call in (subtract, add, may_pay):
            with pytest.raises(FormatError, match="not a quantized tensor"):
                call(unit, other)
            with pytest.raises(FormatError, match="not a quantized tensor"):
                call(other, unit)


@pytest.mark.parametrize("dependent", [False, True])
def test_row_that_is_skipped(dependent: bool) -> None:
    weights = drawn((50, 60), 1)
    base = unit_of(weights, dependent=dependent)
    weights[20] = 0
    with pytest.raises(ValueError, match="skips rows"):
        subtract(unit_of(weights, dependent=dependent), base)


@pytest.mark.parametrize("sign", [1, -1])
def test_sum_that_is_too_large(sign: int) -> None:
    weights = np.full((4, 4), sign * 2.0**20, np.float32)
    unit = unit_of(weights, qp=-40)  # 2^30 steps
    twice = replaced(unit, subtract(unit, unit_of(-weights / 2, qp=-40)))
    with pytest.raises(ValueError, match="too large"):
        add(twice, unit)


def test_damage_behind_the_last_piece() -> None:
    """Decoders notice at the end: of the base, too."""
    base, unit = unit_of(drawn((50, 60), 1)), unit_of(drawn((50, 60), 2))
    data = base.read()
    damaged = replaced(base, data[:-1] + bytes([data[-1] ^ 0xFF]))
    for call in (subtract, add):
        with pytest.raises(FormatError):
            call(unit, damaged)
        with pytest.raises(FormatError):
            call(damaged, unit)
