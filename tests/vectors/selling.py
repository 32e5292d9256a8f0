"""What vectors of locks and licenses are made of: fixed keys, and records that may be wrong.

Nonces, identifiers and the ephemeral keys of HPKE are fixed, so that all comes out the same again.
ML-KEM-768 has no such switch: `mlkem768.encapsulated` was made once, for `HYBRID`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import nnguard
from nnguard._stream import Stream
from nnguard._stream.coding import Indices
from nnguard._stream.quantized import QuantizedTensor, encode
from second_hpke import hybrid_secret, key_schedule, x25519_secret
from second_reader import NEXT
from vectors.toolbox import ISSUED, VENDOR, Made, digest_of, hide, signed_message, tensor_of, ue

LOCK_DOMAIN = b"nnguard lock v1\0"
NONCE = bytes(range(0xA0, 0xAC))
UNIT = 3
"""Position of the carrier of `toolbox.small`."""
FULL = nnguard.ContentKey(bytes(range(64, 96)))
CONTENT_KEYS = {"full": FULL, "lower": FULL.below(), "other": nnguard.ContentKey(bytes(32))}

_ENCAPSULATED = Path(__file__).with_name("mlkem768.encapsulated")
_EPHEMERAL = X25519PrivateKey.from_private_bytes(bytes(range(128, 160)))
CUSTOMER_SEEDS = {
    "ada": (bytes(range(96, 128)), None),
    "eve": (bytes(range(160, 192)), None),
    "hybrid": (bytes(range(192, 224)), bytes(range(64))),
}
CUSTOMERS = {
    name: nnguard.Identity(
        X25519PrivateKey.from_private_bytes(seed),
        None if mlkem is None else MLKEM768PrivateKey.from_seed_bytes(mlkem),
    )
    for name, (seed, mlkem) in CUSTOMER_SEEDS.items()
}
Model = Stream | Mapping[str, Stream]
NOW = int(ISSUED.timestamp())
DAY = 86_400
LICENSE_ID = bytes(range(16))
SALT = bytes(range(16, 32))


# Locks


def derive(key: nnguard.ContentKey, use: bytes, salt: bytes) -> bytes:
    kdf = HKDF(SHA256(), 32, salt=salt, info=b"nnguard content key v1\0" + use)
    return kdf.derive(key.secret)


def seal(content: bytes, aad: bytes, **changes: Any) -> bytes:
    """A lock record made by hand, right but for what is changed.

    Args:
        content: What is encrypted.
        aad: `external_aad`.
        changes: `key`; `header`: entries of the protected header, None to leave one out;
            `unprotected`, `tag`: of the message.
    """
    key = changes.get("key", FULL)
    header = {1: 3, 4: key.id, 5: NONCE, "tier": "full", **changes.get("header", {})}
    header = {label: value for label, value in header.items() if value is not None}
    protected = cbor2.dumps(header, canonical=True)
    nonce = header.get(5, NONCE)
    cipher = AESGCM(derive(key, b"record", nonce))
    structure = cbor2.dumps(["Encrypt0", protected, aad])
    fields = [protected, changes.get("unprotected", {}), cipher.encrypt(nonce, content, structure)]
    return bytes(cbor2.dumps(cbor2.CBORTag(changes.get("tag", 16), fields)))


def spread(stream: Stream, unit: int, count: int = 12) -> list[int]:
    """Positions of weights all over a tensor that are not zero."""
    found = np.flatnonzero(tensor_of(stream, unit).indices)
    return [int(position) for position in found[7 :: max(found.size // count, 1)][:count]]


def replaced_entry(
    tensor: QuantizedTensor, unit: int, positions: Sequence[int], **changes: Any
) -> list[Any]:
    """What a lock says of weights that were replaced; `changes` are fields of it."""
    orders = changes.get("g", 7), changes.get("v", 2)
    values = tensor.indices.reshape(-1)
    bits, last = "", -1
    for position in positions:
        value = int(values[position]) if position < values.size else 1
        bits += ue(position - last - 1, orders[0])
        bits += ue(2 * value - 1 if value > 0 else -2 * value, orders[1])
        last = position
    encoded = changes.get("bits", to_bytes(bits))
    return [unit, changes.get("count", len(positions)), *orders, encoded]


def to_bytes(digits: str) -> bytes:
    """Bits and their alignment."""
    digits += "1"
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def content_of(
    stream: Stream, replaced: Mapping[int, Sequence[int]], scrambled: Sequence[int]
) -> list[Any]:
    """The content of a lock on a stream, before it is encoded."""
    return [
        [*scrambled],
        [replaced_entry(tensor_of(stream, u), u, at) for u, at in replaced.items()],
        [["", digest_of(stream), [[0, len(stream)]]]],
    ]


def degrade(
    stream: Stream,
    replaced: Mapping[int, Sequence[int]],
    scrambled: Sequence[int],
    key: nnguard.ContentKey = FULL,
    nonce: bytes = NONCE,
) -> Stream:
    """Change what is to be replaced or scrambled.

    Args:
        stream: The stream.
        replaced: Positions in tensors; their weights move four steps outwards.
        scrambled: Tensors.
        key: The content key.
        nonce: Of the lock.
    """
    units = {}
    for unit in {*replaced, *scrambled}:
        tensor = tensor_of(stream, unit)
        indices = tensor.indices.copy()
        flat = indices.reshape(-1)
        for position in replaced.get(unit, ()):
            flat[position] += 4 * np.sign(flat[position])
        if unit in scrambled:
            indices = scramble(tensor.with_indices(indices), unit, key, nonce)
        units[unit] = encode(tensor.with_indices(indices))
    return stream.replace(units)


def scramble(
    tensor: QuantizedTensor, unit: int, key: nnguard.ContentKey, nonce: bytes = NONCE
) -> Indices:
    """The indices of a tensor, encrypted."""
    size = tensor.indices.size
    cipher = algorithms.AES(derive(key, b"keystream scramble", nonce))
    counter = modes.CTR(unit.to_bytes(8, "big") + bytes(8))
    stream = Cipher(cipher, counter).encryptor().update(bytes(8 * size))
    if tensor.indices.ndim > 1:
        flipped = np.unpackbits(np.frombuffer(stream, np.uint8))[:size]
        return tensor.indices * (1 - 2 * flipped.astype(np.int32)).reshape(tensor.indices.shape)
    drawn = sorted(range(size), key=lambda at: stream[8 * at : 8 * at + 8])
    moved = tensor.indices[drawn].tolist()
    state = 0
    for at, index in enumerate(moved if tensor.header.dependent else ()):
        k = (abs(index) + 1) // 2
        magnitude = 2 * k - state % 2 if k else 0
        moved[at] = magnitude if index > 0 else -magnitude
        state = NEXT[k % 2][state]
    return np.array(moved, np.int32)


def lock(
    stream: Stream,
    replaced: Mapping[int, Sequence[int]],
    scrambled: Sequence[int] = (),
    *,
    carriers: int = 1,
    **options: Any,
) -> Stream:
    """Lock a stream; `options` are those of `degrade` and `seal`."""
    key = options.get("key", FULL)
    degraded = degrade(stream, replaced, scrambled, key)
    content = cbor2.dumps(options.pop("content", content_of(stream, replaced, scrambled)))
    return hide_lock(degraded, content, carriers=carriers, **options)


def hide_lock(
    stream: Stream, content: bytes, *, carriers: int = 1, bits: int = 1, **options: Any
) -> Stream:
    """Hide the lock of any content in a stream."""

    def record(aad: bytes) -> bytes:
        return seal(content, aad, **options)

    return hide(stream, record, kind=3, carriers=carriers, domain=LOCK_DOMAIN, bits=bits)


def carry(
    release: Stream, trial: Stream, units: Sequence[Any] | None = None, **options: Any
) -> Stream:
    """Hide a release in another stream: all its bytes, or what `units` says."""
    given = [bytes(release)] if units is None else [*units]
    content = [[], [], [["", digest_of(release), given]]]
    return hide_lock(trial, cbor2.dumps(content), **options)


def opens(trial: Stream, original: Stream, tiers: list[str], key: str = "full") -> Made:
    """What a reader MUST make of a trial with a content key."""
    return Made(bytes(trial), bytes(original), (("content_key", key), ("tiers", tiers)))


def with_key(trial: Stream, key: str = "full") -> Made:
    """A trial that a content key does not open."""
    return Made(bytes(trial), None, (("content_key", key),))


# Licenses


def wrap(secret: bytes, customer: nnguard.Identity, info: bytes, name: str) -> bytes:
    """HPKE with an ephemeral key that is always the same, which only a test may do."""
    seed, mlkem = CUSTOMER_SEEDS[name]
    public = X25519PrivateKey.from_private_bytes(seed).public_key()
    dh, encapsulated = _EPHEMERAL.exchange(public), _EPHEMERAL.public_key().public_bytes_raw()
    if mlkem is None:
        shared = x25519_secret(dh, encapsulated, public.public_bytes_raw())
    else:
        ciphertext = _ENCAPSULATED.read_bytes()
        inner = MLKEM768PrivateKey.from_seed_bytes(mlkem).decapsulate(ciphertext)
        encapsulated = ciphertext + encapsulated
        shared = hybrid_secret(inner, dh, encapsulated, public.public_bytes_raw())
    key, nonce = key_schedule(shared, info, hybrid=mlkem is not None)
    return encapsulated + AESGCM(key).encrypt(nonce, secret, b"")


def license_of(trial: Model, result: Model, **changes: Any) -> bytes:
    """A license made by hand, right but for what is changed.

    Args:
        trial: What it is for.
        result: What it opens.
        changes: `claims`: None to leave one out; `key`: who signs; `content_key`; `to`,
            `wrapped_to`: names of customers; `bound_to`: claims that the wrapped key is bound to;
            `secret`: what is wrapped; `domain`: `external_aad`; `payload`: function of the claims'
            bytes.
    """
    to = changes.get("to", "ada")
    content_key = changes.get("content_key", FULL)
    claims: dict[Any, Any] = {
        1: "vendor.example",
        2: "Ada",
        5: NOW,
        6: NOW,
        7: LICENSE_ID,
        "product": "small",
        "tier": "full",
        "grace": 0,
        "stream": digest_of(trial),
        "opens": digest_of(result),
        "lock": content_key.id,
        "to": CUSTOMERS[to].recipient.id,
        **changes.get("claims", {}),
    }
    claims = {label: value for label, value in claims.items() if value is not None}
    said = {**claims, **changes.get("bound_to", {})}
    said.pop("copy", None)
    bound = cbor2.dumps(said, canonical=True)
    wrapped_to = changes.get("wrapped_to", to)
    info = b"nnguard license content key v1\0" + bound
    secret = changes.get("secret", content_key.secret)
    claims["key"] = wrap(secret, CUSTOMERS[wrapped_to], info, wrapped_to)
    payload = cbor2.dumps(claims, canonical=True)
    payload = changes.get("payload", lambda data: data)(payload)
    domain = changes.get("domain", b"nnguard license v1\0")
    return signed_message(changes.get("key", VENDOR), {}, payload, domain)


def revocation_list(ids: Sequence[bytes], issued_at: int = NOW, **changes: Any) -> bytes:
    """A revocation list made by hand; `changes` are `key`, `sort` and `domain`."""
    hashes = [hashlib.sha256(b"nnguard revoked license v1\0" + each).digest() for each in ids]
    hashes = sorted(hashes) if changes.get("sort", True) else sorted(hashes, reverse=True)
    claims = {1: "vendor.example", 6: issued_at, "revoked": b"".join(hashes)}
    domain = changes.get("domain", b"nnguard revocation list v1\0")
    payload = cbor2.dumps(claims, canonical=True)
    return signed_message(changes.get("key", VENDOR), {}, payload, domain)


def print_of(kind: str, value: str) -> bytes:
    trait = hashlib.sha256(f"nnguard device trait v1\0{kind}\0{value}".encode()).digest()
    return hmac.digest(SALT, b"nnguard device binding v1\0" + trait, "sha256")[:16]


def armor(data: bytes, label: str = "LICENSE") -> str:
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(
        [f"-----BEGIN NNGUARD {label}-----", *lines, f"-----END NNGUARD {label}-----", ""]
    )
