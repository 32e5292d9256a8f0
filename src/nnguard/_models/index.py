"""The index of a model in several files, which says where each tensor is."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnguard._base.files import read_file, write_bytes
from nnguard._base.strict_json import parse_json, parse_sha256
from nnguard._models.safetensors import read_safetensors
from nnguard._models.side_files import SideFile, is_side_name, list_files
from nnguard.errors import FormatError, ModelError, NnguardError

__all__ = [
    "SAFETENSORS_INDEX",
    "Index",
    "is_plain_name",
    "is_set",
    "map_weights",
    "read_index",
    "write_index",
]

SAFETENSORS_INDEX = "model.safetensors.index.json"
_SUFFIX = ".index.json"
_STREAMS = ".nnc"
_SAFETENSORS = ".safetensors"
_MAX_SIZE = 1 << 24
"""Bytes of an index, at most; one of 100,000 tensors has some 10 MB."""


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says.

    Attributes:
        weight_map: Name of the file that holds each tensor.
        files: Of a set of streams, files beside them, and the SHA-256 of each.
        file: The index itself, as it was read.
    """

    weight_map: dict[str, str]
    files: dict[str, bytes]
    file: SideFile


def read_index(folder: Path, suffix: str, error: type[FormatError] | type[ModelError]) -> Index:
    """Read the one index in a folder.

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
        raise NotADirectoryError(f"{folder} is not a folder")
    if len(found) != 1:
        raise error(
            f"{folder} has {len(found)} files *{suffix}{_SUFFIX}; it needs one",
            hint=_hint(folder, suffix),
        )
    try:
        data = read_file(found[0], _MAX_SIZE)
        weight_map, files = _parse(parse_json(data), suffix)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise error(f"{found[0]} is not an index of files *{suffix}") from None
    return Index(weight_map, files, SideFile(found[0], hashlib.sha256(data).digest()))


def map_weights(folder: Path) -> dict[str, str]:
    """Return which safetensors file of a folder holds each tensor.

    One file needs no index.

    Raises:
        ModelError: There is neither one file nor one index; or it cannot be read.
        OSError: See `read_index`.
    """
    files = [name for name in list_files(folder) if is_plain_name(name, _SAFETENSORS)]
    if len(files) != 1 or any(folder.glob(f"*{_SAFETENSORS}{_SUFFIX}")):
        return read_index(folder, _SAFETENSORS, ModelError).weight_map
    return {tensor.name: files[0] for tensor in read_safetensors(folder / files[0])}


def _parse(index: dict[str, Any], suffix: str) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the weight map and the files of an index.

    Raises:
        ValueError: It is malformed, as are KeyError, TypeError and AttributeError.
    """
    weight_map = index.pop("weight_map")
    metadata = index.pop("metadata", {})
    files: dict[str, bytes] = {}
    if suffix == _STREAMS:  # what the signatures do not cover must not be there
        files = {name: parse_sha256(text) for name, text in index.pop("files", {}).items()}
        if metadata != {} or not all(map(is_side_name, files)):
            raise ValueError("more than a set has")
    if index or not weight_map:
        raise ValueError("nothing, or more than an index has")
    if not all(is_plain_name(file, suffix) for file in weight_map.values()):
        raise ValueError("a name is not that of a file")
    return dict(weight_map), files


def _hint(folder: Path, suffix: str) -> str:
    """Return what to do about a folder that has not one index of files with a suffix."""
    if suffix == _STREAMS and any(folder.glob(f"*{_SAFETENSORS}")):
        return f"compress it first: nnguard compress {folder} -o streams"
    files = [*folder.glob(f"*{suffix}")]
    if len(files) > 1:
        return "nnguard compress FOLDER makes a folder of shards, with an index"
    return f"of a model in one file, name the file{f': {files[0]}' if files else ''}"


def is_set(folder: Path, suffix: str, more: Collection[str] = ()) -> bool:
    """Tell whether there is nothing in a folder but an index and files that it lists.

    Args:
        folder: The folder.
        suffix: Of the files.
        more: Names of other files that may be there.
    """
    present = set(list_files(folder))
    with contextlib.suppress(NnguardError):
        index = read_index(folder, suffix, FormatError)
        others = present - {*index.weight_map.values(), *index.files, *more}
        return len(others) == 1 and others.pop().endswith(f"{suffix}{_SUFFIX}")
    return not present


def write_index(
    path: Path, weight_map: Mapping[str, str], files: Mapping[str, bytes] = {}
) -> bytes:
    """Write an index, and return its SHA-256; see `Index`."""
    index: dict[str, Any] = {"metadata": {}, "weight_map": dict(weight_map)}
    if files:
        index["files"] = {name: files[name].hex() for name in sorted(files)}
    data = json.dumps(index, indent=2).encode() + b"\n"
    write_bytes(path, data, overwrite=False)
    return hashlib.sha256(data).digest()


def is_plain_name(file: Any, suffix: str) -> bool:
    """Tell whether this is the name of a file, and of nothing outside its folder."""
    return isinstance(file, str) and file.endswith(suffix) and not set(file) & set("/\\\0")
