"""Which tensors of a network are nearest to its input, without running it.

A checkpoint lists tensors in the order in which a module defines them, as a rule from the input on.
Safetensors sorts them by name, so that `classifier` comes before `features`, and layer 10 before
layer 2. There, names and shapes have to tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

__all__ = ["is_sorted", "nearest_first"]

_Key = TypeVar("_Key", bound=Hashable)

Shape = tuple[int, ...]

_FEW = 4
"""Channels of an image or a sound, at most."""

_DIGITS = re.compile(r"([0-9]+)")
_FIRST = re.compile(r"embed|\bwte\b|\bwpe\b|\bstem\b|_stem\b")
_LATE = re.compile(
    r"decoder|pooler|classifier|logits|embed_out|unembed|\baux|\bhead\b|_head\b|\bfc\.weight",
    re.IGNORECASE,
)


def is_sorted(names: Sequence[str]) -> bool:
    """Tell whether names come in the order of their letters, which says nothing of a network."""
    return list(names) == sorted(names)


def nearest_first(tensors: Mapping[_Key, tuple[str, Shape]]) -> list[_Key]:
    """Return tensors as they may follow each other in a network, the nearest to its input first.

    First come embeddings, stems, and convolutions of images or sounds; last come decoders, heads,
    and what has outputs that no other takes. Between them, layers go by their numbers.

    Args:
        tensors: Names and shapes of tensors of two dimensions or more, outputs before inputs.
    """
    inputs = Counter(shape[1] for _, shape in tensors.values())
    outputs = {shape[0] for _, shape in tensors.values()}

    def is_first(name: str, shape: Shape) -> bool:
        # Where there are several of one channel, each channel has a kernel of its own.
        few = shape[1] <= _FEW and (shape[1] > 1 or inputs[1] == 1)
        return bool(_FIRST.search(name)) or (len(shape) > 2 and few and shape[1] not in outputs)

    def is_taken(shape: Shape) -> bool:
        fused = shape[0] % max(shape[1], 1) == 0  # several projections in one matrix
        flattened = len(shape) > 2 and any(count % shape[0] == 0 for count in inputs)
        return shape[0] in inputs or fused or flattened

    def place(key: _Key) -> tuple[int, list[tuple[int, str]]]:
        name, shape = tensors[key]
        if _LATE.search(name):
            return 2, _natural(name)
        return 0 if is_first(name, shape) else 1 if is_taken(shape) else 2, _natural(name)

    return sorted(tensors, key=place)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which layer 10 comes after layer 2."""
    parts = [part.lstrip("0") if at % 2 else part for at, part in enumerate(_DIGITS.split(name))]
    return [(len(part) if at % 2 else -1, part) for at, part in enumerate(parts)]
