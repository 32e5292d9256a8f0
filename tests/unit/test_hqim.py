"""H-QIM by hand: where values go, and where the bits are."""

import numpy as np
import pytest

import samples
from nnguard.hiding.hqim import MAX_VALUE, capacity, embed, extract, whole_bytes


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def bits(text: str) -> np.ndarray:
    return np.array([int(bit) for bit in text], np.uint8)


def test_values_double_and_a_one_moves_to_the_bin_beside() -> None:
    values = ints(3, 3, -3, -3, 5)
    assert embed(values, bits("00000")).tolist() == [6, 5, -6, -5, 10]
    assert embed(values, bits("11111")).tolist() == [7, 6, -7, -6, 11]


def test_zeros_stay_and_carry_nothing() -> None:
    values = ints(0, 4, 0, 0, -1)
    assert capacity(values) == 2
    marked = embed(values, bits("11"))
    assert marked.tolist() == [0, 8, 0, 0, -3]
    found, restored = extract(marked)
    assert (found.tolist(), restored.tolist()) == ([1, 1], values.tolist())


def test_values_of_tcq_become_the_nearest_indices_of_the_new_state() -> None:
    values = ints(2, 4, -1, 0, 5)  # coded as 1, 2, 1, 0, 3 in states 0, 2, 1, 5, 5
    marked = embed(values, bits("0000"), dependent=True)
    assert marked.tolist() == [4, 8, -2, 0, 9]  # 2, 4, 1, 0, 5 in states 0, 0, 0, 2, 1
    marked = embed(values, bits("1111"), dependent=True)
    assert marked.tolist() == [2, 6, -3, 0, 11]  # 1, 3, 2, 0, 6 in states 0, 2, 3, 6, 3
    found, restored = extract(marked, dependent=True)
    assert (found.tolist(), restored.tolist()) == ([1, 1, 1, 1], values.tolist())


def test_places_without_bits_hold_zeros() -> None:
    marked = embed(ints(2, 2, 2), bits("1"))
    assert marked.tolist() == [5, 3, 4]
    assert extract(marked)[0].tolist() == [1, 0, 0]


def test_shape_is_kept() -> None:
    values = np.arange(1, 13, dtype=np.int32).reshape(2, 3, 2)
    marked = embed(values, bits("1"))
    assert marked.shape == extract(marked)[1].shape == values.shape


def test_too_many_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bits for 2 places"):
        embed(ints(0, 1, 2), bits("111"))


@pytest.mark.parametrize("dependent", [False, True])
def test_largest_value(dependent: bool) -> None:
    values = ints(MAX_VALUE, MAX_VALUE, -MAX_VALUE)
    marked = embed(values, bits("111"), dependent=dependent)
    found, restored = extract(marked, dependent=dependent)
    assert (found.tolist(), restored.tolist()) == ([1, 1, 1], values.tolist())
    for value in (MAX_VALUE + 1, -MAX_VALUE - 1, -(1 << 31)):
        with pytest.raises(ValueError, match="beyond"):
            embed(ints(value), bits("1"), dependent=dependent)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        embed(np.ones(3, np.int64), bits("1"))


def test_only_whole_bytes_are_returned() -> None:
    assert whole_bytes(bits("1000000111")) == b"\x81"
    assert whole_bytes(bits("1111111")) == b""


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("size", [1, 8, 9, 203, 1000])
def test_parts_do_not_show(size: int, dependent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(size)
    values = rng.integers(-3, 4, (size, 1)).astype(np.int32)
    values = samples.indices_of(values) if dependent else values
    bits = rng.integers(2, size=capacity(values), dtype=np.uint8)
    whole = embed(values, bits, dependent=dependent)
    monkeypatch.setattr("nnguard.hiding.hqim._PART", 8)
    assert np.array_equal(embed(values, bits, dependent=dependent), whole)
    found, restored = extract(whole, dependent=dependent)
    assert np.array_equal(found, bits)
    assert np.array_equal(restored, values)
