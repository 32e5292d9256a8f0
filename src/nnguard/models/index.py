"""The index of a model in several files, which says where each tensor is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnguard.errors import FormatError, LimitError, ModelError
from nnguard.files import write_bytes

__all__ = ["read_index", "write_index"]

_SUFFIX = ".index.json"
_MAX_SIZE = 1 << 28


def read_index(
    folder: Path, suffix: str, error: type[FormatError] | type[ModelError]
) -> dict[str, str]:
    """Return the map from tensors to files of the one index in a folder.

    Args:
        folder: The folder.
        suffix: Of the files that the index lists; its own name ends with it and `.index.json`.
        error: What to raise where there is not one index, or it is malformed.

    Raises:
        LimitError: The index is too large.
        OSError: There is no such folder, or the index cannot be read.
    """
    found = sorted(folder.glob(f"*{suffix}{_SUFFIX}"))
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    if len(found) != 1:
        raise error(f"{folder} has {len(found)} files *{suffix}{_SUFFIX}; it needs one")
    if found[0].stat().st_size > _MAX_SIZE:
        raise LimitError(f"{found[0]} has {found[0].stat().st_size} bytes; limit {_MAX_SIZE}")
    try:
        weight_map = json.loads(found[0].read_bytes())["weight_map"]
        if weight_map and all(_is_plain(file, suffix) for file in weight_map.values()):
            return dict(weight_map)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise error(f"{found[0]} is no index of files *{suffix}")


def write_index(path: Path, weight_map: Mapping[str, str]) -> None:
    """Write the map from tensors to files."""
    index = {"metadata": {}, "weight_map": dict(weight_map)}
    write_bytes(path, json.dumps(index, indent=2).encode() + b"\n", overwrite=False)


def _is_plain(file: Any, suffix: str) -> bool:
    """Tell whether this is the name of a file, and of nothing outside its folder."""
    return isinstance(file, str) and file.endswith(suffix) and not set(file) & set("/\\\0")
