"""Fingerprints, and accusing whose they are: coalitions, noise, and innocents."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from nnguard import ContentKey
from nnguard._tracing.accusation import log10_innocent, proofs, scores, weightings
from nnguard._tracing.code import BIASES, biases, fingerprint
from nnguard._tracing.evidence import Estimate

ENTRIES = 1 << 14
KEY, NONCE = ContentKey(bytes(range(32))), bytes(12)
DRAWN = biases(KEY.keystream("biases", NONCE), ENTRIES)
COALITION = 10

Numbers = npt.NDArray[np.float64]
Strategy = Callable[[npt.NDArray[np.int8], np.random.Generator], Numbers]


def where_they_differ(level: Callable[[Numbers, np.random.Generator], Numbers | float]) -> Strategy:
    def made(copies: npt.NDArray[np.int8], random: np.random.Generator) -> Numbers:
        differ = np.ptp(copies, axis=0) > 0
        return np.where(differ, level(copies.mean(axis=0), random), copies[0])

    return made


STRATEGIES: dict[str, Strategy] = {
    "average": lambda copies, _: copies.mean(axis=0),
    "median": lambda copies, _: np.median(copies, axis=0),
    "minimum": lambda copies, _: copies.min(axis=0).astype(float),
    "maximum": lambda copies, _: copies.max(axis=0).astype(float),
    "mix": lambda copies, random: random.permuted(copies, axis=0)[0].astype(float),
    "nothing": where_they_differ(lambda _, __: 0.0),
    "coins": where_they_differ(lambda _, random: random.choice([-1.0, 1.0], ENTRIES)),
    "minority": where_they_differ(lambda mean, _: np.where(mean > 0, -1.0, 1.0)),
    "far minority": where_they_differ(lambda mean, _: np.where(mean > 0, -5.0, 5.0)),
}
"""What ten licensees make of their copies, at each entry."""


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
    mean = np.mean([of(each) for each in range(400)], axis=0)
    assert np.abs(mean - (2 * DRAWN - 1)).mean() < 0.05
    assert {*np.unique(of(0))} == {-1, 1}
    assert (of(0) == of(0)).all()
    assert (of(0) != of(1)).any()


def found(made: Numbers, deviation: float = 0.05) -> Estimate:
    return Estimate(made, np.full(ENTRIES, deviation))


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("strategy", [*STRATEGIES])
def test_of_a_coalition_somebody_is_accused(strategy: str, noise: float) -> None:
    random = np.random.default_rng(5)
    copies = np.stack([of(each) for each in range(COALITION)])
    made = STRATEGIES[strategy](copies, random) + random.normal(0, noise, ENTRIES)
    ways = weightings(found(made, noise), DRAWN)
    bounds = proofs(ways, DRAWN, scores(ways, DRAWN, map(of, range(200))), 1e-9)
    assert bounds
    assert all(each < COALITION for each in bounds)


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
@pytest.mark.parametrize("deviation", [0.05, 5.0])
def test_innocents_are_as_rare_as_the_bound_says(made: Numbers, deviation: float) -> None:
    """Whatever the suspect is: mean 0, variance 1, and the tail below the bound."""
    for weights in weightings(found(made, deviation), DRAWN):
        scored = scores(weights, DRAWN, map(of, range(1000, 3000)))
        assert abs(scored.mean()) < 0.15
        assert scored.std() < 1.5
        for score in (0.5, 1.0, 2.0, 3.0, 5.0):
            assert (scored >= score).mean() <= 10 ** log10_innocent(weights, DRAWN, score) + 0.02


def test_bound_is_near_that_of_a_normal_distribution() -> None:
    exact = math.log10(math.erfc(6 / math.sqrt(2)) / 2)
    made = np.random.default_rng(2).normal(size=ENTRIES)
    for weights in weightings(found(made, 1.0), DRAWN):
        assert exact < log10_innocent(weights, DRAWN, 6.0) < exact + 3.5


def test_nothing_found_accuses_nobody() -> None:
    unknown = Estimate(np.zeros(ENTRIES), np.full(ENTRIES, np.inf))
    for weights in weightings(unknown, DRAWN):
        assert not scores(weights, DRAWN, map(of, range(3))).any()
        assert log10_innocent(weights, DRAWN, 0.0) == 0.0
        assert scores(weights, DRAWN, iter(())).shape == (0,)


def test_what_no_copy_can_have_tells_nothing() -> None:
    for weights in weightings(found(np.full(ENTRIES, 1e6)), DRAWN):
        assert not weights.any()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_estimates_are_finite(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        weightings(found(np.full(ENTRIES, wrong)), DRAWN)
