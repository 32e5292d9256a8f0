"""Tensors that a model lists twice are locked as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._locking.scramble import tensors_to_scramble
from nnguard._locking.twins import find_twins
from opening import open_locks

TIED = ("embedding.weight", "head.weight")


def arrays_of(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tied = rng.laplace(0, 0.05, shape).astype(np.float32)
    middle = rng.laplace(0, 0.05, (64, 96)).astype(np.float32)
    other = rng.permutation(tied)
    return {TIED[0]: tied, "middle.weight": middle, "other.weight": other, TIED[1]: tied.copy()}


@pytest.fixture(scope="module", params=["TCQ", "URQ"])
def stream(request: pytest.FixtureRequest) -> nnguard.Stream:
    data = stock.encode(arrays_of((128, 32)), qp=-24, dependent=request.param == "TCQ")
    return nnguard.Stream.from_bytes(data)


@pytest.fixture(scope="module")
def carrying(key: nnguard.SigningKey) -> nnguard.Stream:
    """A release whose signature is in one of two twins."""
    release = nnguard.sign(nnguard.compress(arrays_of((64, 32))), key)
    before, after = find_twins(release), nnguard.decompress(release)
    assert before
    assert not np.array_equal(after[TIED[0]], after[TIED[1]])
    return release


def twin_names(stream: nnguard.Stream) -> list[str]:
    return [stream[index].name for index in find_twins(stream)]


def check(release: nnguard.Stream, *, changed: bool, **options: Any) -> None:
    locked = nnguard.lock(release, **options)
    before, after = nnguard.decompress(release), nnguard.decompress(locked.trial, allow_trial=True)
    turned = [np.sign(before[name]) != np.sign(after[name]) for name in TIED]
    assert turned[0].any() == turned[1].any() == changed
    stream = locked.trial
    opened = open_locks(stream, locked.content_key)
    assert bytes(opened.stream) == bytes(release)
    if locked.replaced and not locked.scrambled:
        assert np.array_equal(*turned)


def test_equal_tensors_are_twins(stream: nnguard.Stream) -> None:
    """Of one shape and of the same values is not enough: they have to be in the same order."""
    assert twin_names(stream) == [*TIED]
    assert len({*find_twins(stream).values()}) == 1


def test_a_record_in_one_of_them_makes_no_difference(carrying: nnguard.Stream) -> None:
    assert twin_names(carrying) == [*TIED]


def test_twins_in_different_files_are_scrambled_both() -> None:
    arrays = arrays_of((64, 32))
    streams = {
        "1.nnc": nnguard.compress({name: arrays[name] for name in (TIED[0], "middle.weight")}),
        "2.nnc": nnguard.compress({name: arrays[name] for name in ("other.weight", TIED[1])}),
    }
    chosen = tensors_to_scramble(streams, [TIED[0]])
    names = [[streams[file][index].name for index in chosen[file]] for file in streams]
    assert names == [[TIED[0]], [TIED[1]]]
    alone = tensors_to_scramble(streams, ["middle.*"])
    assert [len(indices) for indices in alone.values()] == [1, 0]


def test_network_without_twins() -> None:
    assert not find_twins(nnguard.compress({"a": np.eye(20, dtype=np.float32)}))


@pytest.mark.parametrize("importance", [None, *TIED])
def test_soft_lock_changes_both(stream: nnguard.Stream, importance: str | None) -> None:
    """Also where only one of them is said to be important."""
    weights = None if importance is None else {importance: np.ones((128, 32))}
    check(stream, changed=True, soft=nnguard.Soft(fraction=0.01, importance=weights))


def test_soft_lock_changes_both_where_one_holds_the_signature(carrying: nnguard.Stream) -> None:
    check(carrying, changed=True, soft=nnguard.Soft(fraction=0.01))


@pytest.mark.parametrize("name", TIED)
def test_both_are_scrambled(stream: nnguard.Stream, name: str) -> None:
    check(stream, changed=True, scramble=[name])
    check(stream, changed=False, scramble=["middle.*"])


def test_both_are_scrambled_by_default(stream: nnguard.Stream, carrying: nnguard.Stream) -> None:
    check(stream, changed=True)
    check(carrying, changed=True)


def test_a_target_counts_both(stream: nnguard.Stream) -> None:
    """The score is of a network whose twins are still equal."""
    original = nnguard.decompress(stream)

    def evaluate(state: Any) -> float:
        turned = [np.sign(state[name]) != np.sign(original[name]) for name in TIED]
        assert np.array_equal(*turned)
        return 1 - float(turned[0].sum()) / 100

    locked = nnguard.lock(
        stream, evaluate=evaluate, soft=nnguard.Soft(target=0.7, tolerance=0.05, max_fraction=0.05)
    )
    assert locked.curve[-1].score == pytest.approx(0.7, abs=0.05)


def test_thousands_of_twins_are_one_group() -> None:
    """Each has the same list of all, not a list of its own."""
    start, model, topology, unit = samples.split(
        stock.encode({"w": np.ones((16, 16), np.float32)}, qp=-20)
    )
    stream = nnguard.Stream.from_bytes(start + model + topology + 3000 * unit)
    groups = find_twins(stream).values()
    assert len(groups) == len(next(iter(groups))) == 3000
    assert len({*map(id, groups)}) == 1
