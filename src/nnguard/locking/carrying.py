"""A lock whose trial is another network, which carries the release.

The trial is whole and in the clear; the release is in its weights, as ciphertext. So whoever has no
key has the weaker network, whatever is done to the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnguard.crypto.content import ContentKey
from nnguard.crypto.keys import Signer
from nnguard.errors import CapacityError, FormatError, NoRecordError, UnlockError
from nnguard.hiding import RecordKind, candidates, extract
from nnguard.hiding.carriers import weights_in
from nnguard.locking.choice import count_weights
from nnguard.locking.record import LockContent, LockedFile
from nnguard.locking.sealing import hide, sign_trial
from nnguard.locking.tiers import Locked
from nnguard.records import model_digest
from nnguard.stream import Stream, Unit

__all__ = ["carry"]

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
    digests, given = _check(release, trial)
    units = _units(release.pinned(digests), digests, given)
    file = LockedFile("", model_digest(digests), units)
    try:
        locked = hide(trial, LockContent((), (), (file,)), tier, key, key.new_nonce())
    except CapacityError as error:
        raise _too_small(error, release, file.carried, trial) from None
    return Locked(
        stream=sign_trial(locked, release, tier, signer),
        content_key=key,
        tier=tier,
        carried=file.carried,
        weights=count_weights(release),
    )


def _check(release: Stream, trial: Stream) -> tuple[list[bytes], list[bytes]]:
    """Refuse a trial that holds the release in the clear, or a lock of its own.

    Returns:
        SHA-256 of the units of the release, and of the trial.
    """
    below, wanted = _layers(trial), _layers(release)
    if any(kind == RecordKind.LOCK for _, kind in below):
        raise UnlockError(
            "the network that is to be the trial is locked itself",
            hint="give the network as it was before; lock_tiers, or --tier, makes locks in locks",
        )
    given = {digest for digests, _ in below for digest in digests}
    if any(given.issuperset(digests) for digests, _ in wanted):
        raise UnlockError(
            "the trial holds the whole release in the clear",
            hint="the trial is a weaker network: an early checkpoint, or a smaller one",
        )
    return wanted[0][0], below[0][0]


def _layers(stream: Stream) -> list[tuple[list[bytes], int | None]]:
    """List a stream and those below its records: SHA-256 of its units, and the kind of record."""
    digests = stream.sha256_of_units()
    found: list[tuple[list[bytes], int | None]] = []
    while True:
        try:
            extraction = extract(stream, vouched=True)
        except (FormatError, NoRecordError):  # nothing there, perhaps of a foreign encoder
            return [*found, (digests, None)]
        found.append((digests, extraction.header.kind))
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


def _too_small(error: CapacityError, release: Stream, carried: int, trial: Stream) -> CapacityError:
    """Say how large a trial has to be."""
    weights = sum(weights_in(trial, index) for index in candidates(trial))
    least = error.needed / _MOST_BITS
    if error.available:
        least = max(least, weights * error.needed / error.available)
    return CapacityError(
        f"the release does not fit into the trial: {carried:,} of its {release.size:,} bytes are "
        f"not in the trial, which holds {error.available // 8:,}, at {_MOST_BITS} bits a weight",
        needed=error.needed,
        available=error.available,
        hint=f"a trial of this kind needs about {_rounded_up(least):,} weights, and this one has "
        f"{weights:,}",
    )


def _rounded_up(number: float) -> int:
    """Round a number to two digits, but not down."""
    unit: int = 10 ** max(len(str(int(number))) - 2, 0)
    return math.ceil(number / unit) * unit
