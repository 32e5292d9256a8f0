"""What records say: the digest of a model, claims about a release, an attached file.

Bytes in, dataclasses out and back; nothing here touches a stream's weights or a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard._crypto.cose import EDDSA, Label, Sign1, encode_cbor, parse_cbor, parse_sign1
from nnguard.errors import VerificationError

__all__ = ["Attachment", "Claims", "Shard", "SignatureRecord", "model_digest"]

_DIGEST_LABEL = b"nnguard model digest v1\0"
_SHA_256 = -16  # COSE algorithm, RFC 9054
_OCTET_STREAM = 42  # CoAP content format of the digest's preimage
_UNIT_DIGESTS = "units"
_SHORT = 4
"""Bytes of a unit's digest in a record that localizes changes."""

_ISSUER, _SUBJECT, _ISSUED_AT = 1, 2, 6  # CWT claims, RFC 8392
_VERSION, _METADATA, _SHARD = "version", "meta", "shard"


def model_digest(unit_digests: Sequence[bytes]) -> bytes:
    """Return the digest of a model: SHA-256 over a label, the number of units, and their SHA-256.

    Args:
        unit_digests: SHA-256 of every unit of the stream, in order.
    """
    count = len(unit_digests).to_bytes(4, "big")
    return hashlib.sha256(_DIGEST_LABEL + count + b"".join(unit_digests)).digest()


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of a larger model a stream is.

    Attributes:
        set_digest: Stands for all shards and their order, in hexadecimal; see
            `nnguard._operations.sharded.set_digest`.
        position: Of this shard in the set, from 0.
        count: Shards of the set.
    """

    set_digest: str
    position: int
    count: int

    def to_cwt(self) -> list[Any]:
        """Return the value of the claim."""
        return [bytes.fromhex(self.set_digest), self.position, self.count]

    @classmethod
    def from_cwt(cls, value: Any) -> Shard | None:
        """Read the value of the claim, None where there is none.

        Raises:
            ValueError: It is malformed.
        """
        match value:
            case None:
                return None
            case [bytes() as digest, int() as position, int() as count] if (
                len(digest) == hashlib.sha256().digest_size and 0 <= position < count
            ):
                return cls(digest.hex(), position, count)
        raise ValueError("shard")

    def to_json(self) -> dict[str, Any]:
        """Return the shard as JSON values."""
        return {"set_digest": self.set_digest, "position": self.position, "count": self.count}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a vendor says of a release, under the signature.

    Attributes:
        issuer: Who signs (CWT `iss`).
        name: What is signed (CWT `sub`).
        version: Of the release.
        issued_at: When it was signed, to the second, UTC (CWT `iat`).
        metadata: Anything else, text to text.
        shard: Which part of a larger model the stream is, if it is one.
    """

    issuer: str = ""
    name: str = ""
    version: str = ""
    issued_at: datetime | None = None
    metadata: Mapping[str, str] = EMPTY
    shard: Shard | None = None

    def to_cwt(self) -> dict[Any, Any]:
        """Return the CWT claims set (RFC 8392) with what is not empty."""
        claims: dict[Any, Any] = {
            _ISSUER: self.issuer,
            _SUBJECT: self.name,
            _ISSUED_AT: None if self.issued_at is None else int(self.issued_at.timestamp()),
            _VERSION: self.version,
            _METADATA: dict(self.metadata),
            _SHARD: None if self.shard is None else self.shard.to_cwt(),
        }
        return {label: value for label, value in claims.items() if value not in ("", None, {})}

    @classmethod
    def from_cwt(cls, claims: Any) -> Claims:
        """Read a claims set.

        Raises:
            VerificationError: It is not one that `to_cwt` makes.
        """
        try:
            seconds = claims.get(_ISSUED_AT)
            issued_at = None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
            metadata = FrozenMapping(claims.get(_METADATA, {}))
            read = cls(
                issuer=claims.get(_ISSUER, ""),
                name=claims.get(_SUBJECT, ""),
                version=claims.get(_VERSION, ""),
                issued_at=issued_at,
                metadata=metadata,
                shard=Shard.from_cwt(claims.get(_SHARD)),
            )
            texts = [read.issuer, read.name, read.version, *metadata, *metadata.values()]
            well_formed = all(isinstance(text, str) for text in texts) and read.to_cwt() == claims
        except (AttributeError, TypeError, ValueError, OverflowError, OSError):
            well_formed = False
        if not well_formed:
            raise VerificationError("the claims of the record are malformed")
        return read

    def to_json(self) -> dict[str, Any]:
        """Return the claims as JSON values."""
        shard = {} if self.shard is None else {"shard": self.shard.to_json()}
        return {
            "issuer": self.issuer,
            "name": self.name,
            "version": self.version,
            "issued_at": None if self.issued_at is None else self.issued_at.isoformat(),
            "metadata": dict(self.metadata),
            **shard,
        }


@dataclass(frozen=True, slots=True)
class SignatureRecord:
    """A signature over a model, as it is hidden: COSE_Sign1 around the model's digest.

    Attributes:
        key_id: Which key signed, as the record says.
        digest: SHA-256 that stands for the model; see `model_digest`.
        claims: What else is signed.
        short_digests: First bytes of each unit's SHA-256, or None.
        envelope: The COSE message.
    """

    key_id: bytes
    digest: bytes
    claims: Claims
    short_digests: tuple[bytes, ...] | None
    envelope: Sign1

    @staticmethod
    def protected_header(
        key_id: bytes, claims: Claims, unit_digests: Sequence[bytes] | None
    ) -> dict[Any, Any]:
        """Return the protected header to sign; `unit_digests` given, changes can be localized."""
        header: dict[Any, Any] = {
            Label.KID: key_id,
            Label.CWT_CLAIMS: claims.to_cwt(),
            Label.PAYLOAD_HASH_ALG: _SHA_256,
            Label.PREIMAGE_CONTENT_TYPE: _OCTET_STREAM,
        }
        if unit_digests is not None:
            header[_UNIT_DIGESTS] = b"".join(digest[:_SHORT] for digest in unit_digests)
        return header

    @classmethod
    def parse(cls, record: bytes) -> SignatureRecord:
        """Read a signature record; the signature is not checked.

        Raises:
            VerificationError: It is malformed.
        """
        envelope = parse_sign1(record)
        claims = Claims.from_cwt(envelope.protected.get(Label.CWT_CLAIMS))
        short = envelope.protected.get(_UNIT_DIGESTS)
        expected = cls.protected_header(envelope.key_id, claims, None)
        if isinstance(short, bytes) and len(short) % _SHORT == 0:
            expected[_UNIT_DIGESTS] = short
        expected[Label.ALG] = EDDSA
        if encode_cbor(expected) != encode_cbor(envelope.protected):  # 1 == 1.0 == True
            raise VerificationError("the protected header of the record is malformed")
        if len(envelope.payload) != hashlib.sha256().digest_size:
            raise VerificationError("the payload of the record is not a SHA-256")
        parts = None if short is None else _split(short)
        return cls(envelope.key_id, envelope.payload, claims, parts, envelope)

    def changed_units(self, unit_digests: Sequence[bytes]) -> list[int] | None:
        """Return the positions of units that are not as signed, or None where it cannot be told."""
        if self.short_digests is None or len(self.short_digests) != len(unit_digests):
            return None
        pairs = zip(self.short_digests, unit_digests, strict=True)
        return [index for index, (short, full) in enumerate(pairs) if full[:_SHORT] != short]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is hidden in a stream. It is not signed; sign the stream on top of it.

    Attributes:
        payload: The file's bytes.
        media_type: What they are, such as `application/pdf`.
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


def _split(digests: bytes) -> tuple[bytes, ...]:
    return tuple(digests[at : at + _SHORT] for at in range(0, len(digests), _SHORT))
