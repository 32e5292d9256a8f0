"""The record of a signature: a COSE message around the digest of a model; and what it tells."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.cose import Label, Signed, parse_signed, sign, signed_size
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._hiding import FrameHeader
from nnguard._records.claims import Claims
from nnguard._records.digest import model_digest
from nnguard.errors import VerificationError

__all__ = ["Signature", "SignatureRecord", "protected_header"]

_SHA_256 = -16  # COSE algorithm, RFC 9054
_OCTET_STREAM = 42  # CoAP content format of the digest's preimage
_DOMAIN = b"nnguard signature v1\0"
_UNIT_DIGESTS = "units"
_DIGEST_SIZE = hashlib.sha256().digest_size
_SHORT = 4
"""Bytes of a unit's digest in a record that localizes changes."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of a model that is right, by a trusted key.

    Attributes:
        key_id: The key, in hexadecimal.
        algorithm: What it signs with.
        claims: What is signed besides the model.
        digest: Digest of the model below it, in hexadecimal (SPEC 6.1, of a set 6.3).
        counts: It is a signature of the release that the outermost one names: the claims agree, and
            between the two lie only signatures that count as well (SPEC 6.6).
    """

    key_id: str
    algorithm: str
    claims: Claims
    digest: str
    counts: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the signature as JSON values."""
        return {
            "key_id": self.key_id,
            "algorithm": self.algorithm,
            "claims": self.claims.to_json(),
            "digest": self.digest,
            "counts": self.counts,
        }


@dataclass(frozen=True, slots=True)
class SignatureRecord:
    """A signature over a model, as it is hidden: a COSE message around the model's digest.

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
    envelope: Signed

    @classmethod
    def make(
        cls,
        signer: Signer,
        claims: Claims,
        unit_digests: Sequence[bytes],
        header: bytes,
        *,
        localize: bool,
    ) -> bytes:
        """Sign a model, and return the record.

        Args:
            signer: Signs.
            claims: What else is signed.
            unit_digests: SHA-256 of every unit.
            header: Of the frame that the record goes into; it is signed, too.
            localize: Put in what tells which units were changed.
        """
        protected = protected_header(claims, unit_digests if localize else None)
        return sign(signer, protected, model_digest(unit_digests), _DOMAIN + header)

    @classmethod
    def size(cls, key: PublicKey, claims: Claims, units: int, *, localize: bool) -> int:
        """Return how many bytes `make` will return for a model of that many units."""
        digests = [bytes(_DIGEST_SIZE)] * units if localize else None
        return signed_size(key, protected_header(claims, digests), bytes(_DIGEST_SIZE))

    @property
    def algorithm(self) -> str:
        """Algorithm of the key that signed, as the record says; see `PublicKey`."""
        return self.envelope.algorithm

    def verified_by(self, key: PublicKey, header: FrameHeader) -> bool:
        """Tell whether the signature is right; what it says of the model is yet to be checked."""
        return self.envelope.verified_by(key, _DOMAIN + bytes(header))

    @classmethod
    def parse(cls, record: bytes) -> SignatureRecord:
        """Read a signature record; the signature is not checked.

        Raises:
            VerificationError: It is malformed.
        """
        envelope = parse_signed(record)
        claims = Claims.from_cwt(envelope.protected.get(Label.CWT_CLAIMS))
        short = envelope.protected.get(_UNIT_DIGESTS)
        expected = protected_header(claims, None)
        if isinstance(short, bytes) and len(short) % _SHORT == 0:
            expected[_UNIT_DIGESTS] = short
        if encode_cbor(expected) != encode_cbor(envelope.protected):  # 1 == 1.0 == True
            raise VerificationError("the protected header of the record is malformed")
        if len(envelope.payload) != _DIGEST_SIZE:
            raise VerificationError("the payload of the record is not a SHA-256")
        parts = None if short is None else _split(short)
        return cls(envelope.key_id, envelope.payload, claims, parts, envelope)

    def changed_units(self, unit_digests: Sequence[bytes]) -> list[int] | None:
        """Return the positions of units that are not as signed, or None where it cannot be told."""
        if self.short_digests is None or len(self.short_digests) != len(unit_digests):
            return None
        pairs = zip(self.short_digests, unit_digests, strict=True)
        return [index for index, (short, full) in enumerate(pairs) if full[:_SHORT] != short]


def protected_header(claims: Claims, unit_digests: Sequence[bytes] | None) -> dict[Any, Any]:
    """Return the protected header to sign; `unit_digests` given, changes can be localized."""
    header: dict[Any, Any] = {
        Label.CWT_CLAIMS: claims.to_cwt(),
        Label.PAYLOAD_HASH_ALG: _SHA_256,
        Label.PREIMAGE_CONTENT_TYPE: _OCTET_STREAM,
    }
    if unit_digests is not None:
        header[_UNIT_DIGESTS] = b"".join(digest[:_SHORT] for digest in unit_digests)
    return header


def _split(digests: bytes) -> tuple[bytes, ...]:
    return tuple(digests[at : at + _SHORT] for at in range(0, len(digests), _SHORT))
