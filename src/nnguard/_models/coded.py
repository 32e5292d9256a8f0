"""The tensors of a stream: what decoding gives, told by headers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnguard._base.texts import shown
from nnguard._models.formats import Array, TensorType, read_topology
from nnguard._models.tensors import MAX_SIZE
from nnguard._stream import Stream
from nnguard._stream.headers import LEAST_COST, PayloadType, TensorHeader, UnitKind
from nnguard.errors import FormatError, LimitError

__all__ = ["CodedTensor", "OtherToolsError", "coded_tensors"]

_DECODED = 4
"""Bytes of a weight before it gets the tensor's format."""

_MAX_EXTENT = 1 << 59
"""Product of the dimensions of an empty tensor but its zeros, at most: NumPy's own limit."""


class OtherToolsError(FormatError):
    """The stream uses tools of the standard that are not decoded here."""


@dataclass(frozen=True, slots=True)
class CodedTensor:
    """A tensor of a stream that can be decoded.

    Attributes:
        unit: Position of its unit in the stream.
        header: The unit's header.
        type: What the tensor was before it was coded.
        shape: The shape that it had.
    """

    unit: int
    header: TensorHeader
    type: TensorType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.type.format.dtype.itemsize

    @property
    def cost(self) -> int:
        """What decoding it takes, in bytes of usual tensors."""
        raw = self.header.payload_type == PayloadType.RAW_FLOAT
        return _DECODED * max(LEAST_COST, 0 if raw else self.header.cost)

    def as_array(self, values: Array) -> Array:
        """Return values, flat, as an array of the tensor's shape and dtype."""
        if self.type.format.name == "bfloat16":
            import ml_dtypes

            values = values.view(ml_dtypes.bfloat16)
        return values.reshape(self.shape)


def coded_tensors(stream: Stream) -> list[CodedTensor]:
    """Return the tensors of a stream, from headers alone.

    Raises:
        FormatError: One cannot be decoded, or two have the same name.
        LimitError: One is too large.
    """
    positions = [at for at, unit in enumerate(stream) if unit.kind in (UnitKind.NDU, UnitKind.AGG)]
    headers: list[TensorHeader] = []
    for at in positions:
        header = stream.coded_tensor(at)
        if header is None:
            raise OtherToolsError(
                f"unit {stream[at].name} uses tools of the standard that nnguard does not decode",
                offset=stream[at].offset,
                hint="the nncodec package decodes them; nnguard hands it only what it has verified",
            )
        if header.size > MAX_SIZE:
            raise LimitError(
                f"tensor {shown(header.name)} has {header.size} weights; limit {MAX_SIZE}"
            )
        if math.prod(size for size in header.shape if size) > _MAX_EXTENT:
            raise FormatError(f"tensor {shown(header.name)} has dimensions that no array can have")
        headers.append(header)
    if len({header.name for header in headers}) != len(headers):
        raise FormatError("two tensors of the stream have the same name")
    return [
        CodedTensor(at, header, kind, kind.shape_of(header))
        for at, header, kind in zip(positions, headers, read_topology(stream, headers), strict=True)
    ]
