"""Tensors that a model lists twice, as an embedding that is tied to an output layer.

Whoever finds one of them changed copies the other over it, and loading both into the tied module
may do so by itself. So a lock changes all or none.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from types import MappingProxyType

from nnguard._records.layers import layers
from nnguard._stream import Stream, Unit
from nnguard.errors import NnguardError

__all__ = ["NO_TWINS", "Place", "Twins", "find_twins", "find_twins_in_set", "twins_elsewhere"]

Twins = Mapping[int, tuple[int, ...]]
"""For each tensor that has twins, by the position of its unit, all of them, itself included."""

NO_TWINS: Twins = MappingProxyType({})

Place = tuple[str, int]
"""Name of a file of a set, and position of a unit in it."""


def find_twins(stream: Stream) -> Twins:
    """Find tensors of equal contents.

    Records that can be taken out are: bits that one of two tensors carries make no difference.
    """
    groups = [tuple(index for _, index in group) for group in _groups({"": stream})]
    return {index: group for group in groups for index in group}


def find_twins_in_set(streams: Mapping[str, Stream]) -> dict[Place, tuple[Place, ...]]:
    """Find tensors of equal contents in a set, by the names of files; see `find_twins`."""
    return {place: group for group in _groups(streams) for place in group}


def twins_elsewhere(streams: Mapping[str, Stream]) -> dict[str, set[int]]:
    """Return the positions of the tensors that have twins in other files of a set, by file."""
    found: dict[str, set[int]] = {file: set() for file in streams}
    for group in _groups(streams) if len(streams) > 1 else ():
        if len({file for file, _ in group}) > 1:
            for file, index in group:
                found[file].add(index)
    return found


def _groups(streams: Mapping[str, Stream]) -> list[tuple[Place, ...]]:
    """Return the places of tensors of equal contents, two or more of each."""
    bare = {file: _without_records(stream) for file, stream in streams.items()}
    alike: dict[Hashable, list[Place]] = defaultdict(list)
    for file, stream in bare.items():
        for index, unit in enumerate(stream):
            if unit.tensor is not None:
                alike[_form(unit)].append((file, index))
    equal: dict[Hashable, list[Place]] = defaultdict(list)
    for form, places in alike.items():
        for file, index in places if len(places) > 1 else ():
            equal[form, _payload_digest(bare[file][index])].append((file, index))
    return [tuple(places) for places in equal.values() if len(places) > 1]


def _without_records(stream: Stream) -> Stream:
    with contextlib.suppress(NnguardError):
        for layer in layers(stream):
            stream = layer.below
    return stream


def _form(unit: Unit) -> Hashable:
    """Return all that the header says but the name, and the size of the payload."""
    assert unit.tensor is not None
    size = unit.size - unit.tensor.payload_offset
    return replace(unit.tensor, name="", payload_offset=0), size


def _payload_digest(unit: Unit) -> bytes:
    assert unit.tensor is not None
    return hashlib.sha256(unit.read()[unit.tensor.payload_offset :]).digest()
