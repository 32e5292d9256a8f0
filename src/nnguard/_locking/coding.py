"""Decoding and encoding the tensors that a lock touches, by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnguard._base.threads import in_order
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, decode, encode
from nnguard.errors import FormatError

__all__ = ["encode_all", "read_all"]


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

    found = zip(units, in_order(read, units), strict=True)
    return {index: tensor for index, tensor in found if tensor is not None}


def encode_all(
    units: Sequence[int], tensor_of: Callable[[int], QuantizedTensor]
) -> dict[int, bytes]:
    """Encode tensors to the bytes of their units.

    Args:
        units: Positions of the tensors.
        tensor_of: Makes the tensor at a position, just before it is encoded.
    """

    def coded(index: int) -> bytes:
        return encode(tensor_of(index))

    return dict(zip(units, in_order(coded, units), strict=True))
