"""The record of an attachment: any file, hidden in a stream."""

from __future__ import annotations

from dataclasses import dataclass

from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard.errors import VerificationError

__all__ = ["Attachment"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is hidden in a stream. It is not signed; sign the stream on top of it.

    Attributes:
        payload: The file's bytes.
        media_type: What they are, such as `application/pdf`.

    Examples:
        >>> card = nnguard.Attachment(b"# Digits", "text/markdown")
        >>> card.payload
        b'# Digits'
    """

    payload: bytes
    media_type: str = "application/octet-stream"

    def to_record(self, digest: bytes) -> bytes:
        """Return the record; `digest` stands for the model that it goes into."""
        return encode_cbor([self.media_type, digest, self.payload])

    @classmethod
    def parse(cls, record: bytes) -> tuple[Attachment, bytes]:
        """Read a record: the attachment, and the digest of the model that it went into.

        Raises:
            VerificationError: It is malformed.
        """
        match parse_cbor(record):
            case [str() as media_type, bytes() as digest, bytes() as payload]:
                return cls(payload, media_type), digest
        raise VerificationError("the attachment is malformed")
