"""Bringing a suspect's tensors in line with the release's: names, layout, channels, scales.

Whoever passes a network on can rename its tensors, turn them, permute and scale the channels
inside, and add channels that do nothing, and it computes the same. What is left of a tensor after
all that is undone differs from the release's by the fingerprint, and by what training or rounding
did.

Tensors are compared *balanced*: outputs and inputs are scaled until the weights of each have the
same power, which comes to the same for all scales (Sinkhorn and Knopp, 1967).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Aligned", "align"]

_ALIKE = 0.5
"""Correlation above which two runs of weights are one, changed: of strangers it is near 0,
and below this even in the order that makes most of it."""

_MOST = 0.5
"""Share of outputs that are alike, of a tensor that is the release's; others are left out."""

_SURE = 0.7
"""Mean of these correlations, beyond what the best order of a stranger's channels comes to."""

_CERTAIN = 0.98
"""Mean of these correlations, beyond which no other tensor is tried."""

_BALANCING = 16
"""Times that outputs are scaled by inputs, and the other way round, at most."""

_BALANCED = 1e-3
"""Relative change of their scales by which they may still differ."""

_SCALING = 10
"""Times that scales are found by least squares, of what is alike, at most."""

_SCALED = 1e-5
"""Relative change by which they may still differ."""

_ROUNDS = 5
"""Times that outputs are matched by inputs, and the other way round."""

_TRIED = 24
"""Tensors that are tried with their channels permuted, those with the most similar values first."""

_WORK = 1 << 38
"""Products that are made to match outputs of so many tensors, at most."""

_WIDER = 2
"""Times as many channels as the release has that a tensor may have."""

_SAMPLE = 1 << 18
"""Weights by which a tensor is compared with many others, about."""

_FEW = 0.1
"""Share of outputs that are alike after the first of these times, at least."""

_PAIRING = 16
"""Times that channels are paired with what is left of the others."""

_EXTREMES = 8
"""Of a sorted output, one of so many values at either end tells it from others: pruning and
training change these least."""

_AT_ONCE = 4096
"""Channels that are compared with all others at once."""

_QUANTILES = np.linspace(0.5, 1, 65)[:-1]

_LAYOUTS: dict[int, dict[str, tuple[int, ...]]] = {
    2: {"": (0, 1), "transposed": (1, 0)},
    3: {"": (0, 1, 2), "inputs last": (0, 2, 1), "outputs last": (2, 1, 0)},
    4: {"": (0, 1, 2, 3), "inputs last": (0, 3, 1, 2), "outputs last": (3, 2, 0, 1)},
}
"""How frameworks lay tensors out, by dimensions: where outputs, inputs, and the rest are."""

Weights = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Order = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A tensor of a suspect, brought in line.

    Attributes:
        weights: float32 array of the release's shape; 0 where the suspect has nothing alike.
        how: What was done to it, in a few words.
    """

    weights: Weights
    how: str


def align(
    release: Mapping[str, Weights], suspect: Mapping[str, npt.NDArray[np.generic]]
) -> dict[str, Aligned]:
    """Find the tensors of a release in a suspect.

    Args:
        release: Tensors of two dimensions or more, by name.
        suspect: Its tensors by name, of any kind of number.

    Returns:
        Those that were found, by the release's names: of several that are alike, the likest.
    """
    left = {name: tensor for name, array in suspect.items() if (tensor := _cleaned(array)).peak}
    found: dict[str, Aligned] = {}
    for search in (_in_place, _permuted):
        for name, weights in release.items():
            if name in found:
                continue
            others = sorted(left, key=lambda other: not _is_named(name, other))
            best = max(search(weights, others, left), key=_likeness, default=None)
            if best is not None:
                found[name] = best.undone(weights, name)
                del left[best.name]
    return {name: found[name] for name in release if name in found}


class _Tensor(NamedTuple):
    """A tensor of a suspect: weights from -1 to 1, and what the largest was."""

    weights: Weights
    peak: float


def _cleaned(array: npt.NDArray[np.generic]) -> _Tensor:
    """Return a tensor, what is not finite set to 0."""
    values = np.nan_to_num(np.asarray(array, np.float64), nan=0, posinf=0, neginf=0)
    peak = float(np.abs(values).max(initial=0))
    return _Tensor(np.asarray(values / (peak or 1), np.float32), peak)


def _is_named(name: str, other: str) -> bool:
    """Tell whether names are the same but for what stands in front: `module.`, say."""
    return name == other or other.endswith(f".{name}") or name.endswith(f".{other}")


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """A tensor of the suspect that looks like one of the release.

    Attributes:
        name: Its name.
        how: What was done to it.
        peak: Its largest weight.
        theirs: Its channels, in the release's order; see `_channels`. From -1 to 1.
        alike: Correlations of its outputs, and of its inputs, with the release's.
    """

    name: str
    how: list[str]
    peak: float
    theirs: Weights
    alike: tuple[Numbers, Numbers]

    def undone(self, release: Weights, name: str) -> Aligned:
        """Return the tensor in line with the release's, without what is not alike."""
        outputs, inputs = (each > _ALIKE for each in self.alike)
        theirs = self.theirs * outputs[:, None, None] * inputs[None, :, None]
        weights, scale = _rescaled(_channels(release), theirs)
        how = ["as named" if name == self.name else f"named {self.name}", *self.how]
        if not math.isclose(scale * self.peak, 1, abs_tol=0.02):
            how.append(f"scaled by {scale * self.peak:.3g}")
        return Aligned(weights.reshape(release.shape), ", ".join(filter(None, how)))


def _likeness(match: _Match) -> float:
    return float(match.alike[0].mean())


def _in_place(
    release: Weights, others: Iterable[str], suspect: Mapping[str, _Tensor]
) -> Iterator[_Match]:
    """Yield what is like a tensor of the release, its channels where they are."""
    ours = _channels(release)
    few = slice(None, None, max(math.ceil(ours.size / _SAMPLE), 1))
    sample, whole = _balanced(ours[few]), _balanced(ours)
    for other in others:
        for how, theirs in _forms(release, suspect[other].weights):
            if theirs.shape != ours.shape or not _matches(sample, theirs[few]):
                continue
            if alike := _matches(whole, theirs):
                yield _Match(other, [how], suspect[other].peak, theirs, alike)


def _permuted(
    release: Weights, others: Iterable[str], suspect: Mapping[str, _Tensor]
) -> Iterator[_Match]:
    """Yield what is like a tensor of the release, its channels in another order."""
    ours = _channels(release)
    balanced = _balanced(ours)
    profile = _profile(balanced)
    forms = [
        (float(np.abs(_profile(_balanced(theirs)) - profile).sum()), other, how, theirs)
        for other in others
        for how, theirs in _forms(release, suspect[other].weights)
    ]
    forms.sort(key=lambda form: form[0])
    most = max(_WORK // (ours.shape[0] * ours.size), 1)
    tried = [(form, scaled) for form in forms[: min(_TRIED, most)] for scaled in (False, True)]
    for (_, other, how, theirs), as_scaled in tried:
        orders = _orders(ours, theirs) if as_scaled else _orders(balanced, _balanced(theirs))
        if orders is None:
            continue
        outputs, inputs = orders
        ordered = theirs[outputs][:, inputs]
        alike = _matches(balanced, ordered)
        if alike is not None and alike[0].mean() > _SURE:
            moved = [
                f"{what} permuted"
                for what, order in (("outputs", outputs), ("inputs", inputs))
                if (order != np.arange(order.size)).any()
            ]
            yield _Match(other, [how, *moved], suspect[other].peak, ordered, alike)
            if alike[0].mean() > _CERTAIN:
                return


def _forms(release: Weights, suspect: Weights) -> Iterator[tuple[str, Weights]]:
    """Yield what a tensor may be as outputs, inputs, and weights of a kernel, and how.

    It may have more outputs and inputs than the release's; all else has to be the same.
    """
    ours = _channels(release).shape
    if suspect.size == release.size:
        yield "", suspect.reshape(ours)
    if suspect.ndim != release.ndim:
        return
    for how, axes in _LAYOUTS.get(release.ndim, {}).items():
        form = suspect.transpose(axes)
        wider = all(
            few <= many <= _WIDER * few for few, many in zip(ours[:2], form.shape[:2], strict=True)
        )
        same = how == "" and form.shape == release.shape
        if wider and form.shape[2:] == release.shape[2:] and not same:
            yield how, _channels(np.ascontiguousarray(form))


def _channels(weights: Weights) -> Weights:
    """Return a tensor as outputs, inputs, and weights of a kernel."""
    outputs, inputs = weights.shape[0], weights.shape[1] if weights.ndim > 1 else 1
    return weights.reshape(outputs, inputs, -1)


def _profile(balanced: Weights) -> Numbers:
    """Return what no order changes."""
    magnitudes = np.sort(np.abs(balanced.reshape(-1)))
    profile: Numbers = magnitudes[(_QUANTILES * magnitudes.size).astype(int)].astype(np.float64)
    return profile


def _balanced(weights: Weights) -> Weights:
    """Scale outputs and inputs until the weights of each have the same power, but for zeros."""
    outputs, inputs = _balance(weights)
    return (weights * outputs[:, None, None] * inputs[None, :, None]).astype(np.float32)


def _balance(weights: Weights) -> tuple[Numbers, Numbers]:
    """Return the scales of outputs and of inputs that balance weights."""
    powers = np.einsum("oik,oik->oi", weights, weights, dtype=np.float64)
    outputs, inputs = np.ones(powers.shape[0]), np.ones(powers.shape[1])
    for _ in range(_BALANCING):
        before = outputs
        inputs = _inverse(outputs @ powers)
        outputs = _inverse(powers @ inputs)
        if np.allclose(outputs, before, _BALANCED, 0):
            break
    return np.sqrt(outputs), np.sqrt(inputs)


def _inverse(values: Numbers) -> Numbers:
    found: Numbers = np.zeros_like(values)
    np.divide(1, values, out=found, where=values > 0)
    return found


def _matches(balanced: Weights, theirs: Weights) -> tuple[Numbers, Numbers] | None:
    """Return correlations of outputs, and of inputs; None unless most outputs are alike.

    Args:
        balanced: A tensor of the release, balanced.
        theirs: One of the suspect, as it is.
    """
    theirs = _balanced(theirs)
    outputs, inputs = (_correlations(balanced, theirs, axis) for axis in "oi")
    real = np.einsum("oik,oik->o", balanced, balanced) > 0
    return (outputs, inputs) if (outputs > _ALIKE)[real].mean() > _MOST else None


def _correlations(ours: Weights, theirs: Weights, axis: str) -> Numbers:
    def products(one: Weights, two: Weights) -> Numbers:
        sums = np.einsum(f"oik,oik->{axis}", one, two, dtype=np.float64)
        return np.asarray(sums, np.float64)

    lengths = np.sqrt(products(ours, ours) * products(theirs, theirs))
    found: Numbers = np.abs(products(ours, theirs)) * _inverse(lengths)
    return found


def _orders(ours: Weights, theirs: Weights) -> tuple[Order, Order] | None:
    """Return which outputs, and which inputs, of the suspect stand where.

    Outputs are matched by values that do not depend on the order of inputs, then inputs by outputs,
    and so on. None if that soon leads nowhere: it is another tensor.
    """
    outputs = _pair(*_extremes(ours, theirs))
    own_outputs, own_inputs = _flat(ours, 0), _flat(ours, 1)
    for _ in range(_ROUNDS):
        inputs = _pair(own_inputs, _flat(theirs[outputs], 1))
        rows = _flat(theirs[:, inputs], 0)
        outputs = _pair(own_outputs, rows)
        alike = np.einsum("on,on->o", own_outputs, rows[outputs]) > _ALIKE
        if alike.mean() < _FEW:
            return None
    return outputs, inputs


def _extremes(ours: Weights, theirs: Weights) -> Iterator[Weights]:
    """Yield the largest and smallest values of each output, less their mean over outputs."""
    width = ours[0].size
    count = max(width // _EXTREMES, min(width // 2, _EXTREMES))
    for weights in (ours, theirs):
        values = np.sort(weights.reshape(weights.shape[0], -1), axis=1)
        values = _normal(np.concatenate([values[:, :count], values[:, -count:]], axis=1))
        yield _normal(values - values.mean(axis=0))


def _flat(weights: Weights, axis: int) -> Weights:
    """Return all that belongs to each channel, of length 1."""
    return _normal(np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1))


def _normal(values: Weights) -> Weights:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(lengths > 0, lengths, 1), np.float32)


def _pair(ours: Weights, theirs: Weights) -> Order:
    """Give each channel of the release one of the suspect.

    Those that are each other's likest belong together, then those of the rest, and so on.

    Args:
        ours: What belongs to each channel, of length 1: array (channels, n).
        theirs: The same of the suspect, which may have more channels.
    """
    chosen = np.zeros(ours.shape[0], np.intp)
    rows, columns = np.arange(ours.shape[0]), np.arange(theirs.shape[0])
    for _ in range(_PAIRING):
        best = _likest(ours[rows], theirs[columns])
        mutual = _likest(theirs[columns], ours[rows])[best] == np.arange(best.size)
        chosen[rows[mutual]] = columns[best[mutual]]
        rows, columns = rows[~mutual], np.delete(columns, best[mutual])
        if not rows.size:
            return chosen
    chosen[rows] = columns[: rows.size]
    return chosen


def _likest(ours: Weights, theirs: Weights) -> Order:
    """Return for each channel which of the others is most like it; in blocks, to save memory."""
    starts = range(0, ours.shape[0], _AT_ONCE)
    return np.concatenate([(ours[at : at + _AT_ONCE] @ theirs.T).argmax(axis=1) for at in starts])


def _rescaled(ours: Weights, theirs: Weights) -> tuple[Weights, float]:
    """Undo scales of outputs and inputs: by balance, then by least squares over what is not 0.

    Returns:
        The weights, and the scale of most of them.
    """
    kept, release = theirs != 0, ours.astype(np.float64)
    (outputs, inputs), (own_outputs, own_inputs) = _balance(theirs), _balance(ours)
    left = theirs * (outputs * _inverse(own_outputs))[:, None, None]
    left *= (inputs * _inverse(own_inputs))[:, None]
    changes: list[float] = []
    for axes in ((0, 1, 2), *_SCALING * ((1, 2), (0, 2))):
        products = (release * left).sum(axis=axes, keepdims=True)
        squares = np.where(kept, release * release, 0).sum(axis=axes, keepdims=True)
        scales: Numbers = np.ones_like(products)
        np.divide(products, squares, out=scales, where=(squares > 0) & (products != 0))
        left /= scales
        changes.append(float(np.abs(scales - 1).max()))
        if len(changes) > 2 and max(changes[-2:]) < _SCALED:
            break
    before = np.abs(theirs[kept] / left[kept])
    return left.astype(np.float32), float(np.median(before)) if kept.any() else 1.0
