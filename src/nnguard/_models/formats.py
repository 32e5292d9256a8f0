"""What tensors were before they were coded: their number formats, and which are scalars.

A stream knows three kinds of payload: quantized (read as float32), integer (int32) and raw float32.
What else a tensor was stands in its header where the standard has a code for it
(`nnr_decompressed_data_format`), and otherwise in the topology unit, as JSON. The stock decoder
reads over both: it gives float32 or int32, and scalars as arrays of one element.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard._base.texts import shown
from nnguard._stream.headers import DataFormat, PayloadType, TensorHeader, UnitKind
from nnguard._stream.stream import Stream
from nnguard._stream.units import Unit, size_field
from nnguard.errors import FormatError

__all__ = ["FORMATS", "WORD", "Format", "TensorType", "read_topology", "write_topology"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Format:
    """A number format.

    Attributes:
        name: As NumPy and PyTorch call it.
        dtype: As it is held in memory, little-endian; bfloat16 as the bits, uint16.
        code: The standard's code for it, or None.
    """

    name: str
    dtype: np.dtype[Any]
    code: DataFormat | None

    @property
    def is_float(self) -> bool:
        """Whether tensors of the format are quantized."""
        return self.dtype.kind == "f" or self.name == "bfloat16"

    def to_numbers(self, values: Array) -> Array:
        """Return values as an array of numbers, which bfloat16 is not."""
        return self.to_float32(values) if self.name == "bfloat16" else values

    def to_float32(self, values: Array) -> npt.NDArray[np.float32]:
        """Return values of a floating-point format as float32; too large ones become infinite."""
        if self.name == "bfloat16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values, np.float32)

    def from_float32(self, weights: npt.NDArray[np.float32]) -> Array:
        """Return float32 weights in a floating-point format; too large ones become the largest."""
        if self.name == "bfloat16":
            bits = np.clip(weights, -_LARGEST_BFLOAT16, _LARGEST_BFLOAT16).view(np.uint32)
            return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        if self.name == "float16":
            weights = np.clip(weights, -_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        return weights.astype(self.dtype, copy=False)


_LARGEST_FLOAT16 = np.float32(np.finfo(np.float16).max)
_LARGEST_BFLOAT16 = np.array([0x7F7F0000], np.uint32).view(np.float32)[0]

FORMATS = {
    name: Format(name, np.dtype(dtype).newbyteorder("<"), code)
    for name, dtype, code in (
        ("bool", np.bool_, None),
        ("int8", np.int8, DataFormat.INT8),
        ("int16", np.int16, DataFormat.INT16),
        ("int32", np.int32, DataFormat.INT32),
        ("int64", np.int64, DataFormat.INT64),
        ("uint8", np.uint8, None),
        ("uint16", np.uint16, None),
        ("uint32", np.uint32, None),
        ("uint64", np.uint64, None),
        ("float16", np.float16, DataFormat.FLOAT16),
        ("bfloat16", np.uint16, None),
        ("float32", np.float32, DataFormat.FLOAT32),
        ("float64", np.float64, DataFormat.FLOAT64),
    )
}
"""All formats, by name."""

_BY_CODE = {int(form.code): form for form in FORMATS.values() if form.code is not None}
_DEFAULTS = {
    PayloadType.FLOAT: FORMATS["float32"],
    PayloadType.INT: FORMATS["int32"],
    PayloadType.RAW_FLOAT: FORMATS["float32"],
}

WORD = 4
"""Bytes of a raw value; larger integers are stored in two, as a last dimension."""

_KEY = "nnguard"
_MAX_TOPOLOGY = 1 << 24
"""Topology units beyond this size are not looked into."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """What a tensor was.

    Attributes:
        format: Its number format.
        scalar: It has no dimensions; it is coded with shape `(1,)`.
    """

    format: Format
    scalar: bool = False

    def shape_of(self, header: TensorHeader) -> tuple[int, ...]:
        """Return the shape that a tensor had before it was coded."""
        in_words = header.payload_type == PayloadType.RAW_FLOAT and header.size > 0
        if in_words and self.format.dtype.itemsize == 2 * WORD:
            return () if self.scalar else header.shape[:-1]
        return () if self.scalar else header.shape

    def code_for(self, payload: PayloadType) -> DataFormat | None:
        """Return what its header has to say; None where the payload says it."""
        return None if self.format == _DEFAULTS[payload] else self.format.code


def write_topology(types: Sequence[TensorType]) -> str:
    """Return the text of the topology unit; empty where headers say all.

    Args:
        types: Of all tensors in the order of the stream.
    """
    formats = {
        form.name: ranges
        for form in FORMATS.values()
        if form.code is None and (ranges := _ranges(kind.format == form for kind in types))
    }
    scalars = _ranges(kind.scalar for kind in types)
    found: dict[str, Any] = {"formats": formats} if formats else {}
    if scalars:
        found["scalars"] = scalars
    return json.dumps({_KEY: found}, separators=(",", ":")) if found else ""


def read_topology(stream: Stream, headers: Sequence[TensorHeader]) -> list[TensorType]:
    """Return what each tensor of a stream was.

    Args:
        stream: The stream.
        headers: Of all its tensors, in order.

    Raises:
        FormatError: The topology unit says something about nnguard that makes no sense.
    """
    formats: list[Format | None] = [None] * len(headers)
    scalars = [False] * len(headers)
    said = _said(stream)
    for name, ranges in said.get("formats", {}).items():
        for index in _indices(ranges, len(headers)):
            formats[index] = FORMATS[name]
    for index in _indices(said.get("scalars", []), len(headers)):
        scalars[index] = True
    types = [TensorType(_format_of(*pair)) for pair in zip(headers, formats, strict=True)]
    for index, header in enumerate(headers):
        if scalars[index]:
            if types[index].shape_of(header) != (1,):
                raise FormatError(f"tensor {shown(header.name)} is not a scalar")
            types[index] = TensorType(types[index].format, scalar=True)
    return types


def _format_of(header: TensorHeader, listed: Format | None) -> Format:
    """Return the tensor's format: the one listed, or that of its code, if it fits the payload."""
    default = _DEFAULTS[header.payload_type]
    code = header.data_format
    found = listed or (default if code is None else _BY_CODE.get(code, default))
    if header.size == 0:
        return found
    if header.payload_type == PayloadType.RAW_FLOAT:
        fits = not found.is_float and (
            found.dtype.itemsize == WORD
            or (found.dtype.itemsize == 2 * WORD and header.shape[-1] == 2)
        )
        return found if fits else default
    return found if found.is_float == default.is_float else default


def _ranges(chosen: Iterable[bool]) -> list[list[int]]:
    """Return the positions of what is true as a list of first and last positions."""
    flags = np.array([False, *chosen, False])
    edges = np.flatnonzero(flags[1:] != flags[:-1]).tolist()
    return [[first, stop - 1] for first, stop in zip(edges[::2], edges[1::2], strict=True)]


def _indices(ranges: Any, count: int) -> list[int]:
    """Return the positions in ranges that ascend and do not overlap."""
    found: list[int] = []
    previous = -1
    for entry in ranges:
        match entry:
            case [int() as first, int() as last] if previous < first <= last < count:
                found += range(first, last + 1)
                previous = last
            case _:
                raise FormatError("the topology unit lists tensors that are not there")
    return found


def _said(stream: Stream) -> dict[str, Any]:
    """Return what the topology unit says about nnguard."""
    unit = next((unit for unit in stream if unit.kind == UnitKind.TPL), None)
    if unit is None or not (text := _text(unit)).startswith(f'{{"{_KEY}":'):
        return {}
    try:
        said = json.loads(text)[_KEY]
        lists = [said.get("scalars", []), *said.get("formats", {}).values()]
        known = said.keys() <= {"formats", "scalars"} and said.get("formats", {}).keys() <= (
            FORMATS.keys()
        )
        if known and all(isinstance(ranges, list) for ranges in lists):
            return dict(said)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        pass
    raise FormatError("the topology unit is malformed", offset=unit.offset)


def _text(unit: Unit) -> str:
    """Return the text of a topology unit of no format that the standard knows."""
    data = unit.read() if unit.size <= _MAX_TOPOLOGY else b""
    start = size_field(data) + 1 if data else 0
    if not data or data[start - 1] & 1 or data[start : start + 2] != bytes(2):
        return ""
    return data[start + 2 :].rstrip(b"\0").decode("utf-8", "replace")
