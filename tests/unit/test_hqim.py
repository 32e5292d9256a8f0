"""H-QIM by hand: which values move, and where the bits are."""

import numpy as np
import pytest

from nnguard.hiding.hqim import Peak, capacity, embed, extract, most_frequent


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def bits(text: str) -> np.ndarray:
    return np.array([int(bit) for bit in text], np.uint8)


def test_paper_form() -> None:
    values = ints(0, 2, 1, 0, -1, 0, 3, 0)
    peak = most_frequent(values)
    assert peak == Peak(0, +1)
    marked = embed(values, [peak], bits("0110"))
    assert marked.tolist() == [0, 3, 2, 1, -1, 1, 4, 0]
    hidden, restored = extract(marked, [peak])
    assert hidden.tolist() == [0, 1, 1, 0]
    assert restored.tolist() == values.tolist()


def test_most_frequent_is_the_least_of_equals() -> None:
    assert most_frequent(ints(5, -3, 5, -3, 1)) == Peak(-3, +1)


def test_direction_down() -> None:
    marked = embed(ints(-2, -1, 0, 1, -1), [Peak(-1, -1)], bits("10"))
    assert marked.tolist() == [-3, -2, 0, 1, -1]


def test_stride_4_moves_one_residue_only() -> None:
    values = ints(1, 2, 3, 4, 5, 6, 9, -3, -7)
    marked = embed(values, [Peak(1, +1)], bits("1"), stride=4)
    assert marked.tolist() == [5, 2, 3, 4, 9, 6, 13, -3, -7]


def test_bits_lie_in_the_order_of_values_and_peaks() -> None:
    values = ints(1, -1, 1, -1)
    peaks = [Peak(1, +1), Peak(-1, -1)]
    assert embed(values, peaks, bits("1000")).tolist() == [2, -1, 1, -1]
    assert embed(values, peaks, bits("0010")).tolist() == [1, -2, 1, -1]


def test_places_without_bits_hold_zeros() -> None:
    marked = embed(ints(0, 0, 0), [Peak(0, +1)], bits("1"))
    assert marked.tolist() == [1, 0, 0]
    assert extract(marked, [Peak(0, +1)])[0].tolist() == [1, 0, 0]


def test_capacity_is_the_number_of_values_at_the_peaks() -> None:
    values = ints(0, 0, 1, 2, 2, 2)
    assert capacity(values, []) == 0
    assert capacity(values, [Peak(0, +1)]) == 2
    assert capacity(values, [Peak(0, +1), Peak(2, +1)]) == 5
    assert capacity(values, [Peak(7, +1)]) == 0


def test_peaks_that_share_a_bin_are_refused() -> None:
    values = ints(0, 0, 1, 1)
    with pytest.raises(ValueError, match="listed after it"):
        embed(values, [Peak(1, +1), Peak(0, +1)], bits("11"))


def test_values_that_would_leave_32_bits_are_refused() -> None:
    top, bottom = np.iinfo(np.int32).max, np.iinfo(np.int32).min
    for values, peak in ((ints(0, top), Peak(0, +1)), (ints(0, bottom), Peak(0, -1))):
        with pytest.raises(ValueError, match="32 bits"):
            embed(values, [peak], bits("1"))
        with pytest.raises(ValueError, match="32 bits"):
            capacity(values, [peak])
    assert embed(ints(0, top - 1), [Peak(0, +1)], bits("1")).tolist() == [1, top]


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        embed(np.zeros(3, np.int64), [Peak(0, +1)], bits("1"))


@pytest.mark.parametrize(("value", "direction"), [(0, 0), (0, 2), (1 << 31, 1)])
def test_peaks_that_are_none(value: int, direction: int) -> None:
    with pytest.raises(ValueError, match="not a peak"):
        Peak(value, direction)
