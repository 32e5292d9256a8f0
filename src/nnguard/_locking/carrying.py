"""A lock whose trial is another network, which carries the release.

The trial is whole and in the clear; the release is in its weights, as ciphertext. So whoever has no
key has the weaker network, whatever is done to the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import Signer
from nnguard._hiding import candidates, extract
from nnguard._hiding.carriers import weights_in
from nnguard._locking.choice import can_lock, count_weights
from nnguard._locking.sealing import hide, sign_trial
from nnguard._locking.tiers import Locked
from nnguard._records.digest import model_digest
from nnguard._records.kinds import RecordKind
from nnguard._records.lock import LockContent, LockedFile, LockShard
from nnguard._stream import Stream, Unit
from nnguard._stream.coding import decode
from nnguard.errors import CapacityError, FormatError, NoRecordError, UnlockError

__all__ = ["carry", "carry_files", "check_trial"]

_MOST_BITS = 16
"""In a weight."""


def carry(
    release: Stream, trial: Stream, tier: str, key: ContentKey, signer: Signer | None
) -> Locked:
    """Hide a release in another network.

    Args:
        release: What the key opens.
        trial: The network that is given away.
        tier: Name of what the key opens.
        key: The content key.
        signer: Signs the trial, with the claims of the release.

    Raises:
        CapacityError: The release does not fit; the error says how large a trial has to be.
        UnlockError: The trial gives the release away, or is locked itself.
    """
    check_trial([release], [trial])
    locked, carried = carry_files({"": release}, trial, tier, key)
    return Locked(
        stream=sign_trial(locked, release, tier, signer),
        content_key=key,
        tier=tier,
        carried=carried,
        weights=count_weights(release),
    )


def carry_files(
    files: Mapping[str, Stream],
    trial: Stream,
    tier: str,
    key: ContentKey,
    shard: LockShard | None = None,
) -> tuple[Stream, int]:
    """Hide streams in one; see `carry`.

    Args:
        files: The streams, by the names of their files in a set, or one without a name.
        trial: See `carry`.
        tier: See `carry`.
        key: See `carry`.
        shard: Which part of a locked set the trial is.

    Returns:
        The trial, not signed, and how many bytes it carries.
    """
    given = trial.sha256_of_units()
    locked: list[LockedFile] = []
    for name, release in sorted(files.items()):
        digests = release.sha256_of_units()
        units = _units(release.pinned(digests), digests, given)
        locked.append(LockedFile(name, model_digest(digests), units))
    content = LockContent((), (), tuple(locked))
    carried = sum(file.carried for file in locked)
    try:
        return hide(trial, content, tier, key, key.new_nonce(), shard=shard), carried
    except CapacityError as error:
        size = sum(release.size for release in files.values())
        raise _too_small(error, size, carried, trial) from None


def check_trial(release: Collection[Stream], trial: Collection[Stream]) -> None:
    """Refuse a trial that holds the release in the clear, or a lock of its own.

    Args:
        release: The stream, or all of a set.
        trial: The same of the network that is given away.

    Raises:
        UnlockError: It does.
    """
    given = [_layers(stream) for stream in trial]
    if any(layer.kind == RecordKind.LOCK for layers in given for layer in layers):
        raise UnlockError(
            "the network that is to be the trial is locked itself",
            hint="give the network as it was before; lock_tiers, or --tier, makes locks in locks",
        )
    known = {digest for layers in given for layer in layers for digest in layer.digests}
    tensors = {unit.name: unit for layers in given for unit in layers[-1].stream if can_lock(unit)}

    def in_the_clear(stream: Stream) -> bool:
        layers = _layers(stream)
        whole = any(known.issuperset(layer.digests) for layer in layers)
        return whole or _holds_matrices(layers[-1].stream, tensors)

    if all(map(in_the_clear, release)):
        raise UnlockError(
            "the trial holds the whole release in the clear",
            hint="the trial is a weaker network: an early checkpoint, or a smaller one",
        )


def _holds_matrices(release: Stream, given: Mapping[str, Unit]) -> bool:
    """Tell whether all matrices of a release are given, but for how they were rounded."""
    units = [unit for unit in release if can_lock(unit)]
    matrices = [unit for unit in units if unit.tensor and len(unit.tensor.shape) > 1]
    found = (unit.name in given and _alike(unit, given[unit.name]) for unit in matrices)
    return bool(matrices) and all(found)


def _alike(one: Unit, other: Unit) -> bool:
    """Tell whether two tensors are one that was rounded in two ways."""
    try:
        left, right = decode(one), decode(other)
        most = 2 * (left.step + right.step)  # TCQ may round to the next but one
    except (FormatError, OverflowError):
        return False
    if left.indices.shape != right.indices.shape:
        return False
    return bool(np.abs(left.step * left.indices - right.step * right.indices).max() <= most)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A stream, SHA-256 of its units, and the kind of the record on top; None for the last."""

    stream: Stream
    digests: Sequence[bytes]
    kind: int | None


def _layers(stream: Stream) -> list[_Layer]:
    """List a stream and those below its records."""
    digests = stream.sha256_of_units()
    found: list[_Layer] = []
    while True:
        try:
            extraction = extract(stream, vouched=True)
        except (FormatError, NoRecordError):  # nothing there, perhaps of a foreign encoder
            return [*found, _Layer(stream, digests, None)]
        found.append(_Layer(stream, digests, extraction.header.kind))
        stream, digests = extraction.original, extraction.digests_of_original(digests)


def _units(
    release: Stream, digests: Sequence[bytes], given: Sequence[bytes]
) -> tuple[bytes | range, ...]:
    """Return the units of a release: those that the trial has as runs of positions, others whole.

    Args:
        release: The release.
        digests: SHA-256 of its units.
        given: SHA-256 of the units of the trial.
    """
    first = {digest: position for position, digest in reversed([*enumerate(given)])}
    parts: list[range | list[Unit]] = []
    for unit, digest in zip(release, digests, strict=True):
        last = parts[-1] if parts else []
        if isinstance(last, range) and [digest] == [*given[last.stop : last.stop + 1]]:
            parts[-1] = range(last.start, last.stop + 1)
        elif digest in first:
            parts.append(range(first[digest], first[digest] + 1))
        elif isinstance(last, list) and last:
            last.append(unit)
        else:
            parts.append([unit])
    return tuple(
        part if isinstance(part, range) else b"".join(unit.read() for unit in part)
        for part in parts
    )


def _too_small(error: CapacityError, size: int, carried: int, trial: Stream) -> CapacityError:
    """Say how large a trial has to be."""
    weights = sum(weights_in(trial, index) for index in candidates(trial))
    least = error.needed / _MOST_BITS
    if error.available:
        least = max(least, weights * error.needed / error.available)
    return CapacityError(
        f"the release does not fit into the trial: of its {size:,} bytes the trial has to carry "
        f"{carried:,}, and it holds {error.available // 8:,}, at {_MOST_BITS} bits a weight",
        needed=error.needed,
        available=error.available,
        hint=f"a trial of this kind needs about {_rounded_up(least):,} weights, and this one has "
        f"{weights:,}; or compress it at a finer step (a lower qp): fewer weights are zero then",
    )


def _rounded_up(number: float) -> int:
    """Round a number to two digits, but not down."""
    unit: int = 10 ** max(len(str(int(number))) - 2, 0)
    return math.ceil(number / unit) * unit
