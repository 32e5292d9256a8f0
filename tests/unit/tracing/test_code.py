"""Fingerprints, and accusing whose they are: coalitions, noise, and innocents."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from nnguard import ContentKey
from nnguard._tracing.accusation import log10_innocent, scores, weightings
from nnguard._tracing.code import BIASES, biases, fingerprint

ENTRIES = 1 << 14
KEY, NONCE = ContentKey(bytes(range(32))), bytes(12)
DRAWN = biases(KEY.keystream("biases", NONCE), ENTRIES)
COALITION = 10

Strategy = Callable[[npt.NDArray[np.int8], np.random.Generator], npt.NDArray[np.float64]]

STRATEGIES: dict[str, Strategy] = {
    "average": lambda copies, _: copies.mean(axis=0),
    "median": lambda copies, _: np.median(copies, axis=0),
    "minimum": lambda copies, _: copies.min(axis=0).astype(float),
    "maximum": lambda copies, _: copies.max(axis=0).astype(float),
    "mix": lambda copies, random: random.permuted(copies, axis=0)[0].astype(float),
    "nothing where they differ": lambda copies, _: np.where(
        np.ptp(copies, axis=0) == 0, copies[0], 0.0
    ),
    "coins where they differ": lambda copies, random: np.where(
        np.ptp(copies, axis=0) == 0, copies[0], random.choice([-1.0, 1.0], ENTRIES)
    ),
}


def of(license_id: int) -> npt.NDArray[np.int8]:
    return fingerprint(KEY.keystream(f"fingerprint {license_id}", NONCE), DRAWN)


def test_biases_are_the_same_everywhere() -> None:
    """No bias is so near to the middle between two integers that rounding could differ."""
    step = (math.pi / 2 - 0.04) / 256
    exact = [65536 * math.sin(0.02 + (each + 0.5) * step) ** 2 for each in range(256)]
    assert [round(value) for value in exact] == [*BIASES]
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-3
    assert [*BIASES] == [65536 - bias for bias in reversed(BIASES)]


def test_fingerprints_follow_their_biases() -> None:
    found = np.mean([of(each) for each in range(400)], axis=0)
    assert np.abs(found - (2 * DRAWN - 1)).mean() < 0.05
    assert {*np.unique(of(0))} == {-1, 1}
    assert (of(0) == of(0)).all()
    assert (of(0) != of(1)).any()


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("strategy", [*STRATEGIES])
def test_of_a_coalition_somebody_is_accused(strategy: str, noise: float) -> None:
    random = np.random.default_rng(5)
    copies = np.stack([of(each) for each in range(COALITION)])
    made = STRATEGIES[strategy](copies, random) + random.normal(0, noise, ENTRIES)
    sure = []
    for weights in weightings(made, DRAWN):
        found = scores(weights, DRAWN, map(of, range(200)))
        assert found[:COALITION].argmax() == found.argmax()
        assert log10_innocent(weights, DRAWN, float(found[COALITION:].max())) > -6
        sure.append(log10_innocent(weights, DRAWN, float(found.max())))
    assert min(sure) < (-9 if not noise else -2)


@pytest.mark.parametrize(
    "made",
    [
        np.ones(ENTRIES),
        -np.ones(ENTRIES),
        np.where(DRAWN > 0.99, 1.0, 0.0),
        np.where(np.arange(ENTRIES) == 3, 1.0, 0.0),
        of(0).astype(float),
        np.random.default_rng(1).standard_cauchy(ENTRIES),
    ],
    ids=["ones", "minus ones", "rare", "one entry", "a copy", "wild"],
)
def test_innocents_are_as_rare_as_the_bound_says(made: npt.NDArray[np.float64]) -> None:
    """Whatever the suspect is: mean 0, variance 1, and the tail below the bound."""
    for weights in weightings(made, DRAWN):
        found = scores(weights, DRAWN, map(of, range(1000, 3000)))
        assert abs(found.mean()) < 0.15
        assert found.std() < 1.5
        for score in (0.5, 1.0, 2.0, 3.0, 5.0):
            assert (found >= score).mean() <= 10 ** log10_innocent(weights, DRAWN, score) + 0.02


def test_bound_is_near_that_of_a_normal_distribution() -> None:
    random = np.random.default_rng(2)
    exact = math.log10(math.erfc(6 / math.sqrt(2)) / 2)
    symmetric, likelihood = weightings(random.normal(size=ENTRIES), DRAWN)
    assert exact < log10_innocent(symmetric, DRAWN, 6.0) < exact + 2.5
    assert exact < log10_innocent(likelihood, DRAWN, 6.0) < exact + 3.5


def test_nothing_found_accuses_nobody() -> None:
    nothing = np.zeros(ENTRIES)
    for weights in weightings(nothing, DRAWN):
        assert not scores(weights, DRAWN, map(of, range(3))).any()
        assert log10_innocent(weights, DRAWN, 0.0) == 0.0
        assert scores(weights, DRAWN, iter(())).shape == (0,)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_estimates_are_finite(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        weightings(np.full(ENTRIES, wrong), DRAWN)
