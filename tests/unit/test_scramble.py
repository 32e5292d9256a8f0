"""Scrambled signs are coin flips without the key, and as before with it."""

from __future__ import annotations

import numpy as np
import pytest

import nnguard
import stock
from nnguard.locking.scramble import scramble, tensors_to_scramble
from nnguard.stream.coding import QuantizedTensor, decode, encode

KEY = nnguard.ContentKey(bytes(32))
SIZES = {"large": (100, 60), "small": (20, 20), "medium": (50, 30)}
WEIGHTS = 6000 + 400 + 1500


@pytest.fixture(scope="module", params=[True, False], ids=["TCQ", "URQ"])
def stream(request: pytest.FixtureRequest) -> nnguard.Stream:
    rng = np.random.default_rng(0)
    arrays = {name: rng.laplace(0, 0.1, shape).astype(np.float32) for name, shape in SIZES.items()}
    arrays["bias"] = rng.normal(0, 1, 400).astype(np.float32)
    return nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20, dependent=request.param))


def tensor_of(stream: nnguard.Stream, name: str) -> tuple[int, QuantizedTensor]:
    index = [unit.name for unit in stream].index(name)
    return index, decode(stream[index])


def test_magnitudes_stay_and_half_of_the_signs_flip(stream: nnguard.Stream) -> None:
    unit, tensor = tensor_of(stream, "large")
    scrambled = scramble(tensor, unit, KEY.keystream("scramble", bytes(12))).indices
    assert np.array_equal(np.abs(scrambled), np.abs(tensor.indices))
    used = tensor.indices != 0
    flipped = np.count_nonzero(scrambled[used] != tensor.indices[used])
    assert abs(flipped / np.count_nonzero(used) - 0.5) < 0.05


def test_twice_gives_the_tensor_back(stream: nnguard.Stream) -> None:
    unit, tensor = tensor_of(stream, "medium")
    keystream = KEY.keystream("scramble", bytes(12))
    twice = scramble(scramble(tensor, unit, keystream), unit, keystream)
    assert encode(twice) == encode(tensor)


@pytest.mark.parametrize("other", ["key", "nonce", "unit"])
def test_another_key_nonce_or_unit_does_not(stream: nnguard.Stream, other: str) -> None:
    unit, tensor = tensor_of(stream, "large")
    key = nnguard.ContentKey(b"\1" * 32) if other == "key" else KEY
    nonce = b"\1" * 12 if other == "nonce" else bytes(12)
    scrambled = scramble(tensor, unit, KEY.keystream("scramble", bytes(12)))
    found = scramble(scrambled, unit + (other == "unit"), key.keystream("scramble", nonce)).indices
    used = tensor.indices != 0
    wrong = np.count_nonzero(found[used] != tensor.indices[used])
    assert abs(wrong / np.count_nonzero(used) - 0.5) < 0.05


@pytest.mark.parametrize(
    ("fraction", "names"),
    [
        (1e-9, ["small"]),
        (400 / WEIGHTS, ["small"]),
        (401 / WEIGHTS, ["small", "medium"]),
        (0.3, ["small", "medium", "large"]),
        (1.0, ["small", "medium", "large"]),
        (0.0, []),
    ],
)
def test_smallest_tensors_with_so_many_weights_are_scrambled(
    stream: nnguard.Stream, fraction: float, names: list[str]
) -> None:
    chosen = tensors_to_scramble(stream, fraction, WEIGHTS)
    assert [stream[index].name for index in chosen] == names


def test_scrambled_trial_keeps_the_histogram(stream: nnguard.Stream) -> None:
    locked = nnguard.lock(stream, scramble=0.1)
    assert (locked.replaced, locked.scrambled) == (0, 400 + 1500)
    before, after = stock.decode(bytes(stream)), stock.decode(bytes(locked.stream))
    for name in ("small", "medium"):
        used = before[name] != 0
        flipped = np.sign(before[name][used]) != np.sign(after[name][used])
        assert abs(flipped.mean() - 0.5) < 0.1
    assert np.array_equal(before["bias"], after["bias"])
    assert len(bytes(locked.stream)) < 1.1 * len(bytes(stream)) + 200
