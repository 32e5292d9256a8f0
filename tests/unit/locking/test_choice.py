"""The weights that a lock replaces look like the others, and only the key says which they are."""

from __future__ import annotations

import numpy as np
import pytest

import nnguard
import stock
from nnguard._locking.choice import (
    Choice,
    apply,
    choose,
    count_weights,
    tensors_to_touch,
    usable_tensors,
)
from nnguard._locking.coding import read_all
from nnguard._stream.quantized import QuantizedTensor

Tensors = dict[int, QuantizedTensor]

KEY = nnguard.ContentKey(bytes(range(32)))
NONCE = bytes(12)
COUNT = 200


def network(*, dependent: bool) -> nnguard.Stream:
    rng = np.random.default_rng(0)
    arrays = {
        "small": rng.laplace(0, 0.05, (40, 25)),
        "wide": rng.laplace(0, 0.3, (30, 200)),
        "deep": rng.normal(0, 0.05, (64, 16, 3, 3)),
        "few": rng.normal(0, 0.1, (5, 5)),
        "bias": rng.normal(0, 1, 64),
    }
    data = {name: array.astype(np.float32) for name, array in arrays.items()}
    return nnguard.Stream.from_bytes(stock.encode(data, qp=-24, dependent=dependent))


@pytest.fixture(scope="module", params=[True, False], ids=["TCQ", "URQ"])
def stream(request: pytest.FixtureRequest) -> nnguard.Stream:
    return network(dependent=request.param)


@pytest.fixture(scope="module")
def tensors(stream: nnguard.Stream) -> Tensors:
    return read_all(
        stream,
        tensors_to_touch(stream, usable_tensors(stream), COUNT, KEY.keystream("choice", NONCE)),
    )


def draw(
    tensors: Tensors,
    count: int = COUNT,
    *,
    key: nnguard.ContentKey = KEY,
    nonce: bytes = NONCE,
    importance: dict[str, np.ndarray] | None = None,
) -> Choice:
    return choose(tensors, count, key.keystream("choice", nonce), importance)


def places(choice: Choice) -> set[tuple[int, int]]:
    return {
        (unit, at)
        for unit, pair in zip(choice.units.tolist(), choice.pairs.tolist(), strict=True)
        for at in pair
    }


def names_of(stream: nnguard.Stream, units: list[int]) -> set[str]:
    return {stream[unit].name for unit in units}


# What becomes of the weights


def test_a_large_and_a_small_weight_of_one_kernel_trade_places(tensors: Tensors) -> None:
    choice = draw(tensors)
    changed = apply(choice, tensors)
    for unit, pair in zip(choice.units.tolist(), choice.pairs.tolist(), strict=True):
        shape = tensors[unit].indices.shape
        kernel = 9 if len(shape) == 4 else shape[1]
        assert pair[0] // kernel == pair[1] // kernel
        before = tensors[unit].indices.reshape(-1)[pair]
        after = changed[unit].indices.reshape(-1)[pair]
        assert before[0] > before[1]
        assert after[0] < after[1]
        residue = 4 if tensors[unit].header.dependent else 1
        assert np.abs(after - before[::-1]).max() <= residue
        assert np.all(np.abs(after) % residue == np.abs(before) % residue)


def test_a_kernel_keeps_its_sum_and_a_tensor_its_values() -> None:
    stream = network(dependent=False)
    tensors = read_all(
        stream,
        tensors_to_touch(stream, usable_tensors(stream), COUNT, KEY.keystream("choice", NONCE)),
    )
    for unit, tensor in apply(draw(tensors), tensors).items():
        before, after = tensors[unit].indices, tensor.indices
        kernel = 9 if before.ndim == 4 else before.shape[1]
        assert np.array_equal(before.reshape(-1, kernel).sum(1), after.reshape(-1, kernel).sum(1))
        assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))


def test_no_value_is_an_outlier(tensors: Tensors) -> None:
    changed = apply(draw(tensors), tensors)
    for unit, tensor in changed.items():
        before = tensors[unit].indices
        assert np.abs(tensor.indices).max() <= np.abs(before).max()
        assert np.count_nonzero(tensor.indices) == np.count_nonzero(before)


def test_all_else_stays(tensors: Tensors) -> None:
    choice = draw(tensors)
    before = {unit: tensor.indices.copy() for unit, tensor in tensors.items()}
    changed = apply(choice, tensors)
    moved = {
        (unit, int(at))
        for unit, tensor in changed.items()
        for at in np.flatnonzero(tensor.indices != tensors[unit].indices)
    }
    assert moved == places(choice)
    assert all(np.array_equal(tensors[unit].indices, before[unit]) for unit in tensors)


# How many, and where


@pytest.mark.parametrize("count", [0, 2, 6, 8, 60, 300])
def test_count_is_kept(tensors: Tensors, count: int) -> None:
    choice = draw(tensors, count)
    assert choice.weights == count
    assert len(choice) == count // 2
    assert len(places(choice)) == count


def test_weights_come_in_pairs(tensors: Tensors) -> None:
    assert draw(tensors, 7).weights == 8


def test_where_there_is_little_room_fewer_are_replaced(tensors: Tensors) -> None:
    weights = sum(tensor.indices.size for tensor in tensors.values())
    choice = draw(tensors, weights)
    assert 0 < choice.weights <= weights // 4
    assert len(places(choice)) == choice.weights


def test_weights_are_spread_over_the_tensors(stream: nnguard.Stream, tensors: Tensors) -> None:
    units, counts = np.unique(draw(tensors, 150).units, return_counts=True)
    assert names_of(stream, units.tolist()) == {"small", "wide", "deep"}
    assert counts.max() - counts.min() <= 2 * 8


def test_tensors_without_room_are_left_alone(stream: nnguard.Stream) -> None:
    touched = tensors_to_touch(
        stream, usable_tensors(stream), COUNT, KEY.keystream("choice", NONCE)
    )
    assert names_of(stream, touched) == {"small", "wide", "deep"}
    assert count_weights(stream) == 40 * 25 + 30 * 200 + 64 * 16 * 9 + 25


def test_few_tensors_are_touched_where_they_are_enough(
    stream: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnguard._locking.choice._TOUCHED", 1)
    randomness = KEY.keystream("choice", NONCE)
    for count, names in (
        (200, {"small"}),
        (300, {"small", "wide"}),
        (2000, {"small", "wide", "deep"}),
    ):
        touched = tensors_to_touch(stream, usable_tensors(stream), count, randomness)
        assert names_of(stream, touched) == names


def worths(tensor: QuantizedTensor, pairs: np.ndarray) -> np.ndarray:
    return np.abs(tensor.indices.reshape(-1))[pairs].max(1)


def all_pairs(tensor: QuantizedTensor) -> np.ndarray:
    """Pair the largest weight of a kernel with the smallest, and so on; zeros stay."""
    flat = tensor.indices.reshape(-1)
    kernel = 9 if tensor.indices.ndim == 4 else tensor.indices.shape[1]
    found = []
    for start in range(0, flat.size, kernel):
        cell = flat[start : start + kernel]
        order = [start + at for at in np.argsort(-cell, kind="stable") if cell[at]]
        found += [(order[n], order[-1 - n]) for n in range(len(order) // 2)]
    return np.array(found)


def test_choice_is_of_pairs_with_a_large_weight(tensors: Tensors) -> None:
    choice = draw(tensors, 24)
    for unit in np.unique(choice.units).tolist():
        mine = choice.pairs[choice.units == unit]
        pool = np.sort(worths(tensors[unit], all_pairs(tensors[unit])))[::-1]
        assert (
            worths(tensors[unit], mine).min() >= pool[max(tensors[unit].indices.size // 16, 32) - 1]
        )


def test_large_weights_do_not_trade_more_often_than_others_of_the_pool(tensors: Tensors) -> None:
    unit = max(tensors, key=lambda unit: tensors[unit].indices.size)
    found = np.sort(worths(tensors[unit], all_pairs(tensors[unit])))[::-1]
    pool = found[: tensors[unit].indices.size // 16]
    keys = [nnguard.ContentKey(bytes([number]) * 32) for number in range(40)]
    traded = [
        worths(tensors[unit], choice.pairs[choice.units == unit])
        for choice in (draw(tensors, 24, key=key) for key in keys)
    ]
    assert np.mean(np.concatenate(traded)) == pytest.approx(pool.mean(), rel=0.05)
    assert pool[len(traded[0])] > 1.2 * pool.mean()  # the largest ones would stand out


def test_choice_is_not_simply_of_the_largest(tensors: Tensors) -> None:
    choice = draw(tensors)
    for unit in np.unique(choice.units).tolist():
        mine = choice.pairs[choice.units == unit]
        pool = np.sort(worths(tensors[unit], all_pairs(tensors[unit])))[::-1]
        assert np.mean(worths(tensors[unit], mine) >= pool[len(mine) - 1]) < 0.6


# The key


def test_the_same_key_and_nonce_choose_the_same(tensors: Tensors) -> None:
    one, two = draw(tensors), draw(tensors)
    assert one.pairs.tolist() == two.pairs.tolist()


@pytest.mark.parametrize(
    ("key", "nonce"),
    [(nnguard.ContentKey(bytes(32)), NONCE), (KEY, b"\1" * 12)],
    ids=["key", "nonce"],
)
def test_another_key_or_nonce_chooses_others(
    tensors: Tensors, key: nnguard.ContentKey, nonce: bytes
) -> None:
    one, two = places(draw(tensors)), places(draw(tensors, key=key, nonce=nonce))
    assert len(one & two) < COUNT / 2


def test_the_key_decides_among_tensors_of_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnguard._locking.choice._TOUCHED", 1)
    rng = np.random.default_rng(0)
    arrays = {f"layer{at}": rng.normal(0, 0.05, (20, 50)) for at in range(12)}
    data = stock.encode({name: array.astype(np.float32) for name, array in arrays.items()}, qp=-24)
    stream = nnguard.Stream.from_bytes(data)
    chosen = {
        tuple(tensors_to_touch(stream, usable_tensors(stream), 400, key.keystream("choice", NONCE)))
        for key in (nnguard.ContentKey(bytes([number]) * 32) for number in range(8))
    }
    assert len(chosen) > 4
    assert {len(units) for units in chosen} == {2}


# Importance


def test_importance_of_the_caller_is_followed(stream: nnguard.Stream, tensors: Tensors) -> None:
    """Only weights of the last row matter, in one tensor."""
    importance = {"wide": np.zeros((30, 200))}
    importance["wide"][-1] = 1
    randomness = KEY.keystream("choice", NONCE)
    touched = tensors_to_touch(stream, usable_tensors(stream, importance), 10, randomness)
    assert names_of(stream, touched) == {"wide"}
    mine = {unit: tensors[unit] for unit in touched}
    choice = draw(mine, 10, importance=importance)
    assert choice.weights == 10
    assert {*(choice.pairs // 200).reshape(-1).tolist()} == {29}


def test_lock_follows_the_importance_of_the_caller(stream: nnguard.Stream) -> None:
    importance = {"deep": np.ones((64, 16, 3, 3))}
    made = nnguard.lock(stream, soft=nnguard.Soft(fraction=0.001, importance=importance))
    trial, _ = made.trial, made.content_key
    before, after = stock.decode(bytes(stream)), stock.decode(bytes(trial))
    flipped = {
        name: np.count_nonzero(before[name].astype(np.float64) * after[name] < 0)
        for name in ("small", "wide", "deep")
    }
    assert flipped["small"] == flipped["wide"] == 0
    assert 0 < flipped["deep"] <= round(0.001 * count_weights(stream))


@pytest.mark.parametrize(
    "values",
    [
        np.ones(7),
        np.full((40, 25), np.nan),
        np.full((40, 25), np.inf),
        np.full((40, 25), -1.0),
        np.ones((40, 26)),
    ],
    ids=["size", "NaN", "infinity", "negative", "shape"],
)
def test_importance_that_is_none_is_refused(stream: nnguard.Stream, values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="importance of tensor small"):
        nnguard.lock(stream, soft=nnguard.Soft(fraction=0.001, importance={"small": values}))


def test_importance_of_a_tensor_that_is_not_there_is_refused(stream: nnguard.Stream) -> None:
    with pytest.raises(ValueError, match="not there: classifier"):
        nnguard.lock(
            stream, soft=nnguard.Soft(fraction=0.001, importance={"classifier": np.ones(3)})
        )


def test_importance_without_a_tensor_that_can_be_locked(stream: nnguard.Stream) -> None:
    with pytest.raises(nnguard.errors.LockError, match="no weights"):
        nnguard.lock(stream, soft=nnguard.Soft(fraction=0.001, importance={"few": np.ones((5, 5))}))


# Parts of a choice


def test_the_first_of_a_choice_are_a_choice(tensors: Tensors) -> None:
    choice = draw(tensors)
    for count in (0, 1, 50, COUNT // 2):
        part = choice.first(count)
        assert len(part) == count
        assert part.units.tolist() == choice.units.tolist()[:count]
        assert part.pairs.tolist() == choice.pairs.tolist()[:count]


def test_the_first_of_a_choice_are_spread_as_well(tensors: Tensors) -> None:
    """Tensors take turns, four pairs at a time."""
    choice = draw(tensors, 150)
    for turn in range(0, 60, 12):
        units, counts = np.unique(choice.units[turn : turn + 12], return_counts=True)
        assert units.size == 3
        assert set(counts.tolist()) == {4}


def test_one_pair_can_be_left_out(tensors: Tensors) -> None:
    choice = draw(tensors, 20)
    rest = choice.without(3)
    assert len(rest) == 9
    dropped = {(int(choice.units[3]), int(at)) for at in choice.pairs[3]}
    assert places(rest) == places(choice) - dropped
