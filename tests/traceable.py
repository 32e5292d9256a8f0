"""Small networks that can have fingerprints, and what tests of those ask for most."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

import nnguard
import stock
from nnguard._records.masks import MaskedTensor, Masks
from nnguard._stream.quantized import decode
from nnguard._tracing.casting import Caster
from nnguard._tracing.choosing import choose_masks

__all__ = ["QP", "caster", "masks_of", "network", "parts_of", "release_of", "trial_of"]

QP = -56
"""So fine a step that 10,000 weights have room for fingerprints."""


def network(seed: int = 0, *, rows: int = 100) -> dict[str, stock.Array]:
    """Return matrices with outliers, rows of zeros, twins, and tensors that cannot have masks."""
    rng = np.random.default_rng(seed)
    first = rng.laplace(0, 0.05, (rows, 100)).astype(np.float32)
    first[[3, 40]] = 0  # one is skipped
    first[9, 9] = 40  # too large for a mask
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
def release_of(*, dependent: bool, row_skipping: bool = True) -> nnguard.Stream:
    data = stock.encode(network(), qp=QP, dependent=dependent, row_skipping=row_skipping)
    return nnguard.Stream.from_bytes(data)


@functools.cache
def trial_of(*, dependent: bool = False, seed: int = 1, rows: int = 200) -> nnguard.Stream:
    """Return another network with room for a release."""
    arrays = {f"other.{name}": array for name, array in network(seed, rows=rows).items()}
    return nnguard.Stream.from_bytes(stock.encode(arrays, qp=QP, dependent=dependent))


def masks_of(release: nnguard.Stream) -> Masks:
    """Return masks for a release, the same ones each time."""
    return replace(choose_masks(release, []), nonce=bytes(range(12)))


def caster(release: nnguard.Stream) -> tuple[Caster, Masks]:
    """Return what makes copies of a release, by a fixed key."""
    masks = masks_of(release)
    return Caster(nnguard.ContentKey(bytes(range(32))), masks), masks


def parts_of(release: nnguard.Stream, masks: Masks) -> dict[str, MaskedTensor]:
    """Return what is masked, by the names of tensors."""
    return {decode(release[part.unit]).header.name: part for part in masks.tensors}
