"""What marks of a suspect tell: of fingerprints, and of the noise that was added to them."""

from __future__ import annotations

import numpy as np
import pytest

from nnguard._tracing.evidence import Estimate, Moves, estimate_of, noise_of

ENTRIES = 2000
FINGERPRINT = np.random.default_rng(0).choice([-1.0, 1.0], ENTRIES)


def moves_of(noise: list[float], marks: int, levels: np.ndarray = FINGERPRINT) -> list[Moves]:
    """Return how marks of as many tensors have moved, with noise."""
    random = np.random.default_rng(1)
    found = []
    for deviation in noise:
        at = random.integers(0, ENTRIES, marks)
        found.append(Moves(at, levels[at] + random.normal(0, deviation, marks)))
    return found


def estimate(moves: list[Moves]) -> Estimate:
    return estimate_of(moves, noise_of(moves, ENTRIES), ENTRIES)


def test_noise_of_each_tensor_is_found() -> None:
    noise = [0.5, 2.0, 8.0]
    moves = moves_of(noise, 20_000)
    assert noise_of(moves, ENTRIES) == pytest.approx(noise, rel=0.2)
    means, deviations = estimate(moves)
    assert np.std((means - FINGERPRINT) / deviations) == pytest.approx(1, rel=0.2)


def test_marks_of_an_entry_may_be_in_different_tensors() -> None:
    """Few entries have two marks in one tensor."""
    noise = [0.05] * 20
    moves = moves_of(noise, 150)
    assert max(noise_of(moves, ENTRIES)) < 0.2


def test_marks_that_are_alone_count_as_noisy() -> None:
    moves = [Moves(np.arange(1000), FINGERPRINT[:1000])]
    assert noise_of(moves, ENTRIES) == pytest.approx([1.4826])


@pytest.mark.parametrize("times", [3, 10])
def test_whoever_goes_beyond_the_fingerprint_adds_no_noise(times: int) -> None:
    clean = moves_of([0.0], 20_000, times * FINGERPRINT)
    assert noise_of(clean, ENTRIES) == [0.05]
    assert np.abs(estimate(clean).means).max() == pytest.approx(1.15)
    noisy = moves_of([2.0], 20_000, times * FINGERPRINT)
    assert noise_of(noisy, ENTRIES) == pytest.approx([2.0], rel=0.2)


def test_marks_that_were_moved_far_count_no_more_than_others() -> None:
    at = np.repeat(np.arange(ENTRIES), 9)
    moved = FINGERPRINT[at]
    moved[::9] = -1000 * FINGERPRINT
    means, _ = estimate([Moves(at, moved)])
    assert (np.sign(means) == FINGERPRINT).all()


def test_entries_without_marks_are_unknown() -> None:
    means, deviations = estimate([Moves(np.array([3, 3, 5, 5]), np.array([1.0, 1.0, -1.0, -1.0]))])
    assert {*np.flatnonzero(np.isfinite(deviations)).tolist()} == {3, 5}
    assert means[3] == 1
    assert means[5] == -1
    assert not means[[0, 1, 2, 4]].any()
