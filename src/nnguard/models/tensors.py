"""Tensors to compress: their names, formats, shapes, and where their values are.

Nothing is loaded before it is coded: a tensor of a file is a place in that file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nnguard.errors import FormatError, ModelError
from nnguard.stream.formats import FORMATS, Array, TensorType
from nnguard.stream.source import FileSource

__all__ = ["Array", "FilePart", "InMemory", "Tensor", "Values", "check_name", "from_arrays"]

MAX_NAME = 1 << 15
"""Bytes of a tensor's name, at most: unit headers are not read beyond 65,536 bytes."""

MAX_SIZE = (1 << 31) - 1
"""Weights of a tensor, at most: the coder counts in 32 bits."""


class Values(Protocol):
    """A flat run of values, read in parts."""

    def read(self, start: int, stop: int) -> Array:
        """Return values in the memory form of their format."""


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """Values in memory.

    Attributes:
        array: Flat, C-contiguous.
    """

    array: Array

    def read(self, start: int, stop: int) -> Array:
        return self.array[start:stop]


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
        return np.frombuffer(data, self.dtype)


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
        ModelError: A name or a number format cannot be coded.
        TypeError: A value is no array.
    """
    return [_from_array(check_name(name), array) for name, array in arrays.items()]


def check_name(name: Any) -> str:
    """Return the name of a tensor.

    Raises:
        ModelError: A stream cannot hold it.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a tensor is text, not {type(name).__name__}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ModelError(f"the name of tensor {name!r} is not Unicode") from None
    if b"\0" in encoded or len(encoded) > MAX_NAME:
        raise ModelError(f"a stream cannot hold the name of tensor {name[:100]!r}")
    return name


def _from_array(name: str, array: Any) -> Tensor:
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"tensor {name} is no array but {type(array).__name__}")
    array = np.asarray(array)
    form = FORMATS.get(array.dtype.name)
    if form is None:
        raise ModelError(f"tensor {name} is {array.dtype.name}, which nnguard does not code")
    shape = array.shape
    flat = np.ascontiguousarray(array).reshape(-1)
    flat = flat.view(form.dtype) if form.name == "bfloat16" else flat.astype(form.dtype, copy=False)
    return Tensor(name, TensorType(form, scalar=not shape), shape, InMemory(flat))
