"""The second reader, continued: masks, written from `docs/SPEC.md`, 6.7, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import zlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import second_coder
import second_reader
from second_reader import NEXT, Carrier, Indices, Outcome, read_carriers
from second_unlocker import ALONE, Masked, Opened, derive

__all__ = ["copy_of"]


def copy_of(opened: Opened, license_key: bytes, signature: bytes) -> list[bytes]:
    """The units of a licensee's copy.

    Raises:
        Outcome: There is none; whether it is the right one is not looked at.
    """
    assert opened.masks is not None
    units, parts = list(opened.files[ALONE]), opened.masks.tensors
    sizes = [(part.entries * part.width + 7) // 8 for part in parts]
    if not license_key or len(license_key) != sum(sizes):
        raise Outcome("UnlockError", "the license key is of another lock")
    key = derive(opened.key, b"keystream marks", opened.masks.nonce)
    tensors, at = second_reader.coded(units), 0
    for part, size in zip(parts, sizes, strict=True):
        numbers = read_numbers(license_key[at : at + size], part)
        at += size
        if part.unit not in tensors:
            raise Outcome("UnlockError", "no tensor that could have masks")
        units[part.unit] = without_masks(tensors[part.unit], part, key, numbers)
    return sign(units, signature) if signature else units


def read_numbers(data: bytes, part: Masked) -> list[int]:
    """`D` of one tensor."""
    bits = "".join(f"{byte:08b}" for byte in data)
    w = part.width
    return [int(bits[w * j : w * (j + 1)], 2) for j in range(part.entries)]


def has_bit(flags: bytes, number: int) -> bool:
    return flags[number // 8] >> 7 - number % 8 & 1 == 1


def marks(carrier: Carrier, part: Masked, key: bytes) -> list[tuple[int, int]]:
    """Positions and signs; mark `m` is number `m` of the list."""
    rows, width = carrier.shape[0], carrier.size // carrier.shape[0]
    sizes = (rows + 7) // 8, (width + 7) // 8
    if (len(part.rows), len(part.columns)) != sizes:
        raise Outcome("UnlockError", "flags of a tensor of another shape")
    counter = part.unit.to_bytes(8, "big") + bytes(8)
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter))
    found = []
    for i, byte in enumerate(cipher.encryptor().update(bytes(carrier.size))):
        row, place = divmod(i, width)
        drawn = byte % (1 << part.sparsity) == 0
        if drawn and has_bit(part.rows, row) and has_bit(part.columns, place):
            found.append((i, -1 if byte >> 7 else 1))
    return found


def without_masks(carrier: Carrier, part: Masked, key: bytes, numbers: list[int]) -> bytes:
    if carrier.size > 1 << 24 or max(part.outliers, default=0) >= carrier.size:
        raise Outcome("UnlockError", "the masks do not fit the tensor")
    places = marks(carrier, part, key)
    try:
        coded = integers(carrier)
        for m, (i, s) in enumerate(places):
            k = coded[i]
            h, last = (k >> 1, k & 1) if carrier.dependent else (k, 0)
            half = 1 << part.width - 1
            h = (h - s * numbers[m % part.entries] + half) % (1 << part.width) - half
            coded[i] = 2 * h + last if carrier.dependent else h
        indices = indices_of(carrier, coded)
        for i, index in part.outliers.items():
            indices[i] = index
        return carrier.encode(np.array(indices, np.int64).astype(np.int32).reshape(carrier.shape))
    except (Outcome, second_coder.Damaged):
        raise Outcome("UnlockError", "a tensor cannot be restored") from None


def integers(carrier: Carrier) -> list[int]:
    """2.4.5: what is coded."""
    indices: list[int] = carrier.decode().reshape(-1).tolist()
    if not carrier.dependent:
        return indices
    return [(abs(v) + 1) // 2 * (1 if v > 0 else -1) for v in indices]


def indices_of(carrier: Carrier, coded: list[int]) -> list[int]:
    """2.4.5: the indices that are coded so."""
    if not carrier.dependent:
        return coded
    found, state = [], 0
    for k in coded:
        magnitude = 2 * abs(k) - state % 2 if k else 0
        found.append(magnitude if k > 0 else -magnitude)
        state = NEXT[k % 2][state]
    return found


# The signature of a copy


def sign(units: list[bytes], record: bytes) -> list[bytes]:
    """Put the record of a signature into a stream."""
    header = second_reader.plan(units, 1, len(record), of_copy=True)
    if header is None:
        raise Outcome("UnlockError", "no room for the signature")
    framed = header + record + zlib.crc32(record).to_bytes(4, "big")
    bits = "".join(f"{byte:08b}" for byte in framed)
    tensors, signed = second_reader.eligible(units), list(units)
    for at, k in read_carriers(header[12:-4]).items():
        carrier = tensors[at]
        indices = carrier.decode()
        count = k * int(np.count_nonzero(indices))
        own, bits = bits[:count].ljust(count, "0"), bits[count:]
        numbers = [int(own[j : j + k], 2) for j in range(0, count, k)]
        signed[at] = carrier.encode(embed(carrier, indices, numbers, k), -k)
    return signed


def embed(carrier: Carrier, indices: Indices, numbers: list[int], k: int) -> Indices:
    """4: the indices of the carrier."""
    n, h = 1 << k, 1 << k - 1
    left, hidden, own, other = iter(numbers), [], 0, 0  # and the states
    for position, index in enumerate(indices.reshape(-1).tolist()):
        m = abs(index)
        j, big, M = (m + 1) // 2, 0, 0  # noqa: N806 (the specification's letter)
        if m and carrier.dependent:
            q, odd = own % 2, other % 2
            least = n * j - n + 1 if q else n * j - h + odd
            big = least + (next(left) + h * q - least) % n
            M = 2 * big - odd  # noqa: N806
        elif m:
            least = n * m - h + 1 - position % 2
            M = least + (next(left) - least) % n  # noqa: N806
        hidden.append(M if index > 0 else -M)
        own, other = NEXT[j % 2][own], NEXT[big % 2][other]
    return np.array(hidden, np.int64).astype(np.int32).reshape(indices.shape)
