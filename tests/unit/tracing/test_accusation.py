"""Accusing whose fingerprints are found: coalitions, noise, and those who had no part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from nnguard import ContentKey
from nnguard._tracing.accusation import LOG10_FLOOR, log10_innocent, proofs, scores, weightings
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


def exactly(p: Numbers) -> tuple[list[npt.NDArray[np.int8]], Numbers]:
    """Return all fingerprints of a few entries, and the probability of each."""
    every = [np.array(bits, np.int8) for bits in itertools.product((1, -1), repeat=p.size)]
    return every, np.array([np.where(bits > 0, p, 1 - p).prod() for bits in every])


@pytest.mark.parametrize("deviation", [0.05, 1.0, 5.0])
@pytest.mark.parametrize(
    "made",
    [
        np.ones(12),
        -np.ones(12),
        np.where(np.arange(12) == 3, 1.0, 0.0),
        np.random.default_rng(1).choice([-1.0, 1.0], 12),
        np.random.default_rng(1).standard_cauchy(12),
    ],
    ids=["ones", "minus ones", "one entry", "a copy", "wild"],
)
def test_no_score_is_likelier_than_the_bound_says(made: Numbers, deviation: float) -> None:
    """By all 4,096 fingerprints that an innocent could have, whatever the suspect is."""
    p = np.array(BIASES)[::23] / 65536
    fingerprints, chances = exactly(p)
    for weights in weightings(Estimate(made, np.full(12, deviation)), p):
        if not weights.any():
            continue
        scored = scores(weights, p, fingerprints)
        assert chances @ scored == pytest.approx(0, abs=1e-9)
        assert chances @ scored**2 == pytest.approx(1)
        for score in scored[::37]:
            tail = chances[scored >= score - 1e-9].sum()
            assert tail <= 10 ** log10_innocent(weights, p, float(score)) * (1 + 1e-6)


def ways_and_scores(licenses: int) -> tuple[Numbers, Numbers]:
    """Return two ways of scoring, and scores of licenses that had no part."""
    random = np.random.default_rng(3)
    ways = weightings(found(random.normal(size=ENTRIES), 1.0), DRAWN)[:2]
    return ways, random.normal(size=(2, licenses)).clip(-3, 3)


@pytest.mark.parametrize("licenses", [1, 10_000])
@pytest.mark.parametrize("way", [0, 1])
def test_all_licenses_and_all_ways_share_the_probability(licenses: int, way: int) -> None:
    ways, scored = ways_and_scores(licenses)
    limit = -9 - math.log10(2 * licenses)  # for one of them, in one way
    low, high = 5.0, 12.0
    for _ in range(14):
        middle = (low + high) / 2
        high, low = (
            (middle, low) if log10_innocent(ways[way], DRAWN, middle) <= limit else (high, middle)
        )
    scored[way, 0] = high
    assert proofs(ways, DRAWN, scored, 1e-9) == {0: pytest.approx(-9, abs=0.02)}
    scored[way, 0] = low
    assert proofs(ways, DRAWN, scored, 1e-9) == {}


def test_the_surest_way_counts_and_no_bound_is_below_the_floor() -> None:
    ways, scored = ways_and_scores(5)
    scored[:, 3] = 8.5, 9.0
    scored[:, 4] = 40.0, 50.0
    bounds = proofs(ways, DRAWN, scored, 1e-9)
    surest = min(log10_innocent(way, DRAWN, z) for way, z in zip(ways, (8.5, 9.0), strict=True))
    assert bounds == {3: pytest.approx(1 + surest), 4: LOG10_FLOOR}


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
