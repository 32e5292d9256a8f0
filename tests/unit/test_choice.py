"""The weights that a lock replaces look like the others, and only the key says which they are."""

from __future__ import annotations

import numpy as np
import pytest

import nnguard
import stock
from nnguard.locking.choice import Choice, apply, choose, count_weights, tensors_to_touch
from nnguard.locking.coding import read_all
from nnguard.stream.coding import QuantizedTensor

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
    return read_all(stream, tensors_to_touch(stream, COUNT, KEY.keystream("choice", NONCE)))


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
    return set(zip(choice.units.tolist(), choice.positions.tolist(), strict=True))


def names_of(stream: nnguard.Stream, units: list[int]) -> set[str]:
    return {stream[unit].name for unit in units}


def old_values(choice: Choice, tensors: Tensors) -> np.ndarray:
    pairs = zip(choice.units.tolist(), choice.positions.tolist(), strict=True)
    return np.array([tensors[unit].indices.reshape(-1)[at] for unit, at in pairs])


# What becomes of the weights


def test_new_value_has_the_other_sign_and_is_one_that_the_tensor_has(tensors: Tensors) -> None:
    choice = draw(tensors)
    old = old_values(choice, tensors)
    assert np.all(old != 0)
    assert np.all(np.sign(choice.values) == -np.sign(old))
    for unit, value, before in zip(
        choice.units.tolist(), choice.values.tolist(), old.tolist(), strict=True
    ):
        assert value in tensors[unit].indices or value == -before


def test_no_value_is_an_outlier(tensors: Tensors) -> None:
    changed = apply(draw(tensors), tensors)
    for unit, tensor in changed.items():
        before = tensors[unit].indices
        assert np.abs(tensor.indices).max() <= np.abs(before).max()
        assert np.count_nonzero(tensor.indices) == np.count_nonzero(before)


def test_states_of_a_trellis_do_not_change() -> None:
    stream = network(dependent=True)
    touched = tensors_to_touch(stream, COUNT, KEY.keystream("choice", NONCE))
    tensors = read_all(stream, touched)
    choice = draw(tensors)
    residues = np.abs(choice.values) % 4
    assert len({*residues.tolist()}) == 4
    assert np.array_equal(residues, np.abs(old_values(choice, tensors)) % 4)


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


@pytest.mark.parametrize("count", [0, 1, 7, 8, 60, 300])
def test_count_is_kept(tensors: Tensors, count: int) -> None:
    choice = draw(tensors, count)
    assert len(choice) == count
    assert len(places(choice)) == count


def test_where_there_is_little_room_fewer_are_replaced(tensors: Tensors) -> None:
    weights = sum(tensor.indices.size for tensor in tensors.values())
    choice = draw(tensors, weights)
    assert 0 < len(choice) <= weights // 16
    assert len(places(choice)) == len(choice)


def test_weights_are_spread_over_the_tensors(stream: nnguard.Stream, tensors: Tensors) -> None:
    units, counts = np.unique(draw(tensors, 150).units, return_counts=True)
    assert names_of(stream, units.tolist()) == {"small", "wide", "deep"}
    assert counts.max() - counts.min() <= 2 * 8


def test_tensors_without_room_are_left_alone(stream: nnguard.Stream) -> None:
    touched = tensors_to_touch(stream, COUNT, KEY.keystream("choice", NONCE))
    assert names_of(stream, touched) == {"small", "wide", "deep"}
    assert count_weights(stream) == 40 * 25 + 30 * 200 + 64 * 16 * 9 + 25


def test_few_tensors_are_touched_where_they_are_enough(
    stream: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnguard.locking.choice._TOUCHED", 1)
    randomness = KEY.keystream("choice", NONCE)
    for count, names in (
        (60, {"small"}),
        (100, {"small", "wide"}),
        (500, {"small", "wide", "deep"}),
    ):
        touched = tensors_to_touch(stream, count, randomness)
        assert names_of(stream, touched) == names


def test_choice_is_of_the_largest_weights(tensors: Tensors) -> None:
    choice = draw(tensors, 24)
    for unit in np.unique(choice.units).tolist():
        mine = choice.positions[choice.units == unit]
        magnitudes = np.abs(tensors[unit].indices.reshape(-1))
        pool = np.sort(magnitudes)[::-1][: max(8 * mine.size, 32)]
        assert magnitudes[mine].min() >= pool[-1]


def test_choice_is_not_simply_the_largest_weights(tensors: Tensors) -> None:
    choice = draw(tensors)
    for unit in np.unique(choice.units).tolist():
        mine = choice.positions[choice.units == unit]
        magnitudes = np.abs(tensors[unit].indices.reshape(-1))
        largest = np.argsort(-magnitudes, kind="stable")[: mine.size]
        assert len({*mine.tolist()} & {*largest.tolist()}) < mine.size / 2


# The key


def test_the_same_key_and_nonce_choose_the_same(tensors: Tensors) -> None:
    one, two = draw(tensors), draw(tensors)
    assert places(one) == places(two)
    assert np.array_equal(one.values, two.values)


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
    monkeypatch.setattr("nnguard.locking.choice._TOUCHED", 1)
    rng = np.random.default_rng(0)
    arrays = {f"layer{at}": rng.normal(0, 0.05, (20, 50)) for at in range(12)}
    data = stock.encode({name: array.astype(np.float32) for name, array in arrays.items()}, qp=-24)
    stream = nnguard.Stream.from_bytes(data)
    chosen = {
        tuple(tensors_to_touch(stream, 100, key.keystream("choice", NONCE)))
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
    touched = tensors_to_touch(stream, 10, randomness, importance)
    assert names_of(stream, touched) == {"wide"}
    mine = {unit: tensors[unit] for unit in touched}
    choice = draw(mine, 10, importance=importance)
    assert len(choice) == 10
    assert set(choice.positions // 200) == {29}


def test_lock_follows_the_importance_of_the_caller(stream: nnguard.Stream) -> None:
    importance = {"deep": np.ones((64, 16, 3, 3))}
    trial, _ = nnguard.lock(stream, fraction=0.001, importance=importance)
    before, after = stock.decode(bytes(stream)), stock.decode(bytes(trial))
    flipped = {
        name: np.count_nonzero(before[name].astype(np.float64) * after[name] < 0)
        for name in ("small", "wide", "deep")
    }
    assert flipped == {"small": 0, "wide": 0, "deep": round(0.001 * count_weights(stream))}


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
        nnguard.lock(stream, fraction=0.001, importance={"small": values})


def test_importance_of_a_tensor_that_is_not_there_is_refused(stream: nnguard.Stream) -> None:
    with pytest.raises(ValueError, match="no tensor classifier"):
        nnguard.lock(stream, fraction=0.001, importance={"classifier": np.ones(3)})


def test_importance_without_a_tensor_that_can_be_locked(stream: nnguard.Stream) -> None:
    with pytest.raises(nnguard.UnlockError, match="no weights"):
        nnguard.lock(stream, fraction=0.001, importance={"few": np.ones((5, 5))})


# Parts of a choice


def test_the_first_of_a_choice_are_a_choice(tensors: Tensors) -> None:
    choice = draw(tensors)
    for count in (0, 1, 50, COUNT):
        part = choice.first(count)
        assert len(part) == count
        assert part.units.tolist() == choice.units.tolist()[:count]
        assert part.positions.tolist() == choice.positions.tolist()[:count]
        assert part.values.tolist() == choice.values.tolist()[:count]


def test_the_first_of_a_choice_are_spread_as_well(tensors: Tensors) -> None:
    """Tensors take turns, eight weights at a time."""
    choice = draw(tensors, 150)
    for turn in range(0, 120, 24):
        units, counts = np.unique(choice.units[turn : turn + 24], return_counts=True)
        assert units.size == 3
        assert set(counts.tolist()) == {8}


def test_one_weight_can_be_left_out(tensors: Tensors) -> None:
    choice = draw(tensors, 20)
    rest = choice.without(3)
    assert len(rest) == 19
    dropped = (int(choice.units[3]), int(choice.positions[3]))
    assert places(rest) == places(choice) - {dropped}
