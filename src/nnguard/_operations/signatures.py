"""The signature of a trial, or of what it opens: of a stream, or of a whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnguard._crypto.keys import PublicKey
from nnguard._hiding import extract, peek
from nnguard._locking.hashed import Files
from nnguard._models.stream_set import StreamSet
from nnguard._operations.sharded import verify_set
from nnguard._operations.sign import check_digest, check_signature
from nnguard._records.claims import Claims
from nnguard._records.kinds import RecordKind
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import NoRecordError

__all__ = ["Signature", "signed_by", "signer_of"]


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that was verified.

    Attributes:
        claims: What it says.
        key_id: Of the key, in hexadecimal.
    """

    claims: Claims
    key_id: str


def signed_by(
    model: Stream | StreamSet, files: Files, keys: Sequence[PublicKey]
) -> Signature | None:
    """Verify the outermost signature; None where there is none.

    Args:
        model: The stream or the set.
        files: The same, hashed.
        keys: Those that are trusted.

    Raises:
        WrongKeyError: It is of another key.
        VerificationError: It is not right, or not all files of the set have it.
        FormatError: A tensor in which a record would lie is damaged, or foreign.
    """
    if not any(_is_signed(file.stream) for file in files.values()):
        return None
    if isinstance(model, StreamSet):
        report = verify_set(model, keys)
        return Signature(report.claims, report.key_id)
    outer = extract(model, vouched=True)
    record = check_signature(outer, keys)
    check_digest(record, outer, files[""].digests)
    return Signature(record.claims, record.key_id.hex())


def signer_of(model: Stream | StreamSet) -> str:
    """Return the identifier of the key that a signed model names, in hexadecimal."""
    stream = model if isinstance(model, Stream) else next(iter(model.streams.values()))
    return SignatureRecord.parse(extract(stream, vouched=True).record).key_id.hex()


def _is_signed(stream: Stream) -> bool:
    try:
        return peek(stream, 0)[0].kind == RecordKind.SIGNATURE
    except NoRecordError:
        return False
