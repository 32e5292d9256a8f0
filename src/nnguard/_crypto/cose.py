"""COSE_Sign1, COSE_Sign and COSE_Encrypt0 (RFC 9052), strict: one valid encoding for each content.

What comes from outside must be deterministic CBOR, with empty unprotected headers, a known
algorithm and a key identifier. A message that is encoded in any other way would be a second valid
one of the same content, so it is refused.

Of COSE these are three structures of three or four fields, so they stand here;
`docs/adr/0001-dependencies.md` says what a library would cost at every start. Two of them, `cwt`
and `pycose`, check it in tests.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cbor2

from nnguard._crypto.algorithms import ALGORITHMS, KEY_ALGORITHMS, Algorithm
from nnguard._crypto.cbor import ENCRYPT0_TAG, SIGN1_TAG, SIGN_TAG, encode_cbor, parse_cbor
from nnguard._crypto.keys import PublicKey, Signer
from nnguard.errors import ArgumentError, VerificationError

__all__ = [
    "A256GCM",
    "NONCE_SIZE",
    "TAG_SIZE",
    "Encrypt0",
    "Label",
    "Signature",
    "Signed",
    "parse_encrypt0",
    "parse_signed",
    "peek_encrypt0",
    "sign",
    "sign_by_all",
    "signed_size",
]

A256GCM = 3
NONCE_SIZE = 12
TAG_SIZE = 16


class Label:
    """Labels of COSE header parameters."""

    ALG = 1  # RFC 9052, section 3.1
    KID = 4
    IV = 5
    CWT_CLAIMS = 15  # RFC 9597
    PAYLOAD_HASH_ALG = 258  # COSE hash envelope
    PREIMAGE_CONTENT_TYPE = 259


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a message, by a single key.

    Attributes:
        key_id: Identifier of the key that signed, or of the hybrid that it is part of, as the
            message says.
        algorithm: As the message says.
        value: The signature.
    """

    key_id: bytes
    algorithm: Algorithm
    value: bytes

    @property
    def protected(self) -> dict[Any, Any]:
        """Its fields of a protected header."""
        return {Label.ALG: self.algorithm.number, Label.KID: self.key_id}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed message that was parsed, but not verified.

    With one signature it is a COSE_Sign1, unless others may join it; with several a COSE_Sign.
    They are sorted by the identifiers of their keys; the two of a hybrid stand together, that of
    Ed25519 first.

    Attributes:
        protected: The protected header of the content, without `alg` and `kid`.
        payload: The signed bytes.
        signatures: At least one.
        open: A COSE_Sign even with one signature, which others may join.
    """

    protected: dict[Any, Any]
    payload: bytes
    signatures: tuple[Signature, ...]
    open: bool = False

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Identifiers of the keys that signed, as the message says, each once."""
        return tuple(dict.fromkeys(each.key_id for each in self.signatures))

    @property
    def key_id(self) -> bytes:
        """Identifier of the one key that signed, as the message says.

        Raises:
            VerificationError: Several did.
        """
        if len(self.key_ids) > 1:
            raise VerificationError(f"{len(self.key_ids)} keys signed, where one is expected")
        return self.key_ids[0]

    @property
    def algorithm(self) -> str:
        """Algorithm of the first key, as the message says; see `PublicKey`."""
        return KEY_ALGORITHMS[self._algorithms_of(self.key_ids[0])]

    def verified_by(self, key: PublicKey, external_aad: bytes) -> bool:
        """Tell whether a key signed the content and `external_aad`, with all of its parts."""
        if self._algorithms_of(key.id) != tuple(part.algorithm for part in key.parts):
            return False
        signatures = (each for each in self.signatures if each.key_id == key.id)
        return all(
            part.verifies(signature.value, self.to_be_signed(signature, external_aad))
            for part, signature in zip(key.parts, signatures, strict=True)
        )

    def to_be_signed(self, signature: Signature, external_aad: bytes) -> bytes:
        """Return the `Sig_structure` of a signature (RFC 9052, section 4.4)."""
        if self._is_sign1:
            header = self._sign1_header(signature)
            return encode_cbor(["Signature1", header, external_aad, self.payload])
        headers = encode_cbor(self.protected), encode_cbor(signature.protected)
        return encode_cbor(["Signature", *headers, external_aad, self.payload])

    def __bytes__(self) -> bytes:
        """Encode the message, tagged."""
        if self._is_sign1:
            (only,) = self.signatures
            fields = [self._sign1_header(only), {}, self.payload, only.value]
            return encode_cbor(cbor2.CBORTag(SIGN1_TAG, fields))
        signatures = [[encode_cbor(each.protected), {}, each.value] for each in self.signatures]
        body = encode_cbor(self.protected)
        return encode_cbor(cbor2.CBORTag(SIGN_TAG, [body, {}, self.payload, signatures]))

    def joined(self, other: Signed) -> Signed:
        """Return an open message with the signatures of another over the same content, too."""
        kept = [each for each in self.signatures if each.key_id not in other.key_ids]
        return replace(self, signatures=tuple(sorted([*kept, *other.signatures], key=_key_id)))

    @property
    def _is_sign1(self) -> bool:
        return len(self.signatures) == 1 and not self.open

    def _sign1_header(self, only: Signature) -> bytes:
        return encode_cbor({**self.protected, **only.protected})

    def _algorithms_of(self, key_id: bytes) -> tuple[Algorithm, ...]:
        return tuple(each.algorithm for each in self.signatures if each.key_id == key_id)


def sign(signer: Signer, protected: dict[Any, Any], payload: bytes, external_aad: bytes) -> bytes:
    """Sign with one key: a COSE_Sign1, or of a hybrid key a COSE_Sign with its two signatures.

    Args:
        signer: Signs.
        protected: Protected header without `alg` and `kid`.
        payload: The bytes to sign, which are part of the message.
        external_aad: Bytes that the signature covers and the message does not hold.

    Returns:
        The tagged message.

    Raises:
        ArgumentError: The signature does not verify with the signer's own public key.
    """
    return sign_by_all([signer], protected, payload, external_aad)


def sign_by_all(
    signers: Sequence[Signer],
    protected: dict[Any, Any],
    payload: bytes,
    external_aad: bytes,
    *,
    open: bool = False,  # noqa: A002
) -> bytes:
    """Sign the same content with several keys; see `sign`, and `Signed` for `open`.

    Raises:
        ArgumentError: There are none, or one twice; or a signature does not verify with the
            signer's own public key.
    """
    signers = sorted(signers, key=lambda signer: signer.public_key.id)
    keys = [signer.public_key for signer in signers]
    if not keys or len(set(keys)) < len(keys):
        raise ArgumentError("sign with at least one key, and with each key once")
    message = replace(_unsigned(keys, protected, payload), open=open)
    singles = [single for signer in signers for single in _singles(signer)]
    parts = [part for key in keys for part in key.parts]
    signatures = []
    for single, part, blank in zip(singles, parts, message.signatures, strict=True):
        data = message.to_be_signed(blank, external_aad)
        value = part.algorithm.canonical(single.sign(data))
        if not part.verifies(value, data):
            raise ArgumentError("the signer's signature does not verify with its public key")
        signatures.append(replace(blank, value=value))
    return bytes(replace(message, signatures=tuple(signatures)))


def signed_size(key: PublicKey, protected: dict[Any, Any], payload: bytes) -> int:
    """Return how many bytes `sign` will return."""
    return len(bytes(_unsigned([key], protected, payload)))


def parse_signed(encoded: bytes, *, open: bool = False) -> Signed:  # noqa: A002
    """Parse a COSE_Sign1 or COSE_Sign; an open message is always the latter.

    Raises:
        VerificationError: It is neither, or not in the one encoding that is accepted.
    """
    signed = _read_signed(parse_cbor(encoded))
    if signed is not None:
        signed = replace(signed, open=open)
    if signed is None or bytes(signed) != encoded:
        raise VerificationError(
            "not a COSE_Sign1 or COSE_Sign by keys of known algorithms, all named"
        )
    return signed


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
        return encode_cbor(cbor2.CBORTag(ENCRYPT0_TAG, fields))


def parse_encrypt0(encoded: bytes) -> Encrypt0:
    """Parse a COSE_Encrypt0 with AES-256-GCM.

    Raises:
        VerificationError: It is none, or not in the one encoding that is accepted.
    """
    message = parse_cbor(encoded, views=True)
    if isinstance(message, cbor2.CBORTag) and message.tag == ENCRYPT0_TAG:
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
        if start[:2] == bytes([6 << 5 | ENCRYPT0_TAG, 4 << 5 | 3]) and start[2] >> 5 == 2:
            header = cbor2.CBORDecoder(io.BytesIO(start[2:])).decode()
            return parse_encrypt0(encode_cbor(cbor2.CBORTag(ENCRYPT0_TAG, [header, {}, b""])))
    except (IndexError, cbor2.CBORDecodeError):
        pass
    raise VerificationError("not a COSE_Encrypt0, or not the beginning of one")


def _unsigned(keys: Sequence[PublicKey], protected: dict[Any, Any], payload: bytes) -> Signed:
    """Return a message with zeros for signatures, to learn its form and size."""
    return Signed(
        protected,
        payload,
        tuple(
            Signature(key.id, part.algorithm, bytes(part.algorithm.signature_size))
            for key in keys
            for part in key.parts
        ),
    )


def _singles(signer: Signer) -> Sequence[Any]:
    """Return what signs for each part of a key.

    Raises:
        ArgumentError: It is fewer or more than the key has parts.
    """
    found: Sequence[Any] = getattr(signer, "parts", (signer,))
    if len(found) != len(signer.public_key.parts):
        raise ArgumentError("the signer of a hybrid key has two `parts`: Ed25519 and ML-DSA")
    return found


def _read_signed(message: Any) -> Signed | None:
    """Read what a `Signed` encodes to. Other messages give None, or encode to something else."""
    match getattr(message, "tag", None), getattr(message, "value", None):
        case 18, [bytes() as header, _, bytes() as payload, bytes() as value]:
            protected = parse_cbor(header)
            signatures = [_take_signature(protected, value)]
        case 98, [bytes() as header, _, bytes() as payload, [_, *_] as fields]:
            protected = parse_cbor(header)
            signatures = [_read_signature(each) for each in fields]
        case _:
            return None
    found = [each for each in signatures if each is not None]
    if not isinstance(protected, dict) or len(found) < len(signatures):
        return None
    signed = Signed(protected, payload, tuple(found))
    return signed if _is_in_order(signed) and not {Label.ALG, Label.KID} & {*protected} else None


def _read_signature(fields: Any) -> Signature | None:
    match fields:
        case [bytes() as header, _, bytes() as value]:
            return _take_signature(parse_cbor(header), value)
    return None


def _take_signature(protected: Any, value: bytes) -> Signature | None:
    """Take `alg` and `kid` out of a header, and put a signature to them."""
    if not isinstance(protected, dict):
        return None
    number, key_id = protected.pop(Label.ALG, None), protected.pop(Label.KID, None)
    if not isinstance(number, int) or number not in ALGORITHMS or not isinstance(key_id, bytes):
        return None
    algorithm = ALGORITHMS[number]
    return Signature(key_id, algorithm, value) if len(value) == algorithm.signature_size else None


def _is_in_order(signed: Signed) -> bool:
    """Tell whether keys are sorted, and each signed once, with what makes a key."""
    by_key = [list(group) for _, group in itertools.groupby(signed.signatures, _key_id)]
    return sorted(signed.key_ids) == [group[0].key_id for group in by_key] and all(
        tuple(each.algorithm for each in group) in KEY_ALGORITHMS for group in by_key
    )


def _key_id(signature: Signature) -> bytes:
    return signature.key_id
