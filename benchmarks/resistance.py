"""What an attacker gets back from a trial: statistics, repair, unlabeled images, training.

    python benchmarks/resistance.py --data DIR --cifar10 PATH --output DIR [--network resnet56]
        [--locks scrambled] [--steps 100 1000] [--samples 500 5000] [--images N] [--quick]

A network on CIFAR-10 (stream `NETWORK.default.nnc` of the data folder), locked in several ways. The
attacker knows the method in full and has the trial, but not the content key; some attacks are given
images (PATH: all of CIFAR-10). Each result is added to DIR/resistance-NETWORK.json as it comes, and
not measured again in a second run; plots are made from that file. Accuracy is in percent, of 1,000
test images unless `--images` says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cifar10
import nnguard
import nnguard.torch
from attacks import (
    RATES,
    SYNTHETIC_RATES,
    Data,
    adapt,
    anew,
    distill,
    fit_statistics,
    load,
    regained,
)
from networks import NETWORKS, accuracy
from nnguard._hiding import extract
from repair import pictures, repair
from results import SEED, Results

LOCKS: dict[str, dict[str, Any]] = {
    "scrambled": {},
    "all scrambled": {"scramble": 1.0},
    "soft, 0.01 %": {"soft": nnguard.Soft(fraction=1e-4)},
    "soft, 0.1 %": {"soft": nnguard.Soft(fraction=1e-3)},
}
SCRATCH = "from scratch"

State = dict[str, Tensor]


class Measured(Results):
    """Results that are shown when they come."""

    def add(self, name: str, measure: Callable[[], Any]) -> float | None:
        """Measure what was not measured before, and print it."""
        seconds = super().add(name, measure)
        if seconds is not None:
            print(f"{name}: {self.values[name]} ({seconds:.0f} s)", flush=True)
        return seconds


class Bench:
    """The network, its images, its trials, and how weights are scored."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.make = NETWORKS[options.network]
        self.module, self.quick = self.make(), options.quick
        path = options.data / "streams" / f"{options.network}.default.nnc"
        self.release = nnguard.Stream.open(path)
        self.full = self.state_of(self.release)
        images, labels = cifar10.load(options.data, "test")
        count = 100 if options.quick else options.images
        self.test = images[:count], labels[:count]
        self._images = cifar10.load(options.cifar10, "train")
        self._order = np.random.default_rng(SEED).permutation(len(self._images[1]))

    def state_of(self, stream: nnguard.Stream) -> State:
        """Return the weights of a stream in the shapes of the module."""
        own = self.module.state_dict()
        found = nnguard.torch.decompress(stream, allow_trial=True)
        return {name: value.reshape(own[name].shape) for name, value in found.items()}

    @cache  # noqa: B019
    def trial(self, lock: str) -> State:
        """Return the weights of a trial, without the record, which anybody can take out."""
        key = nnguard.ContentKey(bytes([[*LOCKS].index(lock)]) * 32)
        locked = nnguard.lock(self.release, content_key=key, **LOCKS[lock])
        print(f"{lock}: {locked.scrambled:,} scrambled, {locked.replaced:,} replaced", flush=True)
        return self.state_of(extract(locked.trial).original)

    def score(self, state: Mapping[str, Tensor]) -> float:
        """Return the accuracy of weights."""
        load(self.module, state)
        return accuracy(self.module, *self.test)

    def sample(self, count: int) -> Data:
        """Return so many of the training images, of which the attacker has the first."""
        images, labels = self._images
        return images[self._order[:count]], labels[self._order[:count]]


def main() -> int:
    """Run all attacks and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cifar10", type=Path, required=True, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--locks", nargs="*", choices=LOCKS, default=[*LOCKS])
    parser.add_argument("--images", type=int, default=1000, help="test images (%(default)s)")
    parser.add_argument("--samples", type=int, nargs="*", default=[500, 2500, 5000])
    parser.add_argument("--steps", type=int, nargs="*", default=[100])
    parser.add_argument("--rates", type=float, nargs="*", default=[*RATES])
    parser.add_argument("--quick", action="store_true", help="a minute's run, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.samples, options.rates = [5], options.samples[:1], [0.02]
    bench = Bench(options)
    results = Measured(options.output / f"resistance-{options.network}.json")
    results.add("full", lambda: bench.score(bench.full))
    for lock in options.locks:
        results.add(f"{lock}: trial", lambda at=lock: bench.score(bench.trial(at)))
    for steps in options.steps:
        for count in options.samples:
            for lock in (*options.locks, SCRATCH):
                results.add(
                    label_of(lock, count, steps),
                    partial(train, bench, lock, count, steps, options.rates),
                )
    for lock in options.locks:
        attack_with_inputs(bench, results, lock)
        attack_without_data(bench, results, lock, bench.trial(lock))
        results.add(f"{lock}: repaired without data", lambda at=lock: mend(bench, at))
        for rate in [0.01] if bench.quick else SYNTHETIC_RATES:
            label = f"{lock}: statistics fitted to synthetic images, rate {rate}"
            results.add(label, lambda at=lock, r=rate: fit(bench, at, r))
        if lock.startswith("soft"):
            find_positions(bench, results, lock, bench.trial(lock))
    draw(results.values, options.output)
    return 0


def label_of(lock: str, count: int, steps: int) -> str:
    """Name a training."""
    return f"{lock}: trained, {count} images, {steps} steps"


def train(bench: Bench, lock: str, count: int, steps: int, rates: list[float]) -> float:
    """Train a trial, or an empty network, on so many images; the best rate counts."""
    start = anew(bench.make, {}) if lock == SCRATCH else bench.trial(lock)
    images = bench.sample(count)
    return regained(bench.module, [start], images, bench.test, steps=steps, rates=rates)


def attack_with_inputs(bench: Bench, results: Results, lock: str) -> None:
    """Use 500 images without labels, and the gradients of 1,000 with."""
    images, _ = bench.sample(500)

    def adapted() -> float:
        load(bench.module, bench.trial(lock))
        adapt(bench.module, images)
        return accuracy(bench.module, *bench.test)

    def distilled() -> float:
        load(bench.module, bench.trial(lock))
        distill(bench.module, images, steps=5 if bench.quick else 100, rate=0.02)
        return accuracy(bench.module, *bench.test)

    results.add(f"{lock}: statistics of 500 unlabeled images", adapted)
    results.add(f"{lock}: distilled from its own outputs", distilled)
    results.add(f"{lock}: gradient signs", lambda: flip_by_gradient(bench, bench.trial(lock)))


def mend(bench: Bench, lock: str) -> dict[str, float]:
    """Repair a trial without data; of a soft lock, tell how well that finds the weights, too."""
    trial = bench.trial(lock)
    mended, suspicion = repair(bench.module, trial, trades=True)
    if not lock.startswith("soft"):
        return {"accuracy": bench.score(mended)}
    areas = areas_of(bench, trial, suspicion)
    return {"accuracy": bench.score(mended), "area": areas[0], "area of the largest": areas[1]}


def fit(bench: Bench, lock: str, rate: float) -> float:
    """Train a trial on synthetic images, by the statistics that its normalizations keep."""
    load(bench.module, bench.trial(lock))
    fit_statistics(bench.module, pictures(), steps=5 if bench.quick else 100, rate=rate)
    return accuracy(bench.module, *bench.test)


def attack_without_data(bench: Bench, results: Results, lock: str, state: State) -> None:
    """Clip, prune, and turn round the largest weights."""
    for quantile in (0.999, 0.99):
        for name, change in (("clipped", clip), ("set to 0", zero_large), ("turned", turn_large)):
            label = f"{lock}: largest {1 - quantile:.1%} {name}"
            results.add(label, lambda c=change, q=quantile: bench.score(each(state, c, q)))
    for quantile in (0.2,):
        label = f"{lock}: smallest {quantile:.0%} pruned"
        results.add(label, lambda q=quantile: bench.score(each(state, zero_small, q)))


def each(state: State, change: Callable[[Tensor, float], Tensor], amount: float) -> State:
    """Change all tensors of two dimensions or more."""
    return {
        name: change(value, amount) if value.ndim > 1 else value for name, value in state.items()
    }


def clip(value: Tensor, quantile: float) -> Tensor:
    """Clip what is beyond a quantile of the magnitude."""
    limit = float(torch.quantile(value.abs().flatten(), quantile))
    return value.clamp(-limit, limit)


def zero_large(value: Tensor, quantile: float) -> Tensor:
    """Set to 0 what is beyond a quantile of the magnitude."""
    return value * (value.abs() <= torch.quantile(value.abs().flatten(), quantile))


def zero_small(value: Tensor, quantile: float) -> Tensor:
    """Set to 0 what is below a quantile of the magnitude."""
    return value * (value.abs() >= torch.quantile(value.abs().flatten(), quantile))


def turn_large(value: Tensor, quantile: float) -> Tensor:
    """Turn the signs of what is beyond a quantile of the magnitude."""
    return torch.where(value.abs() > torch.quantile(value.abs().flatten(), quantile), -value, value)


def find_positions(bench: Bench, results: Results, lock: str, state: State) -> None:
    """Rank weights by how odd they look, and tell how well that finds those that were replaced.

    A figure is the area under the ROC curve: 0.5 is guessing, 1 finds all. Weights are those of
    the tensors with replaced ones; the pool is the 3 % largest of these, in each tensor.
    """
    for name, test in TESTS.items():
        scores = {
            tensor: ranks_of(test(value)) for tensor, value in state.items() if value.ndim > 1
        }
        label = f"{lock}: found by {name}, of all and of the pool"
        results.add(label, partial(areas_of, bench, state, scores))


def areas_of(bench: Bench, state: State, scores: Mapping[str, Tensor]) -> list[float]:
    """Return the areas for all weights of tensors with replaced ones, and for the largest."""
    ranked, truth, pool = [], [], []
    for tensor, score in scores.items():
        value = state[tensor]
        changed = value != bench.full[tensor]
        if changed.any():
            ranked.append(score.flatten().double())
            truth.append(changed.flatten())
            pool.append((value.abs() > torch.quantile(value.abs().flatten(), 0.97)).flatten())
    found, inside, suspected = torch.cat(truth), torch.cat(pool), torch.cat(ranked)
    return [area(suspected, found), area(suspected[inside], found[inside])]


def ranks_of(score: Tensor) -> Tensor:
    """Return the rank of each weight in its tensor, from 0 to 1."""
    return score.flatten().argsort().argsort().double() / score.numel()


def magnitude(value: Tensor) -> Tensor:
    """Return how large each weight is."""
    return value.abs()


def beside_row(value: Tensor) -> Tensor:
    """Return how large each weight is beside those of its row."""
    rows = value.flatten(1)
    return (rows.abs() / (rows.square().mean(1, keepdim=True).sqrt() + 1e-9)).reshape(value.shape)


def beside_kernel(value: Tensor) -> Tensor:
    """Return how far each weight is from the mean of the others of its kernel."""
    kernels = value.flatten(2) if value.ndim > 2 else value.unsqueeze(1)
    count = max(kernels.shape[2], 2)
    others = (kernels.sum(2, keepdim=True) - kernels) / (count - 1)
    return (kernels - others).abs().reshape(value.shape)


def rare_value(value: Tensor) -> Tensor:
    """Return how much more often each weight's value occurs than its negative."""
    distinct, inverse, counts = value.flatten().unique(return_inverse=True, return_counts=True)
    by_value = dict(zip(distinct.tolist(), counts.tolist(), strict=True))
    excess = torch.tensor([by_value[v] - by_value.get(-v, 0) for v in distinct.tolist()])
    return excess[inverse].double().reshape(value.shape)


def row_sum(value: Tensor) -> Tensor:
    """Return how much each weight adds to what its row's sum is off the mean of all rows."""
    rows = value.flatten(1)
    off = rows.sum(1, keepdim=True) - rows.sum(1).mean()
    return (rows * off.sign()).reshape(value.shape)


def area(scores: Tensor, truth: Tensor) -> float:
    """Return the area under the ROC curve, ties counted half."""
    _, inverse, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0).double() - (counts - 1) / 2)[inverse]
    positive = int(truth.sum())
    negative = truth.numel() - positive
    return round(
        float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative)), 3
    )


TESTS = {
    "magnitude": magnitude,
    "its place beside its row": beside_row,
    "its place beside its kernel": beside_kernel,
    "the histogram of its tensor": rare_value,
    "the sum of its row": row_sum,
}


def flip_by_gradient(bench: Bench, state: State) -> float:
    """Turn the signs for which the loss on a thousand images falls, five rounds, keep the best.

    In each round: the gradient at the present weights; of the largest 3 % of each tensor, those
    whose turning lowers the loss most to first order, 16 in all; kept if the loss falls.
    """
    images, labels = bench.sample(1000)
    current = {name: value.clone() for name, value in state.items()}
    best = loss_and_gradient(bench, current, images, labels)
    for _ in range(2 if bench.quick else 5):
        candidate = turn_best(current, best[1], 16)
        found = loss_and_gradient(bench, candidate, images, labels)
        if found[0] >= best[0]:
            break
        current, best = candidate, found
    return bench.score(current)


def turn_best(state: State, gradients: State, count: int) -> State:
    """Turn the signs of the large weights whose turning helps most, to first order."""
    gains = {}
    for name, gradient in gradients.items():
        value = state[name]
        large = value.abs() > torch.quantile(value.abs().flatten(), 0.97)
        gains[name] = torch.where(large, 2 * value * gradient, torch.zeros(()))
    limit = torch.cat([gain.flatten() for gain in gains.values()]).topk(count).values[-1]
    return {
        name: torch.where(gains[name] >= limit, -value, value) if name in gains else value
        for name, value in state.items()
    }


def loss_and_gradient(
    bench: Bench, state: State, images: Tensor, labels: Tensor
) -> tuple[float, State]:
    """Return the loss on images, and its gradients by tensors of two dimensions or more."""
    own = bench.module.state_dict()
    bench.module.load_state_dict(
        {name: value.reshape(own[name].shape) for name, value in state.items()}, strict=False
    )
    bench.module.eval()
    chosen = {name: p for name, p in bench.module.named_parameters() if p.ndim > 1}
    bench.module.zero_grad()
    total = 0.0
    for batch in torch.arange(len(labels)).split(250):
        loss = nn.functional.cross_entropy(
            bench.module(images[batch]), labels[batch], reduction="sum"
        )
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in chosen.items() if p.grad is not None}


def draw(values: Mapping[str, Any], folder: Path) -> None:
    """Draw what training gives back, and what the other attacks do."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for start in (*LOCKS, SCRATCH):
        found = {count: values.get(label_of(start, count, 100)) for count in (500, 2500, 5000)}
        points = [(count, score) for count, score in found.items() if score is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", label=start)
    axes.axhline(values["full"], color="gray", linestyle="--", label="the release")
    axes.set_xlabel("training images that the attacker has")
    axes.set_ylabel("accuracy after training (%)")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(folder / "resistance-training.png", dpi=80)

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    kinds = {"trial": "trial", "clipped": "largest clipped", "set to 0": "largest set to 0",
             "turned": "largest turned", "pruned": "smallest pruned",
             "gradient signs": "gradient signs", "unlabeled": "statistics taken anew",
             "distilled": "distilled"}  # fmt: skip
    width = 0.8 / len(kinds)
    kinds = {mark: label for mark, label in kinds.items() if any(mark in name for name in values)}
    for place, (mark, label) in enumerate(kinds.items()):
        best = [best_of(values, lock, mark) for lock in LOCKS]
        axes.bar(np.arange(len(LOCKS)) + place * width, best, width, label=label)
    axes.axhline(values["full"], color="gray", linestyle="--", label="the release")
    axes.set_xticks(np.arange(len(LOCKS)) + 0.4 - width / 2, list(LOCKS), fontsize=8)
    axes.set_ylabel("best accuracy of each attack (%)")
    axes.legend(fontsize=8)
    figure.savefig(folder / "resistance-attacks.png", dpi=80)


def best_of(values: Mapping[str, Any], lock: str, mark: str) -> float:
    """Return the best result of one kind of attack on a lock."""
    mine = [v for name, v in values.items() if name.startswith(f"{lock}: ") and mark in name]
    return float(max(mine, default=0.0))


if __name__ == "__main__":
    sys.exit(main())
