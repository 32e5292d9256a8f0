"""H-QIM takes bits out exactly as they went in, gives the array back, and moves no weight far."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnguard._hiding.hqim import Indices, max_value
from one_tensor import Bits, capacity, embed, extract
from samples import NEXT_STATE

WIDTHS = st.sampled_from([1, 1, 2, 3, 5, 8, 16])
MAX_VALUE = max_value(1)
INT32 = np.iinfo(np.int32)
SHAPES = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=12)
ARRAYS = st.one_of(
    arrays(np.int32, SHAPES, elements=st.integers(-9, 9)),
    arrays(np.int32, SHAPES, elements=st.integers(-MAX_VALUE, MAX_VALUE)),
    arrays(np.int32, SHAPES, elements=st.sampled_from([-MAX_VALUE, -1, 0, 1, MAX_VALUE])),
    arrays(np.int32, SHAPES, elements=st.just(0)),
)
ANY = arrays(np.int32, SHAPES, elements=st.integers(INT32.min, INT32.max))
KINDS = pytest.mark.parametrize("dependent", [False, True], ids=["URQ", "TCQ"])


def states_of(coded: Indices) -> np.ndarray:
    """Return the state in which each integer is coded."""
    state, states = 0, []
    for integer in coded.reshape(-1).tolist():
        states.append(state)
        state = NEXT_STATE[state][integer % 2]
    return np.array(states, np.int64).reshape(coded.shape)


def on_a_path(values: Indices) -> Indices:
    """Move values by one where that takes it to make them a path through the trellis."""
    coded = np.sign(values) * (np.abs(values) + 1 >> 1)
    return np.asarray(np.sign(coded) * (2 * np.abs(coded) - states_of(coded) % 2), np.int32)


def is_a_path(values: Indices) -> bool:
    return np.array_equal(values, on_a_path(values))


def some_bits(values: Indices, data: st.DataObject, width: int = 1) -> Bits:
    places = capacity(values, width)
    used = data.draw(st.one_of(st.just(places), st.integers(0, places)))
    return data.draw(arrays(np.uint8, used, elements=st.integers(0, 1)))


def within(values: Indices, width: int) -> Indices:
    """Bring values into what so many bits go into."""
    return np.clip(values, -max_value(width) + 1, max_value(width) - 1)


@KINDS
@given(values=ARRAYS, width=WIDTHS, data=st.data())
def test_extraction_undoes_embedding(
    dependent: bool,
    values: Indices,
    width: int,
    data: st.DataObject,
) -> None:
    values = values if width == 1 else within(values, width)
    values = on_a_path(values) if dependent else values
    bits, before = some_bits(values, data, width), values.copy()
    embedded = embed(values, bits, dependent=dependent, width=width)
    assert np.array_equal(values, before), "the input is left alone"
    hidden, restored = extract(embedded, dependent=dependent, width=width)
    assert (restored.dtype, restored.shape) == (np.int32, values.shape)
    assert np.array_equal(restored, values)
    assert np.array_equal(hidden[: bits.size], bits)
    assert not hidden[bits.size :].any()
    assert hidden.size == capacity(values, width) == capacity(embedded, width)


@KINDS
@given(values=ARRAYS, width=WIDTHS, data=st.data())
def test_weights_hardly_move(
    dependent: bool, values: Indices, width: int, data: st.DataObject
) -> None:
    values = within(values, width)
    values = on_a_path(values) if dependent else values
    bits = some_bits(values, data, width)
    embedded = embed(values, bits, dependent=dependent, width=width).astype(np.int64)
    assert np.array_equal(np.sign(embedded), np.sign(values))
    in_parts = np.abs(embedded - (values.astype(np.int64) << width))
    assert in_parts.max(initial=0) <= (1 << width if dependent else 1 << width - 1)
    without_bits = in_parts[values != 0][-(-bits.size // width) :]
    assert without_bits.max(initial=0) <= dependent


@KINDS
@given(values=ARRAYS, data=st.data())
def test_positive_values_stay_positive_and_zeros_zero(
    dependent: bool, values: Indices, data: st.DataObject
) -> None:
    """A variance stays one, and what was pruned stays pruned, whatever the bits are."""
    values = np.abs(values)
    values = on_a_path(values) if dependent else values
    embedded = embed(values, some_bits(values, data), dependent=dependent)
    assert (embedded[values > 0] > 0).all()
    assert not embedded[values == 0].any()
    assert np.array_equal(
        embed(-values, bits_of(embedded, dependent), dependent=dependent), -embedded
    )


def bits_of(embedded: Indices, dependent: bool) -> Bits:
    return extract(embedded, dependent=dependent)[0]


@KINDS
@given(values=ARRAYS, data=st.data())
def test_signs_and_zeros_stay_on_the_way_back(
    dependent: bool, values: Indices, data: st.DataObject
) -> None:
    values = on_a_path(values) if dependent else values
    embedded = embed(values, some_bits(values, data), dependent=dependent)
    _, restored = extract(embedded, dependent=dependent)
    for one, other in ((values, embedded), (embedded, restored)):
        assert np.array_equal(np.sign(one), np.sign(other))


@given(values=ARRAYS, data=st.data())
def test_what_carries_bits_in_tcq_is_a_path(values: Indices, data: st.DataObject) -> None:
    path = on_a_path(values)
    assert is_a_path(embed(path, some_bits(path, data), dependent=True))


@KINDS
def test_weights_do_not_grow_on_the_whole(dependent: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 40, 100_000).astype(np.int32)
    values = on_a_path(values) if dependent else values
    bits = rng.integers(2, size=capacity(values), dtype=np.uint8)
    outward = np.sign(values) * (embed(values, bits, dependent=dependent) - 2 * values)
    assert abs(outward.mean()) < 0.02
    assert 0.45 < (outward[values != 0] ** 2).mean() / (3 if dependent else 1) < 0.55


@KINDS
@given(values=ANY)
def test_arrays_that_no_embedding_made_do_no_harm(dependent: bool, values: Indices) -> None:
    bits, original = extract(values, dependent=dependent)
    assert bits.size == capacity(values)
    assert original.shape == values.shape


@KINDS
@given(
    values=ARRAYS.filter(lambda values: values.size > 0),
    beyond=st.integers(MAX_VALUE + 1, INT32.max) | st.integers(INT32.min, -MAX_VALUE - 1),
    data=st.data(),
)
def test_value_beyond_the_largest_is_refused(
    dependent: bool,
    values: Indices,
    beyond: int,
    data: st.DataObject,
) -> None:
    values.flat[data.draw(st.integers(0, values.size - 1))] = beyond
    with pytest.raises(ValueError, match="too large"):
        embed(values, some_bits(values, data), dependent=dependent)


@given(values=ARRAYS)
def test_one_bit_too_many_is_refused(values: Indices) -> None:
    with pytest.raises(ValueError, match="too many bits"):
        embed(values, np.zeros(capacity(values) + 1, np.uint8))
