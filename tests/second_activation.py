"""The second reader, continued: requests, receipts, license state; from `docs/SPEC.md`, 14, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from second_hpke import Customer
from second_licensing import Refused, authenticate, is_time, read_signed, unarmor
from second_reader import Outcome
from second_signatures import VendorKey

__all__ = ["digest", "read_receipt", "read_request", "read_state", "request_key"]

Claims = dict[Any, Any]
REQUEST = {6: int, 7: 16, "stream": 32, "lock": 8, "to": bytes, "key": 32}
MAYBE = {"order": str, "license": 16, "device": list, "leases": int}


def request_key(customer: Customer) -> bytes:
    """14: the public half."""
    secret = customer.x25519.private_bytes_raw()
    if customer.mlkem is not None:
        secret += customer.mlkem.private_bytes_raw()
    seed = HKDF(SHA256(), 32, None, b"nnguard request signing v1\0").derive(secret)
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def read(text: str, label: str, domain: bytes, kinds: dict[Any, Any]) -> tuple[bytes, Claims]:
    """14: form, key and signature."""
    encoded = unarmor(label, text)
    message, claims = read_signed(encoded)
    required = {name: kind for name, kind in kinds.items() if name not in MAYBE or name in claims}
    if claims.keys() != required.keys() or not all(
        (type(claims[name]) is bytes and len(claims[name]) == kind)
        if type(kind) is int
        else type(claims[name]) is kind
        for name, kind in required.items()
    ):
        raise Refused("malformed")
    try:
        public = Ed25519PublicKey.from_public_bytes(claims["key"])
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        authenticate(message, domain, [VendorKey(pem)])
    except (ValueError, Outcome):
        raise Refused("malformed") from None
    if not is_time(claims[6]):
        raise Refused("malformed")
    return encoded, claims


def read_request(text: str) -> tuple[bytes, Claims]:
    """14.1: its bytes and its claims."""
    label, domain = "NNGUARD LICENSE REQUEST", b"nnguard license request v1"
    encoded, claims = read(text, label, domain, REQUEST | MAYBE)
    code = claims.get("order", "x").encode()
    well_formed = 0 < len(code) <= 64 and not {"order", "license"} <= claims.keys()
    well_formed &= 0 < claims.get("leases", 1) <= 1 << 20
    device = claims.get("device", [["", bytes(32)]])
    well_formed &= 0 < len(device) <= 64 and all(map(is_trait, device))
    if not well_formed or not is_customer(claims["to"]):
        raise Refused("malformed")
    return encoded, claims


def is_trait(trait: Any) -> bool:
    return (
        type(trait) is list
        and [type(part) for part in trait] == [str, bytes]
        and len(trait[1]) == 32
    )


def is_customer(blocks: bytes) -> bool:
    """11.1: the blocks of a customer's key, in the one form that its identifier is made of."""
    end = b"-----END PUBLIC KEY-----\n"
    parts = [part + end for part in blocks.split(end)[:-1]]
    try:
        keys = [load_pem_public_key(part) for part in parts]
    except ValueError:
        return False
    kinds = [(X25519PublicKey,), (X25519PublicKey, MLKEM768PublicKey)]
    again = [key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    fits = (len(keys) == len(each) and all(map(isinstance, keys, each)) for each in kinds)
    return any(fits) and b"".join(again) == blocks


def read_receipt(text: str) -> Claims:
    """14.2."""
    kinds = {6: int, "license": 16, "key": 32}
    label, domain = "NNGUARD LICENSE RECEIPT", b"nnguard license receipt v1"
    _, claims = read(text, label, domain, kinds)
    if "license" not in claims:
        raise Refused("malformed")
    return claims


def digest(encoded: bytes) -> str:
    """14.1, for the telephone."""
    text = base64.b32encode(hashlib.sha256(encoded).digest()[:10]).decode()
    return "-".join(re.findall("....", text))


def read_state(text: str) -> tuple[int | None, list[str]]:
    """14.4: the newest time, and the marks of licenses that were given back."""
    try:
        found = json.loads(text)
        newest, marks = found.pop("newest"), found.pop("released", [])
        fits = (type(newest) is int and is_time(newest)) or newest is None
        right = not found and fits and all(re.fullmatch("[0-9a-f]{64}", mark) for mark in marks)
    except (ValueError, TypeError, KeyError, AttributeError):
        right = False
    if not right:
        raise Refused("clock-set-back")
    return newest, marks
