"""What commands read: a stream, a folder of streams, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nnguard
from nnguard._stream import as_stream
from nnguard.errors import ArgumentError

if TYPE_CHECKING:
    from nnguard import Stream, StreamSet

__all__ = ["name_of", "open_model"]

_STDIN = "-"


def name_of(path: str) -> str:
    """Return the path, or what people call it."""
    return "standard input" if path == _STDIN else path


def open_model(path: str, *, in_memory: bool = False) -> Stream | StreamSet:
    """Open a stream, or a folder of streams.

    Args:
        path: Of the file or folder, or `-`.
        in_memory: Read files whole, so that what is verified is what is used.
    """
    if path == _STDIN:
        if sys.stdin is None:  # closed by whoever started the process
            raise ArgumentError("standard input is closed", hint="pipe a stream in, or name a file")
        return as_stream(sys.stdin.buffer)
    kind = nnguard.StreamSet if Path(path).is_dir() else nnguard.Stream
    model: Stream | StreamSet = kind.open(path)
    return model.in_memory() if in_memory else model
