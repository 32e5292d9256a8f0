"""From weights to indices and back: uniform (URQ) and trellis-coded quantization (TCQ).

URQ gives each weight its index on its own, so a large tensor is quantized again, piece by piece,
whenever its indices are needed, rather than held. TCQ searches a path through a trellis of 8 states
(dependent quantization in the standard); it goes over the weights forward and backward, holds two
bytes a weight meanwhile, and its indices are held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from nnguard._stream import _coder
from nnguard._stream.coding import Indices, Pieces, piece_ranges, qp_range, step_size
from nnguard._stream.headers import TensorHeader
from nnguard._stream.quantized import QuantizedTensor

__all__ = [
    "Weights",
    "dequantize",
    "dequantize_into",
    "fit_qp",
    "index_range",
    "qp_for_range",
    "quantize",
]

Weights = npt.NDArray[np.float32]

_HELD = 1 << 22
"""Indices that are held where they could be made again: 16 MiB."""

_LARGEST_INDEX = (1 << 31) - 4


def fit_qp(header: TensorHeader, extremes: Weights, qp: int) -> int:
    """Return the quantization parameter, or the next larger one whose indices are int32.

    Args:
        header: The tensor's.
        extremes: The least and the largest of its weights.
        qp: The quantization parameter that is wanted.
    """
    if _fits(header, extremes, qp):
        return qp
    # The stock encoder's estimate, with its rounding.
    largest = float(np.abs(extremes).max())
    octave = 1 << header.qp_density
    step = largest / ((1 << 31) - 3)
    base = float(np.float32(math.floor(math.log2(step)) * octave))
    fitted = math.ceil(float(np.float32(base + (step * octave / 2 ** (base / octave) - octave))))
    if _fits(header, extremes, fitted):
        return fitted
    while largest / step_size(qp, header.qp_density) > _LARGEST_INDEX:
        qp += 1
    return qp


def _fits(header: TensorHeader, extremes: Weights, qp: int) -> bool:
    """Tell whether indices are int32, as the stock encoder sees it."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = np.float32(1) / np.float32(step_size(qp, header.qp_density))
        low, high = (float(bound) for bound in np.round(extremes * scale))
    margin = 2 if header.dependent else 0
    return -(1 << 31) + margin <= low and high <= (1 << 31) - 1 - margin


def index_range(weights: Weights, bits: int) -> tuple[int, int]:
    """Return the range of integers of so many bits, unsigned where no weight is negative."""
    if (weights >= 0).all():
        return 0, (1 << bits) - 1
    return -(1 << bits - 1), (1 << bits - 1) - 1


def qp_for_range(weights: Weights, most: int, qp_density: int) -> int:
    """Return the quantization parameter under which all but 0.05 % of the weights fit.

    Args:
        weights: All weights of a tensor.
        most: The largest index.
        qp_density: Steps an octave are `2**qp_density`.
    """
    magnitudes = np.abs(weights)
    step = np.percentile(magnitudes, 99.95) / most or magnitudes.max() / most
    if not step:
        return 0
    octave = 1 << qp_density
    base = np.floor(np.log2(step)) * octave
    qp = base + step * octave / 2 ** (base / octave) - octave
    return int(np.round(np.clip(qp, *qp_range(qp_density))))


def quantize(header: TensorHeader, read: Callable[[int, int], Weights], qp: int) -> Pieces:
    """Quantize a tensor as the stock coder does.

    Args:
        header: The tensor's: shape, kind of quantization, density, scan order.
        read: Gives the weights from a position to another, row by row, C-contiguous.
        qp: Quantization parameter; see `fit_qp`.

    Returns:
        Gives the indices in pieces, any number of times.
    """
    step = step_size(qp, header.qp_density)

    def uniform() -> Iterator[Indices]:
        for piece in piece_ranges(header):
            indices = np.empty(len(piece), np.int32)
            _coder.quantize(read(piece.start, piece.stop), step, indices)
            yield indices

    if header.dependent:
        held = list(_search_trellis(header, read, step))
    elif header.size <= _HELD:
        held = list(uniform())
    else:
        return uniform
    return lambda: held


def _search_trellis(
    header: TensorHeader, read: Callable[[int, int], Weights], step: float
) -> Iterator[Indices]:
    search = _coder.TrellisSearch(
        header.shape[0], header.width, scan_order=header.scan_order, step=step
    )
    ranges = list(piece_ranges(header))
    for piece in ranges:
        search.forward(read(piece.start, piece.stop))
    indices = np.empty(header.size, np.int32)
    for piece in reversed(ranges):
        found = indices[piece.start : piece.stop]
        search.backward(read(piece.start, piece.stop), found)
    return (indices[piece.start : piece.stop] for piece in ranges)


def dequantize(tensor: QuantizedTensor) -> Weights:
    """Return the weights, float32 of the tensor's shape, as the stock decoder gives them."""
    weights = np.empty(tensor.indices.shape, np.float32)
    dequantize_into(tensor.indices, tensor.step, weights)
    return weights


def dequantize_into(indices: Indices, step: float, weights: Weights) -> None:
    """Turn indices into weights.

    Args:
        indices: int32.
        step: Quantization step size.
        weights: float32 of the same shape; overwritten.
    """
    weights[...] = indices
    with np.errstate(over="ignore"):  # as in the stock decoder, they become infinite
        np.multiply(weights, np.float32(step), out=weights)
