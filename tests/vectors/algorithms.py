"""Vectors of each algorithm of signatures, and of hybrids that were taken apart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import cbor2

import nnguard
from vectors.toolbox import (
    CLAIMS,
    HYBRID_65,
    HYBRID_87,
    ISSUED,
    P256,
    P384,
    VENDOR,
    Made,
    cose_header,
    describe,
    digest_of,
    hide,
    payload_header,
    sign_part,
    signed_message,
    small,
    vector,
)

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256."""

Fields = list[Any]


def released(key: nnguard.SigningKey, trust: str) -> Made:
    """A release that a key signed."""
    stream = small()
    claims = {"iss": CLAIMS["issuer"], "sub": CLAIMS["name"], "iat": int(ISSUED.timestamp())}
    details = {"claims": claims, "kid": key.public_key.id.hex(), "trust": [trust]}
    record = functools.partial(signed_message, key, payload_header(), digest_of(stream))
    return Made(hidden(record), bytes(stream), describe(stream, details))


def hidden(record: Callable[[bytes], bytes]) -> bytes:
    """A small stream with a record in it, which may be nearly as large."""
    bits = 8 if len(record(b"")) < 4900 else 16
    return bytes(hide(small(), record, bits=bits))


def changed(
    change: Callable[[Fields, bytes], Fields],
    key: nnguard.SigningKey = HYBRID_65,
    trust: Sequence[str] = ("hybrid_65",),
    tag: int = 98,
) -> Made:
    """A release whose record was changed: `change` gets the fields of the message and the aad."""

    def record(aad: bytes) -> bytes:
        message = cbor2.loads(signed_message(key, payload_header(), digest_of(small()), aad))
        return bytes(cbor2.dumps(cbor2.CBORTag(tag, change(message.value, aad)), canonical=True))

    return Made(hidden(record), None, (("trust", [*trust]),))


def only(*kept: int) -> Callable[[Fields, bytes], Fields]:
    """Keep these signatures, in this order."""
    return lambda fields, _: [*fields[:3], [fields[3][at] for at in kept]]


def sign1(key: nnguard.SigningKey, part: int, number: int) -> Callable[[Fields, bytes], Fields]:
    """A COSE_Sign1 by one part of a key, under the key's identifier."""

    def change(fields: Fields, aad: bytes) -> Fields:
        header = cbor2.dumps({**payload_header(), 1: number, 4: key.public_key.id}, canonical=True)
        to_be_signed = cbor2.dumps(["Signature1", header, aad, fields[2]])
        return [header, {}, fields[2], sign_part(key.parts[part], to_be_signed)]

    return change


def with_value(change: Callable[[bytes], bytes]) -> Callable[[Fields, bytes], Fields]:
    """A COSE_Sign1 with another signature."""
    return lambda fields, _: [*fields[:3], change(fields[3])]


def under(key: nnguard.SigningKey, *headers: dict[Any, Any]) -> Callable[[Fields, bytes], Fields]:
    """Sign again with each part, under other headers of the signatures."""

    def change(fields: Fields, aad: bytes) -> Fields:
        signatures = []
        for part, header in zip(key.parts, headers, strict=True):
            own = cbor2.dumps(header, canonical=True)
            data = cbor2.dumps(["Signature", fields[0], own, aad, fields[2]])
            signatures.append([own, {}, sign_part(part, data)])
        return [*fields[:3], signatures]

    return change


@vector("6", "ok")
def esp256() -> Made:
    """ECDSA on P-256."""
    return released(P256, "p256")


@vector("6", "ok")
def esp384() -> Made:
    """ECDSA on P-384."""
    return released(P384, "p384")


@vector("6", "ok")
def hybrid_65() -> Made:
    """Ed25519 and ML-DSA-65."""
    return released(HYBRID_65, "hybrid_65")


@vector("6", "ok")
def hybrid_87() -> Made:
    """Ed25519 and ML-DSA-87."""
    return released(HYBRID_87, "hybrid_87")


@vector("6", "WrongKeyError: half of a hybrid is trusted", message="not among the 1 trusted")
def hybrid_half_trusted() -> Made:
    """The vendor's key is the Ed25519 part of the hybrid one that signed."""
    return changed(lambda fields, _: fields, trust=["vendor"])


@vector("6", "VerificationError: ML-DSA taken away", message="not a COSE_Sign1")
def hybrid_without_ml_dsa() -> Made:
    """The COSE_Sign has the signature of Ed25519 alone."""
    return changed(only(0))


@vector("6", "VerificationError: Ed25519 taken away", message="not a COSE_Sign1")
def hybrid_without_ed25519() -> Made:
    """The COSE_Sign has the signature of ML-DSA alone."""
    return changed(only(1))


@vector("6", "VerificationError: signatures in the other order", message="not a COSE_Sign1")
def hybrid_in_other_order() -> Made:
    """ML-DSA first."""
    return changed(only(1, 0))


@vector("6", "VerificationError: one signature twice", message="not a COSE_Sign1")
def hybrid_of_one_twice() -> Made:
    """Both are those of Ed25519."""
    return changed(only(0, 0))


@vector("6", "VerificationError: a signature too many", message="not a COSE_Sign1")
def hybrid_of_three() -> Made:
    """That of ML-DSA twice."""
    return changed(only(0, 1, 1))


@vector("6", "VerificationError: half of a hybrid as a whole", message="signature is wrong")
def hybrid_as_ed25519() -> Made:
    """Whoever has the Ed25519 part signs a COSE_Sign1 under the identifier of the hybrid."""
    return changed(sign1(HYBRID_65, 0, -19), tag=18)


@vector("6", "VerificationError: ML-DSA by itself", message="not a COSE_Sign1")
def ml_dsa_alone() -> Made:
    """A COSE_Sign1 by the ML-DSA part."""
    return changed(sign1(HYBRID_65, 1, -49), tag=18)


@vector("6", "VerificationError: ML-DSA of another message", message="signature is wrong")
def hybrid_of_two_messages() -> Made:
    """The ML-DSA part signed another network."""

    def change(fields: Fields, aad: bytes) -> Fields:
        other = digest_of(small(seed=50))
        message = cbor2.loads(signed_message(HYBRID_65, payload_header(), other, aad))
        return [*fields[:3], [fields[3][0], message.value[3][1]]]

    return changed(change)


@vector("6", "VerificationError: Ed25519 of another message", message="signature is wrong")
def hybrid_of_two_messages_otherwise() -> Made:
    """The Ed25519 part signed another network."""

    def change(fields: Fields, aad: bytes) -> Fields:
        other = digest_of(small(seed=50))
        message = cbor2.loads(signed_message(HYBRID_65, payload_header(), other, aad))
        return [*fields[:3], [message.value[3][0], fields[3][1]]]

    return changed(change)


@vector("6", "VerificationError: ML-DSA-87 where ML-DSA-65 is", message="signature is wrong")
def hybrid_of_other_strength() -> Made:
    """The hybrid with ML-DSA-87 signs under the identifier of the other."""
    kid = HYBRID_65.public_key.id
    return changed(under(HYBRID_87, {1: -19, 4: kid}, {1: -50, 4: kid}))


@vector("6", "VerificationError: signature of ML-DSA wrong", message="signature is wrong")
def hybrid_of_zeros() -> Made:
    """Ed25519 is right; ML-DSA is zeros."""
    return changed(
        lambda fields, _: [*fields[:3], [fields[3][0], [*fields[3][1][:2], bytes(3309)]]]
    )


@vector("6", "VerificationError: halves with identifiers of their own", message="not a COSE_Sign1")
def hybrid_of_two_kids() -> Made:
    """The Ed25519 part has its own identifier."""
    kids = [VENDOR.public_key.id, HYBRID_65.public_key.id]
    headers = [{1: number, 4: kid} for number, kid in zip((-19, -49), kids, strict=True)]
    return changed(under(HYBRID_65, *headers), trust=["vendor", "hybrid_65"])


@vector("6", "VerificationError: signature signed as the only one", message="signature is wrong")
def hybrid_signed_as_one() -> Made:
    """The context of the signatures is "Signature1"."""

    def change(fields: Fields, aad: bytes) -> Fields:
        signatures = [
            [own, {}, sign_part(part, cbor2.dumps(["Signature1", fields[0], aad, fields[2]]))]
            for part, (own, _, _) in zip(HYBRID_65.parts, fields[3], strict=True)
        ]
        return [*fields[:3], signatures]

    return changed(change)


@vector("6", "VerificationError: kid where the content is", message="not a COSE_Sign1")
def hybrid_with_kid_above() -> Made:
    """The protected header of the content names the key, too."""
    kid = HYBRID_65.public_key.id
    header = cbor2.dumps({**payload_header(), 4: kid}, canonical=True)
    again = under(HYBRID_65, {1: -19, 4: kid}, {1: -49, 4: kid})
    return changed(lambda fields, aad: again([header, *fields[1:]], aad))


@vector("6", "VerificationError: more in the header of a signature", message="not a COSE_Sign1")
def hybrid_with_more() -> Made:
    """A content type."""
    kid = HYBRID_65.public_key.id
    return changed(under(HYBRID_65, {1: -19, 3: 0, 4: kid}, {1: -49, 4: kid}))


@vector("6", "VerificationError: unprotected header of a signature", message="not a COSE_Sign1")
def hybrid_unprotected() -> Made:
    """Of the second."""
    return changed(
        lambda fields, _: [
            *fields[:3],
            [fields[3][0], [fields[3][1][0], {4: b""}, fields[3][1][2]]],
        ]
    )


@vector("6", "VerificationError: COSE_Sign of a single key", message="not a COSE_Sign1")
def one_of_several() -> Made:
    """A right signature by the vendor, in a COSE_Sign."""
    header = {1: -19, 4: VENDOR.public_key.id}
    return changed(under(VENDOR, header), VENDOR, ["vendor"])


@vector("6", "VerificationError: two keys", message="2 keys signed")
def two_keys() -> Made:
    """The vendor and the one with P-256, each with a right signature."""
    pair = sorted((VENDOR, P256), key=lambda key: key.public_key.id)
    header = cbor2.dumps(payload_header(), canonical=True)

    def change(fields: Fields, aad: bytes) -> Fields:
        signatures = []
        for key in pair:
            own = cose_header(key, 0)
            data = cbor2.dumps(["Signature", header, own, aad, fields[2]])
            signatures.append([own, {}, key.sign(data)])
        return [header, {}, fields[2], signatures]

    return changed(change, VENDOR, ["vendor", "p256"])


@vector("6", "VerificationError: ECDSA with the greater s", message="signature is wrong")
def esp256_high_s() -> Made:
    """The order minus s, which ECDSA takes as well."""

    def high(value: bytes) -> bytes:
        return value[:32] + (_ORDER - int.from_bytes(value[32:], "big")).to_bytes(32, "big")

    return changed(with_value(high), P256, ["p256"], 18)


@vector("6", "VerificationError: r is 0", message="signature is wrong")
def esp256_zero_r() -> Made:
    """Zeros for the first half."""
    return changed(with_value(lambda value: bytes(32) + value[32:]), P256, ["p256"], 18)


@vector("6", "VerificationError: s is 0", message="signature is wrong")
def esp256_zero_s() -> Made:
    """Zeros for the second half."""
    return changed(with_value(lambda value: value[:32] + bytes(32)), P256, ["p256"], 18)


@vector("6", "VerificationError: ECDSA in DER", message="not a COSE_Sign1")
def esp256_in_der() -> Made:
    """A sequence of two integers."""
    return changed(
        with_value(lambda value: b"\x30\x44\x02\x20" + value[:32] + b"\x02\x20" + value[32:]),
        P256,
        ["p256"],
        18,
    )


@vector("6", "VerificationError: ES256", message="not a COSE_Sign1")
def es256() -> Made:
    """-7 says less than -9 does: the curve is open."""
    return changed(sign1(P256, 0, -7), P256, ["p256"], 18)


@vector("6", "VerificationError: EdDSA", message="not a COSE_Sign1")
def eddsa() -> Made:
    """-8 says less than -19 does, and is deprecated."""
    return changed(sign1(VENDOR, 0, -8), VENDOR, ["vendor"], 18)


@vector("6", "VerificationError: algorithm of another key", message="signature is wrong")
def other_algorithm_of_key() -> Made:
    """Ed25519, says the record, and the key is one of P-256."""
    return changed(sign1(P256, 0, -19), P256, ["p256"], 18)


@vector("6", "VerificationError: algorithm of another key", message="signature is wrong")
def other_key_of_algorithm() -> Made:
    """ESP256, says the record, and the key is one of Ed25519."""
    return changed(sign1(VENDOR, 0, -9), VENDOR, ["vendor"], 18)
