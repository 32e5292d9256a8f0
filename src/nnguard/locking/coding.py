"""Decoding and encoding the tensors that a lock touches, by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nnguard.compression.workers import Batch, crew, largest_first, make_batches, run
from nnguard.errors import FormatError
from nnguard.stream import Stream
from nnguard.stream.coding import QuantizedTensor, decode, encode

__all__ = ["encode_all", "read_all"]

_Result = TypeVar("_Result")


def read_all(stream: Stream, units: Sequence[int]) -> dict[int, QuantizedTensor]:
    """Decode tensors; those that are damaged are left out.

    Args:
        stream: The stream.
        units: Positions of quantized tensors.
    """

    def read(index: int) -> QuantizedTensor | None:
        try:
            return decode(stream[index])
        except FormatError:
            return None

    found = _for_all(stream, units, read)
    return {index: tensor for index, tensor in found.items() if tensor is not None}


def encode_all(
    stream: Stream, units: Sequence[int], tensor_of: Callable[[int], QuantizedTensor]
) -> dict[int, bytes]:
    """Encode tensors to the bytes of their units.

    Args:
        stream: The stream.
        units: Positions of the tensors.
        tensor_of: Makes the tensor at a position, just before it is encoded.
    """
    return _for_all(stream, units, lambda index: encode(tensor_of(index)))


def _for_all(
    stream: Stream, units: Sequence[int], do: Callable[[int], _Result]
) -> dict[int, _Result]:
    """Do something for each of some units, side by side; results are in their order."""

    def call(batch: Batch) -> tuple[Callable[..., list[_Result]], tuple[Any, ...]]:
        return lambda: [do(units[place]) for place in batch.positions], ()

    batches = _batches(stream, units)
    found: dict[int, _Result] = {}
    with crew(batches, None, None) as team:
        for batch, results in run(team, batches, call):
            found |= {units[at]: each for at, each in zip(batch.positions, results, strict=True)}
    return {index: found[index] for index in units}


def _batches(stream: Stream, units: Sequence[int]) -> list[Batch]:
    tensors = (stream[index].tensor for index in units)
    return largest_first(make_batches([0 if t is None else t.size for t in tensors]))
