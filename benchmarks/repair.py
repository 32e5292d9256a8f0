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
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from attacks import State, load
from results import SEED

__all__ = ["pictures", "repair"]

_TRIED = 12
"""Changes of a row that are tried in all combinations."""

_ROUNDS = 2
_COUNT = 200
_PRIOR = 1 / 30
"""How likely a large weight is changed, before anything is seen."""

_COPIED = 0.97
"""How many of the copied values are still in their first place."""


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
    """Something that may have been done to a row: places, and what is to be added to undo it."""

    places: tuple[int, ...]
    difference: tuple[float, ...]
    prior: float


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
        for name, convolution, norm in _layers(module):
            load(module, state)
            mean, covariance = _patches(module, convolution, images)
            key = f"{name}.weight"
            rows = state[key].flatten(1).double()
            known = suspicion.setdefault(key, torch.full_like(rows, -20.0))
            fit = _Fit(rows, mean, covariance, norm)
            for row in range(len(rows)):
                changes = _changes(rows, row, trial[key].shape, trades=trades)
                odds, kept = fit.search(row, changes)
                for change, value in zip(changes, odds, strict=True):
                    for place in change.places:
                        known[row, place] = max(float(known[row, place]), value)
                for change in kept:
                    for place, difference in zip(change.places, change.difference, strict=True):
                        rows[row, place] += difference
            state[key] = rows.float().reshape(trial[key].shape)
    return state, {key: odds.reshape(trial[key].shape) for key, odds in suspicion.items()}


class _Fit:
    """How well the rows of a layer explain what normalization recorded."""

    def __init__(
        self, rows: Tensor, mean: Tensor, covariance: Tensor, norm: nn.BatchNorm2d
    ) -> None:
        self.rows, self.mean, self.covariance = rows, mean, covariance
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.wanted_mean = norm.running_mean.double()
        self.wanted_variance = norm.running_var.double().clamp_min(1e-9)
        means = (rows @ mean - self.wanted_mean) / self.wanted_variance.sqrt()
        variances = self._log_ratio(((rows @ covariance) * rows).sum(1), self.wanted_variance)
        self.center = variances.median()
        self.spread = _robust(means - means.median()), _robust(variances - self.center)
        self.middle = means.median()

    def search(self, row: int, changes: list[_Change]) -> tuple[list[float], list[_Change]]:
        """Return the log odds of each change, and those that are likelier than not."""
        if not changes:
            return [], []
        weights = self.rows[row]
        vectors = torch.zeros(len(changes), len(weights), dtype=torch.double)
        for index, change in enumerate(changes):
            vectors[index, list(change.places)] = torch.tensor(change.difference).double()
        priors = torch.tensor([change.prior for change in changes]).double()
        single = all(len(change.places) == 1 for change in changes)
        signs = vectors.sum(1).sign() if single else None
        alone = self._alone(row, vectors, priors)
        order = alone.argsort(descending=True)[:_TRIED]
        subsets = (torch.arange(1 << len(order))[:, None] >> torch.arange(len(order)) & 1).double()
        allowed = (subsets @ (vectors[order] != 0).double()).amax(1) <= 1
        if signs is not None:  # all of one sign
            allowed &= (subsets @ signs[order]).abs() == subsets.sum(1)
        posterior = self._likelihood(row, subsets, vectors[order]) + subsets @ priors[order]
        posterior = (posterior - posterior[allowed].max()).exp() * allowed
        marginals = (posterior @ subsets) / posterior.sum()
        odds = alone.clone()
        odds[order] = torch.logit(marginals, eps=1e-6)
        kept = [
            changes[at]
            for at, chance in zip(order.tolist(), marginals, strict=True)
            if chance > 0.5
        ]
        return odds.tolist(), kept

    def _alone(self, row: int, vectors: Tensor, priors: Tensor) -> Tensor:
        """Return the log odds of each change if there is no other."""
        none = self._likelihood(row, torch.zeros(1, len(vectors)).double(), vectors)
        return self._likelihood(row, torch.eye(len(vectors)).double(), vectors) - none + priors

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


def _changes(rows: Tensor, row: int, shape: torch.Size, *, trades: bool) -> list[_Change]:
    """List what may have been done to a row: to large weights, or to pairs far apart."""
    weights = rows[row]
    prior = float(np.log(_PRIOR / (1 - _PRIOR)))
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
                found.append(_Change(at, (below - above, above - below), prior))
        return found
    limit = float(rows.abs().flatten().quantile(0.97))
    typical = float(rows[rows.abs() >= limit].abs().mean())
    copied = _copies(rows)[row]
    large = weights.abs().argsort(descending=True)
    large = large[weights[large].abs() >= limit][:64]
    return [
        _Change((at,), (-value - np.sign(value) * typical,), prior + float(copied[at]))
        for at, value in zip(large.tolist(), weights[large].tolist(), strict=True)
    ]


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
    by_chance = 1 - (-expected).exp()
    ratio = torch.where(twice, _COPIED / by_chance, (1 - _COPIED) / (1 - by_chance))
    found = torch.empty_like(values)
    found[order] = ratio.clamp(1e-3, 1e3).log()
    return found.reshape(rows.shape)


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Go through the convolutions with normalization behind them."""
    parts = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d)
    ]
    for (name, part), (_, behind) in pairwise(parts):
        if isinstance(part, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
            yield name, part, behind


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
