"""What commands read: a stream, a folder of streams, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nnguard

if TYPE_CHECKING:
    from nnguard import Stream, StreamSet

__all__ = ["STDIN", "open_model"]

STDIN = "-"
"""Stands for standard input."""


def open_model(path: str, *, in_memory: bool = False) -> Stream | StreamSet:
    """Open a stream, or a folder of streams.

    Args:
        path: Of the file or folder, or `-`.
        in_memory: Read files whole, so that what is verified is what is used.
    """
    if path == STDIN:
        return nnguard.Stream.from_bytes(sys.stdin.buffer.read())
    kind = nnguard.StreamSet if Path(path).is_dir() else nnguard.Stream
    model: Stream | StreamSet = kind.open(path)
    return model.in_memory() if in_memory else model
