"""Tensors as differences to others: the integers that payloads code, less those of another tensor.

Law: `add(subtract(unit, base), base)` is the unit's bytes (`docs/SPEC.md`, section 6.4).
"""

from __future__ import annotations

import numpy as np

from nnguard._stream.coding import Indices, parameters_of
from nnguard._stream.headers import PayloadType, TensorHeader
from nnguard._stream.quantized import Integers, pieces_of, recode, to_indices, to_integers
from nnguard._stream.units import Unit
from nnguard.errors import FormatError

__all__ = ["add", "looks_near", "subtract"]

_MAX_WEIGHTS = 1 << 28

_NEAR = 4
"""A difference is worth making where integers are so many times as large: two bits each."""


def subtract(unit: Unit, base: Unit) -> bytes:
    """Return a unit whose integers are those of a tensor, less those of another one.

    Args:
        unit: Of a quantized tensor, not coded in blocks.
        base: The same; of the same shape.

    Raises:
        FormatError: Shapes differ, one is no such tensor, or is damaged.
        ValueError: The unit skips a row in which the base is not 0, or an index would be too large.
    """
    return _combine(unit, base, -1)


def add(difference: Unit, base: Unit) -> bytes:
    """Return the unit that a difference to `base` was made of; errors as in `subtract`."""
    return _combine(difference, base, 1)


def looks_near(unit: Unit, base: Unit) -> bool:
    """Tell from the first pieces of two tensors of one shape whether a difference would be small.

    Raises:
        FormatError: One is damaged, or no quantized tensor.
    """
    for each in (unit, base):
        _header(each)
    (indices, _), (others, _) = next(pieces_of(unit)), next(pieces_of(base))
    integers = _integers(unit, indices)
    apart = np.abs(integers - _integers(base, others)).sum()
    return bool(_NEAR * apart <= np.abs(integers).sum())


def _combine(unit: Unit, base: Unit, sign: int) -> bytes:
    header = _header(unit)
    if header.shape != _header(base).shape:
        raise FormatError(f"tensors {unit.name} and {base.name} have other shapes")
    skipped = np.frombuffer(parameters_of(next(pieces_of(unit))[1]).skipped_rows, bool)
    others = pieces_of(base)
    at = state = 0

    def change(indices: Indices) -> Indices:
        nonlocal at, state
        integers = _integers(unit, indices) + sign * _integers(base, next(others)[0])
        rows = (at + np.flatnonzero(integers)) // header.width if skipped.size else None
        if rows is not None and skipped[rows].any():
            raise ValueError(f"tensor {unit.name} skips rows that are not zero")
        at += integers.size
        changed, state = to_indices(integers, dependent=header.dependent, state=state)
        return changed

    recoded = recode(unit, change, by=0)
    if next(others, None) is not None:
        raise FormatError(f"tensor {base.name} goes on behind its end")
    return recoded


def _header(unit: Unit) -> TensorHeader:
    header = unit.tensor
    if header is None or header.payload_type != PayloadType.FLOAT or header.size > _MAX_WEIGHTS:
        raise FormatError(f"unit {unit.name} is not a quantized tensor of a size that is coded")
    return header


def _integers(unit: Unit, indices: Indices) -> Integers:
    return to_integers(indices, dependent=_header(unit).dependent)
