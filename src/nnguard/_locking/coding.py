"""Decoding and encoding the tensors that a lock touches, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnguard._base.workers import HERE, Workers
from nnguard._stream import Stream, Unit
from nnguard._stream.quantized import QuantizedTensor, decode, encode
from nnguard.errors import FormatError

__all__ = ["encode_all", "read_all", "recode_all"]


def read_all(
    stream: Stream, units: Sequence[int], *, workers: Workers = HERE
) -> dict[int, QuantizedTensor]:
    """Decode tensors; those that are damaged are left out.

    Args:
        stream: The stream.
        units: Positions of quantized tensors.
        workers: Who does it.
    """
    tensors = workers.in_order(_read, [stream[index] for index in units])
    found = zip(units, tensors, strict=True)
    return {index: tensor for index, tensor in found if tensor is not None}


def encode_all(
    units: Sequence[int], tensor_of: Callable[[int], QuantizedTensor], *, workers: Workers = HERE
) -> dict[int, bytes]:
    """Encode tensors to the bytes of their units.

    Args:
        units: Positions of the tensors.
        tensor_of: Makes the tensor at a position, just before it is encoded.
        workers: Who encodes. An executor does not make tensors: that may take a key.
    """

    def made(index: int) -> bytes:
        return encode(tensor_of(index))

    if workers.executor is None:
        encoded = workers.in_order(made, units)
    else:
        encoded = workers.in_order(encode, map(tensor_of, units))
    return dict(zip(units, encoded, strict=True))


def recode_all(
    stream: Stream,
    units: Sequence[int],
    change: Callable[[int, QuantizedTensor], QuantizedTensor],
    *,
    workers: Workers = HERE,
) -> dict[int, bytes]:
    """Decode tensors, change each, and encode it, so that few are in memory at a time.

    Args:
        stream: The stream.
        units: Positions of quantized tensors.
        change: Makes another of the tensor at a position.
        workers: Who decodes and encodes. An executor does not change tensors.

    Raises:
        FormatError: A tensor is damaged.
    """
    if workers.executor is None:
        return encode_all(
            units, lambda index: change(index, decode(stream[index])), workers=workers
        )
    tensors = workers.in_order(decode, [stream[index] for index in units])
    encoded = workers.in_order(encode, map(change, units, tensors))
    return dict(zip(units, encoded, strict=True))


def _read(unit: Unit) -> QuantizedTensor | None:
    try:
        return decode(unit)
    except FormatError:
        return None
