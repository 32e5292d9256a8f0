"""From weights to indices and back: uniform (URQ) and trellis-coded quantisation (TCQ).

Both work a chunk at a time, so that memory does not follow the tensor. URQ gives each weight its
index on its own. TCQ searches a path through a trellis of 8 states; the extension keeps 64 bytes a
weight for that, so a large tensor is searched in windows that overlap, joined where both agree on
the path. Decisions hundreds of weights away do not depend on each other but through rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from nncodec.extensions import deepCABAC

from nnguard.stream.coding import Indices, QuantisedTensor, qp_range, step_size
from nnguard.stream.headers import TensorHeader
from nnguard.stream.trellis import NEXT_STATE

__all__ = [
    "CHUNK",
    "Weights",
    "dequantise",
    "dequantise_into",
    "fit_qp",
    "index_range",
    "qp_for_range",
    "quantise",
]

Weights = npt.NDArray[np.float32]

CHUNK = 1 << 20
"""Weights that are handled at once: 4 MiB of them, 64 MiB of the trellis."""

_WHOLE = 1 << 22
"""Tensors up to this size are searched in one go, in 256 MiB: just what the stock coder finds."""

_LARGEST_INDEX = (1 << 31) - 4

_OVERLAP = 1 << 13
_AGREEMENT = 64
"""Consecutive equal indices of two windows that make a place to join them."""


def fit_qp(header: TensorHeader, extremes: Weights, qp: int) -> int:
    """Return the quantisation parameter, or the next larger one whose indices are int32.

    Args:
        header: The tensor's.
        extremes: The least and the largest of its weights.
        qp: The quantisation parameter that is wanted.
    """
    try:
        return _quantise(header, extremes, np.zeros(2, np.int32), qp)
    except RuntimeError:  # at powers of two the extension takes a step that is just too small
        largest = float(np.abs(extremes).max())
        while largest / step_size(qp, header.qp_density) > _LARGEST_INDEX:
            qp += 1
        return qp


def index_range(weights: Weights, bits: int) -> tuple[int, int]:
    """Return the range of integers of so many bits, unsigned where no weight is negative."""
    if (weights >= 0).all():
        return 0, (1 << bits) - 1
    return -(1 << bits - 1), (1 << bits - 1) - 1


def qp_for_range(weights: Weights, most: int, qp_density: int) -> int:
    """Return the quantisation parameter under which all but 0.05 % of the weights fit.

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


def quantise(header: TensorHeader, read: Callable[[int, int], Weights], qp: int) -> Indices:
    """Return the indices of a tensor, as the stock coder chooses them.

    Args:
        header: The tensor's: shape, kind of quantisation, density, scan order.
        read: Gives the weights from a position to another, row by row, C-contiguous.
        qp: Quantisation parameter; see `fit_qp`.

    Returns:
        int32 array of the header's shape.
    """
    size = header.size
    indices = np.zeros(size, np.int32)

    def search(start: int, stop: int, found: Indices) -> None:
        shape = header.shape if stop - start == size else (stop - start,)
        _quantise(header, read(start, stop).reshape(shape), found.reshape(shape), qp)

    if not header.dependent:
        for start in range(0, size, CHUNK):
            search(start, min(start + CHUNK, size), indices[start : start + CHUNK])
    elif size <= _WHOLE or header.scan_order or not _search_in_windows(search, indices):
        search(0, size, indices)
    return indices.reshape(header.shape)


def _quantise(header: TensorHeader, weights: Weights, indices: Indices, qp: int) -> int:
    """Quantise weights into the indices; return the parameter, larger where they would overflow."""
    fitted: int = deepCABAC.Encoder().quantLayer(
        weights,
        indices,
        int(header.dependent),
        header.qp_density,
        qp,
        0.0,
        0,
        header.scan_order,
        1,
    )
    return fitted


def dequantise(tensor: QuantisedTensor) -> Weights:
    """Return the weights, float32 of the tensor's shape, as the stock decoder gives them."""
    return dequantise_into(np.array(tensor.indices, order="C"), tensor.step)


def dequantise_into(indices: Indices, step: float) -> Weights:
    """Turn indices into weights where they lie.

    Args:
        indices: int32, C-contiguous; overwritten.
        step: Quantisation step size.

    Returns:
        The same memory as float32.
    """
    flat, weights = indices.reshape(-1), indices.reshape(-1).view(np.float32)
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        with np.errstate(over="ignore"):  # as in the stock decoder, they become infinite
            np.multiply(flat[part].astype(np.float32), np.float32(step), out=weights[part])
    return weights.reshape(indices.shape)


def _search_in_windows(search: Callable[[int, int, Indices], None], indices: Indices) -> bool:
    """Search one window after the other; tell whether all could be joined."""
    size = indices.size
    previous = min(CHUNK + _OVERLAP, size)
    search(0, previous, indices[:previous])
    while previous < size:
        end, overlap = min(previous + CHUNK, size), _OVERLAP
        while True:
            start = previous - 2 * overlap
            if start <= 0:
                return False
            window = np.zeros(end - start, np.int32)
            search(start, end, window)
            joint = _joint(indices[start:previous], window[: 2 * overlap])
            if joint is not None:
                break
            overlap *= 4  # in a run of zeros nothing tells two paths apart
        indices[start + joint : end] = window[joint:]
        previous = end
    return True


def _joint(first: Indices, second: Indices) -> int | None:
    """Return where two searches of the same weights are on the same path, about the middle.

    The end of the first and the beginning of the second are not yet what a longer search finds.
    """
    differences = np.flatnonzero(first != second)
    middle = first.size // 2
    edges = np.concatenate([[-1], differences, [first.size]])
    for before, after in itertools.pairwise(edges):
        begin, stop = max(int(before) + 1, middle), min(int(after), middle + middle // 2)
        if stop - begin >= _AGREEMENT and _state_is_certain(first[begin : begin + _AGREEMENT]):
            return begin + _AGREEMENT
    return None


def _state_is_certain(indices: Indices) -> bool:
    """Tell whether indices leave one path through the trellis only.

    An index that is not 0 is odd where the state is.
    """
    states = set(range(8))
    for index in indices.tolist():
        if index:
            states = {state for state in states if (state ^ index) & 1 == 0}
        coded = (abs(index) + 1) // 2
        states = {NEXT_STATE[state][coded & 1] for state in states}
    return len(states) == 1
