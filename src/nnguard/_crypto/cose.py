"""COSE_Sign1 and COSE_Encrypt0 (RFC 9052), strict: one valid encoding for each content.

What comes from outside must be deterministic CBOR (RFC 8949, section 4.2), with an empty
unprotected header, the one algorithm and a key identifier. A message that is encoded in any other
way would be a second valid one of the same content, so it is refused.

Of COSE these are two structures of three or four fields, so they stand here;
`docs/adr/0001-dependencies.md` says what a library would cost at every start. Two of them, `cwt`
and `pycose`, check it in tests.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from nnguard._crypto.keys import PublicKey, Signer
from nnguard.errors import ArgumentError, VerificationError

__all__ = [
    "A256GCM",
    "EDDSA",
    "NONCE_SIZE",
    "TAG_SIZE",
    "Encrypt0",
    "Label",
    "Sign1",
    "encode_cbor",
    "parse_cbor",
    "parse_encrypt0",
    "parse_sign1",
    "peek_encrypt0",
    "sign1",
]

_SIGN1_TAG = 18
_ENCRYPT0_TAG = 16
EDDSA = -8
A256GCM = 3
NONCE_SIZE = 12
TAG_SIZE = 16
_SIGNATURE_SIZE = 64

_LONG = 1 << 16
"""Byte strings of so many bytes are not copied."""

_LONG_TAG = 1 << 20
"""Stands for one of them meanwhile; a record has no such tag."""


class Label:
    """Labels of COSE header parameters."""

    ALG = 1  # RFC 9052, section 3.1
    KID = 4
    IV = 5
    CWT_CLAIMS = 15  # RFC 9597
    PAYLOAD_HASH_ALG = 258  # COSE hash envelope
    PREIMAGE_CONTENT_TYPE = 259


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1 that was parsed, but not verified.

    Attributes:
        protected: The protected header, `alg` and `kid` included.
        payload: The signed bytes.
        signature: 64 bytes.
    """

    protected: dict[Any, Any]
    payload: bytes
    signature: bytes

    @property
    def key_id(self) -> bytes:
        """Identifier of the key that signed, as the message says."""
        kid: bytes = self.protected[Label.KID]
        return kid

    def verified_by(self, key: PublicKey, external_aad: bytes) -> bool:
        """Tell whether the signature over protected header, payload and `external_aad` is right."""
        header = encode_cbor(self.protected)
        return key.verifies(self.signature, _to_be_signed(header, external_aad, self.payload))


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

    Raises:
        ArgumentError: The signature does not verify with the signer's own public key.
    """
    header = encode_cbor({Label.ALG: EDDSA, **protected})
    signature = bytes(_SIGNATURE_SIZE)
    if signer is not None:
        data = _to_be_signed(header, external_aad, payload)
        signature = signer.sign(data)
        if not signer.public_key.verifies(signature, data):
            raise ArgumentError("the signer's signature does not verify with its public key")
    return encode_cbor(cbor2.CBORTag(_SIGN1_TAG, [header, {}, payload, signature]))


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
                    and protected.get(Label.ALG) == EDDSA
                    and isinstance(protected.get(Label.KID), bytes)
                ):
                    return Sign1(protected, payload, signature)
    raise VerificationError("not a COSE_Sign1 with EdDSA and a key identifier")


@dataclass(frozen=True, slots=True)
class Encrypt0:
    """A COSE_Encrypt0 that was parsed, but not decrypted.

    Attributes:
        protected: The protected header, with `kid` and `IV` in it.
        ciphertext: Encrypted content and tag.
    """

    protected: dict[Any, Any]
    ciphertext: bytes | memoryview

    @property
    def key_id(self) -> bytes:
        """Identifier of the key, as the message says."""
        kid: bytes = self.protected[Label.KID]
        return kid

    @property
    def nonce(self) -> bytes:
        """The 12 bytes of the initialization vector."""
        nonce: bytes = self.protected[Label.IV]
        return nonce

    def associated_data(self, external_aad: bytes) -> bytes:
        """Return what is authenticated besides the content: the `Enc_structure`, section 5.3."""
        return encode_cbor(["Encrypt0", encode_cbor(self.protected), external_aad])

    def __bytes__(self) -> bytes:
        """Encode the message, tagged."""
        fields = [encode_cbor(self.protected), {}, self.ciphertext]
        return encode_cbor(cbor2.CBORTag(_ENCRYPT0_TAG, fields))


def parse_encrypt0(encoded: bytes) -> Encrypt0:
    """Parse a COSE_Encrypt0 with AES-256-GCM.

    Raises:
        VerificationError: It is none, or not in the one encoding that is accepted.
    """
    message = parse_cbor(encoded, views=True)
    if isinstance(message, cbor2.CBORTag) and message.tag == _ENCRYPT0_TAG:
        match message.value:
            case [bytes() as header, {}, (bytes() | memoryview()) as ciphertext]:
                protected = parse_cbor(header)
                if (
                    not message.value[1]
                    and isinstance(protected, dict)
                    and protected.get(Label.ALG) == A256GCM
                    and isinstance(protected.get(Label.KID), bytes)
                    and isinstance(protected.get(Label.IV), bytes)
                    and len(protected[Label.IV]) == NONCE_SIZE
                ):
                    return Encrypt0(protected, ciphertext)
    raise VerificationError("not a COSE_Encrypt0 with AES-256-GCM, a key identifier and an IV")


def peek_encrypt0(start: bytes) -> Encrypt0:
    """Parse the protected header of a COSE_Encrypt0 of which only the beginning is at hand.

    Returns:
        The message without its ciphertext.

    Raises:
        VerificationError: It is none, or the header is not whole or not in the one encoding that
            is accepted.
    """
    try:
        if start[:2] == bytes([6 << 5 | _ENCRYPT0_TAG, 4 << 5 | 3]) and start[2] >> 5 == 2:
            header = cbor2.CBORDecoder(io.BytesIO(start[2:])).decode()
            return parse_encrypt0(encode_cbor(cbor2.CBORTag(_ENCRYPT0_TAG, [header, {}, b""])))
    except (IndexError, cbor2.CBORDecodeError):
        pass
    raise VerificationError("not a COSE_Encrypt0, or not the beginning of one")


def parse_cbor(encoded: bytes, *, views: bool = False) -> Any:
    """Decode deterministic CBOR.

    Args:
        encoded: The item.
        views: Return long byte strings as views of `encoded`, which may be as large as a network.

    Raises:
        VerificationError: It is not CBOR, or not deterministically encoded.
    """
    small, large = _hollow(encoded)
    try:
        value = cbor2.loads(small)
        deterministic = encode_cbor(value) == small
        if large:
            value = _filled(value, large if views else [*map(bytes, large)])
    except Exception as error:  # a decoder of hostile input may raise anything
        raise VerificationError(f"the record is not CBOR: {type(error).__name__}") from None
    if not deterministic:
        raise VerificationError("the record is not deterministically encoded CBOR")
    return value


def encode_cbor(value: Any) -> bytes:
    """Encode to deterministic CBOR (RFC 8949, section 4.2)."""
    return cbor2.dumps(value, canonical=True)


def _hollow(encoded: bytes) -> tuple[bytes, list[memoryview]]:
    """Take long byte strings out of CBOR, and leave a tag and their numbers in their places.

    Raises:
        VerificationError: It has something else than numbers, strings, arrays and maps, and one
            COSE tag in front: decoders act on other tags (dates, fractions, regular expressions),
            some at great length. Or the length of a long string is not in its shortest form.
    """
    data = memoryview(encoded)
    parts: list[bytes | memoryview] = []
    large: list[memoryview] = []
    at = done = 0
    while at < len(data):
        start, major, info = at, data[at] >> 5, data[at] & 31
        size = 1 << (info - 24) if info >= 24 else 0
        at += 1 + size
        value = int.from_bytes(data[start + 1 : at], "big") if size else info
        tagged = major == 6 and (start > 0 or value not in (_SIGN1_TAG, _ENCRYPT0_TAG))
        if info > 27 or major == 7 or tagged:
            break
        if major == 2 and value >= _LONG:
            shortest = encode_cbor(value)
            if bytes([shortest[0] | 2 << 5]) + shortest[1:] != data[start:at]:
                break
            parts += [data[done:start], encode_cbor(cbor2.CBORTag(_LONG_TAG, len(large)))]
            large.append(data[at : at + value])
            done = at + value
        if major in (2, 3):
            at += value
    else:
        if at == len(data):
            return b"".join([*parts, data[done:]]), large
    raise VerificationError("the record is not CBOR of definite lengths and plain types")


def _filled(value: Any, large: Sequence[bytes | memoryview]) -> Any:
    """Put long byte strings back into what was decoded."""
    match value:
        case cbor2.CBORTag(tag=tag, value=inner):
            if tag == _LONG_TAG:
                return large[inner]
            return cbor2.CBORTag(tag, _filled(inner, large))
        case list():
            return [_filled(each, large) for each in value]
        case dict():
            return {key: _filled(each, large) for key, each in value.items()}
    return value


def _to_be_signed(header: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """Return the `Sig_structure` (RFC 9052, section 4.4)."""
    return encode_cbor(["Signature1", header, external_aad, payload])
