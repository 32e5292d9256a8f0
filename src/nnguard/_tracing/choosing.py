"""Choosing the weights that are masked, so that the masks hide the fingerprints under them.

Weights that share a mask have the same fingerprint. Whoever averages them learns it, if there are
enough: of weights that spread over `s` steps, `n` tell their common shift as well as one weight
does that spreads over `s / sqrt(n)`. So the fewer share a mask, the narrower they spread. Rows and
columns of small weights are left out, as they would tell it alone; tensors that the trial holds
too, and tensors with twins, as somebody has them in the clear
(`docs/adr/0036-fingerprints.md`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import ContentKey
from nnguard._locking.choice import can_lock
from nnguard._locking.twins import find_twins_in_set
from nnguard._records.claims import Claims
from nnguard._records.masks import MAX_ENTRIES, MAX_WIDTH, MaskedTensor, Masks
from nnguard._records.replaced import Replaced
from nnguard._stream import Stream, Unit
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._tracing.masking import levels_of
from nnguard.errors import FormatError, LockError

__all__ = ["choose_masks"]

_MOST_ENTRIES = 1 << 15
"""Masks of a release: a license has some 10 bits of each."""

_FEWEST_ENTRIES = 1 << 12
"""Fingerprints of fewer entries do not tell ten thousand licensees apart, once some of them met."""

_FEWEST_USES = 1
"""Weights of a mask, at least, where there are enough masks."""

_TOLD = 0.25
"""Signal to noise, in power, at which an average over all weights of a mask tells the
fingerprint: a fifth of it."""

_NARROWEST = 4.0
"""Steps that the weights of a row or column spread over, at least."""

_LOUDEST = 5e-4
"""Power of the marks to that of the weights, at most: 33 dB less changes no score that counts."""

_SPIKE = 2.0
"""Of weights that spread over `s` steps, one of `s / 2` may lie within a step of zero, and one of a
hundred more: of zeros among other weights a fingerprint makes ones."""

_SPARSEST, _DENSEST = 7, 1
"""Logarithms of how many weights there are for each mark."""

_OUTLIERS = 1e-4
"""Of a tensor's weights, how many may be too large for a mask."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A tensor that can have masks.

    Attributes:
        part: Masks for it, of which only the number is to be found.
        marks: Weights that would be masked, about.
        most_uses: Weights that may share a mask.
    """

    part: MaskedTensor
    marks: float
    most_uses: float

    @property
    def entries(self) -> int:
        """Masks that it needs."""
        return int(self.marks / self.most_uses) + 1


def choose_masks(release: Stream, known: Iterable[Stream], claims: Claims | None = None) -> Masks:
    """Choose which weights of a release are masked.

    Args:
        release: The release, without records.
        known: Networks that anybody may have, such as the trial.
        claims: What the signature of a copy says.

    Raises:
        LockError: There are too few weights that could be.
    """
    streams = {str(number): stream for number, stream in enumerate(known)}
    others = [{unit.name: unit for unit in each if can_lock(unit)} for each in streams.values()]
    twins = {at for file, at in find_twins_in_set({**streams, "": release}) if not file}
    found = [
        candidate
        for index, unit in enumerate(release)
        if can_lock(unit) and index not in twins
        if (candidate := _candidate(index, unit, others)) is not None
    ]
    found.sort(key=lambda each: -each.most_uses)  # most weights for each byte of a license
    chosen: list[_Candidate] = []
    left = _MOST_ENTRIES
    for each in found:
        if each.entries <= left:
            chosen.append(each)
            left -= each.entries
    marks = sum(each.marks for each in chosen)
    entries = min(_MOST_ENTRIES, int(marks / _FEWEST_USES))
    if entries < _FEWEST_ENTRIES:
        raise LockError(
            f"the release has too little room for fingerprints: {int(marks):,} weights can have "
            f"one, and {_FEWEST_ENTRIES * _FEWEST_USES:,} are needed",
            hint="fingerprints go into tensors of two dimensions or more, of weights that spread "
            "over many steps: a finer step (a lower qp) makes them wider",
        )
    spare = max(entries - sum(each.entries for each in chosen), 0)
    parts = [
        replace(each.part, entries=min(each.entries + int(spare * each.marks / marks), MAX_ENTRIES))
        for each in chosen
    ]
    parts.sort(key=lambda part: part.unit)
    return Masks(ContentKey.new_nonce(), tuple(parts), claims)


def _candidate(index: int, unit: Unit, others: Iterable[Mapping[str, Unit]]) -> _Candidate | None:
    """Return how a tensor would be masked; None where it tells too much."""
    if unit.tensor is None or len(unit.tensor.shape) < 2:
        return None
    try:
        tensor = decode(unit)
        levels = levels_of(tensor).reshape(tensor.indices.shape[0], -1)
        secret = _secret_part(tensor, levels, [of[unit.name] for of in others if unit.name in of])
    except FormatError:
        return None
    rows, columns = _wide(secret)
    rows &= levels.any(axis=1)  # it may be skipped
    allowed = np.ix_(rows, columns)
    variances = _variances(secret)[allowed]
    if not variances.size:
        return None
    if np.mean(np.abs(secret[allowed]) < 1) > 0.01 + _SPIKE * np.mean(1 / np.sqrt(variances)):
        return None
    told = float(np.mean(1 / variances))
    sparsity = min(max(math.ceil(-math.log2(_LOUDEST / told)), _DENSEST), _SPARSEST)
    width, large = _width(levels)
    outliers = None
    if large.size:
        outliers = Replaced(index, large, tensor.indices.reshape(-1)[large])
    part = MaskedTensor(
        index,
        width,
        1,
        sparsity,
        np.packbits(rows).tobytes(),
        np.packbits(columns).tobytes(),
        outliers,
    )
    if width > MAX_WIDTH or _TOLD / told < 1:
        return None
    return _Candidate(part, variances.size / 2**sparsity, _TOLD / told)


def _secret_part(
    tensor: QuantizedTensor, levels: npt.NDArray[np.int64], others: Iterable[Unit]
) -> npt.NDArray[np.float64]:
    """Return what nobody can guess of a tensor's levels, who knows tensors of the same name."""
    secret = levels.astype(np.float64)
    for other in others:
        try:
            theirs = decode(other)
        except FormatError:
            continue
        if theirs.indices.shape != tensor.indices.shape:
            continue
        guess = theirs.indices.reshape(levels.shape).astype(np.float64)
        slope = (guess * levels).sum() / max((guess * guess).sum(), 1.0)
        rest = levels - slope * guess
        if (rest * rest).sum() < (secret * secret).sum():
            secret = rest
    return secret


def _variances(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how wide each weight spreads, as far as its row and its column tell."""
    squares = levels * levels
    rows: npt.NDArray[np.float64] = squares.mean(axis=1)
    columns: npt.NDArray[np.float64] = squares.mean(axis=0)
    return rows[:, None] * np.minimum(columns / max(float(squares.mean()), 1e-9), 1)


def _wide(levels: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the rows and columns whose weights spread over enough steps."""
    squares = levels * levels
    rows = squares.mean(axis=1) >= _NARROWEST**2
    columns = squares[rows].mean(axis=0) >= _NARROWEST**2 if rows.any() else rows[:0]
    if not rows.any():
        columns = np.zeros(levels.shape[1], bool)
    return rows, columns


def _width(levels: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
    """Return the bits of a mask, and where weights are too large for it."""
    magnitudes = np.abs(levels.reshape(-1)) + 2  # with a fingerprint, and one more
    allowed = int(_OUTLIERS * magnitudes.size)
    widest = int(np.partition(magnitudes, -allowed - 1)[-allowed - 1])
    width = widest.bit_length() + 1
    return width, np.flatnonzero(magnitudes > 1 << width - 1)
