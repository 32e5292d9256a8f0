"""The last steps of every lock: its record goes into the degraded stream, a signature on top."""

from __future__ import annotations

from nnguard.crypto.content import ContentKey
from nnguard.crypto.keys import Signer
from nnguard.errors import FormatError, NoRecordError
from nnguard.hiding import RecordKind, extract, plan_record
from nnguard.locking.record import LockContent, LockRecord
from nnguard.records import Claims, SignatureRecord
from nnguard.signing import sign
from nnguard.stream import Stream

__all__ = ["hide", "sign_trial"]


def hide(
    degraded: Stream, content: LockContent, tier: str, key: ContentKey, nonce: bytes
) -> Stream:
    """Hide a lock in the stream that is given away.

    Args:
        degraded: The stream.
        content: What the lock says to whoever has the key.
        tier: Name of what it opens.
        key: The content key.
        nonce: Seals this record alone.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: It holds too many records.
    """
    size = len(LockRecord.seal(key, key.new_nonce(), tier, content, b""))
    large = any(file.carried for file in content.files)
    plan = plan_record(degraded, RecordKind.LOCK, size, dense=large)
    return plan.embed(LockRecord.seal(key, nonce, tier, content, bytes(plan.header)))


def sign_trial(trial: Stream, release: Stream, tier: str, signer: Signer | None) -> Stream:
    """Sign a trial with the claims of the release, if there are any."""
    if signer is None:
        return trial
    claims = Claims()
    try:
        extraction = extract(release)
        if extraction.header.kind == RecordKind.SIGNATURE:
            claims = SignatureRecord.parse(extraction.record).claims
    except (FormatError, NoRecordError):  # not signed, perhaps by a foreign encoder
        pass
    return sign(
        trial,
        signer,
        issuer=claims.issuer,
        name=claims.name,
        version=claims.version,
        metadata={**claims.metadata, "locked": tier},
    )
