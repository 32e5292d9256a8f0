"""The search finds a part of a choice that scores what was asked for, or says there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import nnguard
import samples
from nnguard._locking.choice import Choice, apply, choose
from nnguard._locking.coding import read_all
from nnguard._locking.search import CurvePoint, Scores, narrow


def make_choice(count: int) -> Choice:
    return Choice(np.ones(count, np.int64), np.arange(2 * count).reshape(count, 2))


class Counting:
    """A score that counts how often it is asked for."""

    def __init__(self, score: Callable[[Choice], float]) -> None:
        self._score = score
        self.asked = 0

    def __call__(self, choice: Choice) -> float:
        self.asked += 1
        return self._score(choice)


@pytest.mark.parametrize("target", [0.9, 0.5, 0.1, 0.015])
def test_steady_score_takes_a_few_questions(target: float) -> None:
    score = Counting(lambda choice: 1 - len(choice) / 1000)
    part = narrow(make_choice(1000), score, target, 0.005)
    assert score(part) == pytest.approx(target, abs=0.005)
    assert score.asked <= 15
    assert part.pairs.tolist() == make_choice(len(part)).pairs.tolist()


def test_steps_are_met_where_a_step_is_near_enough() -> None:
    score = Counting(lambda choice: 1 - len(choice) // 100 / 10)
    part = narrow(make_choice(1000), score, 0.42, 0.03)
    assert score(part) == pytest.approx(0.4)


def test_pair_that_jumps_across_the_target_is_left_out() -> None:
    """Pair 300 alone ruins the network; without it, the rest takes the score down slowly."""

    def score(choice: Choice) -> float:
        return 0.1 if 600 in choice.pairs else 1 - len(choice) / 1000

    part = narrow(make_choice(1000), score, 0.4, 0.005)
    assert score(part) == pytest.approx(0.4, abs=0.005)
    assert 600 not in part.pairs


def test_several_pairs_that_jump_are_left_out() -> None:
    bad = {120, 121, 260, 444}

    def score(choice: Choice) -> float:
        return 0.0 if bad & {*(choice.pairs[:, 0] // 2).tolist()} else 1 - len(choice) / 1000

    part = narrow(make_choice(1000), score, 0.5, 0.005)
    assert score(part) == pytest.approx(0.5, abs=0.005)


def test_score_that_is_not_steady() -> None:
    def score(choice: Choice) -> float:
        return 1 - len(choice) / 1000 + 0.02 * np.sin(len(choice) / 3)

    part = narrow(make_choice(1000), score, 0.3, 0.01)
    assert score(part) == pytest.approx(0.3, abs=0.01)


def test_target_that_no_amount_meets_is_refused_after_a_while() -> None:
    score = Counting(lambda choice: 1.0 if len(choice) < 50 else 0.0)
    with pytest.raises(nnguard.errors.LockError, match=r"0\.5"):
        narrow(make_choice(100), score, 0.5, 0.1)
    assert score.asked <= 60


@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_choices_come_to_an_end(count: int) -> None:
    score = Counting(lambda choice: 1.0 if len(choice) == 0 else 0.0)
    with pytest.raises(nnguard.errors.LockError):
        narrow(make_choice(count), score, 0.5, 0.1)
    assert score.asked <= 60


@pytest.fixture
def stream() -> nnguard.Stream:
    return nnguard.Stream.from_bytes(samples.small_stream())


def test_scores_are_of_the_network_with_its_weights_replaced(stream: nnguard.Stream) -> None:
    """What `evaluate` is given is what the stock decoder would give, but for the chosen weights."""
    index = [unit.name for unit in stream].index("conv.weight")
    tensors = read_all(stream, [index])
    key = nnguard.ContentKey(bytes(32))
    choice = choose(tensors, 20, key.keystream("choice", bytes(12)), None)
    given: list[dict[str, np.ndarray]] = []

    def evaluate(state: dict[str, np.ndarray]) -> float:
        given.append({name: np.array(array) for name, array in state.items()})
        return float(len(given))

    points: list[CurvePoint] = []
    scores = Scores(evaluate, stream, 3000, points.append)
    assert scores.of(choice.first(0), {}) == 1.0
    assert scores.of(choice, apply(choice, tensors)) == 2.0
    assert scores.of(choice, apply(choice, tensors)) == 2.0, "the same question is asked once"
    whole, locked = given
    original = nnguard.decompress(stream)
    for name, array in original.items():
        assert np.array_equal(whole[name], array)
    changed = np.flatnonzero(locked["conv.weight"] != original["conv.weight"])
    assert changed.tolist() == sorted(choice.pairs.reshape(-1).tolist())
    assert np.array_equal(locked["conv.bias"], original["conv.bias"])
    assert [point.fraction for point in points] == [0.0, 20 / 3000]
    assert scores.curve == points


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_score_that_is_no_number_is_refused(stream: nnguard.Stream, score: float) -> None:
    with pytest.raises(ValueError, match="evaluates gave"):
        nnguard.lock(stream, evaluate=lambda state: score, soft=nnguard.Soft(target=0.5))
