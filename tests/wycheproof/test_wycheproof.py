"""Vectors of C2SP/wycheproof, through the functions that nnguard uses.

What nnguard refuses although it is valid or acceptable there: AES-GCM with nonces of other sizes
than 12 bytes, which the format does not have; X25519 keys of small order, with which every shared
secret is zero. There are no vectors for HPKE; its parts get those of X25519, ML-KEM and AES-GCM.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import nnguard
from nnguard._crypto.cose import Encrypt0, parse_encrypt0, parse_signed, sign
from nnguard._crypto.pem import public_pem
from nnguard._crypto.trust import load_trust
from second_hpke import hybrid_secret, key_schedule, x25519_secret

Vector = dict[str, Any]
FOLDER = Path(__file__).parent
SECRET, INFO, AAD = bytes(range(32)), b"what it is for", b"external"
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group of Ed25519."""


def of(name: str) -> list[Vector]:
    tests: list[Vector] = json.loads((FOLDER / f"{name}.json").read_text())["tests"]
    return tests


def each(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", of(name), ids=lambda v: f"{name}-{v['tcId']}")


def raw(vector: Vector, *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(vector[name]) for name in names)


# Ed25519: a trusted key, and the signature of a COSE_Sign1


@each("ed25519")
def test_signatures(vector: Vector, tmp_path: Path) -> None:
    public, message, signature = raw(vector, "key", "msg", "sig")
    (tmp_path / "vendor.pub").write_bytes(public_pem(Ed25519PublicKey.from_public_bytes(public)))
    (key,) = load_trust(tmp_path)
    assert key == nnguard.PublicKey(Ed25519PublicKey.from_public_bytes(public))
    assert key.verifies(signature, message) is (vector["result"] == "valid")


def test_signatures_of_other_sizes_are_no_cose(key: nnguard.SigningKey) -> None:
    message = sign(key, {}, b"payload", AAD)
    head, size = message[:-66], 66
    assert message[-size:-64] == b"\x58\x40"
    lengths: Counter[bool] = Counter()
    for vector in of("ed25519"):
        (signature,) = raw(vector, "sig")
        lengths[len(signature) == 64] += 1
        changed = head + b"\x58" + bytes([len(signature)]) + signature
        if len(signature) == 64:
            assert not parse_signed(changed).verified_by(key.public_key, AAD)
        else:
            with pytest.raises(nnguard.errors.VerificationError):
                parse_signed(changed)
    assert lengths[True] > 100
    assert lengths[False] > 10


def test_signatures_are_not_malleable(key: nnguard.SigningKey) -> None:
    """As `SignatureMalleability` has it: S plus a multiple of the order."""
    message = parse_signed(sign(key, {}, b"payload", AAD))
    assert message.verified_by(key.public_key, AAD)
    (signature,) = message.signatures
    point, scalar = signature.value[:32], int.from_bytes(signature.value[32:], "little")
    for more in (scalar + n * ORDER for n in range(1, 16)):
        value = point + more.to_bytes(32, "little")
        changed = replace(message, signatures=(replace(signature, value=value),))
        assert not changed.verified_by(key.public_key, AAD)


# AES-256-GCM: what a content key seals


class VectorKey(nnguard.ContentKey):
    """A content key from which the key of the vector is derived, and no other."""

    def _derive(self, use: bytes, salt: bytes) -> bytes:
        return self.secret


class VectorMessage(Encrypt0):
    """A message that authenticates what the vector says."""

    def associated_data(self, external_aad: bytes) -> bytes:
        return external_aad


@each("aes_gcm")
def test_content(vector: Vector) -> None:
    secret, nonce, aad, plaintext, ciphertext, tag = raw(
        vector, "key", "iv", "aad", "msg", "ct", "tag"
    )
    key = VectorKey(secret)
    message = VectorMessage({1: 3, 4: key.id, 5: nonce}, ciphertext + tag)
    if len(nonce) != 12:
        with pytest.raises(nnguard.errors.VerificationError, match="IV"):
            parse_encrypt0(bytes(message))
        return
    parsed = parse_encrypt0(bytes(message))
    assert (parsed.nonce, parsed.ciphertext) == (nonce, ciphertext + tag)
    opened = key.open(message, aad)
    assert opened == (plaintext if vector["result"] == "valid" else None)
    sealed = parse_encrypt0(key.seal(plaintext, {}, nonce, aad))
    assert sealed.ciphertext[:-16] == ciphertext


def changes_of_tags() -> set[bytes]:
    """What the vectors with `ModifiedTag` flip."""
    changes = set()
    for vector in of("aes_gcm"):
        if "ModifiedTag" in vector["flags"]:
            secret, nonce, aad, plaintext, tag = raw(vector, "key", "iv", "aad", "msg", "tag")
            right = AESGCM(secret).encrypt(nonce, plaintext, aad)[-16:]
            changes.add(bytes(a ^ b for a, b in zip(tag, right, strict=True)))
    return changes


def test_changed_tags(key: nnguard.SigningKey) -> None:
    content_key, identity = nnguard.ContentKey(SECRET), nnguard.Identity.generate()
    sealed = parse_encrypt0(content_key.seal(b"content", {}, bytes(12), AAD))
    wrapped = identity.recipient.wrap(SECRET, INFO)
    assert content_key.open(sealed, AAD) == b"content"
    assert identity.unwrap(wrapped, INFO) == SECRET
    changes = changes_of_tags()
    assert len(changes) > 10
    for change in changes:
        assert (
            content_key.open(replace(sealed, ciphertext=flip(sealed.ciphertext, change)), AAD)
            is None
        )
        assert identity.unwrap(flip(wrapped, change), INFO) is None


def flip(data: bytes, change: bytes) -> bytes:
    return data[:-16] + bytes(a ^ b for a, b in zip(data[-16:], change, strict=True))


# X25519 and ML-KEM-768: what is wrapped to a customer


@each("x25519")
def test_wrapped_by_x25519(vector: Vector) -> None:
    public, private, shared = raw(vector, "public", "private", "shared")
    mine = X25519PrivateKey.from_private_bytes(private)
    identity = nnguard.Identity.from_pem(nnguard.Identity(mine).pem())
    secret = x25519_secret(shared, public, mine.public_key().public_bytes_raw())
    wrapped = public + sealed_by(secret, hybrid=False)
    pem = public_pem(X25519PublicKey.from_public_bytes(public))
    if "ZeroSharedSecret" in vector["flags"]:
        assert not any(shared)
        assert identity.unwrap(wrapped, INFO) is None
        with pytest.raises(nnguard.errors.KeyFormatError, match="small order"):
            nnguard.Recipient.from_pem(pem)
        return
    assert identity.unwrap(wrapped, INFO) == SECRET
    assert nnguard.Recipient.from_pem(pem).pem == pem


@each("mlkem_768")
def test_wrapped_by_the_hybrid(vector: Vector) -> None:
    seed, encapsulated, shared = raw(vector, "seed", "c", "K")
    identity = nnguard.Identity(
        X25519PrivateKey.from_private_bytes(bytes(range(32))),
        MLKEM768PrivateKey.from_seed_bytes(seed),
    )
    identity = nnguard.Identity.from_pem(identity.pem())
    ephemeral = X25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
    mine = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    both = encapsulated + ephemeral.public_key().public_bytes_raw()
    secret = hybrid_secret(shared, ephemeral.exchange(mine), both, mine.public_bytes_raw())
    wrapped = both + sealed_by(secret, hybrid=True)
    opened = identity.unwrap(wrapped, INFO)
    assert opened == (SECRET if vector["result"] == "valid" else None)


def sealed_by(shared: bytes, *, hybrid: bool) -> bytes:
    key, nonce = key_schedule(shared, INFO, hybrid=hybrid)
    return AESGCM(key).encrypt(nonce, SECRET, b"")


@each("mlkem_768_encaps")
def test_public_keys_of_the_hybrid(vector: Vector) -> None:
    (key,) = raw(vector, "ek")
    x25519 = public_pem(X25519PrivateKey.generate().public_key())
    pem = x25519 + mlkem_pem(key)
    if vector["result"] == "valid":
        assert nnguard.Recipient.from_pem(pem).pem == pem
    else:
        with pytest.raises(nnguard.errors.KeyFormatError):
            nnguard.Recipient.from_pem(pem)


def mlkem_pem(key: bytes) -> bytes:
    """SubjectPublicKeyInfo around any bytes."""
    some = MLKEM768PrivateKey.generate().public_key()
    der = some.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm = der[4 : -len(some.public_bytes_raw()) - 5]
    body = algorithm + b"\x03\x82" + (len(key) + 1).to_bytes(2, "big") + b"\0" + key
    text = base64.encodebytes(b"\x30\x82" + len(body).to_bytes(2, "big") + body)
    lines = b"".join(text.split())
    rows = [lines[at : at + 64] for at in range(0, len(lines), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *rows, b"-----END PUBLIC KEY-----", b""])
