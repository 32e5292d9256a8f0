"""What an attacker gets back from a trial: clipping, pruning, statistics, gradients, training.

    python benchmarks/resistance.py --data DIR --cifar10 PATH --output DIR [--quick]

ResNet20 on CIFAR-10 (stream `resnet20.default.nnc` of the data folder), locked in several ways. The
attacker knows the method in full and has the trial, but not the content key; some attacks are given
labeled images (PATH: all of CIFAR-10). Each result is added to DIR/resistance.json as it comes,
and not measured again in a second run; plots are made from that file. Accuracy is in percent, of
1,000 test images unless `--images` says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cifar10
import nnguard
import nnguard.torch
from networks import NETWORKS, accuracy
from results import SEED, Results

NETWORK = "resnet20"
LOCKS: dict[str, dict[str, float]] = {
    "0.01 % replaced": {"fraction": 1e-4},
    "0.1 % replaced": {"fraction": 1e-3},
    "25 % scrambled": {"scramble": 0.25},
    "100 % scrambled": {"scramble": 1.0},
}
SHARES = (0.01, 0.05, 0.1)
"""Of the training images, how many the attacker has."""

RATE = 0.02
"""Learning rate of training, at its start."""

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
    """The network, its images, and how weights are scored."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.release = nnguard.Stream.open(options.data / "streams" / f"{NETWORK}.default.nnc")
        self.full = nnguard.torch.decompress(self.release)
        self.module = NETWORKS[NETWORK]()
        images, labels = cifar10.load(options.data, "test")
        count = 100 if options.quick else options.images
        self.test = images[:count], labels[:count]
        images, labels = cifar10.load(options.cifar10, "train")
        order = np.random.default_rng(SEED).permutation(len(labels))
        taken = order[: round(max(SHARES) * len(order))]
        self.images, self.labels = images[taken], labels[taken]
        self.training_size = 50_000
        self.steps = 5 if options.quick else options.steps

    def score(self, state: Mapping[str, Tensor]) -> float:
        """Return the accuracy of weights."""
        own = self.module.state_dict()
        fitting = {name: tensor.reshape(own[name].shape) for name, tensor in state.items()}
        self.module.load_state_dict(fitting, strict=False)
        return accuracy(self.module, *self.test)

    def fresh(self) -> State:
        """Return weights as they are before any training."""
        torch.manual_seed(SEED)
        return {name: value.clone() for name, value in NETWORKS[NETWORK]().state_dict().items()}

    def train(self, state: Mapping[str, Tensor], share: float) -> float:
        """Train on a share of the training images; return the accuracy then."""
        self.score(state)
        torch.manual_seed(SEED)
        module, count = self.module, round(share * self.training_size)
        optimizer = torch.optim.SGD(
            module.parameters(), RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        module.train()
        for _ in range(self.steps):
            batch = torch.randint(count, (64,))
            loss = nn.functional.cross_entropy(
                module(augment(self.images[batch])), self.labels[batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return accuracy(module, *self.test)


def main() -> int:
    """Run all attacks and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cifar10", type=Path, required=True, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000, help="test images (%(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="of training, of 64 images each")
    parser.add_argument("--quick", action="store_true", help="a minute's run, to see that it works")
    options = parser.parse_args()
    bench, results = Bench(options), Measured(options.output / "resistance.json")
    results.add("full", lambda: bench.score(bench.full))
    trials: dict[str, State] = {}
    for lock, amount in LOCKS.items():
        key = nnguard.ContentKey(bytes([len(trials)]) * 32)
        trial = nnguard.lock(bench.release, content_key=key, **amount).stream  # type: ignore[arg-type]
        trials[lock] = nnguard.torch.decompress(trial)
        results.add(f"{lock}: trial", lambda lock=lock: bench.score(trials[lock]))
        attack_without_data(bench, results, lock, trials[lock])
    for lock, state in trials.items():
        if "replaced" in lock:
            find_positions(bench, results, lock, state)
    for share in (SHARES[-1], *SHARES[:-1]):
        for start, state in {**trials, "from scratch": bench.fresh()}.items():
            name = f"{start}: training, {share:.0%} of the data"
            results.add(
                name,
                lambda s=state, d=share: bench.train(s, d),
            )
    for lock, state in trials.items():
        name = f"{lock}: gradient signs"
        results.add(name, lambda s=state: flip_by_gradient(bench, s))
    draw(results.values, options.output)
    return 0


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
        scores, truth, pool = [], [], []
        for tensor, value in state.items():
            if value.ndim < 2:
                continue
            changed = (value - bench.full[tensor]).abs() > 1e-6
            large = value.abs() > torch.quantile(value.abs().flatten(), 0.97)
            # Weights that hold the record moved, too: a step or two, not across zero.
            changed &= torch.sign(value) != torch.sign(bench.full[tensor])
            if changed.any():
                score = test(value)
                ranks = score.flatten().argsort().argsort().double() / score.numel()
                scores.append(ranks)
                truth.append(changed.flatten())
                pool.append(large.flatten())
        ranked, found, inside = torch.cat(scores), torch.cat(truth), torch.cat(pool)
        areas = [area(ranked, found), area(ranked[inside], found[inside])]
        results.add(f"{lock}: found by {name}, of all and of the pool", lambda a=areas: a)


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
    images, labels = bench.images[:1000], bench.labels[:1000]
    current = {name: value.clone() for name, value in state.items()}
    best = loss_and_gradient(bench, current, images, labels)
    for _ in range(2 if bench.steps < 10 else 5):
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
        total += float(loss)
    return total, {name: p.grad.clone() for name, p in chosen.items() if p.grad is not None}


def augment(images: Tensor) -> Tensor:
    """Shift images by up to four pixels and mirror half of them."""
    images = images.float()
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    down, right = torch.randint(9, (2,)).tolist()
    shifted = padded[:, :, down : down + 32, right : right + 32]
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(mirrored, shifted.flip(3), shifted)


def draw(values: Mapping[str, Any], folder: Path) -> None:
    """Draw what training gives back, and what the other attacks do."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for start in (*LOCKS, "from scratch"):
        found = {s: values.get(f"{start}: training, {s:.0%} of the data") for s in SHARES}
        points = [(100 * s, score) for s, score in found.items() if score is not None]
        axes.plot(*zip(*points, strict=True), "o-", label=start)
    axes.axhline(values["full"], color="gray", linestyle="--", label="the release")
    axes.set_xlabel("training images that the attacker has (% of 50,000)")
    axes.set_ylabel("accuracy after training (%)")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(folder / "resistance-training.png", dpi=80)

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    kinds = {"trial": "trial", "clipped": "largest clipped", "set to 0": "largest set to 0",
             "turned": "largest turned", "pruned": "smallest pruned",
             "gradient signs": "gradient signs"}  # fmt: skip
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
