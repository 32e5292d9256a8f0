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


def network(seed: int = 7) -> Network:
    """Outputs and inputs of different sizes, heavy tails, and an output that is dead."""
    random = np.random.default_rng(seed)
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
    random = np.random.default_rng(8)
    return {
        name: weights[random.permutation(len(weights))][:, random.permutation(weights.shape[1])]
        for name, weights in given.items()
    }


def rescaled(given: Network) -> Network:
    random = np.random.default_rng(8)
    return {
        name: weights * random.uniform(0.5, 2, (len(weights), *[1] * (weights.ndim - 1)))
        for name, weights in given.items()
    }


def trained(given: Network) -> Network:
    random = np.random.default_rng(8)
    return {name: w + random.normal(0, 0.05 * w.std(), w.shape) for name, w in given.items()}


def far_scaled(given: Network) -> Network:
    random = np.random.default_rng(9)
    return {
        name: w
        * np.exp(2 * random.normal(size=(len(w), *[1] * (w.ndim - 1))))
        * np.exp(2 * random.normal(size=(1, w.shape[1], *[1] * (w.ndim - 2))))
        for name, w in given.items()
    }


def wider(given: Network) -> Network:
    """Add channels of nothing, and of noise, in front."""
    random = np.random.default_rng(10)
    found = {}
    for name, weights in given.items():
        more = random.normal(0, weights.std(), (len(weights) + 3, *weights.shape[1:]))
        more[3:] = weights
        found[name] = np.insert(more.astype(np.float32), 0, 0, axis=1)
    return found


def with_garbage(given: Network) -> Network:
    """Of each tensor the last output is nothing of the release's, and large."""
    found = {name: weights.copy() for name, weights in given.items()}
    for weights in found.values():
        weights[-1] = 50 * np.random.default_rng(11).normal(size=weights.shape[1:])
    return found


def not_finite(given: Network) -> Network:
    found = {name: weights.copy() for name, weights in given.items()}
    for weights in found.values():
        weights.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    return found


def among_decoys(given: Network) -> Network:
    """Noisy copies come first, under the right names; and others are shuffled."""
    random = np.random.default_rng(12)
    decoys = {n: w + random.normal(0, w.std(), w.shape) for n, w in given.items()}
    for number in range(6):
        decoys |= {f"{number}.{n}.x": random.permuted(w) for n, w in given.items()}
    return {**decoys, **{f"net_{name}": weights for name, weights in given.items()}}


def whole_numbers(given: Network) -> Network:
    found = {}
    for name, weights in given.items():
        peaks = np.abs(weights).reshape(len(weights), -1).max(1)
        found[name] = np.round(weights.T / peaks * 32767).T.astype(np.int16)
    return found


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
    "outputs last": (
        lambda given: {
            n: w.T if w.ndim == 2 else w.transpose(2, 3, 1, 0) for n, w in given.items()
        },
    ),
    "two dimensions": (lambda given: {n: w.reshape(len(w), -1) for n, w in given.items()},),
    "scaled far": (far_scaled,),
    "scaled far, permuted": (far_scaled, permuted),
    "very small": (lambda given: {n: w * np.float32(1e-30) for n, w in given.items()},),
    "very large": (lambda given: {n: w.astype(np.float64) * 1e60 for n, w in given.items()},),
    "wider, permuted": (wider, permuted),
    "with garbage": (with_garbage,),
    "not finite": (not_finite,),
    "among decoys": (among_decoys,),
    "among decoys, permuted": (permuted, among_decoys),
    "whole numbers": (whole_numbers,),
    "flattened": (lambda given: {n: w.reshape(*w.shape, 1) for n, w in given.items()},),
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_tensors_are_brought_in_line(change: str) -> None:
    suspect = RELEASE
    for step in CHANGES[change]:
        suspect = step(suspect)
    found = align(RELEASE, suspect)
    assert [*found] == [*RELEASE]
    noise = 0.15 if "trained" in change else 0.02 if "scaled" in change else 2e-3
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
    assert align(RELEASE, network(9)) == {}
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
