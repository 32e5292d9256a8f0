"""The second reader, continued: sets of shards, written from `docs/SPEC.md`, 6.3, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import second_reader
from second_reader import Outcome, Taken, model_digest

__all__ = ["Shards", "check", "is_name", "make_index", "read", "set_digest", "verify"]


@dataclass
class Shards:
    """What verified: by which key, the set digest, the common claims, and what each shard held."""

    kid: bytes
    digest: bytes
    claims: dict[Any, Any]
    taken: dict[str, Taken]


def read_index(folder: Path) -> dict[str, str]:
    found = [path for path in folder.iterdir() if path.name.endswith(".nnc.index.json")]
    if len(found) != 1:
        raise Outcome("FormatError", "one index")
    if found[0].stat().st_size > 1 << 24:
        raise Outcome("LimitError", "index")
    try:
        index = json.loads(found[0].read_bytes(), object_pairs_hook=unique)
        weight_map = index["weight_map"]
        "".join([*weight_map, *weight_map.values()]).encode()
        well_formed = {**index, "metadata": {}} == {"metadata": {}, "weight_map": weight_map}
        well_formed &= index.get("metadata", {}) == {} and weight_map != {}
        well_formed &= all(map(is_name, weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        well_formed = False
    if not well_formed:
        raise Outcome("FormatError", "index")
    return dict(weight_map)


def is_name(name: str) -> bool:
    return name.endswith(".nnc") and not set(name) & {"/", "\\", "\0"}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def verify(folder: Path, trust: list[Ed25519PublicKey]) -> Shards:
    """6.3.

    Raises:
        Outcome: The set is refused.
    """
    return check(*read(folder), trust)


def read(folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Steps 1 and 2: where the tensors are, and the files, by name."""
    weight_map = read_index(folder)
    names = sorted(set(weight_map.values()))
    streams = [p.name for p in folder.iterdir() if p.is_dir() or p.name.lower().endswith(".nnc")]
    if sorted(streams) != names:
        raise Outcome("VerificationError", "files")
    return weight_map, {name: (folder / name).read_bytes() for name in names}


def check(
    weight_map: dict[str, str],
    files: dict[str, bytes],
    trust: list[Ed25519PublicKey],
    *,
    vouched: bool = False,
) -> Shards:
    """Steps 3 to 7, of files in order."""
    names = sorted(files)
    headers, taken, places = [], {}, []
    for name in names:
        header, records = second_reader.verify(files[name], trust, vouched=vouched)
        headers.append(header)
        taken[name] = records[0]
    digest = set_digest({name: taken[name].original for name in names})
    shards = [header[15].pop("shard", None) for header in headers]
    if shards != [[digest, position, len(names)] for position in range(len(names))]:
        raise Outcome("VerificationError", "shards")
    if any(header[4] != headers[0][4] or header[15] != headers[0][15] for header in headers):
        raise Outcome("VerificationError", "another vendor, or other claims")
    for name in names:
        places += [(tensor, name) for tensor in tensors_of(taken[name].original)]
    if len(dict(places)) != len(places) or dict(places) != weight_map:
        raise Outcome("VerificationError", "places of tensors")
    return Shards(headers[0][4], digest, headers[0][15], taken)


def set_digest(files: dict[str, list[bytes]]) -> bytes:
    data = b"nnguard set digest v1\0" + len(files).to_bytes(4, "big")
    for name, units in sorted(files.items()):
        data += len(name.encode()).to_bytes(4, "big") + name.encode() + model_digest(units)
    return hashlib.sha256(data).digest()


def make_index(files: dict[str, list[bytes]]) -> dict[str, str]:
    """6.4, step 10: that of a set that was locked."""
    places = [(tensor, name) for name, units in files.items() for tensor in tensors_of(units)]
    if len(dict(places)) < len(places):
        raise Outcome("FormatError", "a tensor is twice in the set")
    return dict(places)


def tensors_of(units: list[bytes]) -> list[str]:
    """The names of data units (2.3), which begin two bytes after the size field."""
    bodies = [unit[4 if unit[0] >> 7 else 2 :] for unit in units]
    data = [body for body in bodies if body[0] >> 2 in (5, 6)]
    names = [body[2:].split(b"\0")[0].decode() for body in data if body[0] & 0b11111101 == 5 << 2]
    if len(names) < len(data) or len(set(names)) < len(names):
        raise Outcome("FormatError", "tensors")
    return names
