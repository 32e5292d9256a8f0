"""Repair of a soft lock without data: what normalization recorded, against what weights imply.

    repaired, suspicion = repair(module, trial)

The attacker knows the method, the architecture and the scaling of the input, and has not one real
image. Synthetic pictures are pushed through. Behind each convolution its rows imply a mean and a
variance for every channel; batch normalization has those of the release. Where they differ, sets of
large weights are tried in other places, or with the other sign, and the likelier ones are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import comb, log

import numpy as np
import torch
from torch import Tensor, nn

from attacks import State, load
from results import SEED

__all__ = ["pictures", "repair"]

_TRIED = 14
"""Changes of a row that are tried in all combinations."""

_ROUNDS = 2
_COUNT = 200
_PRIOR = 1 / 5
"""How likely a row is changed, before anything is seen."""

_SIZES = (0.7, 1.0, 1.4)
"""What replaced weights were, over the mean of large ones: each is tried for a whole row."""

_COPIED = 0.97
"""How many of the copied values are still in their first place."""

_APART = 4
"""A row that is off by so many deviations is not understood; its statistics are taken anew."""

_SOURCES = 0.1
"""How many of the values that stayed were copied."""


def pictures(count: int = _COUNT, size: int = 32) -> Tensor:
    """Draw shaded discs and rectangles over each other, slightly blurred: uint8 (n, 3, h, w)."""
    rng = np.random.default_rng(SEED)
    down, right = np.mgrid[:size, :size] / size
    found = np.empty((count, 3, size, size))
    for picture in found:
        picture[:] = rng.uniform(40, 210, (3, 1, 1))
        for _ in range(rng.integers(4, 14)):
            y, x, height, width = *rng.uniform(0, 1, 2), *rng.uniform(0.05, 0.45, 2)
            inside = (
                (down - y) ** 2 / height**2 + (right - x) ** 2 / width**2 < 1
                if rng.random() < 0.5
                else (abs(down - y) < height) & (abs(right - x) < width)
            )
            slope = rng.normal(0, 60, 2)
            shade = slope[0] * (down - y) + slope[1] * (right - x) + rng.normal(0, 4, down.shape)
            color = np.clip(rng.normal(118, 62) + rng.normal(0, 22, 3), 0, 255)
            picture[:, inside] = color[:, None] + shade[inside]
    blurred = nn.functional.avg_pool2d(torch.from_numpy(found), 3, 1, 1, count_include_pad=False)
    return (0.5 * blurred + 0.5 * torch.from_numpy(found)).clamp(0, 255).byte()


@dataclass(frozen=True)
class _Change:
    """Something that may have been done to a row: places, and what is to be added to undo it.

    `looks` is how much likelier the values look with the change than without, as a logarithm.
    """

    places: tuple[int, ...]
    difference: tuple[float, ...]
    looks: float = 0.0


@dataclass(frozen=True)
class _Found:
    """How likely it is that a row was changed at all, and each change; those likelier than not."""

    evidence: float
    odds: list[float]
    kept: list[_Change]


def repair(module: nn.Module, trial: State, *, trades: bool) -> tuple[dict[str, Tensor], State]:
    """Undo what a soft lock did, as far as statistics tell.

    Args:
        module: The network's architecture; convolutions with batch normalization behind them, in
            the order of their definition.
        trial: Its weights, without the record.
        trades: Whether weights of a kernel traded places; else each has got another sign.

    Returns:
        Weights, and for each tensor how likely each weight is to have been changed (log odds).
    """
    state = {name: value.clone() for name, value in trial.items()}
    suspicion: dict[str, Tensor] = {}
    images = pictures()
    for _ in range(_ROUNDS):
        for name, convolution, behind in _layers(module):
            load(module, state)
            mean, covariance = _patches(module, convolution, images)
            key = f"{name}.weight"
            rows = trial[key].flatten(1).double()
            known = suspicion[key] = torch.full_like(rows, -20.0)
            copied = _copies(rows)
            wanted = trial[f"{behind}.running_mean"], trial[f"{behind}.running_var"]
            fit = _Fit(rows.clone(), mean, covariance, *(each.double() for each in wanted))
            for row in range(len(rows)):
                groups = _changes(fit.rows, row, copied[row], trial[key].shape, trades=trades)
                found = [fit.search(row, group) for group in groups]
                for group, result in zip(groups, found, strict=True):
                    for change, value in zip(group, result.odds, strict=True):
                        for place in change.places:
                            known[row, place] = max(float(known[row, place]), value)
                best = max(found, key=lambda result: result.evidence, default=None)
                for change in best.kept if best else []:
                    for place, difference in zip(change.places, change.difference, strict=True):
                        rows[row, place] += difference
            for statistic, value in zip(("mean", "var"), fit.explained(rows), strict=True):
                state[f"{behind}.running_{statistic}"] = value.float()
            state[key] = rows.float().reshape(trial[key].shape)
    return state, {key: odds.reshape(trial[key].shape) for key, odds in suspicion.items()}


class _Fit:
    """How well the rows of a layer explain what normalization recorded."""

    def __init__(
        self,
        rows: Tensor,
        mean: Tensor,
        covariance: Tensor,
        wanted_mean: Tensor,
        wanted_variance: Tensor,
    ) -> None:
        self.rows, self.mean, self.covariance = rows, mean, covariance
        self.wanted_mean, self.wanted_variance = wanted_mean, wanted_variance.clamp_min(1e-9)
        means, variances = self._off(rows)
        self.center, self.middle = variances.median(), means.median()
        self.spread = _robust(means - self.middle), _robust(variances - self.center)

    def explained(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of rows: as recorded; of those that do not fit, as implied."""
        means, variances = self._off(rows)
        apart = (means - self.middle).abs() > _APART * self.spread[0]
        apart |= (variances - self.center).abs() > _APART * self.spread[1]
        implied = rows @ self.mean - self.middle * self.wanted_variance.sqrt()
        variance = self.wanted_variance * (variances - self.center).exp()
        return (
            torch.where(apart, implied, self.wanted_mean),
            torch.where(apart, variance, self.wanted_variance),
        )

    def _off(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far rows are from what was recorded, in means and variances."""
        means = (rows @ self.mean - self.wanted_mean) / self.wanted_variance.sqrt()
        variances = ((rows @ self.covariance) * rows).sum(1)
        return means, self._log_ratio(variances, self.wanted_variance)

    def search(self, row: int, changes: list[_Change]) -> _Found:
        """Try changes of a row in all combinations.

        Few rows are changed, and in those any number of places: the sizes of sets are equally
        likely, and so are sets of one size.
        """
        weights = self.rows[row]
        vectors = torch.zeros(len(changes), len(weights), dtype=torch.double)
        for index, change in enumerate(changes):
            vectors[index, list(change.places)] = torch.tensor(change.difference).double()
        looks = torch.tensor([change.looks for change in changes]).double()
        alone = self._alone(row, vectors, looks)
        order = alone.argsort(descending=True)[:_TRIED]
        count = len(order)
        subsets = (torch.arange(1 << count)[:, None] >> torch.arange(count) & 1).double()
        sets = torch.tensor([float(comb(count, size)) for size in range(count + 1)]).double()
        prior = (_PRIOR / count / sets).log()
        prior[0] = log(1 - _PRIOR)
        posterior = self._likelihood(row, subsets, vectors[order]) + subsets @ looks[order]
        posterior += prior[subsets.sum(1).long()]
        evidence = float(posterior.logsumexp(0) - posterior[0])
        marginals = posterior.softmax(0) @ subsets
        odds = alone + prior[1]
        odds[order] = torch.logit(marginals, eps=1e-9)
        kept = [
            changes[at]
            for at, chance in zip(order.tolist(), marginals, strict=True)
            if chance > 0.5
        ]
        return _Found(evidence, odds.tolist(), kept)

    def _alone(self, row: int, vectors: Tensor, looks: Tensor) -> Tensor:
        """Return the log odds of each change if there is no other."""
        none = self._likelihood(row, torch.zeros(1, len(vectors)).double(), vectors)
        return self._likelihood(row, torch.eye(len(vectors)).double(), vectors) - none + looks

    def _likelihood(self, row: int, subsets: Tensor, vectors: Tensor) -> Tensor:
        """Return how likely the statistics are after each subset of changes, as a logarithm."""
        weights, wanted = self.rows[row], self.wanted_variance[row]
        shift = subsets @ (vectors @ self.mean)
        means = (weights @ self.mean + shift - self.wanted_mean[row]) / wanted.sqrt()
        cross = subsets @ (vectors @ (self.covariance @ weights))
        square = ((subsets @ (vectors @ self.covariance @ vectors.T)) * subsets).sum(1)
        variances = weights @ self.covariance @ weights + 2 * cross + square
        off = self._log_ratio(variances, wanted) - self.center
        return _student((means - self.middle) / self.spread[0]) + _student(off / self.spread[1])

    @staticmethod
    def _log_ratio(found: Tensor, wanted: Tensor) -> Tensor:
        return (found.clamp_min(1e-9) / wanted).log()


def _changes(
    rows: Tensor, row: int, copied: Tensor, shape: torch.Size, *, trades: bool
) -> list[list[_Change]]:
    """List what may have been done to a row, in groups of which at most one was.

    Large weights of one sign had the other, and a size in common; or pairs far apart traded.
    """
    weights = rows[row]
    if trades:
        kernels = weights.reshape(shape[1], -1)
        if kernels.shape[1] == 1:
            kernels = kernels.reshape(1, -1)
        high, low = kernels.max(1), kernels.min(1)
        found = []
        worth = kernels.abs().amax(1)
        for index in worth.argsort(descending=True)[:64].tolist():
            above, below = float(high.values[index]), float(low.values[index])
            if above > below:
                start = index * kernels.shape[1]
                at = start + int(high.indices[index]), start + int(low.indices[index])
                found.append(_Change(at, (below - above, above - below)))
        return [found] if found else []
    limit = float(rows.abs().flatten().quantile(0.97))
    typical = float(rows[rows.abs() >= limit].abs().mean())
    large = weights.abs().argsort(descending=True)
    large = large[weights[large].abs() >= limit][:64]
    groups = []
    for sign, size in product((-1, 1), _SIZES):
        mine = large[weights[large].sign() == sign].tolist()
        groups.append(
            [
                _Change((at,), (float(-weights[at]) - sign * size * typical,), float(copied[at]))
                for at in mine
            ]
        )
    return [group for group in groups if group]


def _copies(rows: Tensor) -> Tensor:
    """Return the log of how much likelier each value is as a copy of another than by itself."""
    values, order = rows.flatten().sort()
    near = 10
    span = values[2 * near :] - values[: -2 * near]
    step = float(values.unique().diff().min())
    expected = torch.full_like(values, 2 * near * step / float(span.max()))
    expected[near:-near] = 2 * near * step / span.clamp_min(step)
    twice = torch.zeros(len(values), dtype=torch.bool)
    twice[1:] |= values.diff() == 0
    twice[:-1] |= values.diff() == 0
    by_chance = 1 - (1 - _SOURCES) * (-expected).exp()
    ratio = torch.where(twice, _COPIED / by_chance, (1 - _COPIED) / (1 - by_chance))
    found = torch.empty_like(values)
    found[order] = ratio.clamp(1e-3, 1e3).log()
    return found.reshape(rows.shape)


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Conv2d, str]]:
    """Go through the convolutions with normalization behind them."""
    parts = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d)
    ]
    for (name, part), (norm, behind) in pairwise(parts):
        if isinstance(part, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
            yield name, part, norm


def _patches(module: nn.Module, convolution: nn.Conv2d, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (d) and covariance (d, d) of what a convolution's rows are multiplied with."""
    seen: list[Tensor] = []
    hook = convolution.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.eval()
    with torch.no_grad():
        module(images)
    hook.remove()
    patches = nn.functional.unfold(
        seen[0], convolution.kernel_size, padding=convolution.padding, stride=convolution.stride
    )
    flat = patches.transpose(1, 2).flatten(0, 1)
    mean = flat.mean(0).double()
    second = (flat.T @ flat).double() / len(flat)
    return mean, second - mean[:, None] * mean


def _robust(off: Tensor) -> Tensor:
    return (1.4826 * off.abs().median()).clamp_min(1e-6)


def _student(score: Tensor) -> Tensor:
    """Return the logarithm of Student's density with three degrees of freedom: outliers happen."""
    return -2 * torch.log1p(score.square() / 3)
