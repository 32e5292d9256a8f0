"""Tensors that a model lists twice, as an embedding that is tied to an output layer.

Whoever finds one of them changed copies the other over it, and loading both into the tied module
may do so by itself. So a lock changes all or none.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from types import MappingProxyType

from nnguard.errors import NnguardError
from nnguard.hiding import extract
from nnguard.stream import Stream, Unit

__all__ = ["NO_TWINS", "Twins", "find_twins"]

Twins = Mapping[int, tuple[int, ...]]
"""For each tensor that has twins, by the position of its unit, all of them, itself included."""

NO_TWINS: Twins = MappingProxyType({})


def find_twins(stream: Stream) -> Twins:
    """Find tensors of equal contents.

    Records that can be taken out are: bits that one of two tensors carries make no difference.
    """
    bare = _without_records(stream)
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for index, unit in enumerate(bare):
        if unit.tensor is not None:
            alike[_form(unit)].append(index)
    equal: dict[Hashable, list[int]] = defaultdict(list)
    for form, units in alike.items():
        for index in units if len(units) > 1 else ():
            equal[form, _payload_digest(bare[index])].append(index)
    return {index: tuple(units) for units in equal.values() if len(units) > 1 for index in units}


def _without_records(stream: Stream) -> Stream:
    while True:
        try:
            stream = extract(stream).original
        except NnguardError:
            return stream


def _form(unit: Unit) -> Hashable:
    """Return all that the header says but the name, and the size of the payload."""
    assert unit.tensor is not None
    size = unit.size - unit.tensor.payload_offset
    return replace(unit.tensor, name="", payload_offset=0), size


def _payload_digest(unit: Unit) -> bytes:
    assert unit.tensor is not None
    return hashlib.sha256(unit.read()[unit.tensor.payload_offset :]).digest()
