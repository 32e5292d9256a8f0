"""Tracing: what is found of a suspect, and what `trace` may be asked."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

import nnguard
from nnguard.errors import ArgumentError
from nnguard.licensing import License, issue

VENDOR = nnguard.SigningKey.generate()
CUSTOMER = nnguard.Identity.generate()

Network = dict[str, np.ndarray[Any, Any]]


def network(seed: int) -> Network:
    random = np.random.default_rng(seed)
    return {
        f"{layer}.weight": random.laplace(0, 0.05, (150, 150)).astype(np.float32)
        for layer in range(2)
    } | {"bias": random.normal(0, 0.1, 150).astype(np.float32)}


class Sold(NamedTuple):
    license_id: str
    stream: str


@functools.cache
def sale() -> tuple[nnguard.Locked, list[License], list[Network]]:
    """A traceable trial, three licenses, and their copies."""
    release, weaker = (
        nnguard.compress(arrays, nnguard.Settings(dependent=False))
        for arrays in (network(0), network(1) | {"more": network(2)["0.weight"]})
    )
    locked = nnguard.lock(release, trial=weaker, traceable=True)
    licenses = [
        issue(locked.trial, locked.content_key, to=CUSTOMER.recipient, signer=VENDOR)
        for _ in range(3)
    ]
    copies = []
    for license_ in licenses:
        copy = nnguard.unlock(locked.trial, license_, CUSTOMER, VENDOR.public_key)
        copies.append({n: np.asarray(a) for n, a in nnguard.decompress(copy).items()})
    return locked, licenses, copies


def trace(suspect: Any, licenses: Any = None, **options: Any) -> nnguard.Trace:
    locked, every, _ = sale()
    given = every if licenses is None else licenses
    return nnguard.trace(suspect, locked.trial, locked.content_key, given, **options)


def accused(found: nnguard.Trace) -> list[int]:
    ids = [license_.terms.id for license_ in sale()[1]]
    return sorted(ids.index(accusation.license_id) for accusation in found.accused)


def test_each_copy_names_its_license() -> None:
    for number, copy in enumerate(sale()[2]):
        found = trace(copy)
        assert accused(found) == [number]
        assert found.accused[0].score == found.scores[number] > 30
        assert found.accused[0].log10_probability == -38
        assert found.other_scores.size == 2
        assert found.to_json()["highest_other_score"] == found.other_scores.max()
        assert found.missing == ()
        assert {tensor.how for tensor in found.tensors.values()} == {"as named"}


def test_a_mixture_names_all_that_had_a_part() -> None:
    one, two, _ = sale()[2]
    assert accused(trace({name: (one[name] + two[name]) / 2 for name in one})) == [0, 1]


def test_the_release_is_nobody_s_copy() -> None:
    found = trace(nnguard.compress(network(0), nnguard.Settings(dependent=False)))
    assert found.accused == ()
    assert found.marks > 8000
    assert np.abs(found.scores).max() < 5


def test_what_is_missing_and_pruned_does_not_count() -> None:
    copy = sale()[2][2]
    whole = trace(copy).marks
    half = trace({name: array for name, array in copy.items() if name != "0.weight"})
    assert half.missing == ("0.weight",)
    assert half.marks < whole
    weights = copy["1.weight"]
    few = np.where(np.abs(weights) < np.median(np.abs(weights)), 0, weights)
    pruned = trace({**copy, "1.weight": few})
    assert half.marks < pruned.marks + half.marks < whole + half.marks
    assert accused(half) == accused(pruned) == [2]


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_noise_is_measured_in_steps(noise: float) -> None:
    random = np.random.default_rng(0)
    copy = {n: a + random.normal(0, noise, a.shape) for n, a in sale()[2][0].items()}
    step = 2.0**-10  # -38 steps of density 2 from 1
    for tensor in trace(copy).tensors.values():
        assert tensor.noise == pytest.approx(max(noise / step, 0.05), rel=0.6)


def test_strangers_have_nothing_of_it() -> None:
    found = trace(network(5))
    assert (found.marks, found.accused, found.tensors) == (0, (), {})
    assert len(found.missing) == 2


def test_licenses_are_given_in_any_form_each_once() -> None:
    _, licenses, copies = sale()
    ids = [license_.terms.id for license_ in licenses]
    sold = [Sold(each, licenses[0].terms.stream) for each in ids]
    more = [*sold, Sold("ab" * 16, "cd" * 32)]  # of another trial
    for given in (ids, [each.upper() for each in ids], iter(ids), [*ids, *licenses], sold, more):
        found = trace(copies[1], given)
        assert found.license_ids == tuple(ids)
        assert accused(found) == [1]


@pytest.mark.parametrize(
    "licenses", ["", "ab" * 16, [], ["ada.license"], ["ab" * 15], ["ab" * 17], ["zz" * 16]]
)
def test_what_is_no_license_is_refused(licenses: Any) -> None:
    with pytest.raises(ArgumentError, match="licenses: "):
        trace(sale()[2][0], licenses)


def test_licenses_of_another_trial_alone_are_refused() -> None:
    with pytest.raises(ArgumentError, match="none of this trial"):
        trace(sale()[2][0], [Sold("ab" * 16, "cd" * 32)])


def test_probability_is_one_that_can_be_told() -> None:
    copy = sale()[2][0]
    assert accused(trace(copy, probability=1e-38)) == [0]
    for probability in (0, 1e-39, 1, 2, float("nan")):
        with pytest.raises(ArgumentError, match="probability: "):
            trace(copy, probability=probability)
