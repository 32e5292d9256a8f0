"""Tensors in batches, so that no worker is asked for every small one, or left with a large one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Batch", "largest_first", "make_batches"]

_BATCH = 1 << 18
"""Weights of a batch: small tensors are coded together."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors that are coded in one go.

    Attributes:
        positions: Of the tensors, ascending.
        size: Their weights.
    """

    positions: tuple[int, ...]
    size: int


def make_batches(sizes: Sequence[int]) -> list[Batch]:
    """Put tensors together in order: small ones that follow each other, large ones alone.

    Args:
        sizes: Weights of all tensors.
    """
    batches: list[Batch] = []
    positions: list[int] = []
    weights = 0
    for position, size in enumerate(sizes):
        if positions and weights + size > _BATCH:
            batches.append(Batch(tuple(positions), weights))
            positions, weights = [], 0
        positions.append(position)
        weights += size
    if positions:
        batches.append(Batch(tuple(positions), weights))
    return batches


def largest_first(batches: Sequence[Batch]) -> list[Batch]:
    """Sort batches so that no worker begins a large one when the others are done."""
    return sorted(batches, key=lambda batch: -batch.size)
