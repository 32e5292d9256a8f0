"""The last steps of every lock: its record goes into the degraded stream, a signature on top."""

from __future__ import annotations

from typing import Any

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import Signer
from nnguard._hiding import extract, plan_record
from nnguard._models.stream_set import StreamSet
from nnguard._operations.sharded import sign_set
from nnguard._operations.sign import sign
from nnguard._records.claims import Claims
from nnguard._records.kinds import RecordKind
from nnguard._records.lock import LockContent, LockRecord, LockShard
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import FormatError, NoRecordError

__all__ = ["hide", "sign_trial", "sign_trial_set"]


def hide(
    degraded: Stream,
    content: LockContent,
    tier: str,
    key: ContentKey,
    nonce: bytes,
    *,
    shard: LockShard | None = None,
) -> Stream:
    """Hide a lock in the stream that is given away.

    Args:
        degraded: The stream.
        content: What the lock says to whoever has the key.
        tier: Name of what it opens.
        key: The content key.
        nonce: Seals this record alone.
        shard: Which part of a locked set the stream is.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: It holds too many records.
    """
    large = any(file.carried for file in content.files)
    plain = bytes(content)
    size = LockRecord.size_of(key, tier, plain, shard)
    plan = plan_record(degraded, RecordKind.LOCK, size, dense=large)
    return plan.embed(LockRecord.seal(key, nonce, tier, plain, bytes(plan.header), shard=shard))


def sign_trial(trial: Stream, release: Stream, tier: str, signer: Signer | None) -> Stream:
    """Sign a trial with the claims of the release, if there are any."""
    return trial if signer is None else sign(trial, signer, **_claims_of(release, tier))


def sign_trial_set(
    trial: StreamSet, release: StreamSet, tier: str, signer: Signer | None
) -> StreamSet:
    """Sign a trial that is a set; see `sign_trial`."""
    if signer is None:
        return trial
    return sign_set(trial, signer, **_claims_of(next(iter(release.streams.values())), tier))


def _claims_of(release: Stream, tier: str) -> dict[str, Any]:
    """Return what the signature of a release says, as arguments, with the tier."""
    claims = Claims()
    try:
        extraction = extract(release)
        if extraction.header.kind == RecordKind.SIGNATURE:
            claims = SignatureRecord.parse(extraction.record).claims
    except (FormatError, NoRecordError):  # not signed, perhaps by a foreign encoder
        pass
    return {
        "issuer": claims.issuer,
        "name": claims.name,
        "version": claims.version,
        "metadata": {**claims.metadata, "locked": tier},
    }
