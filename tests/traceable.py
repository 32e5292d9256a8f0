"""Small networks that can have fingerprints, and what tests of those ask for most."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

import nnguard
import stock
from nnguard._records.claims import Claims
from nnguard._records.masks import Masks
from nnguard._stream.quantized import decode
from nnguard._tracing import casting
from nnguard._tracing.casting import Caster, Marks
from nnguard._tracing.choosing import Chosen
from nnguard._tracing.masking import levels_of

__all__ = [
    "KEY",
    "QP",
    "chosen_of",
    "marks_by_unit",
    "masked",
    "network",
    "release_of",
    "trial_of",
]

QP = -56
"""So fine a step that 20,000 weights have room for fingerprints."""

KEY = nnguard.ContentKey(bytes(range(32)))
"""A vendor's."""


def network(seed: int = 0, *, rows: int = 180, outlier: float = 40) -> dict[str, stock.Array]:
    """Return matrices with outliers, rows of zeros, twins, and tensors that cannot have masks."""
    rng = np.random.default_rng(seed)
    first = rng.laplace(0, 0.05, (rows, 100)).astype(np.float32)
    first[[3, 40]] = 0  # they are skipped
    first[9, 9] = outlier  # too large for a mask
    twin = rng.laplace(0, 0.05, (30, 30)).astype(np.float32)
    sparse = np.where(rng.random((30, 40)) < 0.1, rng.laplace(0, 0.05, (30, 40)), 0)
    return {
        "first.weight": first,
        "first.bias": rng.normal(0, 0.1, 100).astype(np.float32),
        "conv.weight": rng.laplace(0, 0.05, (20, 10, 3, 3)).astype(np.float32),
        "twin.a": twin,
        "twin.b": twin.copy(),
        "sparse.weight": sparse.astype(np.float32),
        "narrow.weight": rng.normal(0, 1e-5, (30, 40)).astype(np.float32),
        "steps": np.array([7], np.int32),
    }


@functools.cache
def release_of(*, dependent: bool, row_skipping: bool = True, rows: int = 180) -> nnguard.Stream:
    data = stock.encode(network(rows=rows), qp=QP, dependent=dependent, row_skipping=row_skipping)
    return nnguard.Stream.from_bytes(data)


@functools.cache
def trial_of(*, dependent: bool = False, seed: int = 1, rows: int = 600) -> nnguard.Stream:
    """Return another network with room for a release."""
    arrays = {f"other.{name}": array for name, array in network(seed, rows=rows, outlier=1).items()}
    return nnguard.Stream.from_bytes(stock.encode(arrays, qp=QP, dependent=dependent))


def chosen_of(
    release: nnguard.Stream,
    names: Sequence[str] = ("first.weight", "conv.weight", "sparse.weight"),
    *,
    sparsity: int = 0,
    share: float = 0.5,
) -> list[Chosen]:
    """Choose tensors; half of the weights that are masked are marked."""
    found = []
    for at, unit in enumerate(release):
        if unit.name in names:
            levels = levels_of(decode(unit))
            width = int(np.quantile(np.abs(levels), 0.999) + 1).bit_length() + 1
            found.append(Chosen(at, levels.size, width, share, sparsity))
    return found


@functools.cache
def masked(
    *, dependent: bool, sparsity: int = 0, entries: int = 500, claims: Claims | None = None
) -> tuple[nnguard.Stream, nnguard.Stream, Masks]:
    """Return a release, what a lock opens, and masks."""
    release = release_of(dependent=dependent)
    chosen = chosen_of(release, sparsity=sparsity)
    return release, *casting.mask(release, chosen, entries, claims, KEY)


def marks_by_unit(caster: Caster) -> dict[int, Marks]:
    """Return the marks of each tensor, by its unit."""
    return {each.unit: each.marks for each in caster.marked_tensors()}
