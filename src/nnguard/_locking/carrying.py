"""A lock whose trial is another network, which carries the release.

The trial is whole and in the clear; the release is in its weights, as ciphertext. So whoever has no
key has the weaker network, whatever is done to the file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnguard._base.progress import Progress
from nnguard._base.threads import HERE, Workers
from nnguard._crypto.content_key import ContentKey
from nnguard._hiding import candidates
from nnguard._hiding.carriers import cost_allowed, weights_in
from nnguard._locking.choice import can_lock
from nnguard._locking.sealing import hide
from nnguard._records.hashed import Files, Hashed
from nnguard._records.kinds import RecordKind
from nnguard._records.layers import layers
from nnguard._records.lock import Difference, LockContent, LockedFile, LockShard, Part
from nnguard._records.masks import Masks
from nnguard._stream import Stream, Unit
from nnguard._stream.differences import cost_of, looks_near, subtract
from nnguard._stream.quantized import decode
from nnguard.errors import CapacityError, FormatError, LockError, NoRecordError

__all__ = ["carry", "check_trial", "share_out"]

_BYTES_PER_WEIGHT = 1.8
"""What a weight of a trial holds, of two bytes: some are zeros."""

_MOST_BITS = 16
"""In a weight."""

_NEAR = 0.02
"""Tensors are near that are apart by no more than this share of their size, as in bfloat16."""

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
    locked: list[LockedFile] = []
    for name, file in sorted(release.items()):
        units = _units(file.stream.pinned(file.digests), file.digests, trial, workers)
        locked.append(LockedFile(name, file.digest, units, masks))
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
        size = sum(file.stream.size for file in release.values())
        raise _too_small(error, size, carried, trial.stream) from None


def check_trial(release: Files, trial: Files, *, allow_near: bool = False) -> None:
    """Refuse a trial that holds the release in the clear, or a lock of its own.

    Args:
        release: The stream, or all of a set.
        trial: The same of the network that is given away.
        allow_near: All matrices may be nearly those of the release.

    Raises:
        LockError: It does.
    """
    given = [_forms(file) for file in trial.values()]
    if any(form.kind == RecordKind.LOCK for forms in given for form in forms):
        raise LockError(
            "the network that is to be the trial is locked itself",
            hint="give the network as it was before; lock_tiers, or --tier, makes locks in locks",
        )
    known = {digest for forms in given for form in forms for digest in form.digests}
    tensors = {unit.name: unit for forms in given for unit in forms[-1].stream if can_lock(unit)}

    def is_given(file: Hashed) -> bool:
        return any(known.issuperset(form.digests) for form in _forms(file))

    def is_near(file: Hashed) -> bool:
        return is_given(file) or _holds_matrices(_forms(file)[-1].stream, tensors)

    if all(map(is_given, release.values())):
        raise LockError(
            "the trial holds the whole release in the clear",
            hint="the trial is a weaker network: an early checkpoint, or a smaller one",
        )
    if not allow_near and all(map(is_near, release.values())):
        raise LockError(
            "the trial holds the whole release in the clear, or nearly so",
            hint="give a weaker network; if it is the base of a fine-tuned one, and scores less, "
            "say --allow-near (allow_near=True)",
        )


def share_out(release: Files, trial: Files) -> dict[str, list[str]]:
    """Return which files of the release each file of the trial carries.

    Those of the same names, if all are, and if it looks as if they fit. Otherwise the largest
    first, each to where most of its tensors have counterparts, or else to where most room is.
    """
    room = {name: _BYTES_PER_WEIGHT * _room(file) for name, file in trial.items()}
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
    return {(unit.name, unit.tensor.shape) for unit in file.stream if unit.tensor}


def _room(file: Hashed) -> int:
    """Return how many weights could carry."""
    return sum(weights_in(file.stream, index) for index in candidates(file.stream))


def _holds_matrices(release: Stream, given: Mapping[str, Unit]) -> bool:
    """Tell whether all matrices of a release are given, but for how they were rounded."""
    units = [unit for unit in release if can_lock(unit)]
    matrices = [unit for unit in units if unit.tensor and len(unit.tensor.shape) > 1]
    found = (unit.name in given and _alike(unit, given[unit.name]) for unit in matrices)
    return bool(matrices) and all(found)


def _alike(one: Unit, other: Unit) -> bool:
    """Tell whether two tensors are one that was rounded, pruned or cast in two ways."""
    try:
        left, right = decode(one), decode(other)
        most = 2 * (left.step + right.step)  # TCQ may round to the next but one
    except (FormatError, OverflowError):
        return False
    if left.indices.shape != right.indices.shape:
        return False
    weights = left.step * left.indices
    apart = weights - right.step * right.indices
    near = np.square(apart).sum() <= _NEAR**2 * np.square(weights).sum()
    return bool(near or np.abs(apart).max() <= most)


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


def _units(
    release: Stream, digests: Sequence[bytes], trial: Hashed, workers: Workers
) -> tuple[Part, ...]:
    """Return the units of a release.

    Those that the trial has are runs of positions there, those that are near to one of the trial
    are differences, and others are whole.

    Args:
        release: The release.
        digests: SHA-256 of its units.
        trial: The trial.
        workers: How many threads make differences.
    """
    given = trial.digests
    first = {digest: position for position, digest in reversed([*enumerate(given)])}
    others = {at: unit for at, unit in enumerate(release) if digests[at] not in first}
    near = _differences(others, trial.stream, workers)
    parts: list[range | Difference | list[Unit]] = []
    for at, (unit, digest) in enumerate(zip(release, digests, strict=True)):
        last = parts[-1] if parts else []
        if isinstance(last, range) and [digest] == [*given[last.stop : last.stop + 1]]:
            parts[-1] = range(last.start, last.stop + 1)
        elif digest in first:
            parts.append(range(first[digest], first[digest] + 1))
        elif at in near:
            parts.append(near[at])
        elif isinstance(last, list) and last:
            last.append(unit)
        else:
            parts.append([unit])
    return tuple(
        b"".join(unit.read() for unit in part) if isinstance(part, list) else part for part in parts
    )


def _differences(
    units: Mapping[int, Unit], trial: Stream, workers: Workers
) -> dict[int, Difference]:
    """Return the differences of tensors to those of the same names, where that pays."""
    named = {unit.name: at for at, unit in units.items() if unit.tensor is not None}
    bases = {named[unit.name]: at for at, unit in enumerate(trial) if unit.name in named}

    def difference(at: int, base: int) -> Difference | None:
        unit = units[at]
        try:
            if looks_near(unit, trial[base]):
                found = Difference(base, subtract(unit, trial[base]))
                return found if len(found) <= _PAYS * unit.size else None
        except (FormatError, ValueError):
            pass
        return None

    found = workers.threads.in_order(difference, bases, bases.values())
    near = {at: each for at, each in zip(bases, found, strict=True) if each is not None}
    left = cost_allowed(trial.size)
    for at, each in [*near.items()]:
        left -= cost_of(units[at], trial[each.base])
        if left < 0:
            del near[at]
    return near


def _too_small(error: CapacityError, size: int, carried: int, trial: Stream) -> CapacityError:
    """Say how large a trial has to be."""
    weights = sum(weights_in(trial, index) for index in candidates(trial))
    least = error.needed / _MOST_BITS
    if error.available:
        least = max(least, weights * error.needed / error.available)
    return CapacityError(
        f"the release, of {size:,} bytes, does not fit into the trial, which has to carry "
        f"{carried:,} and holds {error.available // 8:,}, at {_MOST_BITS} bits a weight",
        needed=error.needed,
        available=error.available,
        hint=f"a trial of this kind needs about {_rounded_up(least):,} weights, and this one has "
        f"{weights:,}; or compress it at a finer step (a lower qp): fewer weights are zero then",
    )


def _rounded_up(number: float) -> int:
    """Round a number to two digits, but not down."""
    unit: int = 10 ** max(len(str(int(number))) - 2, 0)
    return math.ceil(number / unit) * unit
