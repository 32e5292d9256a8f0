"""The second reader, continued: vendors' keys and signed messages, from `docs/SPEC.md`, 6, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey, MLDSA87PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

__all__ = ["Message", "VendorKey", "read_cbor", "read_message"]

KEYS = {(-19,), (-9,), (-51,), (-19, -49), (-19, -50)}
Signature = tuple[int, bytes, bytes, bytes]
"""`alg`, `kid`, the header that has them, and the signature itself."""

SIZES = {-19: 64, -9: 64, -51: 96, -49: 3309, -50: 4627}
HASHES = {-9: SHA256(), -51: SHA384()}


class VendorKey:
    """The single keys of a vendor's key, from PEM."""

    def __init__(self, pem: str) -> None:
        end = "-----END PUBLIC KEY-----"
        blocks = [block + end for block in pem.split(end)[:-1]]
        self.parts = [load_pem_public_key(block.encode()) for block in blocks]
        self.ders = [
            part.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for part in self.parts
        ]
        self.kid = hashlib.sha256(b"".join(self.ders)).digest()[:8]
        self.numbers = tuple(map(number_of, self.parts))


def number_of(key: Any) -> int:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": -9, "secp384r1": -51}[key.curve.name]
    return {Ed25519PublicKey: -19, MLDSA65PublicKey: -49, MLDSA87PublicKey: -50}[
        next(
            kind
            for kind in (Ed25519PublicKey, MLDSA65PublicKey, MLDSA87PublicKey)
            if isinstance(key, kind)
        )
    ]


def is_right(key: Any, number: int, signature: bytes, data: bytes) -> bool:
    try:
        if number not in HASHES:
            key.verify(signature, data)
            return True
        half = SIZES[number] // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(HASHES[number]))
        return 2 * s <= key.curve.group_order
    except InvalidSignature:
        return False


@dataclass(frozen=True)
class Message:
    """A signed message of the right form; `rest` is its header without `alg` and `kid`, and
    `alone` tells that it is a COSE_Sign1."""

    protected: bytes
    rest: dict[Any, Any]
    payload: bytes
    signatures: list[Signature]
    alone: bool

    @property
    def kids(self) -> list[bytes]:
        return list(dict.fromkeys(kid for _, kid, _, _ in self.signatures))

    def is_by(self, key: VendorKey, external_aad: bytes) -> bool:
        mine = [each for each in self.signatures if each[1] == key.kid]
        if tuple(number for number, *_ in mine) != key.numbers:
            return False
        tail = [external_aad, self.payload]
        return all(
            is_right(
                part,
                number,
                value,
                cbor2.dumps(
                    ["Signature1", self.protected, *tail]
                    if self.alone
                    else ["Signature", self.protected, header, *tail]
                ),
            )
            for part, (number, _, header, value) in zip(key.parts, mine, strict=True)
        )


def read_cbor(data: bytes) -> Any:
    """6: deterministic CBOR.

    Raises:
        ValueError: It is something else.
    """
    try:
        value = cbor2.loads(data)
        same = cbor2.dumps(value, canonical=True) == data
    except Exception:
        same = False
    if not same:
        raise ValueError("not deterministic CBOR")
    return value


def read_message(encoded: bytes, *, several: bool = False) -> Message:
    """6: a COSE_Sign1 or COSE_Sign in the form that is accepted; for `several`, the latter alone.

    Raises:
        ValueError: It is something else.
    """
    tagged = read_cbor(encoded)
    fields = tagged.value if isinstance(tagged, cbor2.CBORTag) else None
    if type(fields) is not list or [type(each) for each in fields[:3]] != [bytes, dict, bytes]:
        raise ValueError("no COSE")
    protected, unprotected, payload, value = fields if len(fields) == 4 else (*fields[:3], None)
    rest = read_cbor(protected)
    if unprotected or type(rest) is not dict:
        raise ValueError("headers")
    if tagged.tag == 18 and not several:
        signatures = [signature(rest, protected, value)]
        rest = {label: each for label, each in rest.items() if label not in (1, 4)}
    elif tagged.tag == 98 and type(value) is list and not {1, 4} & set(rest):
        signatures = [of_several(each) for each in value]
        if len(signatures) < (1 if several else 2):
            raise ValueError("number of signatures")
    else:
        raise ValueError("not signed")
    groups = [list(group) for _, group in itertools.groupby(signatures, lambda each: each[1])]
    kids = [group[0][1] for group in groups]
    if kids != sorted(set(kids)):
        raise ValueError("order of keys")
    if any(tuple(number for number, *_ in group) not in KEYS for group in groups):
        raise ValueError("algorithms of a key")
    return Message(protected, rest, payload, signatures, alone=tagged.tag == 18)


def of_several(fields: Any) -> Signature:
    if type(fields) is not list or [type(each) for each in fields] != [bytes, dict, bytes]:
        raise ValueError("a signature of several")
    header = read_cbor(fields[0])
    if fields[1] or type(header) is not dict or set(header) != {1, 4}:
        raise ValueError("its headers")
    return signature(header, fields[0], fields[2])


def signature(header: dict[Any, Any], encoded: bytes, value: Any) -> Signature:
    number, kid = header.get(1), header.get(4)
    if type(number) is not int or number not in SIZES or type(kid) is not bytes:
        raise ValueError("alg, kid")
    if type(value) is not bytes or len(value) != SIZES[number]:
        raise ValueError("size of a signature")
    return number, kid, encoded, value
