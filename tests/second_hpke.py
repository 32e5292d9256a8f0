"""The second reader's HPKE (RFC 9180) and the keys of customers, `docs/SPEC.md`, 11.1.

Made of its parts: nothing of nnguard is used here, nor of an implementation of HPKE.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Customer", "expand", "hybrid_secret", "key_schedule", "x25519_secret"]


@dataclass
class Customer:
    """The private keys of a customer."""

    x25519: X25519PrivateKey
    mlkem: MLKEM768PrivateKey | None = None

    @property
    def id(self) -> bytes:
        keys = [self.x25519.public_key()] + ([self.mlkem.public_key()] if self.mlkem else [])
        blocks = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]
        return hashlib.sha256(b"".join(map(pem, blocks))).digest()[:8]

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes | None:
        """HPKE, base mode."""
        size = 1120 if self.mlkem else 32
        shared = self.shared_secret(wrapped[:size]) if len(wrapped) > size else None
        if shared is None:
            return None
        key, nonce = key_schedule(shared, info, hybrid=self.mlkem is not None)
        try:
            return AESGCM(key).decrypt(nonce, wrapped[size:], b"")
        except InvalidTag:
            return None

    def shared_secret(self, encapsulated: bytes) -> bytes | None:
        mine = self.x25519.public_key().public_bytes_raw()
        try:
            dh = self.x25519.exchange(X25519PublicKey.from_public_bytes(encapsulated[-32:]))
        except ValueError:
            return None
        if self.mlkem:
            return hybrid_secret(self.mlkem.decapsulate(encapsulated[:-32]), dh, encapsulated, mine)
        return x25519_secret(dh, encapsulated, mine)


def hybrid_secret(mlkem: bytes, dh: bytes, encapsulated: bytes, public: bytes) -> bytes:
    both = mlkem + dh + encapsulated[-32:] + public
    return hashlib.sha3_256(both + b"\x5c\x2e\x2f\x2f\x5e\x5c").digest()


def x25519_secret(dh: bytes, encapsulated: bytes, public: bytes) -> bytes:
    key = labeled_extract(b"KEM\0\x20", b"", b"eae_prk", dh)
    return labeled_expand(b"KEM\0\x20", key, b"shared_secret", encapsulated + public, 32)


def key_schedule(shared: bytes, info: bytes, *, hybrid: bool) -> tuple[bytes, bytes]:
    """RFC 9180, section 5.1: key and nonce."""
    suite = b"HPKE" + (b"\x64\x7a" if hybrid else b"\0\x20") + b"\0\1\0\2"
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"")
    context += labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    key = labeled_expand(suite, secret, b"key", context, 32)
    return key, labeled_expand(suite, secret, b"base_nonce", context, 12)


def pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")


def labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)


def expand(key: bytes, info: bytes, size: int) -> bytes:
    block, out = b"", b""
    while len(out) < size:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:size]
