"""The index of a model in several files, which says where each tensor is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnguard._base.files import read_file, write_bytes
from nnguard.errors import FormatError, ModelError, NnguardError

__all__ = ["SAFETENSORS_INDEX", "is_plain_name", "is_set", "read_index", "write_index"]

SAFETENSORS_INDEX = "model.safetensors.index.json"
_SUFFIX = ".index.json"
_STREAMS = ".nnc"
_SAFETENSORS = ".safetensors"
_MAX_SIZE = 1 << 24
"""Bytes of an index, at most; one of 100,000 tensors has some 10 MB."""


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
        raise error(
            f"{folder} has {len(found)} files *{suffix}{_SUFFIX}; it needs one",
            hint=_hint(folder, suffix),
        )
    try:
        index = json.loads(read_file(found[0], _MAX_SIZE), object_pairs_hook=_unique)
        weight_map = index.pop("weight_map")
        metadata = index.pop("metadata", {})
        more = index or (metadata != {} and suffix == _STREAMS)  # which nothing would verify
        "".join([*weight_map, *weight_map.values()]).encode()  # no half surrogate pairs
        if weight_map and not more and all(is_plain_name(f, suffix) for f in weight_map.values()):
            return dict(weight_map)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise error(f"{found[0]} is no index of files *{suffix}")


def _hint(folder: Path, suffix: str) -> str:
    """Return what to do about a folder that has not one index of files with a suffix."""
    if suffix == _STREAMS and any(folder.glob(f"*{_SAFETENSORS}{_SUFFIX}")):
        return f"compress it first: nnguard compress {folder} -o streams"
    files = [*folder.glob(f"*{suffix}"), *folder.glob(f"*{_SAFETENSORS}")]
    return f"of a model in one file, name the file{f': {files[0]}' if files else ''}"


def is_set(folder: Path, suffix: str) -> bool:
    """Tell whether there is nothing in a folder but an index and files of a kind that it lists."""
    paths = list(folder.iterdir())
    if not all(path.is_file() for path in paths):
        return False
    present = {path.name for path in paths}
    with contextlib.suppress(NnguardError):
        listed = set(read_index(folder, suffix, FormatError).values())
        return len(present - listed) == 1
    return not present


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON; a ValueError where a name is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def write_index(path: Path, weight_map: Mapping[str, str]) -> None:
    """Write the map from tensors to files."""
    index = {"metadata": {}, "weight_map": dict(weight_map)}
    write_bytes(path, json.dumps(index, indent=2).encode() + b"\n", overwrite=False)


def is_plain_name(file: Any, suffix: str) -> bool:
    """Tell whether this is the name of a file, and of nothing outside its folder."""
    return isinstance(file, str) and file.endswith(suffix) and not set(file) & set("/\\\0")
