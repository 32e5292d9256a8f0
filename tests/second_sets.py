"""The second reader, continued: sets of shards, written from `docs/SPEC.md`, 6.3, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import second_reader
from second_reader import Outcome, Taken, model_digest
from second_signatures import VendorKey

__all__ = [
    "Folder",
    "Shards",
    "below",
    "check",
    "is_name",
    "make_index",
    "read",
    "set_digest",
    "verify",
]


@dataclass
class Shards:
    """What verified: by which key, the set digest, the common claims, and what each shard held."""

    kid: bytes
    digest: bytes
    claims: dict[Any, Any]
    taken: dict[str, Taken]
    signatures: list[tuple[bytes, bool]]


@dataclass
class Folder:
    """A set as it lies there.

    Attributes:
        weight_map: Where the tensors are, as the index says.
        streams: The shards, by name.
        listed: SHA-256 of the files beside them, as the index says.
        beside: These files.
    """

    weight_map: dict[str, str]
    streams: dict[str, bytes]
    listed: dict[str, bytes] = field(default_factory=dict)
    beside: dict[str, bytes] = field(default_factory=dict)


def read_index(folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    found = [path for path in folder.iterdir() if path.name.endswith(".nnc.index.json")]
    if len(found) != 1:
        raise Outcome("FormatError", "one index")
    if found[0].stat().st_size > 1 << 24:
        raise Outcome("LimitError", "index")
    try:
        index = json.loads(found[0].read_bytes(), object_pairs_hook=unique)
        weight_map, listed = index["weight_map"], index.get("files", {})
        "".join([*weight_map, *weight_map.values(), *listed]).encode()
        well_formed = {*index} <= {"metadata", "weight_map", "files"}
        well_formed &= index.get("metadata", {}) == {} and weight_map != {}
        well_formed &= all(map(is_name, weight_map.values())) and all(map(is_beside, listed))
        well_formed &= all(re.fullmatch("[0-9a-f]{64}", digest) for digest in listed.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        well_formed = False
    if not well_formed:
        raise Outcome("FormatError", "index")
    return dict(weight_map), {name: bytes.fromhex(listed[name]) for name in listed}


def is_beside(name: str) -> bool:
    parts = name.split("/")
    other = not set(name) & {"\\", "\0"} and all(part and part[0] != "." for part in parts)
    return other and not name.lower().endswith((".nnc", ".nnc.index.json"))


def is_name(name: str) -> bool:
    return name.endswith(".nnc") and not set(name) & {"/", "\\", "\0"}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def verify(folder: Path, trust: list[VendorKey]) -> Shards:
    """6.3.

    Raises:
        Outcome: The set is refused.
    """
    return check(read(folder), trust)


def read(folder: Path) -> Folder:
    """Steps 1 and 2."""
    weight_map, listed = read_index(folder)
    names = sorted(set(weight_map.values()))
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if sorted(name for name in present if name.lower().endswith(".nnc")) != names:
        raise Outcome("VerificationError", "shards")
    if not listed.keys() <= present:
        raise Outcome("VerificationError", "files")
    streams = {name: (folder / name).read_bytes() for name in names}
    beside = {name: (folder / name).read_bytes() for name in listed}
    return Folder(weight_map, streams, listed, beside)


def check(folder: Folder, trust: list[VendorKey], *, vouched: bool = False) -> Shards:
    """Steps 3 to 8."""
    names = sorted(folder.streams)
    headers, taken, places, levels = [], {}, [], []
    for name in names:
        header, records = second_reader.verify(folder.streams[name], trust, vouched=vouched)
        headers.append(header)
        taken[name] = records[0]
        levels.append(second_reader.signatures(records, trust))
    digest = set_digest({name: taken[name].original for name in names}, folder.listed)
    shards = [header[15].pop("shard", None) for header in headers]
    if shards != [[digest, position, len(names)] for position in range(len(names))]:
        raise Outcome("VerificationError", "shards")
    if any(header[4] != headers[0][4] or header[15] != headers[0][15] for header in headers):
        raise Outcome("VerificationError", "another vendor, or other claims")
    for name, data in folder.beside.items():
        if hashlib.sha256(data).digest() != folder.listed[name]:
            raise Outcome("VerificationError", name)
    for name in names:
        places += [(tensor, name) for tensor in tensors_of(taken[name].original)]
    if len(dict(places)) != len(places) or dict(places) != folder.weight_map:
        raise Outcome("VerificationError", "places of tensors")
    signed = signatures(names, [*zip(*levels, strict=False)], folder.listed)
    return Shards(headers[0][4], digest, headers[0][15], taken, signed)


def signatures(
    names: list[str], levels: list[tuple[Any, ...]], listed: dict[str, bytes]
) -> list[tuple[bytes, bool]]:
    """6.6: the key of each signature that all shards have, and whether it counts."""
    found = []
    for level in levels:
        digest = digest_of({n: d for n, (_, d, _) in zip(names, level, strict=True)}, listed)
        claims = [dict(header[15]) for header, _, _ in level]
        shards = [each.pop("shard", None) for each in claims]
        kids = [header[4] for header, _, _ in level]
        if found and shards != [[digest, at, len(names)] for at in range(len(names))]:
            break
        if any(kid != kids[0] for kid in kids) or any(each != claims[0] for each in claims):
            break
        found.append((kids[0], all(counts for _, _, counts in level)))
    return found


def set_digest(files: dict[str, list[bytes]], listed: dict[str, bytes] | None = None) -> bytes:
    return digest_of({name: model_digest(units) for name, units in files.items()}, listed)


def digest_of(shards: dict[str, bytes], listed: dict[str, bytes] | None) -> bytes:
    data = b"nnguard set digest v1\0"
    for part in (shards, listed) if listed else (shards,):
        data += len(part).to_bytes(4, "big")
        for name, digest in sorted(part.items()):
            data += len(name.encode()).to_bytes(4, "big") + name.encode() + digest
    return hashlib.sha256(data).digest()


def below(trial: Folder, depth: int, streams: dict[str, list[bytes]]) -> Folder:
    """6.4, step 10, and the files that lie in so many folders `release`, one in the other."""
    prefix = "release/" * depth
    listed, beside = (
        {name[len(prefix) :]: part[name] for name in part if name.startswith(prefix)}
        for part in (trial.listed, trial.beside)
    )
    whole = {name: b"".join(units) for name, units in streams.items()}
    return Folder(make_index(streams), whole, listed, beside)


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
