"""Bits into tensors and out again, whole: what tests and vectors make streams with, or check."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nnguard._hiding.frame import MAX_BITS
from nnguard._hiding.hqim import Indices, Walk, largest, max_value
from nnguard._hiding.packing import Joiner, split
from nnguard._stream.coding import qp_range
from nnguard._stream.quantized import QuantizedTensor

Bits = npt.NDArray[np.uint8]


def capacity(values: Indices, width: int = 1) -> int:
    """Return how many bits values hold."""
    return width * int(np.count_nonzero(values))


def embed(values: Indices, bits: Bits, *, dependent: bool = False, width: int = 1) -> Indices:
    """Hide bits in values of any shape; zeros follow them."""
    flat = values.reshape(-1)
    if bits.size > capacity(flat, width) or largest(flat) > max_value(width):
        raise ValueError("too many bits, or a value that is too large")
    numbers = split(np.packbits(bits).tobytes(), 0, width, int(np.count_nonzero(flat)))
    return Walk(width, dependent=dependent).embed(flat, numbers).reshape(values.shape)


def extract(values: Indices, *, dependent: bool = False, width: int = 1) -> tuple[Bits, Indices]:
    """Return all bits and the values as they were before."""
    numbers, before = Walk(width, dependent=dependent).extract(values.reshape(-1))
    places = np.unpackbits(numbers.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
    return places[:, MAX_BITS - width :].reshape(-1), before.reshape(values.shape)


def whole_bytes(numbers: npt.NDArray[np.uint16], width: int) -> bytes:
    """Return the bytes that numbers fill."""
    joiner = Joiner(max(numbers.size * width // 8, 1))
    joiner.add(numbers, width)
    return bytes(joiner.data)


def with_qp(tensor: QuantizedTensor, qp: int) -> QuantizedTensor:
    """Return a tensor with another quantization parameter."""
    return replace(tensor, parameters=replace(tensor.parameters, qp=qp))


def embed_in(tensor: QuantizedTensor, bits: Bits, width: int = 1) -> QuantizedTensor:
    """Return a tensor with a part of the step and bits in it."""
    qp = tensor.qp - (width << tensor.header.qp_density)
    if qp < qp_range(tensor.header.qp_density)[0]:
        raise ValueError("the step cannot be divided so far")
    indices = embed(tensor.indices, bits, dependent=tensor.header.dependent, width=width)
    return with_qp(tensor.with_indices(indices), qp)


def restore_unit(tensor: QuantizedTensor, width: int = 1) -> tuple[Bits, QuantizedTensor]:
    """Return the bits in a tensor and the tensor without them."""
    qp = tensor.qp + (width << tensor.header.qp_density)
    if qp > qp_range(tensor.header.qp_density)[1]:
        raise ValueError("no step is so many times that of the tensor")
    bits, indices = extract(tensor.indices, dependent=tensor.header.dependent, width=width)
    return bits, with_qp(tensor.with_indices(indices), qp)
