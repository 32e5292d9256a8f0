"""Tensors as differences to others: the integers that payloads code, less those of another tensor.

Law: `add(subtract(unit, base), base)` is the unit's bytes (`docs/SPEC.md`, section 6.4).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnguard._stream.coding import Indices, Parameters
from nnguard._stream.headers import TensorHeader
from nnguard._stream.quantized import Integers, pieces_of, recode, to_indices, to_integers
from nnguard._stream.units import Unit
from nnguard.errors import FormatError

__all__ = ["add", "cost_of_difference", "may_pay", "subtract"]

_SMALLER = 2
"""A difference may pay where its integers are on average so many times smaller than the tensor's:
that saves a bit in each weight."""


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


def cost_of_difference(unit: Unit, base: Unit) -> int:
    """Return what a difference and its base cost to decode, in weights.

    Raises:
        FormatError: One is no quantized tensor.
    """
    return _header(unit).cost + _header(base).cost


def may_pay(unit: Unit, base: Unit) -> bool:
    """Tell from the first pieces of two tensors of one shape whether a difference would be small.

    Raises:
        FormatError: One is damaged, or no quantized tensor.
    """
    integers = next(_integers(unit))
    apart = np.abs(integers - next(_integers(base))).sum()
    return bool(_SMALLER * apart <= np.abs(integers).sum())


def _combine(unit: Unit, base: Unit, sign: int) -> bytes:
    header = _header(unit)
    if header.shape != _header(base).shape:
        raise FormatError(f"tensors {unit.name} and {base.name} have different shapes")
    others = _integers(base)
    at = state = 0

    def change(indices: Indices, parameters: Parameters) -> Indices:
        nonlocal at, state
        skipped = np.frombuffer(parameters.skipped_rows, bool)
        integers = to_integers(indices, dependent=header.dependent) + sign * next(others)
        rows = (at + np.flatnonzero(integers)) // header.width if skipped.size else None
        if rows is not None and skipped[rows].any():
            raise ValueError(f"tensor {unit.name} skips rows that are not zero")
        at += integers.size
        changed, state = to_indices(integers, dependent=header.dependent, state=state)
        return changed

    recoded = recode(unit, change, by=0)
    next(others, None)  # has the decoder look at the end of the base
    return recoded


def _header(unit: Unit) -> TensorHeader:
    if unit.quantized is None:
        raise FormatError(f"unit {unit.name} is not a quantized tensor")
    return unit.quantized


def _integers(unit: Unit) -> Iterator[Integers]:
    """Return the integers of a tensor, piece by piece."""
    dependent = _header(unit).dependent
    return (to_integers(indices, dependent=dependent) for indices, _ in pieces_of(unit))
