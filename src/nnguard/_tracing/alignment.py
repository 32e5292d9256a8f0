"""Bringing a suspect's tensors in line with the release's: names, orientation, channels, scales.

Whoever passes a network on can rename its tensors, permute the channels inside, and scale them, and
it computes the same. What is left of a tensor after all that is undone differs from the release's
by the fingerprint, and by what training or rounding did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Aligned", "align"]

_ALIKE = 0.5
"""Correlation above which two runs of weights are one, changed: of strangers it is near 0,
and below this even in the order that makes most of it."""

_IN_PLACE = 0.9
"""Share of outputs that are alike where they stand, of a tensor that is the release's."""

_ROUNDS = 3
"""Times that rows are matched by columns, and the other way round."""

_TRIED = 3
"""Tensors of other names that are tried, those with the most similar values first."""

_EXTREMES = 8
"""Of a sorted row, one of so many values at either end tells it from others: pruning and training
change these least."""

_QUANTILES = np.linspace(0.5, 1, 65)[:-1]

Weights = npt.NDArray[np.float32]
Order = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A tensor of a suspect, brought in line.

    Attributes:
        weights: float32 array of the release's shape; 0 where the suspect has 0.
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
        suspect: Its tensors by name; those of other sizes do not matter.

    Returns:
        Those that were found, by the release's names.
    """
    left = {
        name: weights
        for name, array in suspect.items()
        if np.isfinite(weights := np.asarray(array, np.float32)).all() and weights.any()
    }
    found: dict[str, Aligned] = {}

    def try_each(name: str, others: Iterable[str]) -> None:
        """Take the first of the suspect's tensors that is the release's."""
        for other in others:
            if (aligned := _match(release[name], left[other])) is not None:
                named = "as named" if name == other else f"named {other}"
                how = f"{named}, {aligned.how}" if aligned.how else named
                found[name] = Aligned(aligned.weights, how)
                del left[other]
                return

    for name in release:
        try_each(name, [other for other in left if _is_named(name, other)])
    profiles = {other: _profile(weights) for other, weights in left.items()}
    for name in [name for name in release if name not in found]:
        profile = _profile(release[name])
        of_size = [other for other in left if left[other].size == release[name].size]
        of_size.sort(key=lambda other: float(np.abs(profiles[other] - profile).sum()))
        try_each(name, of_size[:_TRIED])
    return {name: found[name] for name in release if name in found}


def _is_named(name: str, other: str) -> bool:
    """Tell whether names are the same but for what stands in front: `module.`, say."""
    return name == other or other.endswith(f".{name}") or name.endswith(f".{other}")


def _profile(weights: Weights) -> npt.NDArray[np.float64]:
    """Return what neither order nor scale changes."""
    magnitudes = np.abs(weights.reshape(-1))
    return np.quantile(magnitudes, _QUANTILES) / (float(np.sqrt((magnitudes**2).mean())) or 1.0)


def _match(release: Weights, suspect: Weights) -> Aligned | None:
    """Bring a tensor in line with one of the release; None where it is another one."""
    if suspect.size != release.size:
        return None
    forms = [("", suspect)] if _squeezed(suspect) == _squeezed(release) else []
    if suspect.ndim == release.ndim == 2 and suspect.shape == release.shape[::-1]:
        forms.append(("transposed", suspect.T))
    ours = _channels(release)
    for turned, form in forms:
        theirs = np.ascontiguousarray(form).reshape(ours.shape)
        if _share_alike(ours, theirs) >= _IN_PLACE:
            return _scaled(release, ours, theirs, [turned])
    for turned, form in forms:
        theirs = np.ascontiguousarray(form).reshape(ours.shape)
        rows, columns = _orders(ours, theirs)
        theirs = theirs[rows][:, columns]
        if _share_alike(ours, theirs) >= _IN_PLACE:
            moved = [
                f"{what} permuted"
                for what, order in (("outputs", rows), ("inputs", columns))
                if (order != np.arange(order.size)).any()
            ]
            return _scaled(release, ours, theirs, [turned, *moved])
    return None


def _squeezed(weights: Weights) -> tuple[int, ...]:
    return tuple(size for size in weights.shape if size > 1)


def _channels(weights: Weights) -> Weights:
    """Return a tensor as outputs, inputs, and weights of a kernel."""
    outputs, inputs = weights.shape[0], weights.shape[1] if weights.ndim > 1 else 1
    return weights.reshape(outputs, inputs, -1)


def _share_alike(ours: Weights, theirs: Weights) -> float:
    """Return the share of outputs, by their power, whose weights are alike."""
    products = np.einsum("oik,oik->o", ours, theirs, dtype=np.float64)
    powers = np.einsum("oik,oik->o", ours, ours, dtype=np.float64)
    lengths = np.sqrt(powers * np.einsum("oik,oik->o", theirs, theirs, dtype=np.float64))
    return float(powers[np.abs(products) > _ALIKE * lengths].sum() / (powers.sum() or 1))


def _orders(ours: Weights, theirs: Weights) -> tuple[Order, Order]:
    """Return which outputs, and which inputs, of the suspect stand where.

    Outputs are matched by values that do not depend on the order of inputs, then inputs by outputs,
    and so on.
    """
    rows = _pair(_extremes(ours) @ _extremes(theirs).T)
    columns = np.arange(ours.shape[1])
    for _ in range(_ROUNDS):
        columns = _pair(_flat(ours, 1) @ _flat(theirs[rows], 1).T)
        rows = _pair(_flat(ours, 0) @ _flat(theirs[:, columns], 0).T)
    return rows, columns


def _extremes(weights: Weights) -> Weights:
    """Return the largest and smallest values of each output, less their mean over outputs."""
    values = np.sort(weights.reshape(weights.shape[0], -1), axis=1)
    count = max(values.shape[1] // _EXTREMES, min(values.shape[1] // 2, _EXTREMES))
    values = np.concatenate([values[:, :count], values[:, -count:]], axis=1)
    values = _normal(values)
    return _normal(values - values.mean(axis=0))


def _flat(weights: Weights, axis: int) -> Weights:
    """Return all that belongs to each channel, of length 1."""
    return _normal(np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1))


def _normal(values: Weights) -> Weights:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(lengths > 0, lengths, 1), np.float32)


def _pair(likeness: npt.NDArray[np.floating]) -> Order:
    """Give each channel of the release one of the suspect, those that are most alike first."""
    size = likeness.shape[0]
    chosen = np.full(size, -1)
    best = likeness.argmax(axis=1)
    mutual = likeness.argmax(axis=0)[best] == np.arange(size)
    chosen[mutual] = best[mutual]
    rows, taken = np.flatnonzero(~mutual), np.zeros(size, bool)
    taken[best[mutual]] = True
    columns = np.flatnonzero(~taken)
    for at in np.argsort(-likeness[np.ix_(rows, columns)], axis=None, kind="stable"):
        row, column = rows[at // columns.size], columns[at % columns.size]
        if chosen[row] < 0 and not taken[column]:
            chosen[row], taken[column] = column, True
    return chosen


def _scaled(release: Weights, ours: Weights, theirs: Weights, how: list[str]) -> Aligned:
    """Undo scales of outputs and inputs, by least squares over weights that were not pruned."""
    kept = theirs != 0
    whole = float((ours[kept] * theirs[kept]).sum() / max(float((ours[kept] ** 2).sum()), 1e-30))
    for _ in range(2):
        for axes in ((1, 2), (0, 2)):
            products = (ours * theirs).sum(axis=axes, keepdims=True)
            squares = np.where(kept, ours * ours, 0).sum(axis=axes, keepdims=True)
            scales = products / np.maximum(squares, 1e-30)
            theirs = np.asarray(theirs / np.where(np.abs(scales) > 1e-6, scales, 1), np.float32)
    if not math.isclose(whole, 1, abs_tol=0.02):
        how.append(f"scaled by {whole:.3g}")
    return Aligned(theirs.reshape(release.shape), ", ".join(filter(None, how)))
