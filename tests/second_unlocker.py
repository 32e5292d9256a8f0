"""The second reader, continued: locks, written from `docs/SPEC.md`, 6.4, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cbor2
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import second_coder
import second_reader
from second_hpke import expand
from second_reader import Fields, Indices, Outcome, Taken, model_digest, read_cbor, split

__all__ = ["Opened", "ascends", "open_locks", "read_lock"]


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int = 32) -> bytes:
    """RFC 5869, SHA-256."""
    return expand(hmac.digest(salt or bytes(32), secret, "sha256"), info, size)


def derive(content_key: bytes, use: bytes, salt: bytes = b"") -> bytes:
    return hkdf(content_key, salt, b"nnguard content key v1\0" + use)


def lock_id(content_key: bytes) -> bytes:
    return derive(content_key, b"identifier")[:8]


@dataclass
class Opened:
    """What locks held: its units, and the names of the tiers, the outermost first."""

    units: list[bytes]
    tiers: list[str]


def read_lock(record: bytes) -> tuple[dict[Any, Any], bytes, bytes]:
    """The protected header, its bytes, and the ciphertext."""
    message = read_cbor(record)
    parts = message.value if isinstance(message, cbor2.CBORTag) and message.tag == 16 else []
    if type(parts) is not list or [type(part) for part in parts] != [bytes, dict, bytes]:
        raise Outcome("VerificationError", "not a COSE_Encrypt0")
    header = read_cbor(parts[0])
    if parts[1] or type(header) is not dict:
        raise Outcome("VerificationError", "not our COSE_Encrypt0")
    kid, nonce, tier = header.get(4), header.get(5), header.get("tier")
    right = {1: 3, 4: kid, 5: nonce, "tier": tier}
    if [type(value) for value in (kid, nonce, tier)] != [bytes, bytes, str]:
        raise Outcome("VerificationError", "protected header of the lock")
    if len(kid) != 8 or len(nonce) != 12 or len(tier.encode()) > 255:
        raise Outcome("VerificationError", "protected header of the lock")
    if cbor2.dumps(right, canonical=True) != parts[0]:
        raise Outcome("VerificationError", "protected header of the lock")
    return header, parts[0], parts[2]


def decrypt(taken: Taken, content_key: bytes) -> bytes:
    header, protected, ciphertext = read_lock(taken.record)
    aad = cbor2.dumps(["Encrypt0", protected, b"nnguard lock v1\0" + taken.header])
    try:
        cipher = AESGCM(derive(content_key, b"record", header[5]))
        return cipher.decrypt(header[5], ciphertext, aad)
    except InvalidTag:
        raise Outcome("VerificationError", "the lock was changed") from None


@dataclass
class Part:
    """What a lock says of one tensor: indices to put back by position, or that it is scrambled."""

    unit: int
    indices: dict[int, int] | None


def read_content(data: bytes) -> tuple[bytes, list[Part], list[Part]]:
    """The digest, what was replaced, what is scrambled."""
    try:
        match read_cbor(data):
            case [bytes() as digest, [*replaced], [*scrambled]] if len(digest) == 32:
                lists = [read_replaced(*part) for part in replaced]
                signs = [Part(read_unit(unit), None) for unit in scrambled]
                if all(ascends(part.unit for part in parts) for parts in (lists, signs)):
                    return digest, lists, signs
    except (Outcome, TypeError, ValueError, OverflowError):
        pass
    raise Outcome("UnlockError", "the content of the lock is malformed")


def ascends(values: Iterable[Any]) -> bool:
    listed = list(values)
    return listed == sorted(set(listed))


def read_unit(unit: Any) -> int:
    if type(unit) is not int:
        raise ValueError("unit")
    return unit


def read_replaced(unit: Any, count: Any, g: Any, v: Any, data: Any) -> Part:
    if [type(part) for part in (count, g, v, data)] != [int, int, int, bytes]:
        raise ValueError("replaced")
    if min(g, v) < 0 or not 0 < count <= 4 * len(data):
        raise ValueError("replaced")
    bits, at, indices = Unlimited(data), -1, {}
    for _ in range(count):
        at += 1 + bits.ue(g)
        folded = bits.ue(v)
        indices[at] = (folded + 1) // 2 if folded % 2 else -folded // 2
        if abs(indices[at]) >= 1 << 31:
            raise ValueError("index")
    rest = 8 * len(data) - bits.at
    if not 0 < rest <= 8 or bits.u(rest) != 1 << rest - 1:
        raise ValueError("alignment")
    return Part(read_unit(unit), indices)


class Unlimited(Fields):
    """Bits that may be more than those of a unit's header."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0


def restore(units: list[bytes], content: bytes, content_key: bytes, nonce: bytes) -> list[bytes]:
    """6.4, steps 5 to 8."""
    digest, replaced, scrambled = read_content(content)
    tensors = second_reader.eligible(units)
    for part in (*replaced, *scrambled):
        tensor = tensors.get(part.unit)
        usable = tensor and len(tensor.shape) > 1 and tensor.size <= 1 << 24
        if not usable or max(part.indices or [0]) >= tensors[part.unit].size:
            raise Outcome("UnlockError", "the lock does not fit the stream")
    signs = derive(content_key, b"keystream scramble", nonce)
    restored = list(units)
    for at in {part.unit for part in (*replaced, *scrambled)}:
        carrier = tensors[at]
        try:
            indices = carrier.decode()
            if any(part.unit == at for part in scrambled):
                indices = unscramble(indices, signs, at)
            for part in replaced:
                if part.unit == at and part.indices:
                    indices.reshape(-1)[list(part.indices)] = list(part.indices.values())
            restored[at] = carrier.encode(indices)
        except (Outcome, second_coder.Damaged):
            raise Outcome("UnlockError", "a tensor cannot be restored") from None
    if model_digest(restored) != digest:
        raise Outcome("UnlockError", "this is not what was locked")
    return restored


def unscramble(indices: Indices, key: bytes, unit: int) -> Indices:
    cipher = Cipher(algorithms.AES(key), modes.CTR(unit.to_bytes(8, "big") + bytes(8)))
    stream = cipher.encryptor().update(bytes((indices.size + 7) // 8))
    flipped = np.unpackbits(np.frombuffer(stream, np.uint8))[: indices.size] == 1
    return np.where(flipped.reshape(indices.shape), -indices, indices).astype(np.int32)


def open_locks(data: bytes, content_key: bytes) -> Opened:
    """6.4.

    Raises:
        Outcome: The locks do not open.
    """
    units, tiers, keys = split(data), [], [content_key]
    while len(keys) < 8:
        keys.append(derive(keys[-1], b"tier below"))
    known = {lock_id(key): key for key in keys}
    while True:
        taken = second_reader.take_out(units)
        if taken.kind == 1:
            units = taken.original
            continue
        if taken.kind != 3:
            raise Outcome("NoRecordError", f"kind {taken.kind}")
        header, _, _ = read_lock(taken.record)
        if (key := known.get(header[4])) is None:
            raise Outcome("WrongKeyError", header[4].hex())
        units = restore(taken.original, decrypt(taken, key), key, header[5])
        tiers.append(header["tier"])
        if key == content_key:
            return Opened(units, tiers)
