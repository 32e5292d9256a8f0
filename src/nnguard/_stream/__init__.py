"""NNCodec bitstreams: units, headers, and the entropy coding of one tensor.

Knows nothing of what is hidden in a stream, nor of keys.
"""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

from nnguard._base.arguments import wrong_type
from nnguard._stream.source import MemorySource, check_memory
from nnguard._stream.stream import Stream, begins_a_stream
from nnguard._stream.units import Unit

__all__ = ["Stream", "StreamLike", "Unit", "as_stream"]

_CHUNK = 1 << 20
_LONGEST_START = 1 << 15
"""Bytes of a start unit, at most."""

StreamLike = Stream | str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""What functions take for a stream: a `Stream`, the path of a file, bytes, or a binary file."""


def as_stream(model: StreamLike, name: str = "model") -> Stream:
    """Return the stream that an argument stands for.

    Args:
        model: The argument.
        name: What the caller calls it.

    Raises:
        FormatError: It is not a well-formed stream.
        LimitError: A file does not end before it has half of the machine's memory.
        OSError: The file cannot be read.
        TypeError: It is none of those.
    """
    if isinstance(model, Stream):
        return model
    if isinstance(model, str | os.PathLike):
        return Stream.open(model)
    if isinstance(model, io.TextIOBase):
        raise TypeError(f'{name}: a file of text; open it in binary mode, "rb"')
    data = _read_whole(model) if callable(getattr(model, "read", None)) else model
    if isinstance(data, bytes | bytearray | memoryview):
        return Stream.from_bytes(data)
    raise wrong_type(name, "a Stream, a path, bytes or a binary file", model)


def _read_whole(file: Any) -> object:
    """Read a file to its end, which may never come; of what is not a stream, the beginning.

    Raises:
        LimitError: It takes more than half of the machine's memory.
    """
    data = bytearray()
    while part := file.read(_CHUNK):
        if not isinstance(part, bytes | bytearray | memoryview):
            return part
        data += part
        if len(data) >= _LONGEST_START and not begins_a_stream(
            MemorySource(data[:_LONGEST_START]), 0
        ):
            break
        check_memory(2 * len(data), hint="save it to a file, and name that")
    return memoryview(data).toreadonly()
