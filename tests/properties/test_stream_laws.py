"""Records go into any stream of the stock encoder and come out, and it decodes as before."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import nnguard
import stock
from nnguard._compression.quantizing import dequantize
from nnguard._hiding import candidates, embed, extract
from nnguard._stream.quantized import decode, encode


@dataclass
class Network:
    """Random arrays, and how to encode them."""

    arrays: dict[str, stock.Array]
    options: dict[str, Any]

    @property
    def stream(self) -> nnguard.Stream:
        return nnguard.Stream.from_bytes(stock.encode(self.arrays, **self.options))


@st.composite
def networks(draw: st.DrawFn, *, least: int = 1) -> Network:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    arrays = {}
    for index in range(draw(st.integers(1, 2))):
        rows = draw(st.integers(1, 60))
        columns = draw(st.sampled_from([(1,), (7,), (30,), (4, 3, 3), (2, 1, 5)]))
        rows = max(rows, -(-least // int(np.prod(columns))))
        scale = draw(st.sampled_from([0.0, 0.01, 0.05, 0.3]))
        array = rng.laplace(0, 1, (rows, *columns)) * scale
        array[: draw(st.integers(0, rows))] *= draw(st.sampled_from([0, 1]))  # zero rows
        arrays[f"layer{index}.weight"] = array.astype(np.float32)
    arrays["bias"] = rng.normal(0, 1, draw(st.integers(1, 9))).astype(np.float32)
    density = draw(st.integers(0, 4))
    options = {
        "qp": draw(st.integers(-40, -10)) * (1 << density) // 4,
        "nonweight_qp": -60 * (1 << density) // 4,
        "qp_density": density,
        "dependent": draw(st.booleans()),
        "parameter_optimization": draw(st.booleans()),
        "row_skipping": draw(st.booleans()),
        "unary_length_minus1": draw(st.integers(0, 12)),
    }
    return Network(arrays, options)


@settings(max_examples=60)
@given(networks())
def test_every_tensor_is_encoded_to_the_same_bytes(network: Network) -> None:
    stream = network.stream
    decoded = stock.decode(bytes(stream))
    for unit in stream:
        if unit.tensor is None or unit.tensor.payload_type.name != "FLOAT":
            continue
        tensor = decode(unit)
        assert encode(tensor) == unit.read()
        assert np.array_equal(dequantize(tensor), decoded[unit.name])


@settings(max_examples=50)
@given(networks(least=1500), st.binary(max_size=120), st.integers(1, 255))
def test_record_is_taken_out_exactly(network: Network, record: bytes, kind: int) -> None:
    stream = network.stream
    try:
        marked = embed(stream, record, kind=kind)
    except nnguard.errors.CapacityError:
        reject()
    reread = nnguard.Stream.from_bytes(bytes(marked))
    taken = extract(reread)
    assert taken.record == record
    assert taken.header.kind == kind
    assert bytes(taken.original) == bytes(stream)

    before, after = stock.decode(bytes(stream)), stock.decode(bytes(marked))
    carriers = {stream[carrier].name for carrier in taken.header.carriers}
    assert carriers <= {stream[index].name for index in candidates(stream)}
    assert list(before) == list(after)
    for name in before:
        if name not in carriers:
            assert np.array_equal(before[name], after[name])


@settings(max_examples=15)
@given(st.integers(0, 1 << 16), st.lists(st.binary(max_size=30), min_size=2, max_size=5))
def test_records_nest_and_come_out_in_reverse(seed: int, records: list[bytes]) -> None:
    rng = np.random.default_rng(seed)
    arrays = {"w": rng.laplace(0, 0.05, (64, 128)).astype(np.float32)}
    streams = [nnguard.Stream.from_bytes(stock.encode(arrays, qp=-24))]
    for record in records:
        streams.append(embed(streams[-1], record, kind=1))
    current = streams[-1]
    for depth in range(len(records), 0, -1):
        taken = extract(current)
        assert (taken.header.layer, taken.record) == (depth, records[depth - 1])
        current = taken.original
        assert bytes(current) == bytes(streams[depth - 1])
    with pytest.raises(nnguard.errors.NoRecordError):
        extract(current)
