"""NNCodec bitstreams: units, headers, and the entropy coding of one tensor.

Knows nothing of what is hidden in a stream, nor of keys.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from nnguard._base.arguments import wrong_type
from nnguard._stream.stream import Stream
from nnguard._stream.units import Unit

__all__ = ["Stream", "StreamLike", "Unit", "as_stream"]

StreamLike = Stream | str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""What functions take for a stream: a `Stream`, the path of a file, bytes, or a binary file."""


def as_stream(model: StreamLike, name: str = "model") -> Stream:
    """Return the stream that an argument stands for.

    Args:
        model: The argument.
        name: What the caller calls it.

    Raises:
        FormatError: It is not a well-formed stream.
        OSError: The file cannot be read.
        TypeError: It is none of those.
    """
    if isinstance(model, Stream):
        return model
    if isinstance(model, str | os.PathLike):
        return Stream.open(model)
    read = getattr(model, "read", None)
    data = read() if callable(read) else model
    if isinstance(data, bytes | bytearray | memoryview):
        return Stream.from_bytes(data)
    raise wrong_type(name, "a Stream, a path, bytes or a binary file", model)
