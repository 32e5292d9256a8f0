"""The safetensors format: a JSON header with a place for each tensor, then their bytes.

The safetensors package writes a file from memory and in one go, and does not tell where a tensor
lies. Here threads read tensors at their places and write them there, so the header is read and
written here, as strictly as there: every byte of a file belongs to one tensor
(`docs/adr/0006-own-safetensors.md`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnguard._base.texts import shown
from nnguard._models.formats import FORMATS, Format, TensorType
from nnguard._models.tensors import FilePart, Tensor, check_tensor
from nnguard._stream.source import FileSource
from nnguard.errors import LimitError, ModelError

__all__ = ["Layout", "lay_out", "read_safetensors"]

MAX_HEADER = 1 << 24
"""Bytes of a header, at most: some 100,000 tensors. The safetensors package goes to 10^8."""

_CODES = {
    "BOOL": "bool",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
_NAMES = {name: code for code, name in _CODES.items()}
_METADATA = "__metadata__"


def read_safetensors(path: str | os.PathLike[str]) -> list[Tensor]:
    """Return the tensors of a file, in the order of their bytes; values are read when coded.

    Raises:
        ModelError: The file is not well formed.
        LimitError: Its header is too long.
        OSError: It cannot be read.
    """
    file = FileSource(path)
    name = os.fspath(path)
    prefix = file.read(0, min(8, file.size))
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > file.size - 8:
        raise ModelError(f"{name} is not a safetensors file: its header does not fit into it")
    if length > MAX_HEADER:
        raise LimitError(f"the header of {name} has {length} bytes; limit {MAX_HEADER}")
    tensors = [_tensor(file, 8 + length, *entry) for entry in _entries(file.read(8, length), name)]
    tensors.sort(key=lambda tensor: (_place(tensor).offset, tensor.nbytes))
    end = 8 + length
    for tensor in tensors:
        if _place(tensor).offset != end:
            raise ModelError(
                f"{name}: bytes before tensor {shown(tensor.name)} overlap or are unused"
            )
        end += tensor.nbytes
    if end != file.size:
        raise ModelError(f"{name}: has {file.size} bytes, and its tensors end at {end}")
    return tensors


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything goes in a file to be written.

    Attributes:
        header: The file's first bytes.
        offsets: Where each tensor begins, in the order given.
        size: Of the file.
    """

    header: bytes
    offsets: tuple[int, ...]
    size: int


def lay_out(entries: Sequence[tuple[str, Format, tuple[int, ...]]]) -> Layout:
    """Give each tensor its place: name, format, shape. Larger numbers go first, so all align.

    Raises:
        ModelError: A tensor has the name that the format keeps for the metadata.
    """
    order = sorted(range(len(entries)), key=lambda at: -entries[at][1].dtype.itemsize)
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}  # loaders of PyTorch models ask for it
    places = [0] * len(entries)
    end = 0
    for at in order:
        name, form, shape = entries[at]
        if name == _METADATA:
            raise ModelError(f"no safetensors file can hold a tensor called {_METADATA}")
        begin, end = end, end + math.prod(shape) * form.dtype.itemsize
        places[at] = begin
        header[name] = {
            "dtype": _NAMES[form.name],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    places = [start + begin for begin in places]
    return Layout(len(text).to_bytes(8, "little") + text, tuple(places), start + end)


def _entries(text: bytes, name: str) -> list[tuple[str, Any]]:
    """Return the entries of a header but the metadata."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) != len(found):
            raise ModelError(f"the header of {name} names something twice")
        return dict(found)

    try:
        header = json.loads(text.decode(), object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        raise ModelError(f"{name} is not a safetensors file: its header is not JSON") from None
    if not isinstance(header, dict) or not text.startswith(b"{"):
        raise ModelError(f"{name} is not a safetensors file: its header is not a JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ModelError(f"{name} is not a safetensors file: its metadata hold more than text")
    return list(header.items())


def _tensor(file: FileSource, start: int, name: str, entry: Any) -> Tensor:
    check_tensor(name, ())
    match entry:
        case {"dtype": str() as code, "shape": [*shape], "data_offsets": [begin, end]} if (
            len(entry) == 3
        ):
            numbers = [*shape, begin, end]
        case _:
            raise ModelError(f"the header's entry for tensor {shown(name)} is malformed")
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise ModelError(f"the header's entry for tensor {shown(name)} has numbers out of range")
    if code not in _CODES:
        raise ModelError(f"tensor {shown(name)} is {shown(code)}, which nnguard does not code")
    check_tensor(name, tuple(shape))
    form = FORMATS[_CODES[code]]
    if math.prod(shape) * form.dtype.itemsize != end - begin:
        raise ModelError(
            f"tensor {shown(name)}: shape {shape} of {code} is not {end - begin} bytes"
        )
    kind = TensorType(form, scalar=not shape)
    return Tensor(name, kind, tuple(shape), FilePart(file, start + begin, form.dtype))


def _place(tensor: Tensor) -> FilePart:
    assert isinstance(tensor.values, FilePart)
    return tensor.values
