"""The paper's form of H-QIM, which nnguard's is compared with, does what the paper says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnguard
import samples
import stock
from nnguard._stream.headers import PayloadType
from nnguard._stream.quantized import decode
from paper.paper_form import PaperForm

URQ = ("urq", "urq_nopopt", "qp50_urq", "resnet20.urq38")


def weights_of(stream: nnguard.Stream) -> np.ndarray:
    """Return the indices of all tensors that take part, in a row."""
    return np.concatenate(
        [
            decode(unit).indices.reshape(-1)
            for unit in stream
            if unit.tensor is not None
            and unit.tensor.payload_type == PayloadType.FLOAT
            and len(unit.tensor.shape) > 1
        ]
    )


@pytest.fixture(params=URQ)
def stream(request: pytest.FixtureRequest) -> nnguard.Stream:
    return nnguard.Stream.from_bytes(samples.read(request.param))


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_message_comes_out_and_the_stream_under_it(share: float, seed: int) -> None:
    stream = nnguard.Stream.from_bytes(samples.read("urq"))
    form = PaperForm(stream)
    bits = np.random.default_rng(seed).integers(
        2, size=round(share * form.capacity), dtype=np.uint8
    )
    found, original = form.extract(form.embed(bits))
    np.testing.assert_array_equal(found[: bits.size], bits)
    assert not found[bits.size :].any()
    assert bytes(original) == bytes(stream)


def test_peak_is_the_most_frequent_index(stream: nnguard.Stream) -> None:
    form, weights = PaperForm(stream), weights_of(stream)
    values, counts = np.unique(weights, return_counts=True)
    assert form.weights == weights.size
    assert form.capacity == counts.max()
    assert form.peak == values[counts.argmax()]


def test_bins_above_the_peak_move_up_by_one_and_ones_into_the_gap(stream: nnguard.Stream) -> None:
    form, before = PaperForm(stream), weights_of(stream)
    bits = np.random.default_rng(1).integers(2, size=form.capacity, dtype=np.uint8)
    expected = before + (before > form.peak)
    np.testing.assert_array_equal(weights_of(form.embed(bits[:0])), expected)
    expected[before == form.peak] += bits
    np.testing.assert_array_equal(weights_of(form.embed(bits)), expected)


def test_stock_decoder_reads_it(stream: nnguard.Stream) -> None:
    form = PaperForm(stream)
    embedded = form.embed(np.ones(form.capacity, np.uint8))
    ours = nnguard.decompress(embedded)
    for name, weights in stock.decode(bytes(embedded)).items():
        np.testing.assert_array_equal(ours[name], weights)


def test_message_that_is_too_long_is_refused(stream: nnguard.Stream) -> None:
    form = PaperForm(stream)
    with pytest.raises(nnguard.errors.CapacityError, match=str(form.capacity)):
        form.embed(np.zeros(form.capacity + 1, np.uint8))
