"""The signature of a trial, of a release, or of what a trial opens to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnguard._base.mappings import FrozenMapping
from nnguard._base.times import now
from nnguard._crypto.keys import PublicKey
from nnguard._models.stream_set import Model, streams_of
from nnguard._operations.report import Report
from nnguard._operations.verify import verified
from nnguard._records.claims import Claims
from nnguard._records.hashed import Files
from nnguard._records.kinds import RecordKind
from nnguard._records.layers import Layer
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import FormatError, NoRecordError

__all__ = ["claims_of", "is_signed", "signed_by", "signer_of"]


def signed_by(model: Model, files: Files, keys: Sequence[PublicKey]) -> tuple[Report, Model] | None:
    """Verify the outermost signature; None where there is none. See `verified`.

    Args:
        model: The stream or the set.
        files: The same, hashed.
        keys: Those that are trusted.

    Raises:
        WrongKeyError: It is of another key.
        VerificationError: It is not right, or not all files of the set have it.
        FormatError: A tensor in which a record would lie is damaged, or foreign.
    """
    if not any(is_signed(file.stream) for file in files.values()):
        return None
    digests = {name: file.digests for name, file in files.items()}
    return verified(model, keys, digests=digests, vouched=True)


def signer_of(model: Model) -> str:
    """Return the identifier of the key that a signed model names, in hexadecimal."""
    first = next(iter(streams_of(model).values()))
    return SignatureRecord.parse(Layer(first, vouched=True).record).key_id.hex()


def claims_of(release: Model, *, locked: str) -> Claims:
    """Return what the signature of a release says, for its trial; nothing is verified.

    Args:
        release: The release, which may have no signature.
        locked: Name of the tier that the trial locks; it becomes part of the metadata.
    """
    claims = Claims()
    layer = Layer(next(iter(streams_of(release).values())))
    try:
        if layer.kind == RecordKind.SIGNATURE:
            claims = SignatureRecord.parse(layer.record).claims
    except (FormatError, NoRecordError):  # not signed, perhaps by a foreign encoder
        pass
    metadata = FrozenMapping({**claims.metadata, "locked": locked})
    return replace(claims, issued_at=now(), metadata=metadata, shard=None)


def is_signed(stream: Stream) -> bool:
    """Tell whether the outermost record of a stream is a signature; it is not checked."""
    try:
        return Layer(stream).kind == RecordKind.SIGNATURE
    except NoRecordError:
        return False
