"""Choosing the weights that are masked.

A licensee can tell which weights are masked, and can spoil them all. So in the tensors nearest to
the input, without which nothing that follows is of use, all weights are masked, of which only some
are marked; elsewhere a few are, for those who do not know where. Left out are tensors with twins,
and those that the trial holds too, as somebody has them in the clear
(`docs/adr/0036-fingerprints.md`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnguard._locking.choice import can_lock, count_weights
from nnguard._locking.scramble import LARGE
from nnguard._locking.twins import find_twins_in_set
from nnguard._records.masks import MAX_WIDTH
from nnguard._stream import Stream, Unit
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._tracing.masking import levels_of
from nnguard.errors import FormatError, LockError

__all__ = ["Chosen", "choose"]

_MOST_ENTRIES = 12_288
"""Length of the code: a license has a key of 8 bytes for each entry."""

_FEWEST_MARKS = 8_192
"""Fewer do not tell ten thousand licensees apart, once some of them met."""

_CORE, _CORE_LEAST, _CORE_MOST = 0.05, 1 << 15, 1 << 22
"""Of all weights, how many are in tensors whose weights are all masked; bounds of that."""

_ELSEWHERE = 1 << 18
"""Weights that are masked in other tensors, about."""

_SPARSEST, _DENSEST = 7, 2
"""Logarithms of how many weights of other tensors there are for each that is masked."""

_LOUDEST = 5e-4
"""Power of the marks to that of the weights, at most: 33 dB less changes no score that counts."""

_SMALL = 0.999
"""Of a tensor's weights, how many are small enough to be masked, at least; others stay as they are,
in the clear for whoever has a license."""

_NARROWEST = 4.0
"""Levels that a tensor's weights spread over, at least, beyond what somebody knows of them."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A tensor of which weights are masked.

    Attributes:
        unit: Position of its unit.
        size: Its weights.
        width: Bits of a masked weight.
        share: Of its masked weights, how many may be marked.
        sparsity: One of `2**sparsity` weights is masked; see `MaskedTensor`.
    """

    unit: int
    size: int
    width: int
    share: float
    sparsity: int = 0


def choose(release: Stream, known: Iterable[Stream]) -> tuple[list[Chosen], int]:
    """Choose which tensors of a release are masked, and how many entries the code has.

    Args:
        release: The release, without records.
        known: Networks that anybody may have, such as the trial.

    Raises:
        LockError: There are too few weights that could be marked.
    """
    found = _candidates(release, known)
    weights = count_weights(release)
    core = min(max(_CORE * weights, _CORE_LEAST), _CORE_MOST)
    densest = min(max(math.ceil(math.log2(max(weights / _ELSEWHERE, 1))), _DENSEST), _SPARSEST)
    chosen: list[Chosen] = []
    for each in sorted(found, key=lambda each: each.size > LARGE * weights):
        if core > 0:
            chosen.append(each)
            core -= each.size
        else:
            half_marked = int(math.log2(0.5 / each.share))  # sparser, and there were too few marks
            sparsity = min(max(half_marked, densest), _SPARSEST)
            share = min(each.share * 2**sparsity, 1.0)
            chosen.append(Chosen(each.unit, each.size, each.width, share, sparsity))
    marks = int(sum(each.size * each.share / 2**each.sparsity for each in chosen))
    if marks < _FEWEST_MARKS:
        raise LockError(
            f"the release has too little room for fingerprints: {marks:,} weights can have one, "
            f"and {_FEWEST_MARKS:,} are needed",
            hint="fingerprints go into tensors of two dimensions or more, of weights that spread "
            "over many steps (a finer one, a lower qp, makes them wider), but not into those that "
            "are nearly in the trial",
        )
    chosen.sort(key=lambda each: each.unit)
    return chosen, min(_MOST_ENTRIES, marks)


def _candidates(release: Stream, known: Iterable[Stream]) -> list[Chosen]:
    streams = {str(number): stream for number, stream in enumerate(known)}
    others = [{unit.name: unit for unit in each if can_lock(unit)} for each in streams.values()]
    twins = {at for file, at in find_twins_in_set({**streams, "": release}) if not file}
    found = (
        _candidate(index, unit, [each[unit.name] for each in others if unit.name in each])
        for index, unit in enumerate(release)
        if can_lock(unit) and index not in twins
    )
    return [each for each in found if each is not None]


def _candidate(index: int, unit: Unit, others: Iterable[Unit]) -> Chosen | None:
    """Return how a tensor would be masked; None where that would be of no use."""
    if unit.tensor is None or len(unit.tensor.shape) < 2:
        return None
    try:
        tensor = decode(unit)
        levels = levels_of(tensor)
        secret = _variance_left(tensor, levels, others)
    except FormatError:
        return None
    width = (int(np.quantile(np.abs(levels), _SMALL)) + 1).bit_length() + 1
    if secret < _NARROWEST**2 or width > MAX_WIDTH:
        return None
    return Chosen(index, levels.size, width, min(_LOUDEST * float(np.mean(levels**2)), 0.5))


def _variance_left(
    tensor: QuantizedTensor, levels: npt.NDArray[np.int64], others: Iterable[Unit]
) -> float:
    """Return what is left of a tensor's variance for whoever knows others of the same name."""
    least = float(np.mean(levels**2))
    for other in others:
        theirs = decode(other)
        if theirs.indices.shape != tensor.indices.shape:
            continue
        guess = theirs.indices.reshape(-1).astype(np.float64)
        slope = float(guess @ levels) / max(float(guess @ guess), 1.0)
        least = min(least, float(np.mean((levels - slope * guess) ** 2)))
    return least
