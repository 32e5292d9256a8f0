"""Compressing gives the stock encoder's bytes, and decompressing the stock decoder's weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nnguard
import stock


@dataclass
class Case:
    """Random arrays, and how to compress them."""

    arrays: dict[str, stock.Array]
    options: dict[str, Any]

    @property
    def stream(self) -> nnguard.Stream:
        return nnguard.compress(self.arrays, nnguard.Settings(**self.options))

    @property
    def stock_stream(self) -> bytes:
        options = dict(self.options)
        options["unary_length_minus1"] = options.pop("unary_length") - 1
        return stock.encode(self.arrays, **options)


SHAPES = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 20), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([(1,), (1, 1), (1, 200), (200, 1), (70, 1, 1), (1, 7, 1, 9), (150, 3)]),
)


@st.composite
def floats(draw: st.DrawFn) -> stock.Array:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["laplace", "normal", "constant", "uniform", "extreme"]))
    scale = 10.0 ** draw(st.integers(-9, 3))
    if kind == "constant":
        array = np.full(shape, draw(st.sampled_from([0.0, -0.0, 1.0, -1.0])))
    elif kind == "uniform":
        array = rng.uniform(0, 1, shape)
    else:
        array = getattr(rng, "laplace" if kind == "extreme" else kind)(0, 1, shape)
    array = (array * scale).astype(np.float32)
    if kind == "extreme":
        at = rng.integers(0, array.size, 3)
        array.reshape(-1)[at] = rng.choice(EXTREMES, 3)
    array[rng.random(shape[0]) < draw(st.sampled_from([0, 0.5, 1]))] = 0
    return array


EXTREMES = np.array([0, -0.0, 1e-45, -1e-38, 1e4, -3e4], np.float32)


@st.composite
def integers(draw: st.DrawFn) -> stock.Array:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    shape = draw(SHAPES)
    limit = draw(st.sampled_from([0, 1, 2, 20, 1000, 1 << 20, 1 << 30]))
    array = rng.integers(-limit if draw(st.booleans()) else 0, limit, shape, np.int32, True)
    array[rng.random(shape[0]) < draw(st.sampled_from([0, 0.5]))] = 0
    return array


@st.composite
def cases(draw: st.DrawFn) -> Case:
    arrays = {
        f"layer{number}.weight": array
        for number, array in enumerate(
            draw(st.lists(st.one_of(floats(), floats(), integers()), min_size=1, max_size=3))
        )
    }
    density = draw(st.integers(0, 4))
    octave = 1 << density
    options = {
        "qp": draw(st.integers(-15 * octave, 2 * octave)),
        "nonweight_qp": draw(st.integers(-15 * octave, 2 * octave)),
        "qp_density": density,
        "dependent": draw(st.booleans()),
        "parameter_optimisation": draw(st.booleans()),
        "row_skipping": draw(st.booleans()),
        "unary_length": draw(st.integers(1, 256)),
        "scan_order": draw(st.integers(0, 5)),
    }
    return Case(arrays, options)


@settings(max_examples=2000)
@given(cases())
def test_compressing_is_what_the_stock_coder_does(case: Case) -> None:
    stream = case.stream
    assert bytes(stream) == case.stock_stream
    expected = stock.decode(bytes(stream))
    found = nnguard.decompress(stream)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.dtype == case.arrays[name].dtype
        assert array.shape == case.arrays[name].shape
        assert array.tobytes() == expected[name].tobytes()
