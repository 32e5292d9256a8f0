"""H-QIM takes bits out exactly as they went in, and gives the array back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnguard.hiding.hqim import Bits, Indices, Peak, capacity, embed, extract, most_frequent

INT32 = np.iinfo(np.int32)
SHAPES = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=12)
ARRAYS = st.one_of(
    arrays(np.int32, SHAPES, elements=st.integers(-9, 9)),
    arrays(np.int32, SHAPES, elements=st.integers(INT32.min, INT32.max)),
    arrays(np.int32, SHAPES, elements=st.sampled_from([INT32.min, -1, 0, 1, INT32.max])),
    arrays(np.int32, SHAPES, elements=st.just(0)),
)
STRIDES = st.sampled_from([1, 4])
PEAKS = st.lists(st.builds(Peak, st.integers(-9, 9), st.sampled_from([1, -1])), max_size=5).map(
    tuple
)


def bits_for(places: int, data: st.DataObject) -> Bits:
    used = data.draw(st.one_of(st.just(places), st.integers(0, places)))
    return data.draw(arrays(np.uint8, used, elements=st.integers(0, 1)))


def check_inverse(values: Indices, peaks: tuple[Peak, ...], stride: int, bits: Bits) -> None:
    before = values.copy()
    marked = embed(values, peaks, bits, stride=stride)
    assert np.array_equal(values, before), "the input is left alone"
    hidden, restored = extract(marked, peaks, stride=stride)
    assert restored.dtype == np.int32
    assert restored.shape == values.shape
    assert np.array_equal(restored, values)
    assert np.array_equal(hidden[: bits.size], bits)
    assert not hidden[bits.size :].any()
    assert hidden.size == capacity(values, peaks, stride=stride)


@given(values=ARRAYS, peak=st.integers(-9, 9), up=st.booleans(), stride=STRIDES, data=st.data())
def test_one_peak_is_undone(
    values: Indices, peak: int, up: bool, stride: int, data: st.DataObject
) -> None:
    peaks = (Peak(peak, 1 if up else -1),)
    try:
        places = capacity(values, peaks, stride=stride)
    except ValueError:  # values beyond the peak would leave 32 bits
        limit = INT32.max - stride if up else INT32.min + stride
        assert (values > limit).any() if up else (values < limit).any()
        return
    assert places == np.count_nonzero(values == peak)
    check_inverse(values, peaks, stride, bits_for(places, data))


@given(values=ARRAYS, peaks=PEAKS, stride=STRIDES, data=st.data())
def test_many_peaks_are_undone_or_refused(
    values: Indices, peaks: tuple[Peak, ...], stride: int, data: st.DataObject
) -> None:
    try:
        bits = bits_for(capacity(values, peaks, stride=stride), data)
        embed(values, peaks, bits, stride=stride)
    except ValueError:
        return
    check_inverse(values, peaks, stride, bits)


@given(values=ARRAYS, inner=st.integers(0, 4), gap=st.integers(1, 4), data=st.data())
def test_inner_peaks_before_outer_ones_never_collide(
    values: Indices, inner: int, gap: int, data: st.DataObject
) -> None:
    values = np.clip(values, -1000, 1000)
    peaks = (Peak(inner, 1), Peak(inner + gap, 1), Peak(-inner - 1, -1))
    places = capacity(values, peaks)
    assert places == sum(np.count_nonzero(values == peak.value) for peak in peaks)
    check_inverse(values, peaks, 1, bits_for(places, data))


@given(values=ARRAYS.filter(lambda a: a.size > 0), data=st.data())
def test_paper_form_is_undone(values: Indices, data: st.DataObject) -> None:
    values = np.clip(values, INT32.min, INT32.max - 1)
    peak = most_frequent(values)
    places = capacity(values, [peak])
    assert places == np.unique(values, return_counts=True)[1].max()
    check_inverse(values, (peak,), 1, bits_for(places, data))


@given(values=ARRAYS, peaks=PEAKS)
def test_stride_4_keeps_residues(values: Indices, peaks: tuple[Peak, ...]) -> None:
    values = np.clip(values, -1000, 1000)
    bits = np.ones(capacity(values, peaks, stride=4), np.uint8)
    try:
        marked = embed(values, peaks, bits, stride=4)
    except ValueError:  # peaks share a bin
        return
    assert np.array_equal(np.mod(marked, 4), np.mod(values, 4))


@given(values=ARRAYS)
def test_one_bit_too_many_is_refused(values: Indices) -> None:
    values = np.clip(values, -1000, 1000)
    bits = np.zeros(capacity(values, [Peak(0, 1)]) + 1, np.uint8)
    with pytest.raises(ValueError, match="places"):
        embed(values, [Peak(0, 1)], bits)
