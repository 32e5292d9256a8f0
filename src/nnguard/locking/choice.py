"""Which weights a lock replaces, and what they become.

The content key decides both. In each tensor the most important weights are the *pool*, eight times
as many as are to be replaced. Out of it come weights of one sign in one row, three quarters of
those that there are in a row, so that a row's error adds up; each becomes a value of the other sign
that some weight of the pool has, mostly a large one. So no value is new to the tensor, and whoever
does not have the key has to tell, for each weight of the pool, whether it is one of the eighth that
is wrong.

Without data, importance is magnitude within the tensor: the change of a weight's sign changes the
row's output by twice its magnitude, and networks are built so that every layer's output counts. All
tensors get the same number of replacements, as far as they are large enough: those of small
tensors, which most of a network's inputs pass through, count for most
(`docs/adr/0010-locking.md` has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nnguard.crypto.content import Keystream
from nnguard.hiding.carriers import can_carry, weights_in
from nnguard.stream import Stream, Unit
from nnguard.stream.coding import Indices, QuantizedTensor

__all__ = [
    "MAX_WEIGHTS",
    "Choice",
    "Importance",
    "apply",
    "can_lock",
    "choose",
    "count_weights",
    "tensors_to_touch",
    "usable_tensors",
]

Importance = Mapping[str, npt.ArrayLike]
"""For each tensor, by name, how much the network depends on each weight: not negative. Tensors that
it does not name are left alone."""

_POOL = 8
"""Weights of the pool for each one that is replaced."""

_SMALLEST_POOL = 32

_DENSEST = 16
"""A tensor has at least so many weights for each one that is replaced."""

_GROUP = 8
"""Weights that are replaced in one tensor before it is the next one's turn."""

_TOUCHED = 1 << 18
"""Weights of tensors that are touched, at most, if they are enough: unlocking codes them all."""

MAX_WEIGHTS = 1 << 24
"""Weights of a tensor that a lock changes, at most."""

Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]
Positions = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Weights to replace; any number of the first ones is a choice in turn.

    Attributes:
        units: int64 array, position in the stream of each weight's unit.
        positions: int64 array, where the weight is in its tensor, row by row; as secret as the key.
        values: int32 array, the indices that they become.
    """

    units: Positions
    positions: Positions = field(repr=False)
    values: np.ndarray[tuple[int], np.dtype[np.int32]] = field(repr=False)

    def __len__(self) -> int:
        return self.units.size

    def first(self, count: int) -> Choice:
        """Return the choice of the first so many."""
        return Choice(self.units[:count], self.positions[:count], self.values[:count])

    def without(self, index: int) -> Choice:
        """Return the choice without one weight."""
        keep = np.arange(len(self)) != index
        return Choice(self.units[keep], self.positions[keep], self.values[keep])


def can_lock(unit: Unit) -> bool:
    """Tell from a unit's header whether a lock may change its weights: those of matrices."""
    tensor = unit.tensor
    return (
        tensor is not None
        and can_carry(unit)
        and len(tensor.shape) > 1
        and tensor.size <= MAX_WEIGHTS
    )


def count_weights(stream: Stream) -> int:
    """Return the number of weights in tensors of two dimensions or more."""
    tensors = (unit.tensor for unit in stream)
    return sum(tensor.size for tensor in tensors if tensor is not None and len(tensor.shape) > 1)


def usable_tensors(stream: Stream, importance: Importance | None = None) -> list[int]:
    """Return the positions of the tensors in which weights may be replaced.

    Raises:
        ValueError: The importance names a tensor that is not there.
    """
    if importance is not None and (unknown := {*importance} - {unit.name for unit in stream}):
        raise ValueError(f"there is no tensor {', '.join(sorted(unknown))} to be important")
    return [
        index
        for index, unit in enumerate(stream)
        if can_lock(unit) and (importance is None or unit.name in importance)
    ]


def tensors_to_touch(
    stream: Stream,
    count: int,
    randomness: Keystream,
    importance: Importance | None = None,
) -> list[int]:
    """Return the positions of the tensors in which weights are replaced.

    The smallest ones; of equal ones, those that the key says.

    Args:
        stream: The stream.
        count: Weights to replace.
        randomness: From the content key.
        importance: See `Importance`.

    Raises:
        ValueError: The importance names a tensor that is not there.
    """
    usable = usable_tensors(stream, importance)
    lots = dict(zip(usable, _numbers(randomness, 0, len(usable)).tolist(), strict=True))
    touched: list[int] = []
    weights = 0
    for index in sorted(usable, key=lambda index: (weights_in(stream, index), lots[index])):
        size = weights_in(stream, index)
        if weights + size > _TOUCHED and weights >= _DENSEST * count:
            break
        touched.append(index)
        weights += size
    return touched


def choose(
    tensors: Mapping[int, QuantizedTensor],
    count: int,
    randomness: Keystream,
    importance: Importance | None,
) -> Choice:
    """Choose weights and their new values.

    Args:
        tensors: Tensors by the position of their unit.
        count: Weights to replace; there may be room for fewer.
        randomness: From the content key.
        importance: See `Importance`; magnitude, if None.

    Raises:
        ValueError: The importance of a tensor has another shape, or is no number.
    """
    rooms = [tensor.indices.size // _DENSEST for tensor in tensors.values()]
    parts = []
    for (unit, tensor), wanted in zip(tensors.items(), _share(count, rooms), strict=True):
        positions, values = _choose_in(
            tensor, wanted, randomness, unit, _importance_of(tensor, importance)
        )
        groups = np.arange(positions.size) // _GROUP
        lots = _numbers(randomness, _run(unit, 4), groups.size // _GROUP + 1)[groups]
        parts.append((np.full(positions.size, unit), positions, values, groups, lots))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Choice(empty, empty, empty.astype(np.int32))
    units, positions, values, groups, lots = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((units, lots, groups))
    return Choice(units[order], positions[order], values[order])


def apply(choice: Choice, tensors: Mapping[int, QuantizedTensor]) -> dict[int, QuantizedTensor]:
    """Return the tensors that a choice changes, changed."""
    changed = {}
    for unit in np.unique(choice.units).tolist():
        mine = choice.units == unit
        indices = tensors[unit].indices.reshape(-1).copy()
        indices[choice.positions[mine]] = choice.values[mine]
        changed[unit] = tensors[unit].with_indices(indices)
    return changed


def _choose_in(
    tensor: QuantizedTensor,
    wanted: int,
    randomness: Keystream,
    unit: int,
    importance: npt.NDArray[np.float64],
) -> tuple[Positions, np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """Choose in one tensor; groups follow each other."""
    flat = tensor.indices.reshape(-1)
    pool = _pool(flat, wanted, importance)
    wanted = min(wanted, pool.size)
    signs = np.sign(flat[pool])
    cells = 2 * (pool // (flat.size // tensor.header.shape[0])) + (signs > 0)
    _, cells = np.unique(cells, return_inverse=True)
    cell_lots = _numbers(randomness, _run(unit, 1), pool.size)[cells]
    lots = _numbers(randomness, _run(unit, 2), pool.size)
    order = np.lexsort((lots, cells, cell_lots))
    order = order[np.argsort(_rounds(cells[order]), kind="stable")][:wanted]
    draws = _numbers(randomness, _run(unit, 3), wanted)
    modulus = 4 if tensor.header.dependent else 1
    values = _new_values(flat[pool], flat[pool[order]], modulus, draws)
    return pool[order], values


def _pool(flat: Indices, wanted: int, importance: npt.NDArray[np.float64]) -> Positions:
    """Return the positions of the most important weights that are not zero, ascending."""
    usable = np.flatnonzero(flat)
    size = min(max(_POOL * wanted, _SMALLEST_POOL), usable.size // 2)
    if size == 0 or wanted == 0:
        return np.zeros(0, np.int64)
    ranked = np.argpartition(-importance[usable], size - 1)[:size]
    return np.sort(usable[ranked])


def _new_values(
    pool: Indices, old: Indices, modulus: int, draws: Numbers
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Draw a value of the other sign for each weight, out of the pool.

    Values are drawn in proportion to the fourth power of their magnitude: mostly the larger ones,
    and where a tensor has a few very large ones, mostly these. Magnitudes keep their residue: that
    modulo 4 keeps the states of a trellis.
    """
    values = -old
    residues = np.abs(pool) % modulus
    for sign in (-1, 1):
        for residue in range(modulus):
            source = np.abs(pool[(np.sign(pool) == sign) & (residues == residue)])
            mine = (np.sign(old) == -sign) & (np.abs(old) % modulus == residue)
            if source.size and mine.any():
                weights = np.cumsum(source.astype(np.float64) ** 4)
                drawn = np.searchsorted(weights, draws[mine] / 2.0**64 * weights[-1], side="right")
                values[mine] = sign * source[np.minimum(drawn, source.size - 1)]
    return values


def _importance_of(
    tensor: QuantizedTensor, importance: Importance | None
) -> npt.NDArray[np.float64]:
    if importance is None:
        return np.abs(tensor.indices.reshape(-1)).astype(np.float64)
    name = tensor.header.name
    values = np.asarray(importance[name], np.float64)
    if values.size != tensor.indices.size or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"importance of tensor {name} is not a number above 0 for each weight")
    return values.reshape(-1)


def _share(count: int, rooms: Sequence[int]) -> list[int]:
    """Share a number out evenly and in groups, no more to anybody than he has room for."""
    shares = [0] * len(rooms)
    left = count
    order = sorted(range(len(rooms)), key=lambda index: rooms[index])
    for done, index in enumerate(order):
        even = -(-left // (len(rooms) - done))
        shares[index] = min(rooms[index], -(-even // _GROUP) * _GROUP, left)
        left -= shares[index]
    return shares


def _rounds(cells: Positions) -> Positions:
    """Tell for each weight whether it is of the first three quarters of its cell, or of the rest.

    Args:
        cells: Labels; equal ones follow each other.
    """
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    lengths = np.diff(starts, append=cells.size)
    rank = np.arange(cells.size) - np.repeat(starts, lengths)
    return (4 * rank >= 3 * np.repeat(lengths, lengths)).astype(np.int64)


def _numbers(randomness: Keystream, run: int, count: int) -> Numbers:
    return np.frombuffer(randomness.read(run, 8 * count), np.uint64)


def _run(unit: int, purpose: int) -> int:
    return 8 * (unit + 1) + purpose
