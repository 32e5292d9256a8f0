"""Which weights a soft lock replaces, and what they become.

The content key decides both. A large and a small weight of one kernel (the weights of an output for
one input channel; of a matrix, a row) change places, mostly of opposite signs. So a kernel's sum
and length stay, and with them nearly the mean and the variance of the row's output, which
normalization behind it records; a tensor's values stay, too, and none comes twice. The *pool* is
the pairs that matter most, one for every 16 weights of a tensor, or more where many trade: whoever
looks for replaced weights among the largest finds them spread evenly. In a row that is touched,
three quarters of its pairs of the pool trade.

Without data, importance is magnitude. All tensors get the same number of replacements, as far as
they are large enough: those of small tensors, which most of a network's inputs pass through, count
for most (`docs/adr/0010-locking.md`, `docs/adr/0020-scrambling.md`). A tensor with a twin changes
with it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import Keystream
from nnguard._hiding.carriers import can_carry, can_code, weights_in
from nnguard._locking.twins import NO_TWINS, Twins
from nnguard._stream import Stream, Unit
from nnguard._stream.quantized import MAX_WEIGHTS, QuantizedTensor
from nnguard.errors import ArgumentError

__all__ = [
    "Choice",
    "Importance",
    "apply",
    "can_lock",
    "check_importance",
    "choose",
    "count_weights",
    "tensors_to_touch",
    "usable_tensors",
]

Importance = Mapping[str, npt.ArrayLike]
"""For each tensor, by name, how much the network depends on each weight: not negative. Tensors that
it does not name are left alone, but for twins."""

_POOL = 16
"""Weights that a tensor has for each pair of its pool."""

_SMALLEST_POOL = 32

_SPARE = 4
"""Pairs of the pool for each one that trades, as far as half of the tensor's are enough."""

_DENSEST = 4
"""Weights that a tensor has, at least, for each one that is replaced."""

_GROUP = 4
"""Pairs that trade in one tensor before it is the next one's turn."""

_TOUCHED = 1 << 18
"""Weights of tensors that are touched, at most, if they are enough: unlocking codes them all."""


class _Draw(enum.IntEnum):
    """What is drawn by lot; the first of all tensors together, the others in each."""

    TENSORS = 0
    ROWS = 1
    PAIRS = 2
    GROUPS = 3


Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]
Positions = npt.NDArray[np.int64]
_NO_PAIRS: Positions = np.zeros((0, 2), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Pairs of weights that trade places; any number of the first ones is a choice in turn.

    Attributes:
        units: int64 array (n), position in the stream of each pair's unit.
        pairs: int64 array (n, 2), where the two are in their tensor, row by row; as secret as the
            key.
    """

    units: Positions
    pairs: Positions = field(repr=False)

    def __len__(self) -> int:
        return self.units.size

    @property
    def weights(self) -> int:
        """How many weights are replaced, those of twins not counted."""
        return self.pairs.size

    def first(self, count: int) -> Choice:
        """Return the choice of the first pairs only."""
        return Choice(self.units[:count], self.pairs[:count])

    def without(self, index: int) -> Choice:
        """Return the choice without one pair."""
        keep = np.arange(len(self)) != index
        return Choice(self.units[keep], self.pairs[keep])

    def by_unit(self, twins: Twins) -> Iterator[tuple[int, Positions]]:
        """Go through the tensors that change, twins included: position of the unit, pairs."""
        for unit in np.unique(self.units).tolist():
            for each in twins.get(unit, (unit,)):
                yield each, self.pairs[self.units == unit]


def can_lock(unit: Unit) -> bool:
    """Tell from a unit's header and size whether a lock may change its weights."""
    return can_code(unit) and unit.tensor is not None and unit.tensor.size <= MAX_WEIGHTS


def count_weights(stream: Stream) -> int:
    """Return the number of weights in tensors of two dimensions or more."""
    tensors = (unit.tensor for unit in stream)
    return sum(tensor.size for tensor in tensors if tensor is not None and len(tensor.shape) > 1)


def check_importance(importance: Importance | None, streams: Iterable[Stream]) -> None:
    """Make sure that all tensors are there of which the importance is given.

    Raises:
        ArgumentError: One is not.
    """
    names = {unit.name for stream in streams for unit in stream}
    if importance is not None and (unknown := {*importance} - names):
        raise ArgumentError(
            f"importance names a tensor that is not there: {', '.join(sorted(unknown))}"
        )


def usable_tensors(
    stream: Stream,
    importance: Importance | None = None,
    twins: Twins = NO_TWINS,
    spared: Container[int] = (),
) -> list[int]:
    """Return the positions of the tensors in which weights may be replaced; one of twins.

    Args:
        stream: The stream.
        importance: See `Importance`.
        twins: See `find_twins`.
        spared: Positions of tensors that stay as they are.
    """
    usable: list[int] = []
    for index, unit in enumerate(stream):
        tensor = unit.tensor
        if (
            tensor is not None
            and len(tensor.shape) > 1
            and can_carry(unit)
            and can_lock(unit)
            and (importance is None or unit.name in importance)
            and index not in spared
            and not {*usable} & {*twins.get(index, ())}
        ):
            usable.append(index)
    return usable


def tensors_to_touch(
    stream: Stream, usable: Sequence[int], count: int, randomness: Keystream
) -> list[int]:
    """Return the positions of the tensors in which weights are replaced; one of twins.

    The smallest ones; of equal ones, those that the key says.

    Args:
        stream: The stream.
        usable: See `usable_tensors`.
        count: Weights to replace.
        randomness: From the content key.
    """
    lots = dict(zip(usable, _numbers(randomness, _Draw.TENSORS, len(usable)).tolist(), strict=True))
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
    """Choose pairs of weights.

    Args:
        tensors: Tensors by the position of their unit; one of twins.
        count: Weights to replace, in pairs; there may be room for fewer.
        randomness: From the content key.
        importance: See `Importance`; magnitude, if None.

    Raises:
        ArgumentError: The importance of a tensor has another shape, or is not a number.
    """
    rooms = [tensor.indices.size // (2 * _DENSEST) for tensor in tensors.values()]
    parts = []
    for (unit, tensor), wanted in zip(
        tensors.items(), _share((count + 1) // 2, rooms), strict=True
    ):
        pairs = _choose_in(tensor, wanted, randomness, unit, _importance_of(tensor, importance))
        groups = np.arange(len(pairs)) // _GROUP
        lots = _numbers(randomness, _run(unit, _Draw.GROUPS), groups.size // _GROUP + 1)[groups]
        parts.append((np.full(len(pairs), unit), pairs, groups, lots))
    if not parts:
        return Choice(np.zeros(0, np.int64), _NO_PAIRS)
    units, pairs, groups, lots = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((units, lots, groups))
    return Choice(units[order], pairs[order])


def apply(
    choice: Choice, tensors: Mapping[int, QuantizedTensor], twins: Twins = NO_TWINS
) -> dict[int, QuantizedTensor]:
    """Return the tensors that a choice changes, changed.

    Args:
        choice: The choice.
        tensors: Tensors by the position of their unit, twins included.
        twins: See `find_twins`.
    """
    return {unit: _trade(tensors[unit], pairs) for unit, pairs in choice.by_unit(twins)}


def _trade(tensor: QuantizedTensor, pairs: Positions) -> QuantizedTensor:
    """Let weights trade places.

    With TCQ each takes the next smaller magnitude that leaves the remainder of its own modulo 4,
    which keeps the states of the trellis.
    """
    indices = tensor.indices.reshape(-1).copy()
    own, wanted = indices[pairs], indices[pairs[:, ::-1]]
    if tensor.header.dependent:
        own, magnitudes = np.abs(own), np.abs(wanted)
        magnitudes -= (magnitudes - own) % 4
        magnitudes[magnitudes < 1] += 4
        wanted = np.sign(wanted) * magnitudes
    indices[pairs] = wanted
    return tensor.with_indices(indices)


def _choose_in(
    tensor: QuantizedTensor,
    wanted: int,
    randomness: Keystream,
    unit: int,
    importance: npt.NDArray[np.float64],
) -> Positions:
    """Choose pairs in one tensor; groups follow each other."""
    shape = tensor.header.shape
    pool = _pool(tensor, wanted, importance)
    _, rows = np.unique(pool[:, 0] // (tensor.indices.size // shape[0]), return_inverse=True)
    row_lots = _numbers(randomness, _run(unit, _Draw.ROWS), len(pool))[rows]
    lots = _numbers(randomness, _run(unit, _Draw.PAIRS), len(pool))
    order = np.lexsort((lots, rows, row_lots))
    order = order[np.argsort(_rounds(rows[order]), kind="stable")][:wanted]
    return pool[order]


def _kernel_of(shape: tuple[int, ...]) -> int:
    """Return how many weights a kernel has; of a matrix, a row; of a column, all."""
    sizes = (math.prod(shape[begin:]) for begin in (2, 1, 0))
    return next((size for size in sizes if size > 1), 1)


def _pool(tensor: QuantizedTensor, wanted: int, importance: npt.NDArray[np.float64]) -> Positions:
    """Return the pairs that matter most, by position.

    A pair matters as much as one of the two: whoever looks for the pairs that are furthest apart
    finds no more than who looks for large weights.
    """
    if wanted == 0:
        return _NO_PAIRS
    pairs = _pairs(tensor, importance)
    worth = importance[pairs].max(1)
    pairs, worth = pairs[worth > 0], worth[worth > 0]
    share = max(tensor.indices.size // _POOL, _SMALLEST_POOL, _SPARE * wanted)
    size = min(share, len(pairs) // 2)
    if size == 0:
        return _NO_PAIRS
    found: Positions = pairs[np.sort(np.argpartition(-worth, size - 1)[:size])]
    return found


def _pairs(tensor: QuantizedTensor, importance: npt.NDArray[np.float64]) -> Positions:
    """Pair in each kernel the largest weight with the smallest, the next with the last but one.

    Where importance is not magnitude, weights of one sign are in its order instead. Zeros stay, and
    so does what the trellis would not let change.
    """
    flat, kernel = tensor.indices.reshape(-1), _kernel_of(tensor.header.shape)
    used = np.flatnonzero(flat)
    kernels = used // kernel
    order = np.lexsort((-np.sign(flat[used]) * importance[used], kernels))
    used, kernels = used[order], kernels[order]
    starts = np.searchsorted(kernels, kernels)
    ends = np.searchsorted(kernels, kernels, side="right") - 1
    rank = np.arange(used.size) - starts
    partners = used[ends - rank]
    unlike = np.abs(flat[used] - flat[partners]) >= (4 if tensor.header.dependent else 1)
    unlike |= np.sign(flat[used]) != np.sign(flat[partners])
    unlike &= starts + rank < ends - rank
    pairs: Positions = np.stack([used[unlike], partners[unlike]], axis=1)
    return pairs


def _importance_of(
    tensor: QuantizedTensor, importance: Importance | None
) -> npt.NDArray[np.float64]:
    if importance is None:
        return np.abs(tensor.indices.reshape(-1)).astype(np.float64)
    name = tensor.header.name
    values = np.asarray(importance[name], np.float64)
    if values.size != tensor.indices.size or not np.isfinite(values).all() or (values < 0).any():
        raise ArgumentError(
            f"importance of tensor {name} has to be a finite number, 0 or more, for each weight"
        )
    return values.reshape(-1)


def _share(count: int, rooms: Sequence[int]) -> list[int]:
    """Share a number out evenly and in groups, and no more to each than its room."""
    shares = [0] * len(rooms)
    left = count
    order = sorted(range(len(rooms)), key=lambda index: rooms[index])
    for done, index in enumerate(order):
        even = -(-left // (len(rooms) - done))
        shares[index] = min(rooms[index], -(-even // _GROUP) * _GROUP, left)
        left -= shares[index]
    return shares


def _rounds(rows: Positions) -> Positions:
    """Tell for each pair whether it is of the first three quarters of its row, or of the rest.

    Args:
        rows: Labels; equal ones follow each other.
    """
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(starts, append=rows.size)
    rank = np.arange(rows.size) - np.repeat(starts, lengths)
    return (4 * rank >= 3 * np.repeat(lengths, lengths)).astype(np.int64)


def _numbers(randomness: Keystream, run: int, count: int) -> Numbers:
    return np.frombuffer(randomness.read(run, 8 * count), np.uint64)


def _run(unit: int, draw: _Draw) -> int:
    """Return the run of the keystream that a draw in one tensor takes."""
    return 8 * (unit + 1) + draw
