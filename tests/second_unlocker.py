"""The second reader, continued: locks, written from `docs/SPEC.md`, 6.4 and 6.7, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import hmac
import io
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
import second_sets
from second_hpke import expand
from second_reader import (
    Carrier,
    Fields,
    Indices,
    Outcome,
    Taken,
    model_digest,
    read_cbor,
    split,
)

__all__ = [
    *("ALONE", "Files", "Masked", "Masks", "Opened", "ascends", "derive", "hkdf"),
    *("open_locks", "peek_kid"),
]

Files = dict[str, list[bytes]]
"""Streams of a set, by name, or one stream, whose name is `ALONE`: their units."""
ALONE = ""


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int = 32) -> bytes:
    """RFC 5869, SHA-256."""
    return expand(hmac.digest(salt or bytes(32), secret, "sha256"), info, size)


def derive(content_key: bytes, use: bytes, salt: bytes = b"") -> bytes:
    return hkdf(content_key, salt, b"nnguard content key v1\0" + use)


def lock_id(content_key: bytes) -> bytes:
    return derive(content_key, b"identifier")[:8]


@dataclass
class Opened:
    """What locks held, names of tiers, the outermost first, and how many carried a release.

    Where what they held has masks, these, and the content key of their lock.
    """

    files: Files
    tiers: list[str]
    carried: int
    masks: Masks | None
    key: bytes


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
    if "shard" in header:
        right["shard"] = read_shard(header["shard"])
    if [type(value) for value in (kid, nonce, tier)] != [bytes, bytes, str]:
        raise Outcome("VerificationError", "protected header of the lock")
    if len(kid) != 8 or len(nonce) != 12 or len(tier.encode()) > 255:
        raise Outcome("VerificationError", "protected header of the lock")
    if cbor2.dumps(right, canonical=True) != parts[0]:
        raise Outcome("VerificationError", "protected header of the lock")
    return header, parts[0], parts[2]


def peek_kid(beginning: bytes) -> bytes:
    """11.3, step 9: the `kid` of a record of which only the beginning is there."""
    try:
        protected = cbor2.CBORDecoder(io.BytesIO(beginning[2:])).decode()
    except Exception:
        protected = None
    if beginning[:2] != b"\xd0\x83" or type(protected) is not bytes:
        raise Outcome("VerificationError", "not a COSE_Encrypt0")
    empty = cbor2.CBORTag(16, [protected, {}, b""])
    return bytes(read_lock(cbor2.dumps(empty))[0][4])


def read_shard(entry: Any) -> list[Any]:
    if type(entry) is list and [type(part) for part in entry] == [bytes, int, int]:
        set_id, position, count = entry
        if len(set_id) == 16 and 0 <= position < count:
            return entry
    raise Outcome("VerificationError", "protected header of the lock")


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
    """Indices of one tensor to put back, by position."""

    unit: int
    indices: dict[int, int]


@dataclass
class Masked:
    """6.7: a tensor with masks."""

    unit: int
    width: int
    sparsity: int
    variants: tuple[bytes, bytes]


@dataclass
class Masks:
    """6.7."""

    nonce: bytes
    entries: int
    tensors: list[Masked]


@dataclass
class Difference:
    """6.4: a unit, and the position of its base."""

    position: int
    unit: bytes


Run = bytes | tuple[int, int] | Difference
"""6.4, `units`: units as they are, or where they stand and how many, or one less its base."""


@dataclass
class File:
    """A stream that a lock opens."""

    name: str
    digest: bytes
    units: list[Run]
    masks: Masks | None


@dataclass
class Content:
    """6.4."""

    scrambled: list[int]
    replaced: list[Part]
    files: list[File]


def read_content(data: bytes) -> Content:
    try:
        match read_cbor(data):
            case [[*scrambled], [*replaced], [*files]]:
                content = Content(
                    [read_unit(unit) for unit in scrambled],
                    [read_replaced(*part) for part in replaced],
                    [read_file(*file) for file in files],
                )
                listed = content.scrambled, [part.unit for part in content.replaced]
                names = [file.name for file in content.files]
                runs = [run for file in content.files for run in file.units]
                if all(map(ascends, (*listed, names))) and are_apart(runs):
                    return content
    except (Outcome, TypeError, ValueError, OverflowError):
        pass
    raise Outcome("UnlockError", "the content of the lock is malformed")


def are_apart(runs: Iterable[Run]) -> bool:
    """6.4: no position is named twice."""
    named = [(run.position, 1) for run in runs if isinstance(run, Difference)]
    end = 0
    for position, count in sorted(named + [run for run in runs if isinstance(run, tuple)]):
        if position < end:
            return False
        end = position + count
    return True


def ascends(values: Iterable[Any]) -> bool:
    listed = list(values)
    return listed == sorted(set(listed))


def read_unit(unit: Any) -> int:
    if type(unit) is not int:
        raise ValueError("unit")
    return unit


def read_file(name: Any, digest: Any, units: Any, *masks: Any) -> File:
    if len(masks) > 1 or [type(part) for part in (name, digest, units)] != [*(str, bytes, list)]:
        raise ValueError("file")
    if len(digest) != 32 or not units:
        raise ValueError("file")
    found = read_masks(*masks[0]) if masks else None
    return File(name, digest, [read_run(run) for run in units], found)


def read_masks(nonce: Any, entries: Any, tensors: Any, *claims: Any) -> Masks:
    """6.7, form."""
    if [type(part) for part in (nonce, entries, tensors)] != [bytes, int, list]:
        raise ValueError("masks")
    if len(nonce) != 12 or not 1 <= entries <= 1 << 16 or len(claims) > 1:
        raise ValueError("masks")
    if claims and not second_reader.well_formed_claims(claims[0]):
        raise ValueError("claims")
    found = [read_masked(*tensor) for tensor in tensors]
    if not found or not ascends(tensor.unit for tensor in found):
        raise ValueError("tensors with masks")
    return Masks(nonce, entries, found)


def read_masked(unit: Any, width: Any, sparsity: Any, first: Any, second: Any) -> Masked:
    kinds = [type(field) for field in (unit, width, sparsity, first, second)]
    if kinds != [int, int, int, bytes, bytes] or len(first) != len(second):
        raise ValueError("tensor with masks")
    if unit < 0 or not 2 <= width <= 16 or not 0 <= sparsity <= 7:
        raise ValueError("tensor with masks")
    return Masked(unit, width, sparsity, (first, second))


def read_run(run: Any) -> Run:
    if type(run) is bytes and run:
        return run
    if type(run) is list and [type(part) for part in run] == [int, bytes]:
        position, unit = run
        if position >= 0 and len(split(unit)) == 1:
            return Difference(position, unit)
    if type(run) is list and [type(part) for part in run] == [int, int]:
        position, count = run
        if position >= 0 and count > 0:
            return position, count
    raise ValueError("units")


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


def restore(units: list[bytes], content: Content, content_key: bytes, nonce: bytes) -> list[bytes]:
    """6.4, steps 6 and 7: the degraded stream with all tensors as they were."""
    tensors = second_reader.coded(units)
    indices_of = {part.unit: part.indices for part in content.replaced}
    for at in {*content.scrambled, *indices_of}:
        tensor = tensors.get(at)
        if not tensor or tensor.size > 1 << 24 or max(indices_of.get(at, [0])) >= tensor.size:
            raise Outcome("UnlockError", "the lock does not fit the stream")
    key = derive(content_key, b"keystream scramble", nonce)
    restored = list(units)
    for at in {*content.scrambled, *indices_of}:
        carrier = tensors[at]
        try:
            indices = carrier.decode()
            if at in content.scrambled:
                indices = unscramble(carrier, indices, key, at)
            for position, index in indices_of.get(at, {}).items():
                indices.reshape(-1)[position] = index
            restored[at] = carrier.encode(indices)
        except (Outcome, second_coder.Damaged):
            raise Outcome("UnlockError", "a tensor cannot be restored") from None
    return restored


def unscramble(carrier: Carrier, indices: Indices, key: bytes, unit: int) -> Indices:
    cipher = Cipher(algorithms.AES(key), modes.CTR(unit.to_bytes(8, "big") + bytes(8)))
    stream = cipher.encryptor().update(bytes(8 * indices.size))
    if len(carrier.shape) == 1:
        numbers = [stream[at : at + 8] for at in range(0, len(stream), 8)]
        return put_in_order(carrier, numbers)
    flipped = np.unpackbits(np.frombuffer(stream, np.uint8))[: indices.size] == 1
    return np.where(flipped.reshape(indices.shape), -indices, indices).astype(np.int32)


def put_in_order(carrier: Carrier, numbers: list[bytes]) -> Indices:
    """The integers of 2.4.5 go back where they were; for TCQ that makes other indices of them."""
    drawn = sorted(range(len(numbers)), key=lambda at: numbers[at])
    integers = [0] * len(numbers)
    for place, integer in zip(drawn, carrier.integers(), strict=True):
        integers[place] = integer
    return np.array(carrier.indices_of(integers), np.int64).astype(np.int32)


@dataclass
class Left:
    """6.4: what differences and their bases may still cost."""

    cost: int


def gather(file: File, restored: list[bytes], left: Left) -> list[bytes]:
    """6.4, step 8."""
    units: list[bytes] = []
    bases: dict[int, int] = {}
    try:
        for run in file.units:
            if isinstance(run, bytes):
                units += split(run)
            elif isinstance(run, Difference):
                bases[len(units)] = run.position
                units.append(run.unit)
            else:
                position, count = run
                if position + count > len(restored):
                    raise Outcome("UnlockError", "the lock names units that are not there")
                units += restored[position : position + count]
        if bases:
            units = with_bases(units, bases, restored, left)
        second_reader.eligible(split(b"".join(units)))
    except (Outcome, second_coder.Damaged):
        raise Outcome("UnlockError", "the lock holds no stream") from None
    if model_digest(units) != file.digest:
        raise Outcome("UnlockError", "this is not what was locked")
    return units


def with_bases(
    units: list[bytes], bases: dict[int, int], restored: list[bytes], left: Left
) -> list[bytes]:
    """6.4, step 8: the units, differences among them made whole.

    The header of a difference is that of the result, so the stream that it is in tells how it is
    read; for its base that is the degraded stream.
    """
    differences, tensors = second_reader.quantized(units), second_reader.quantized(restored)
    whole = list(units)
    pairs = [(differences.get(at), tensors.get(base)) for at, base in bases.items()]
    left.cost -= sum(each.cost for pair in pairs for each in pair if each)
    if left.cost < 0:
        raise Outcome("UnlockError", "differences cost too much")
    for at, position in bases.items():
        whole[at] = add(differences.get(at), tensors.get(position))
    return whole


def add(difference: Carrier | None, base: Carrier | None) -> bytes:
    """6.4: the unit that a difference stands for; an integer in a skipped row is `Damaged`."""
    if difference is None or base is None or difference.shape != base.shape:
        raise Outcome("UnlockError", "a difference does not fit its base")
    pairs = zip(difference.integers(), base.integers(), strict=True)
    indices = np.array(difference.indices_of([sum(pair) for pair in pairs]), np.int64)
    if abs(indices).max() >= 1 << 31:
        raise Outcome("UnlockError", "an index is too large")
    return difference.encode(indices.astype(np.int32))


def open_locks(files: Files, content_key: bytes) -> Opened:
    """6.4.

    Raises:
        Outcome: The locks do not open.
    """
    tiers, keys, carried = [], [content_key], 0
    while len(keys) < 8:
        keys.append(derive(keys[-1], b"tier below"))
    known = {lock_id(key): key for key in keys}
    while True:
        first, opened, carries, masks = None, {}, False, None
        for position, name in enumerate(sorted(files)):
            taken, lies_in = take_lock(files[name])
            header, _, _ = read_lock(taken.record)
            if (key := known.get(header[4])) is None:
                raise Outcome("WrongKeyError", header[4].hex())
            plaintext = decrypt(taken, key)
            first = first or header
            check_place(header, first, position, 0 if name == ALONE else len(files))
            content = read_content(plaintext)
            check_names(content, name, opened)
            masks = content.files[0].masks if content.files else None
            runs = [run for file in content.files for run in file.units]
            carries |= any(isinstance(run, (bytes, Difference)) for run in runs)
            restored = restore(taken.original, content, key, header[5])
            left = Left(max(1 << 18, 8 * sum(map(len, lies_in))))
            opened |= {file.name or name: gather(file, restored, left) for file in content.files}
        if not opened:
            raise Outcome("UnlockError", "the locks hold nothing")
        files = opened
        tiers.append(first["tier"])
        carried += carries
        if first[4] == lock_id(content_key) or masks:
            return Opened(files, tiers, carried, masks, known[first[4]])


def take_lock(units: list[bytes]) -> tuple[Taken, list[bytes]]:
    """Step 1: the lock, and the units of the stream that it lies in."""
    while (taken := second_reader.take_out(units, vouched=True)).kind == 1:
        units = taken.original
    if taken.kind != 3:
        raise Outcome("NoRecordError", f"kind {taken.kind}")
    return taken, units


def check_place(header: dict[Any, Any], first: dict[Any, Any], position: int, count: int) -> None:
    """Step 4, of a stream among so many of a set, 0 where it is alone."""
    place = [*first["shard"][:1], position, count] if count and "shard" in first else None
    if header.get("shard") != place or (count and place is None):
        raise Outcome("VerificationError", "a stream of another set, or in another place")
    if (header[4], header["tier"]) != (first[4], first["tier"]):
        raise Outcome("VerificationError", "locks of a set differ")


def check_names(content: Content, name: str, opened: Files) -> None:
    """Step 5."""
    names = [file.name for file in content.files]
    if name == ALONE and names != [ALONE]:
        raise Outcome("UnlockError", "a set, not a stream")
    if name != ALONE and any(file.masks for file in content.files):
        raise Outcome("UnlockError", "a stream of a set with masks")
    if not all(each == "" or second_sets.is_name(each) for each in names):
        raise Outcome("UnlockError", "no name of a file")
    named = [each or name for each in names]
    if len(set(named)) < len(named) or opened.keys() & set(named):
        raise Outcome("UnlockError", "two streams open one file")
