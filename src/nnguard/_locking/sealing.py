"""The last step of every lock: its record goes into the degraded stream."""

from __future__ import annotations

from nnguard._base.progress import Progress, share_of
from nnguard._base.workers import HERE, Workers
from nnguard._crypto.content_key import ContentKey
from nnguard._hiding import plan_record
from nnguard._records.kinds import RecordKind
from nnguard._records.lock import LockContent, LockRecord, LockShard
from nnguard._stream import Stream

__all__ = ["hide"]


def hide(
    degraded: Stream,
    content: LockContent,
    tier: str,
    key: ContentKey,
    nonce: bytes,
    *,
    shard: LockShard | None = None,
    workers: Workers = HERE,
    progress: Progress = lambda _: None,
) -> Stream:
    """Hide a lock in the stream that is given away.

    Where it carries what it opens, tensors of the degraded stream are first coded anew, so that the
    file is some percent smaller: those that the content does not take as they are. Under a
    record that the stream already holds, all stay: a signature covers their bytes.

    Args:
        degraded: The stream.
        content: What the lock says to whoever has the key.
        tier: Name of what it opens.
        key: The content key.
        nonce: Seals this record alone.
        shard: Which part of a locked set the stream is.
        workers: Who decodes and encodes tensors.
        progress: Called with bytes of carriers: in all, about with their size.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: It holds too many records.
    """
    large = any(file.carried for file in content.files)
    size = LockRecord.size_of(key, tier, len(bytes(content)), shard)
    plan = plan_record(degraded, RecordKind.LOCK, size, dense=large, workers=workers)
    if large and plan.header.layer == 1:
        kept = {at for file in content.files for each in file.shared for at in each}
        plan = plan.suited(kept, workers=workers, progress=share_of(progress, 1 / 4))
        progress = share_of(progress, 3 / 4)
    record = LockRecord.seal(key, nonce, tier, content, bytes(plan.header), shard=shard)
    return plan.embed(record, workers=workers, progress=progress)
