"""Suspects whose tensors are named, ordered, scaled otherwise are brought in line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from nnguard._tracing.alignment import align

Weights = npt.NDArray[np.float32]
Network = dict[str, Weights]

SHAPES = {
    "stem.weight": (16, 3, 3, 3),
    "layer1.conv1.weight": (16, 16, 3, 3),
    "layer1.conv2.weight": (16, 16, 3, 3),
    "layer2.conv1.weight": (32, 16, 3, 3),
    "dense.weight": (96, 64),
    "query.weight": (64, 64),
    "classes.weight": (10, 64),
}
random = np.random.default_rng(7)


def network() -> Network:
    """Outputs and inputs of different sizes, heavy tails, and an output that is dead."""
    made = {}
    for name, shape in SHAPES.items():
        weights = random.laplace(size=shape)
        weights *= random.uniform(0.5, 2, (shape[0], *[1] * (len(shape) - 1)))
        weights *= random.uniform(0.5, 2, (1, shape[1], *[1] * (len(shape) - 2)))
        weights[0] *= 1e-4
        made[name] = weights.astype(np.float32)
    return made


RELEASE = network()


def permuted(given: Network) -> Network:
    return {
        name: weights[random.permutation(len(weights))][:, random.permutation(weights.shape[1])]
        for name, weights in given.items()
    }


def rescaled(given: Network) -> Network:
    return {
        name: weights * random.uniform(0.5, 2, (len(weights), *[1] * (weights.ndim - 1)))
        for name, weights in given.items()
    }


def trained(given: Network) -> Network:
    return {name: w + random.normal(0, 0.05 * w.std(), w.shape) for name, w in given.items()}


def pruned(given: Network) -> Network:
    return {
        name: np.where(np.abs(weights) < np.median(np.abs(weights)), 0, weights)
        for name, weights in given.items()
    }


def renamed(given: Network) -> Network:
    return {f"{position}": weights for position, weights in enumerate(given.values())}


CHANGES: dict[str, tuple[Callable[[Network], Network], ...]] = {
    "nothing": (),
    "half precision": (lambda given: {n: w.astype(np.float16) for n, w in given.items()},),
    "wrapped": (lambda given: {f"module.{n}": w for n, w in given.items()},),
    "renamed": (renamed,),
    "shuffled": (lambda given: dict(sorted(given.items())[::-1]), renamed),
    "trained": (trained,),
    "pruned": (pruned,),
    "rescaled": (rescaled,),
    "permuted": (permuted,),
    "permuted, renamed, rescaled": (permuted, renamed, rescaled),
    "trained, then permuted": (trained, permuted),
    "pruned, then permuted": (pruned, permuted),
    "transposed": (lambda given: {n: w.T if w.ndim == 2 else w for n, w in given.items()},),
    "flattened": (lambda given: {n: w.reshape(*w.shape, 1) for n, w in given.items()},),
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_tensors_are_brought_in_line(change: str) -> None:
    suspect = RELEASE
    for step in CHANGES[change]:
        suspect = step(suspect)
    found = align(RELEASE, suspect)
    assert [*found] == [*RELEASE]
    noise = 0.08 if "trained" in change else 0.02 if "rescaled" in change else 2e-3
    for name, aligned in found.items():
        kept = aligned.weights != 0
        assert kept.mean() > 0.4
        left = (aligned.weights - RELEASE[name])[kept]
        assert float(np.sqrt((left**2).mean())) < noise * RELEASE[name].std(), (name, aligned.how)


def test_what_was_done_is_told() -> None:
    suspect = {f"module.{name}": 2 * weights for name, weights in permuted(RELEASE).items()}
    assert align(RELEASE, suspect)["dense.weight"].how == (
        "named module.dense.weight, outputs permuted, inputs permuted, scaled by 2"
    )
    assert align(RELEASE, RELEASE)["dense.weight"].how == "as named"


def test_strangers_are_not_taken_for_the_release() -> None:
    assert align(RELEASE, network()) == {}
    assert align(RELEASE, {name: np.zeros_like(w) for name, w in RELEASE.items()}) == {}
    assert align(RELEASE, {name: np.full_like(w, np.nan) for name, w in RELEASE.items()}) == {}
    assert align(RELEASE, {}) == {}


def test_a_tensor_of_another_size_is_left_out() -> None:
    suspect = {**RELEASE, "dense.weight": RELEASE["dense.weight"][:90]}
    assert [*align(RELEASE, suspect)] == [name for name in RELEASE if name != "dense.weight"]


def test_a_tensor_is_taken_once() -> None:
    """Two of the release's that are equal do not both find their counterpart in one."""
    twice = {"one": RELEASE["query.weight"], "two": RELEASE["query.weight"]}
    assert [*align(twice, {"x": RELEASE["query.weight"]})] == ["one"]
