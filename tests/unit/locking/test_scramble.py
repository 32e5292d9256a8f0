"""Scrambled signs are coin flips without the key, and as before with it."""

from __future__ import annotations

import numpy as np
import pytest

import nnguard
import stock
from nnguard._compression.quantizing import dequantize
from nnguard._locking.depth import nearest_first
from nnguard._locking.scramble import scramble, tensors_to_scramble, unscramble
from nnguard._stream.quantized import QuantizedTensor, decode, encode

KEY = nnguard.ContentKey(bytes(32))
SIZES = {"large": (100, 60), "small": (20, 20), "medium": (50, 30)}
WEIGHTS = 6000 + 400 + 1500


@pytest.fixture(scope="module", params=[True, False], ids=["TCQ", "URQ"])
def stream(request: pytest.FixtureRequest) -> nnguard.Stream:
    rng = np.random.default_rng(0)
    arrays = {name: rng.laplace(0, 0.1, shape).astype(np.float32) for name, shape in SIZES.items()}
    arrays["bias"] = rng.normal(0, 1, 400).astype(np.float32)
    arrays["variances"] = rng.uniform(0.5, 2, 100).astype(np.float32)
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


@pytest.mark.parametrize("name", [*SIZES, "bias", "variances"])
def test_the_same_keystream_gives_the_tensor_back(stream: nnguard.Stream, name: str) -> None:
    unit, tensor = tensor_of(stream, name)
    keystream = KEY.keystream("scramble", bytes(12))
    scrambled = scramble(tensor, unit, keystream)
    assert encode(scrambled) != encode(tensor)
    assert encode(unscramble(scrambled, unit, keystream)) == encode(tensor)


def test_what_has_one_dimension_changes_places(stream: nnguard.Stream) -> None:
    unit, tensor = tensor_of(stream, "variances")
    scrambled = scramble(tensor, unit, KEY.keystream("scramble", bytes(12)))
    before, after = dequantize(tensor), dequantize(scrambled)
    assert after.min() > 0
    assert np.abs(np.sort(before) - np.sort(after)).max() <= tensor.step
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.2


def test_an_index_that_would_be_too_large_is_refused(stream: nnguard.Stream) -> None:
    """The smallest of int32 has no opposite; of an even state, nor has the largest integer."""
    unit, tensor = tensor_of(stream, "bias")
    if tensor.header.dependent:
        extreme = np.where(np.arange(tensor.indices.size) % 2, 0, 2**31 - 1)
    else:
        extreme = np.full(tensor.indices.shape, -(2**31))
    with pytest.raises(ValueError, match="too large"):
        scramble(
            tensor.with_indices(extreme.astype(np.int32)),
            unit,
            KEY.keystream("scramble", bytes(12)),
        )


@pytest.mark.parametrize("other", ["key", "nonce", "unit"])
def test_another_key_nonce_or_unit_does_not(stream: nnguard.Stream, other: str) -> None:
    unit, tensor = tensor_of(stream, "large")
    key = nnguard.ContentKey(b"\1" * 32) if other == "key" else KEY
    nonce = b"\1" * 12 if other == "nonce" else bytes(12)
    scrambled = scramble(tensor, unit, KEY.keystream("scramble", bytes(12)))
    found = unscramble(
        scrambled, unit + (other == "unit"), key.keystream("scramble", nonce)
    ).indices
    used = tensor.indices != 0
    wrong = np.count_nonzero(found[used] != tensor.indices[used])
    assert abs(wrong / np.count_nonzero(used) - 0.5) < 0.05


@pytest.mark.parametrize(
    ("fraction", "names"),
    [
        (1e-9, ["small"]),
        (400 / WEIGHTS, ["small"]),
        (401 / WEIGHTS, ["large", "small"]),
        (0.9, ["large", "small", "medium"]),
        (1.0, ["large", "small", "medium"]),
        (0.0, []),
    ],
)
def test_the_first_tensors_with_so_many_weights_are_scrambled(
    stream: nnguard.Stream, fraction: float, names: list[str]
) -> None:
    """And all of one dimension. Those with more than a tenth of all weights come last."""
    chosen = tensors_to_scramble({"": stream}, fraction)[""]
    names = names and [*names, "bias", "variances"]
    assert [stream[index].name for index in chosen] == names


def test_tensors_are_scrambled_by_name(stream: nnguard.Stream) -> None:
    chosen = tensors_to_scramble({"": stream}, ["med*", "bias", "m?dium"])[""]
    assert [stream[index].name for index in chosen] == ["medium", "bias"]
    with pytest.raises(ValueError, match="no tensor head"):
        tensors_to_scramble({"": stream}, ["large", "head.*"])


def test_scrambled_trial_keeps_the_histogram(stream: nnguard.Stream) -> None:
    locked = nnguard.lock(stream, scramble=0.1)
    assert (locked.replaced, locked.scrambled) == (0, 6000 + 400 + 400 + 100)
    before, after = stock.decode(bytes(stream)), stock.decode(bytes(locked.trial))
    used = before["large"] != 0
    flipped = np.sign(before["large"][used]) != np.sign(after["large"][used])
    assert abs(flipped.mean() - 0.5) < 0.1
    for name in ("bias", "variances"):
        assert not np.array_equal(before[name], after[name])
        assert np.allclose(np.sort(before[name]), np.sort(after[name]), atol=1e-3)
    assert np.array_equal(np.sign(before["medium"]), np.sign(after["medium"]))
    assert len(bytes(locked.trial)) < 1.1 * len(bytes(stream)) + 200


# Which tensors are nearest to the input

NETWORKS = {
    "classifier and features": (
        {
            "classifier.weight": (10, 64),
            "features.0.weight": (16, 3, 3, 3),
            "features.10.weight": (64, 32, 3, 3),
            "features.2.weight": (32, 16, 3, 3),
        },
        ["features.0.weight", "features.2.weight", "features.10.weight", "classifier.weight"],
    ),
    "residual, with an fc": (
        {
            "conv1.weight": (64, 3, 7, 7),
            "fc.weight": (1000, 128),
            "layer1.0.conv1.weight": (64, 64, 3, 3),
            "layer2.0.conv1.weight": (128, 64, 3, 3),
        },
        ["conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "fc.weight"],
    ),
    "kernels of one channel each": (
        {
            "blocks.0.dw.weight": (32, 1, 3, 3),
            "blocks.0.pw.weight": (64, 32, 1, 1),
            "blocks.1.dw.weight": (64, 1, 3, 3),
            "conv_stem.weight": (32, 3, 3, 3),
            "head.weight": (10, 64),
        },
        [
            "conv_stem.weight",
            "blocks.0.dw.weight",
            "blocks.0.pw.weight",
            "blocks.1.dw.weight",
            "head.weight",
        ],
    ),
    "language model": (
        {
            "lm_head.weight": (5000, 64),
            "model.embed_tokens.weight": (5000, 64),
            "model.layers.0.qkv.weight": (192, 64),
            "model.layers.10.qkv.weight": (192, 64),
            "model.layers.2.qkv.weight": (192, 64),
        },
        [
            "model.embed_tokens.weight",
            "model.layers.0.qkv.weight",
            "model.layers.2.qkv.weight",
            "model.layers.10.qkv.weight",
            "lm_head.weight",
        ],
    ),
    "outputs by the way": (
        {
            "aux_classifier.0.weight": (64, 128, 3, 3),
            "backbone.conv1.weight": (32, 3, 7, 7),
            "backbone.layer1.weight": (128, 32, 3, 3),
            "embed_in.weight": (500, 64),
            "embed_out.weight": (500, 64),
            "fc.weight": (256, 128),
        },
        [
            "backbone.conv1.weight",
            "embed_in.weight",
            "backbone.layer1.weight",
            "aux_classifier.0.weight",
            "embed_out.weight",
            "fc.weight",
        ],
    ),
    "perceptron": (
        {"fc1.weight": (128, 784), "fc2.weight": (64, 128), "fc3.weight": (10, 64)},
        ["fc1.weight", "fc2.weight", "fc3.weight"],
    ),
}


@pytest.mark.parametrize(("shapes", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_nearest_to_the_input(shapes: dict[str, tuple[int, ...]], expected: list[str]) -> None:
    assert list(shapes) == sorted(shapes), "as safetensors has them"
    assert nearest_first({name: (name, shape) for name, shape in shapes.items()}) == expected


def test_names_in_order_tell_nothing_of_the_network() -> None:
    """The order of a stream counts, unless it is that of names."""
    rng = np.random.default_rng(0)
    names = [f"layers.{at}.weight" for at in range(12)]
    arrays = {name: rng.normal(0, 1, (20, 20)).astype(np.float32) for name in names}

    def scrambled(order: list[str]) -> tuple[str, ...]:
        stream = nnguard.compress({name: arrays[name] for name in order})
        return nnguard.lock(stream, scramble=0.2).tensors

    assert sorted(scrambled(sorted(names))) == names[:3]
    assert sorted(scrambled(names[::-1])) == sorted(names[-3:])
