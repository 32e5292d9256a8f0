"""H-QIM by hand: where values go, and where the bits are."""

import numpy as np
import pytest

import samples
from nnguard._hiding.frame import MAX_BITS
from nnguard._hiding.hqim import Walk, first_number, max_value
from nnguard._hiding.packing import Joiner, split
from one_tensor import capacity, embed, extract


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def bits(text: str) -> np.ndarray:
    return np.array([int(bit) for bit in text], np.uint8)


def test_values_double_and_a_one_moves_to_the_bin_beside() -> None:
    values = ints(3, 3, -3, -3, 5)
    assert embed(values, bits("00000")).tolist() == [6, 6, -6, -6, 10]
    assert embed(values, bits("11111")).tolist() == [7, 5, -7, -5, 11]


def test_several_bits_are_the_last_of_the_bin() -> None:
    values = ints(3, 3, -1, 1)
    marked = embed(values, bits("000001110111"), width=3)
    assert marked.tolist() == [3 * 8, 3 * 8 + 1, -8 - -2, 8 - 1]
    found, restored = extract(marked, width=3)
    assert (found.tolist(), restored.tolist()) == (bits("000001110111").tolist(), values.tolist())


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("width", range(1, MAX_BITS + 1))
def test_weights_move_by_half_a_step_of_urq_and_a_whole_one_of_tcq(
    width: int, dependent: bool
) -> None:
    rng = np.random.default_rng(width)
    values = samples.indices_of(rng.integers(-9, 10, 5000).astype(np.int32))
    hidden = rng.integers(2, size=capacity(values, width), dtype=np.uint8)
    marked = embed(values, hidden, dependent=dependent, width=width)
    found, restored = extract(marked, dependent=dependent, width=width)
    assert np.array_equal(found, hidden)
    assert np.array_equal(restored, values)
    moved = np.abs(marked) - (np.abs(values) << width)  # away from zero
    assert np.abs(moved).max() <= (1 << width if dependent else 1 << width - 1)
    assert abs(moved.mean()) < 0.03 * (1 << width)
    still = embed(values, hidden[:0], dependent=dependent, width=width)
    assert np.abs(np.abs(still) - (np.abs(values) << width)).max() <= dependent


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("width", range(1, MAX_BITS + 1))
def test_first_number_is_known_without_the_rest(width: int, dependent: bool) -> None:
    rng = np.random.default_rng(width)
    for zeros in range(9):
        coded = np.concatenate([ints(*[0] * zeros), rng.integers(1, 9, 20).astype(np.int32)])
        values = samples.indices_of(coded) if dependent else coded
        hidden = rng.integers(1 << width, size=20).astype(np.uint16)
        marked = Walk(width, dependent=dependent).embed(values, hidden)
        found = first_number(int(marked[zeros]), dependent=dependent)
        assert found % (1 << width) == hidden[0]


def test_zeros_stay_and_carry_nothing() -> None:
    values = ints(0, 4, 0, 0, -1)
    assert capacity(values) == 2
    marked = embed(values, bits("11"))
    assert marked.tolist() == [0, 7, 0, 0, -3]
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
    assert marked.tolist() == [5, 4, 4]
    assert extract(marked)[0].tolist() == [1, 0, 0]


def test_shape_is_kept() -> None:
    values = np.arange(1, 13, dtype=np.int32).reshape(2, 3, 2)
    marked = embed(values, bits("1"))
    assert marked.shape == extract(marked)[1].shape == values.shape


def test_too_many_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="too many bits"):
        embed(ints(0, 1, 2), bits("111"))


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("width", [1, 2, 8, MAX_BITS])
def test_largest_value(width: int, dependent: bool) -> None:
    most = max_value(width)
    values = ints(most, most, -most)
    for bit in (0, 1):
        hidden = np.full(3 * width, bit, np.uint8)
        marked = embed(values, hidden, dependent=dependent, width=width)
        found, restored = extract(marked, dependent=dependent, width=width)
        assert (found.tolist(), restored.tolist()) == (hidden.tolist(), values.tolist())
    for value in (most + 1, -most - 1, -(1 << 31)):
        with pytest.raises(ValueError, match="too large"):
            embed(ints(value), bits("1"), dependent=dependent, width=width)


@pytest.mark.parametrize("width", range(1, MAX_BITS + 1))
def test_bytes_are_numbers_and_numbers_bytes(width: int) -> None:
    data = np.random.default_rng(width).bytes(101)
    count = -(-8 * len(data) // width)
    numbers = split(data, 0, width, count + 5)
    whole = int.from_bytes(data, "big") << count * width - 8 * len(data)
    assert numbers[:count].tolist() == [
        whole >> width * (count - 1 - at) & (1 << width) - 1 for at in range(count)
    ]
    assert not numbers[count:].any()
    assert np.array_equal(split(data, 7 * width, width, 20), numbers[7:27])
    joiner = Joiner(len(data))
    for part in np.array_split(numbers, 7):
        joiner.add(part, width)
    assert (bytes(joiner.data), joiner.clear) == (data, True)


@pytest.mark.parametrize("width", [3, 8, 13])
@pytest.mark.parametrize("at", [0, 1, 20])
def test_bits_behind_the_bytes_are_seen(width: int, at: int) -> None:
    numbers = split(b"abc", 0, width, 40)
    numbers[-(-24 // width) + at] = 1
    joiner = Joiner(3)
    for part in (numbers[:5], numbers[5:]):
        joiner.add(part, width)
    assert (bytes(joiner.data), joiner.clear) == (b"abc", False)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("size", [1, 8, 9, 203, 1000])
def test_pieces_do_not_show(size: int, width: int, dependent: bool) -> None:
    rng = np.random.default_rng(size)
    values = rng.integers(-3, 4, size).astype(np.int32)
    values = samples.indices_of(values) if dependent else values
    numbers = rng.integers(1 << width, size=np.count_nonzero(values)).astype(np.uint16)
    whole = Walk(width, dependent=dependent).embed(values, numbers)
    cuts = np.sort(rng.integers(size + 1, size=5))
    starts = [np.count_nonzero(values[:cut]) for cut in cuts]
    walk = Walk(width, dependent=dependent)
    parts = zip(np.split(values, cuts), np.split(numbers, starts), strict=True)
    assert np.array_equal(np.concatenate([walk.embed(*part) for part in parts]), whole)
    walk = Walk(width, dependent=dependent)
    found, before = zip(*(walk.extract(part) for part in np.split(whole, cuts)), strict=True)
    assert np.array_equal(np.concatenate(found), numbers)
    assert np.array_equal(np.concatenate(before), values)
