"""The coder of our own and the stock extension do the same, one tensor at a time.

NNGUARD_CASES=100000 tests so many random tensors. The stock coder cannot do two things, which are
left out: it does not read its own TCQ tensors in blocks with skipped rows, and TCQ indices of
`2**31 - 1` overflow in its odd states.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from nncodec.extensions import deepCABAC

import samples
import stock
from nnguard._compression.quantizing import quantize
from nnguard._stream.coding import (
    Indices,
    Parameters,
    decode_payload,
    decode_pieces,
    encode_payload,
    find_zero_rows,
    piece_ranges,
    search_start_states,
    usual_start_states,
)
from nnguard._stream.headers import EntryPoint, PayloadType, TensorHeader

CASES = int(os.environ.get("NNGUARD_CASES", "1500"))
GROUPS = 10

_GUARD = 1 << 14
"""Zeros behind a payload, and 64 more for each weight: the stock decoder reads past its end."""

_NO_HISTORY = np.zeros(2, np.int8)


def of_stock(header: TensorHeader) -> tuple[Any, ...]:
    """Return the arguments that the stock coder has in the same order everywhere."""
    return int(header.dependent), header.scan_order, header.profile, 0


def stock_encode(
    header: TensorHeader, indices: Indices, qp: int, *, skipping: bool, optimized: bool
) -> bytes:
    zero_rows = np.zeros(header.shape[0], np.int32)
    if header.profile == 1 and indices.ndim > 1:
        zero_rows[:] = ~indices.reshape(header.shape[0], -1).any(axis=1)
    encoder = deepCABAC.Encoder()
    if header.qp_bits:
        encoder.iae_v(header.qp_bits, qp)
    encoder.initCtxModels(header.unary_length, int(optimized))
    history = (deepCABAC.HdspMode.AlwaysOff, _NO_HISTORY, 0, 0)
    encoder.encodeLayer(indices, *of_stock(header), int(skipping), zero_rows, *history)
    return bytes(encoder.finish().tobytes())


def stock_decode(
    header: TensorHeader, payload: bytes
) -> tuple[Indices, int, tuple[EntryPoint, ...]]:
    """Return indices, quantization parameter, and the entry points that decoding finds."""
    decoder = deepCABAC.Decoder()
    decoder.setStream(np.frombuffer(payload + bytes(_GUARD + 64 * header.size), np.uint8))
    qp = decoder.iae_v(header.qp_bits) if header.qp_bits else 0
    decoder.initCtxModels(header.unary_length)
    several = header.block_rows > 1
    read = decoder.decodeLayerAndCreateEPs if several else decoder.decodeLayer
    indices = np.zeros(header.shape, np.int32)
    history = (deepCABAC.HdspMode.AlwaysOff, _NO_HISTORY, 0, 0)
    found = read(indices, *of_stock(header), *history)
    points, offset = [], 0
    for point in map(int, found if several else ()):
        offset += point >> 11
        points.append(EntryPoint(offset, point >> 3 & 255, point & 7))
    return indices, qp, tuple(points)


def stock_quantize(header: TensorHeader, weights: stock.Array, qp: int) -> Indices:
    indices = np.zeros(header.shape, np.int32)
    deepCABAC.Encoder().quantLayer(
        weights, indices, int(header.dependent), header.qp_density, qp, 0.0, 0, header.scan_order, 1
    )
    return indices


@dataclass
class Case:
    """A random tensor, and how to code it."""

    header: TensorHeader
    indices: Indices
    qp: int
    skipping: bool
    optimized: bool

    @property
    def pieces(self) -> list[Indices]:
        flat = self.indices.reshape(-1)
        return [flat[piece.start : piece.stop] for piece in piece_ranges(self.header)]

    @property
    def zero_rows(self) -> bytes:
        return find_zero_rows(self.header, self.pieces) if self.skipping else b""

    @property
    def unreadable(self) -> bool:
        """Whether the stock decoder reads something else than the stock encoder wrote."""
        return self.header.dependent and self.header.in_blocks and 1 in self.zero_rows

    def parameters(self) -> Parameters:
        skipped = self.zero_rows
        if self.optimized:
            states = search_start_states(self.header, self.pieces, skipped)
        else:
            states = usual_start_states(self.header)
        return Parameters(self.qp, states, skipped)


def random_shape(rng: np.random.Generator) -> tuple[int, ...]:
    kind = rng.random()
    if kind < 0.1:
        return (int(rng.integers(1, 3000)),)
    if kind < 0.3:
        return tuple(rng.integers(1, 150, 2).tolist())
    return tuple(rng.integers(1, [200, 40, 6][: rng.integers(1, 4)]).tolist())


def random_header(rng: np.random.Generator) -> TensorHeader:
    shape = random_shape(rng)
    payload = PayloadType.FLOAT if rng.random() < 0.85 else PayloadType.INT
    return TensorHeader(
        name="w",
        payload_type=payload,
        shape=shape,
        dependent=payload == PayloadType.FLOAT and rng.random() < 0.5,
        unary_length=int(rng.choice([1, 2, 4, 10, 11, 11, 11, 30, 256])),
        profile=int(rng.random() < 0.9),
        qp_density=int(rng.integers(0, 8)),
        base_qp=0,
        scan_order=int(rng.choice([0, 0, 1, 2, 3, 4])) if len(shape) > 1 else 0,
        data_format=None,
        payload_offset=0,
    )


def random_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> stock.Array:
    scale = float(rng.choice([0.01, 0.1, 0.3, 1, 3, 20, 300, 1e6]))
    weights = (rng.laplace(size=shape) * scale).astype(np.float32)
    if rng.random() < 0.4 and shape[0] > 1:
        weights[rng.random(shape[0]) < 0.4] = 0
    if rng.random() < 0.1:
        weights[:] = 0
    return weights


def random_case(rng: np.random.Generator) -> Case:
    header = random_header(rng)
    octave = 1 << header.qp_density
    qp = int(rng.integers(-octave, octave)) if header.qp_bits else 0
    indices = quantized(header, random_weights(rng, header.shape), qp)
    if rng.random() < 0.3:  # few that are very large
        large = rng.integers(-(1 << 29), 1 << 29, 4) >> rng.integers(0, 28)
        indices.reshape(-1)[rng.integers(0, indices.size, 4)] = large
        if header.dependent:
            indices = samples.indices_of(indices // 2, header.scan_order)
    skipping = header.profile == 1 and rng.random() < 0.5
    return Case(header, indices, qp, skipping, rng.random() < 0.5)


def quantized(header: TensorHeader, weights: stock.Array, qp: int) -> Indices:
    flat = weights.reshape(-1)
    pieces = quantize(header, lambda start, stop: flat[start:stop], qp)()
    return np.concatenate(list(pieces)).reshape(header.shape)


def generator(test: int, group: int) -> np.random.Generator:
    return np.random.default_rng([test, group, CASES])


def each_group() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("group", range(GROUPS))


@each_group()
def test_indices_are_those_of_the_stock_quantizer(group: int) -> None:
    rng = generator(0, group)
    for _ in range(CASES // GROUPS):
        header = replace(random_header(rng), payload_type=PayloadType.FLOAT)
        weights = random_weights(rng, header.shape)
        qp = int(rng.integers(-4 << header.qp_density, 4 << header.qp_density))
        expected = stock_quantize(header, weights, qp)
        assert np.array_equal(quantized(header, weights, qp), expected), header


@each_group()
def test_payloads_are_those_of_the_stock_encoder(group: int) -> None:
    rng = generator(1, group)
    for _ in range(CASES // GROUPS):
        case = random_case(rng)
        expected = stock_encode(
            case.header, case.indices, case.qp, skipping=case.skipping, optimized=case.optimized
        )
        parameters = case.parameters()
        payload, points = encode_payload(case.header, case.pieces, parameters)
        assert payload == expected, case
        if case.unreadable:
            continue
        indices, qp, expected_points = stock_decode(case.header, payload)
        assert np.array_equal(indices, case.indices), case
        assert (qp, expected_points) == (case.qp, points), case


@each_group()
def test_payloads_of_the_stock_encoder_are_decoded(group: int) -> None:
    rng = generator(2, group)
    for _ in range(CASES // GROUPS):
        case = random_case(rng)
        payload = stock_encode(
            case.header, case.indices, case.qp, skipping=case.skipping, optimized=case.optimized
        )
        if case.unreadable:
            continue
        header = replace(case.header, entry_points=stock_decode(case.header, payload)[2])
        indices, parameters = decode_payload(header, payload)
        assert np.array_equal(indices, case.indices), case
        assert parameters == case.parameters(), case
        assert encode_payload(header, case.pieces, parameters) == (payload, header.entry_points)
        block_rows = range(header.block_rows - 1, header.block_rows)
        pieces = decode_pieces(header, iter([payload]), len(payload), block_rows=block_rows)
        for piece, part, _ in pieces:
            assert np.array_equal(part, case.indices.reshape(-1)[piece.start : piece.stop]), case


@each_group()
def test_stock_decoder_reads_what_its_encoder_never_chooses(group: int) -> None:
    """Any start states, some of the zero rows flagged."""
    rng = generator(3, group)
    for _ in range(CASES // GROUPS):
        case = random_case(rng)
        header = case.header
        flags = np.frombuffer(case.zero_rows, np.uint8)
        flags = flags & rng.integers(0, 2, flags.size, np.uint8)
        skipped = b"" if case.unreadable else flags.tobytes()
        states = rng.integers(0, 9, len(usual_start_states(header)), np.uint8).tobytes()
        payload, points = encode_payload(header, case.pieces, Parameters(case.qp, states, skipped))
        indices, qp, expected_points = stock_decode(header, payload)
        assert np.array_equal(indices, case.indices), case
        assert (qp, expected_points) == (case.qp, points), case


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("unary_length", [1, 11, 256])
def test_largest_indices(dependent: bool, unary_length: int) -> None:
    """In state 0 for TCQ, in which all that go before leave it."""
    header = replace(
        random_header(np.random.default_rng(0)),
        payload_type=PayloadType.FLOAT,
        shape=(2, 5),
        dependent=dependent,
        unary_length=unary_length,
        profile=1,
        scan_order=0,
    )
    values = [1 << 30, (1 << 31) - 2, 2 - (1 << 31)]
    if not dependent:
        values += [(1 << 31) - 1, 1 - (1 << 31)]
    for value in values:
        indices = np.zeros((2, 5), np.int32)
        indices[0, 3] = value
        expected = stock_encode(header, indices, 7, skipping=False, optimized=False)
        parameters = Parameters(7, usual_start_states(header), b"")
        assert encode_payload(header, [indices.reshape(-1)], parameters)[0] == expected
        assert np.array_equal(stock_decode(header, expected)[0], indices)
        assert np.array_equal(decode_payload(header, expected)[0], indices)
