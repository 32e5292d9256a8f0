"""H-QIM takes bits out exactly as they went in, gives the array back, and moves no weight far."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnguard.hiding.hqim import MAX_VALUE, Bits, Indices, capacity, embed, extract

INT32 = np.iinfo(np.int32)
SHAPES = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=12)
ARRAYS = st.one_of(
    arrays(np.int32, SHAPES, elements=st.integers(-9, 9)),
    arrays(np.int32, SHAPES, elements=st.integers(-MAX_VALUE, MAX_VALUE)),
    arrays(np.int32, SHAPES, elements=st.sampled_from([-MAX_VALUE, -1, 0, 1, MAX_VALUE])),
    arrays(np.int32, SHAPES, elements=st.just(0)),
)
ANY = arrays(np.int32, SHAPES, elements=st.integers(INT32.min, INT32.max))
STRIDES = st.sampled_from([1, 4])


def bits_for(values: Indices, data: st.DataObject) -> Bits:
    places = capacity(values)
    used = data.draw(st.one_of(st.just(places), st.integers(0, places)))
    return data.draw(arrays(np.uint8, used, elements=st.integers(0, 1)))


@given(values=ARRAYS, stride=STRIDES, data=st.data())
def test_extraction_undoes_embedding(values: Indices, stride: int, data: st.DataObject) -> None:
    bits, before = bits_for(values, data), values.copy()
    marked = embed(values, bits, stride=stride)
    assert np.array_equal(values, before), "the input is left alone"
    hidden, restored = extract(marked, stride=stride)
    assert (restored.dtype, restored.shape) == (np.int32, values.shape)
    assert np.array_equal(restored, values)
    assert np.array_equal(hidden[: bits.size], bits)
    assert not hidden[bits.size :].any()
    assert hidden.size == capacity(values) == capacity(marked)


@given(values=ARRAYS, stride=STRIDES, data=st.data())
def test_weights_hardly_move(values: Indices, stride: int, data: st.DataObject) -> None:
    marked = embed(values, bits_for(values, data), stride=stride).astype(np.int64)
    assert np.array_equal(np.sign(marked), np.sign(values))
    assert np.array_equal(np.mod(np.abs(marked), stride), np.mod(np.abs(values), stride))
    in_half_steps = np.abs(marked - 2 * values.astype(np.int64))
    assert in_half_steps.max(initial=0) <= stride


@pytest.mark.parametrize("stride", [1, 4])
def test_weights_do_not_grow_on_the_whole(stride: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 40, 100_000).astype(np.int32)
    marked = embed(values, rng.integers(2, size=capacity(values), dtype=np.uint8), stride=stride)
    outward = np.sign(values) * (marked - 2 * values)
    assert abs(outward.mean()) < 0.02 * stride


@given(values=ANY, stride=STRIDES)
def test_arrays_that_no_embedding_made_do_no_harm(values: Indices, stride: int) -> None:
    bits, original = extract(values, stride=stride)
    assert bits.size == capacity(values)
    assert original.shape == values.shape


@given(
    values=ARRAYS.filter(lambda values: values.size > 0),
    beyond=st.integers(MAX_VALUE + 1, INT32.max) | st.integers(INT32.min, -MAX_VALUE - 1),
    stride=STRIDES,
    data=st.data(),
)
def test_value_beyond_the_largest_is_refused(
    values: Indices, beyond: int, stride: int, data: st.DataObject
) -> None:
    values.flat[data.draw(st.integers(0, values.size - 1))] = beyond
    with pytest.raises(ValueError, match="a value is beyond"):
        embed(values, bits_for(values, data), stride=stride)


@given(values=ARRAYS)
def test_one_bit_too_many_is_refused(values: Indices) -> None:
    with pytest.raises(ValueError, match="places"):
        embed(values, np.zeros(capacity(values) + 1, np.uint8))
