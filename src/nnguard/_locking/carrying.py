"""A lock whose trial is another network, which carries the release.

The trial is whole and in the clear; the release is in its weights, as ciphertext. So whoever has no
key has the weaker network, whatever is done to the file.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard._base.progress import Progress
from nnguard._base.workers import HERE, Workers
from nnguard._crypto.content_key import ContentKey
from nnguard._hiding import candidates
from nnguard._hiding.carriers import cost_allowed, weights_in
from nnguard._hiding.frame import MAX_BITS
from nnguard._locking.sealing import hide
from nnguard._records.hashed import Files, Hashed
from nnguard._records.kinds import RecordKind
from nnguard._records.layers import layers
from nnguard._records.lock import Difference, LockContent, LockedFile, LockShard, Part
from nnguard._records.masks import Masks
from nnguard._stream import Stream, Unit
from nnguard._stream.coding import step_of
from nnguard._stream.differences import cost_of_difference, may_pay, subtract
from nnguard._stream.quantized import pieces_of
from nnguard.errors import CapacityError, FormatError, LockError, NoRecordError

__all__ = ["carry", "check_trial", "share_out"]

_BYTES_PER_WEIGHT = 1.8
"""What a weight of a trial holds, of two bytes: some are zeros."""

_ROUNDED = 0.02
"""Tensors count as the same if they differ by at most this share of their norm: several times what
bfloat16 rounds."""

_PAYS = 0.8
"""A difference has at most this share of the bytes: adding it takes time."""


def carry(
    release: Files,
    trial: Hashed,
    tier: str,
    key: ContentKey,
    *,
    shard: LockShard | None = None,
    masks: Masks | None = None,
    workers: Workers = HERE,
    progress: Progress = lambda _: None,
) -> tuple[Stream, LockContent]:
    """Hide a release in another network.

    Args:
        release: What the key opens: one stream without a name, or files of a set.
        trial: The network that is given away.
        tier: Name of what the key opens.
        key: The content key.
        shard: Which part of a locked set the trial is.
        masks: Those that are on the release, if any.
        workers: Who decodes and encodes tensors.
        progress: See `nnguard._hiding.Plan.embed`.

    Returns:
        The trial with the release in it, and what the lock says of that.

    Raises:
        CapacityError: The release does not fit; the error says how large a trial has to be.
    """
    splitter = _Splitter(trial, workers)
    locked = [
        LockedFile(name, file.digest, splitter.split(file), masks)
        for name, file in sorted(release.items())
    ]
    content = LockContent((), (), tuple(locked))
    nonce = key.new_nonce()
    try:
        stream = hide(
            trial.stream,
            content,
            tier,
            key,
            nonce,
            shard=shard,
            workers=workers,
            progress=progress,
        )
        return stream, content
    except CapacityError as error:
        carried = sum(file.carried for file in locked)
        raise _too_small(error, release, carried, trial.stream) from None


def check_trial(release: Files, trial: Files, *, allow_near: bool = False) -> bool:
    """Refuse a trial that holds the release in the clear, or a lock of its own.

    Args:
        release: The stream, or all of a set.
        trial: The same of the network that is given away.
        allow_near: All matrices may be nearly those of the release.

    Returns:
        Whether they are.

    Raises:
        LockError: The trial is locked, or holds the release, or nearly so.
    """
    sold, given = ([_forms(file) for file in each.values()] for each in (release, trial))
    if any(form.kind == RecordKind.LOCK for forms in given for form in forms):
        raise LockError(
            "the network that is to be the trial is locked itself",
            hint="give the network as it was before; lock_tiers, or --tier, makes locks in locks",
        )
    known = {digest for forms in given for form in forms for digest in form.digests}
    counterparts = _counterparts(*([forms[-1].stream for forms in each] for each in (sold, given)))

    def is_given(forms: Sequence[_Form]) -> bool:
        return any(known.issuperset(form.digests) for form in forms)

    def is_near(forms: Sequence[_Form]) -> bool:
        return is_given(forms) or _holds_weights(forms[-1].stream, counterparts)

    if all(map(is_given, sold)):
        raise LockError(
            "the trial holds the whole release in the clear",
            hint="the trial is a weaker network: an early checkpoint, or a smaller one",
        )
    near = all(map(is_near, sold))
    if near and not allow_near:
        raise LockError(
            "the trial holds the whole release in the clear, or nearly so",
            hint="give a weaker network; if it is the base of a fine-tuned one, and scores less, "
            "say --allow-near (allow_near=True)",
        )
    return near


def share_out(release: Files, trial: Files) -> dict[str, list[str]]:
    """Return which files of the release each file of the trial carries.

    Those of the same names, if all are, and if it looks as if they fit. Otherwise the largest
    first, each to where most of its tensors have counterparts, or else to where most room is.
    """
    room = {name: _BYTES_PER_WEIGHT * _room(file.stream) for name, file in trial.items()}
    sizes = {name: file.stream.size for name, file in release.items()}
    if [*release] == [*trial] and all(sizes[name] < room[name] for name in trial):
        return {name: [name] for name in trial}
    shares: dict[str, list[str]] = {name: [] for name in trial}
    given = {name: _shapes(file) for name, file in trial.items()}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        shapes = _shapes(release[name])
        common = {
            each: sum(math.prod(shape) for _, shape in shapes & given[each])
            for each in trial
            if sizes[name] < room[each]
        }
        best = max(trial, key=lambda each: (common.get(each, 0), room[each]))
        shares[best].append(name)
        room[best] -= sizes[name]
    return shares


def _shapes(file: Hashed) -> set[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the tensors of a file."""
    return {_name_and_shape(unit) for unit in file.stream if unit.tensor}


def _name_and_shape(unit: Unit) -> tuple[str, tuple[int, ...]]:
    return unit.name, unit.tensor.shape if unit.tensor else ()


def _room(stream: Stream) -> int:
    """Return how many weights could carry."""
    return sum(weights_in(stream, index) for index in candidates(stream))


def _counterparts(release: Sequence[Stream], trial: Sequence[Stream]) -> dict[str, Unit]:
    """Return the tensors of a trial that those of a release may be, by the names of the latter.

    Those of the same names; where there is none, those that come in the same places among all of
    their shape that are left.
    """

    def quantized(streams: Sequence[Stream]) -> list[Unit]:
        return [unit for stream in streams for unit in stream if unit.quantized]

    def by_place(units: Sequence[Unit]) -> dict[tuple[tuple[int, ...], int], Unit]:
        seen: Counter[tuple[int, ...]] = Counter()
        found = {}
        for unit in units:
            _, shape = _name_and_shape(unit)
            found[shape, seen[shape]] = unit
            seen[shape] += 1
        return found

    sold, given = quantized(release), quantized(trial)
    named = {unit.name: unit for unit in given}
    renamed = by_place([unit for unit in sold if unit.name not in named])
    names = {unit.name for unit in sold}
    placed = by_place([unit for unit in given if unit.name not in names])
    return named | {unit.name: placed[at] for at, unit in renamed.items() if at in placed}


def _holds_weights(release: Stream, given: Mapping[str, Unit]) -> bool:
    """Tell whether all matrices of a release are given, but for how they were rounded.

    All quantized tensors, where there are no matrices.
    """
    quantized = [(unit, header) for unit in release if (header := unit.quantized)]
    matrices = [(unit, header) for unit, header in quantized if len(header.shape) > 1]
    compared = [unit for unit, _ in matrices or quantized]
    compared.sort(key=lambda unit: unit.size)  # the first that is not given ends the search
    return bool(compared) and all(
        unit.name in given and _same_but_rounded(unit, given[unit.name]) for unit in compared
    )


def _same_but_rounded(one: Unit, other: Unit) -> bool:
    """Tell whether two tensors are one that was rounded, pruned or cast in two ways."""
    if _name_and_shape(one)[1] != _name_and_shape(other)[1]:
        return False
    norm = apart = 0.0
    within_steps = True
    try:
        for (weights, step), (others, other_step) in zip(_pieces(one), _pieces(other), strict=True):
            difference = weights - others
            norm += float(np.square(weights).sum())
            apart += float(np.square(difference).sum())
            most = 2 * (step + other_step)  # TCQ may round to the next but one
            within_steps = within_steps and bool(np.abs(difference).max() <= most)
    except (FormatError, OverflowError):
        return False
    return within_steps or apart <= _ROUNDED**2 * norm


def _pieces(unit: Unit) -> Iterator[tuple[npt.NDArray[np.floating[Any]], float]]:
    """Yield the weights of a quantized tensor piece by piece, and their step."""
    header = unit.quantized
    assert header is not None
    for indices, decoder in pieces_of(unit):
        step = step_of(header, decoder.qp)
        yield step * indices, step


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """A stream, SHA-256 of its units, and the kind of the record on top; None for the last."""

    stream: Stream
    digests: Sequence[bytes]
    kind: int | None


def _forms(file: Hashed) -> list[_Form]:
    """List a stream and those below its records."""
    stream, digests = file.stream, file.digests
    found: list[_Form] = []
    with contextlib.suppress(FormatError, NoRecordError):  # no record, or a foreign encoder's
        for layer in layers(stream, vouched=True):
            below = layer.digests_below(digests)
            found.append(_Form(stream, digests, layer.kind))
            stream, digests = layer.below, below
    return [*found, _Form(stream, digests, None)]


class _Splitter:
    """Splits streams into what a trial has, differences to what it has, and what is carried whole.

    All are of one lock, in which a unit of the trial is used once, and which differences may cost
    only so much for whoever opens it.

    Args:
        trial: The trial.
        workers: How many threads make differences.
    """

    def __init__(self, trial: Hashed, workers: Workers) -> None:
        self._trial, self._workers = trial.stream, workers
        self._left = cost_allowed(trial.stream.size)
        self._free = dict(enumerate(trial.digests))

    def split(self, release: Hashed) -> tuple[Part, ...]:
        """Return the units of a stream: ranges of positions in the trial, differences, bytes."""
        stream = release.stream.pinned(release.digests)
        shared = self._shared(release.digests)
        others = {at: unit for at, unit in enumerate(stream) if at not in shared}
        near = self._differences(others)
        parts: list[range | Difference | list[Unit]] = []
        for at, unit in enumerate(stream):
            last = parts[-1] if parts else None
            if at in near:
                parts.append(near[at])
            elif at not in shared:
                if not isinstance(last, list):
                    parts.append(last := [])
                last.append(unit)
            elif isinstance(last, range) and last.stop == shared[at]:
                parts[-1] = range(last.start, last.stop + 1)
            else:
                parts.append(range(shared[at], shared[at] + 1))
        return tuple(
            b"".join(unit.read() for unit in part) if isinstance(part, list) else part
            for part in parts
        )

    def _shared(self, digests: Sequence[bytes]) -> dict[int, int]:
        """Use units of the trial for equal ones; return their positions by that of the equals."""
        positions: dict[bytes, list[int]] = {}
        for position, digest in reversed(self._free.items()):
            positions.setdefault(digest, []).append(position)
        shared = {
            at: positions[digest].pop()
            for at, digest in enumerate(digests)
            if positions.get(digest)
        }
        for position in shared.values():
            del self._free[position]
        return shared

    def _differences(self, units: Mapping[int, Unit]) -> dict[int, Difference]:
        """Return the differences of tensors to those of the trial, where that pays."""

        def difference(at: int, base: int) -> Difference | None:
            unit = units[at]
            try:
                if may_pay(unit, self._trial[base]):
                    found = Difference(base, subtract(unit, self._trial[base]))
                    return found if len(found) <= _PAYS * unit.size else None
            except (FormatError, ValueError):
                pass
            return None

        bases = self._bases(units)
        made = self._workers.threads.in_order(difference, bases, bases.values())
        found = {at: each for at, each in zip(bases, made, strict=True) if each is not None}
        for at, each in found.items():
            self._left -= cost_of_difference(units[at], self._trial[each.base])
            del self._free[each.base]
        return found

    def _bases(self, units: Mapping[int, Unit]) -> dict[int, int]:
        """Return the tensors of the trial that those of a release may be differences to.

        They have the same names and shapes. Where not all can be afforded, first come those that
        may save most bytes for what they cost.
        """
        wanted = {_name_and_shape(unit): at for at, unit in units.items() if unit.quantized}
        bases: dict[int, int] = {}
        for position in self._free:
            base = self._trial[position]
            if base.quantized and (key := _name_and_shape(base)) in wanted:
                bases[wanted[key]] = position
        costs = {at: cost_of_difference(units[at], self._trial[bases[at]]) for at in bases}
        left, found = self._left, {}
        for at in sorted(bases, key=lambda at: costs[at] / units[at].size):
            if costs[at] <= left:
                left -= costs[at]
                found[at] = bases[at]
        return found


def _too_small(error: CapacityError, release: Files, carried: int, trial: Stream) -> CapacityError:
    """Say how large a trial has to be; of a set, a file of it."""
    size = sum(file.stream.size for file in release.values())
    what, where, split = "the release", "the trial", ""
    if "" not in release:
        what, where = f"{', '.join(sorted(release))} of the release", "this file of the trial"
        split = "a file goes whole into one of the trial: split the release into smaller ones; or "
    weights = _room(trial)
    least = error.needed / MAX_BITS
    if error.available:
        least = max(least, weights * error.needed / error.available)
    return CapacityError(
        f"{what}, of {size:,} bytes, does not fit into {where}, which has to carry "
        f"{carried:,} and holds {error.available // 8:,}, at {MAX_BITS} bits a weight",
        needed=error.needed,
        available=error.available,
        hint=f"{split}a trial of this kind needs about {_rounded_up(least):,} weights that can "
        f"carry bits, and this one has {weights:,}; or compress it at a finer step (a lower qp): "
        "fewer weights are zero then",
    )


def _rounded_up(number: float) -> int:
    """Round a number to two digits, but not down."""
    unit: int = 10 ** max(len(str(int(number))) - 2, 0)
    return math.ceil(number / unit) * unit
