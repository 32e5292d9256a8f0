"""Marks for the tracing benchmark: which weights move, and what that does to a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

import nnguard
from nnguard._stream.headers import PayloadType
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._stream.trellis import odd_states

__all__ = ["coded", "moved", "quantized", "wide"]

Indices = npt.NDArray[np.int32]
_MOST = 1 << 25


def quantized(stream: nnguard.Stream) -> Iterator[QuantizedTensor]:
    """Decode all quantized tensors of a stream."""
    for unit in stream:
        if unit.tensor is not None and unit.tensor.payload_type == PayloadType.FLOAT:
            yield decode(unit, max_weights=_MOST)


def wide(tensor: QuantizedTensor) -> bool:
    """Tell whether a tensor has two dimensions or more."""
    return sum(size > 1 for size in tensor.header.shape) > 1


def coded(tensor: QuantizedTensor) -> tuple[Indices, Indices]:
    """Return the integers that are coded, flat, and 1 where the state is odd (TCQ), else 0."""
    flat = tensor.indices.reshape(-1)
    if not tensor.header.dependent:
        return flat, np.zeros_like(flat)
    magnitudes = (np.abs(flat) + 1) // 2
    parities = (magnitudes & 1).astype(np.uint8)
    odd, _ = odd_states(parities, np.zeros_like(parities))
    return np.sign(flat) * magnitudes, odd.astype(np.int32)


def moved(tensor: QuantizedTensor, places: Iterable[int], by: npt.ArrayLike) -> QuantizedTensor:
    """Return a tensor with some weights moved: by indices (URQ), by twice coded integers (TCQ).

    Args:
        tensor: The tensor.
        places: Flat positions.
        by: What is added at each.
    """
    at = np.asarray(places)
    integers, odd = coded(tensor)
    integers = integers.copy()
    integers[at] += np.asarray(by, np.int32) * (2 if tensor.header.dependent else 1)
    if tensor.header.dependent:
        integers = np.sign(integers) * (2 * np.abs(integers) - odd)
    return tensor.with_indices(integers)
