"""The stock decoder reads what nnguard writes, and nnguard decodes what the stock decoder does."""

from collections.abc import Callable

import numpy as np
import pytest

import model as digits
import nnguard
import samples
import stock
from nnguard._compression.quantizing import dequantize
from nnguard._hiding import candidates, embed, extract
from nnguard._stream.quantized import decode

Signed = Callable[[str], nnguard.Stream]


@pytest.mark.parametrize("name", samples.SIGNABLE)
def test_signed_stream_decodes_to_the_same_weights(name: str, signed: Signed) -> None:
    release = signed(name)
    before, after = stock.decode(samples.read(name)), stock.decode(bytes(release))
    carriers = set(extract(release).header.carriers)
    assert list(before) == list(after)
    for index, unit in enumerate(release):
        if unit.tensor is None:
            continue
        if index in carriers:
            assert np.array_equal(after[unit.name], dequantize(decode(unit)))
            assert not np.array_equal(after[unit.name], before[unit.name])
        else:
            assert after[unit.name].dtype == before[unit.name].dtype
            assert np.array_equal(after[unit.name], before[unit.name])


@pytest.mark.parametrize("name", ["default", "urq"])
def test_dequantized_weights_are_those_of_the_stock_decoder(name: str) -> None:
    expected = np.load(samples.FOLDER / f"{name}.decoded.npz")
    checked = 0
    for unit in nnguard.Stream.open(samples.path_of(name)):
        if unit.tensor is not None and unit.tensor.payload_type == samples.FLOAT:
            assert np.array_equal(dequantize(decode(unit)), expected[unit.name])
            checked += 1
    assert checked >= 8


@pytest.mark.parametrize("name", samples.SIGNABLE)
def test_weights_of_carriers_hardly_move(name: str, signed: Signed) -> None:
    """Half a step for URQ, a whole one for TCQ, in weights that the stock decoder reads."""
    release = signed(name)
    extraction = extract(release)
    read = stock.decode(bytes(release))
    for carrier in extraction.header.carriers:
        before = decode(extraction.original[carrier])
        farthest = before.step * (1 if before.header.dependent else 0.5)
        moved = np.abs(read[before.header.name].reshape(before.header.shape) - dequantize(before))
        assert 0 < moved.max() <= farthest * 1.0001
        assert not moved[before.indices == 0].any()


@pytest.mark.parametrize("name", ["default", "urq"])
def test_weights_hardly_move_under_six_records(name: str) -> None:
    """Each halves the step, so that together they move a weight by less than twice the first."""
    stream = embedded = nnguard.Stream.open(samples.path_of(name))
    for kind in range(1, 7):
        embedded = embed(embedded, bytes([kind]) * 100, kind=kind)
    read = stock.decode(bytes(embedded))
    changed = 0
    for index in candidates(stream):
        before, after = decode(stream[index]), decode(embedded[index])
        found = read[before.header.name].reshape(before.header.shape)
        moved = np.abs(found - dequantize(before))
        assert np.array_equal(found, dequantize(after).reshape(found.shape))
        assert np.array_equal(before.indices == 0, found == 0)
        assert moved.max() < before.step * (2 if before.header.dependent else 1)
        changed += bool(moved.any())
    assert changed


def test_signed_network_recognises_digits_as_before(key: nnguard.SigningKey) -> None:
    release = nnguard.sign(samples.DIGITS / "digits.nnc", key)
    test = np.load(samples.DIGITS / "digits_test.npz")
    images, labels = (test[name] for name in test.files)
    before = digits.accuracy(
        stock.decode((samples.DIGITS / "digits.nnc").read_bytes()), images, labels
    )
    after = digits.accuracy(stock.decode(bytes(release)), images, labels)
    assert before > 0.95
    assert abs(after - before) <= 1 / len(labels)
