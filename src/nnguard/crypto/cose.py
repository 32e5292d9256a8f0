"""COSE_Sign1 envelopes (RFC 9052), strict: one valid encoding for each content.

`cwt` does COSE. What comes from outside is parsed here first: deterministic CBOR (RFC 8949,
section 4.2), an empty unprotected header, EdDSA, a key identifier. A record that is encoded in any
other way would be a second valid record of the same content, so it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cbor2

from nnguard.crypto.keys import PublicKey, Signer
from nnguard.errors import VerificationError

__all__ = ["Label", "Sign1", "encode_cbor", "parse_cbor", "parse_sign1", "sign1"]

_SIGN1_TAG = 18
_EDDSA = -8
_SIGNATURE_SIZE = 64


class Label:
    """Labels of COSE header parameters."""

    ALG = 1  # RFC 9052, section 3.1
    KID = 4
    CWT_CLAIMS = 15  # RFC 9597
    PAYLOAD_HASH_ALG = 258  # COSE hash envelope
    PREIMAGE_CONTENT_TYPE = 259


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1 that was parsed, but not verified.

    Attributes:
        protected: The protected header, `alg` and `kid` included.
        payload: The signed bytes.
        encoded: The whole message.
    """

    protected: dict[Any, Any]
    payload: bytes
    encoded: bytes

    @property
    def key_id(self) -> bytes:
        """Identifier of the key that signed, as the message says."""
        kid: bytes = self.protected[Label.KID]
        return kid

    def verified_by(self, key: PublicKey, external_aad: bytes) -> bool:
        """Tell whether the signature over protected header, payload and `external_aad` is right."""
        import cwt  # 60 ms, and only verifying and signing need it

        cose_key = cwt.COSEKey.new({1: 1, 2: key.id, 3: _EDDSA, -1: 6, -2: key.raw})
        try:
            cwt.COSE.new(verify_kid=True).decode(self.encoded, cose_key, external_aad=external_aad)
        except cwt.VerifyError:
            return False
        return True


def sign1(
    signer: Signer | None, protected: dict[Any, Any], payload: bytes, external_aad: bytes
) -> bytes:
    """Make a COSE_Sign1 with EdDSA.

    Args:
        signer: Signs; None leaves a signature of zeros, to learn the message's size.
        protected: Protected header without `alg`; `kid` is part of it.
        payload: The bytes to sign, which are part of the message.
        external_aad: Bytes that the signature covers and the message does not hold.

    Returns:
        The tagged message.
    """
    import cwt

    header = {Label.ALG: _EDDSA, **protected}
    cose = cwt.COSE.new(deterministic_header=True)
    key = _signing_key(signer, protected[Label.KID])
    return bytes(cose.encode_and_sign(payload, key, header, {}, external_aad=external_aad))


def parse_sign1(encoded: bytes) -> Sign1:
    """Parse a COSE_Sign1.

    Raises:
        VerificationError: It is none, or not in the one encoding that is accepted.
    """
    message = parse_cbor(encoded)
    if isinstance(message, cbor2.CBORTag) and message.tag == _SIGN1_TAG:
        match message.value:
            case [bytes() as header, {}, bytes() as payload, bytes() as signature]:
                protected = parse_cbor(header)
                if (
                    not message.value[1]
                    and len(signature) == _SIGNATURE_SIZE
                    and isinstance(protected, dict)
                    and protected.get(Label.ALG) == _EDDSA
                    and isinstance(protected.get(Label.KID), bytes)
                ):
                    return Sign1(protected, payload, encoded)
    raise VerificationError("the record is not a COSE_Sign1 with EdDSA and a key identifier")


def parse_cbor(encoded: bytes) -> Any:
    """Decode deterministic CBOR.

    Raises:
        VerificationError: It is not CBOR, or not deterministically encoded.
    """
    try:
        value = cbor2.loads(encoded)
        deterministic = encode_cbor(value) == encoded
    except Exception as error:  # a decoder of hostile input may raise anything
        raise VerificationError(f"the record is not CBOR: {type(error).__name__}") from None
    if not deterministic:
        raise VerificationError("the record is not deterministically encoded CBOR")
    return value


def encode_cbor(value: Any) -> bytes:
    """Encode to deterministic CBOR (RFC 8949, section 4.2)."""
    return cbor2.dumps(value, canonical=True)


def _signing_key(signer: Signer | None, kid: bytes) -> Any:
    """Present a signer to `cwt`, which asks a key for a signature and nothing else."""
    from cwt.cose_key_interface import COSEKeyInterface

    class ForeignKey(COSEKeyInterface):
        def sign(self, msg: bytes) -> bytes:
            return bytes(_SIGNATURE_SIZE) if signer is None else signer.sign(msg)

    return ForeignKey({1: 1, 2: kid, 3: _EDDSA, 4: [1]})
