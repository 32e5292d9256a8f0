"""Tensors to compress: their names, formats, shapes, and where their values are.

Nothing is loaded before it is coded: a tensor of a file is a place in that file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nnguard._base.texts import shown
from nnguard._models.formats import FORMATS, Array, TensorType
from nnguard._stream.headers import MAX_DIMENSIONS
from nnguard._stream.source import FileSource
from nnguard.errors import FormatError, ModelError

__all__ = [
    "Array",
    "FilePart",
    "InMemory",
    "StridedPart",
    "Tensor",
    "Values",
    "check_tensor",
    "from_arrays",
    "shown",
]

MAX_NAME = 1 << 15
"""Bytes of a tensor's name, at most: unit headers are not read beyond 65,536 bytes."""


MAX_SIZE = (1 << 31) - 1
"""Weights of a tensor, at most: the coder counts in 32 bits."""


class Values(Protocol):
    """A flat run of values, read in parts."""

    def read(self, start: int, stop: int) -> Array:
        """Return values in the memory form of their format."""

    def in_order(self) -> Values:
        """Return the same values so that parts of them can be read again and again."""


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """Values in memory.

    Attributes:
        array: Flat, C-contiguous.
    """

    array: Array

    def read(self, start: int, stop: int) -> Array:
        return self.array[start:stop]

    def in_order(self) -> Values:
        return self


@dataclass(frozen=True, slots=True, eq=False)
class FilePart:
    """Values in a file.

    Attributes:
        source: The file.
        offset: Where the values begin, in bytes.
        dtype: Of the values.
    """

    source: FileSource
    offset: int
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int) -> Array:
        """Read values.

        Raises:
            ModelError: The file became shorter.
        """
        size = self.dtype.itemsize
        try:
            data = self.source.read(self.offset + start * size, (stop - start) * size)
        except FormatError:
            raise ModelError("a model file became shorter while it was read") from None
        values = np.frombuffer(data, self.dtype)
        return values.astype(self.dtype.newbyteorder("<"), copy=False)

    def in_order(self) -> Values:
        return self


@dataclass(frozen=True, slots=True, eq=False)
class StridedPart:
    """Values in a file that do not lie in the order of the tensor: transposed, a part, repeated.

    Attributes:
        values: From the first to the last of them.
        extent: How many these are.
        shape: Dimensions of the tensor.
        stride: Distance of neighbors in each dimension, in values.
    """

    values: Values
    extent: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, start: int, stop: int) -> Array:
        return self.in_order().read(start, stop)

    def in_order(self) -> Values:
        run = self.values.read(0, self.extent)
        strides = [step * run.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(run, self.shape, strides, writeable=False)
        return InMemory(np.ascontiguousarray(view).reshape(-1))


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of a model.

    Attributes:
        name: Its name.
        type: Number format, and whether it is a scalar.
        shape: Its dimensions; `()` for a scalar.
        values: Its values, row by row.
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    values: Values

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.size * self.type.format.dtype.itemsize


def from_arrays(arrays: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors of a mapping from names to NumPy arrays.

    Raises:
        ModelError: A name, a shape or a number format cannot be coded, or an array is masked.
        TypeError: A value is not an array.
    """
    return [_from_array(name, array) for name, array in arrays.items()]


def check_tensor(name: Any, shape: tuple[int, ...]) -> None:
    """Check that a stream can hold a tensor, before anything is made of it.

    Raises:
        ModelError: It cannot.
        TypeError: The name is not text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a tensor is text, not {type(name).__name__}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ModelError(f"the name of tensor {shown(name)!r} is not Unicode") from None
    if b"\0" in encoded or len(encoded) > MAX_NAME:
        raise ModelError(f"a stream cannot hold the name of tensor {shown(name)!r}")
    if len(shape) > MAX_DIMENSIONS or max(shape, default=0) > MAX_SIZE:
        raise ModelError(f"no stream can hold the shape of tensor {shown(name)}")
    if (size := math.prod(shape)) > MAX_SIZE:
        raise ModelError(f"tensor {shown(name)} has {size} weights; the coder ends at {MAX_SIZE}")


def _from_array(name: str, array: Any) -> Tensor:
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"tensor {name} is a {type(array).__name__}, not an array")
    check_tensor(name, array.shape)
    if isinstance(array, np.ma.MaskedArray):
        raise ModelError(
            f"tensor {shown(name)} is masked, which a stream cannot tell",
            hint="fill it first: array.filled(0)",
        )
    array = np.asarray(array)
    form = FORMATS.get(array.dtype.name)
    if form is None:
        raise ModelError(f"tensor {shown(name)} is {array.dtype.name}, which nnguard does not code")
    if form.name == "bfloat16":  # its bits, which NumPy knows how to swap
        array = array.view(np.dtype(np.uint16).newbyteorder(array.dtype.byteorder))
    flat = np.ascontiguousarray(array).reshape(-1).astype(form.dtype, copy=False)
    return Tensor(name, TensorType(form, scalar=not array.shape), array.shape, InMemory(flat))
