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
from second_unlocker import ALONE, Masked, Opened, derive, hkdf

__all__ = ["copy_of"]


def copy_of(opened: Opened, license_key: bytes, signature: bytes) -> list[bytes]:
    """The units of a licensee's copy.

    Raises:
        Outcome: There is none; whether it is the right one is not looked at.
    """
    masks = opened.masks
    assert masks is not None
    units, bits = list(opened.files[ALONE]), (masks.entries + 7) // 8
    if not license_key or len(license_key) != bits + 8 * masks.entries:
        raise Outcome("UnlockError", "the license key is of another lock")
    tensors = second_reader.quantized(units)
    places = [masked_weights(tensors, part, opened) for part in masks.tensors]
    keys = [license_key[at : at + 8] for at in range(bits, len(license_key), 8)]
    most = -(-sum(map(len, places)) // masks.entries)
    streams = [entry_masks(key, j, most, masks.nonce) for j, key in enumerate(keys)]
    number = 0
    for part, at in zip(masks.tensors, places, strict=True):
        variants = [read_numbers(variant, part, len(at)) for variant in part.variants]
        levels = {}
        for n, i in enumerate(at):
            turn, j = divmod(number, masks.entries)
            second = license_key[j // 8] >> 7 - j % 8 & 1
            half = 1 << part.width - 1
            h = variants[second][n] - streams[j][turn]
            levels[i] = (h + half) % (1 << part.width) - half
            number += 1
        units[part.unit] = with_levels(tensors[part.unit], levels)
    return sign(units, signature) if signature else units


def masked_weights(tensors: dict[int, Carrier], part: Masked, opened: Opened) -> list[int]:
    """Their positions, ascending."""
    carrier = tensors.get(part.unit)
    if carrier is None or carrier.size > 1 << 24:
        raise Outcome("UnlockError", "no tensor that could have masks")
    assert opened.masks is not None
    key = derive(opened.key, b"keystream marks", opened.masks.nonce)
    drawn = keystream(key, carrier.size, part.unit)
    try:
        coded = carrier.integers()
    except Outcome:
        raise Outcome("UnlockError", "a tensor cannot be restored") from None
    levels = [k >> 1 if carrier.dependent else k for k in coded]
    return [i for i, h in enumerate(levels) if h == 0 and drawn[i] % (1 << part.sparsity) == 0]


def keystream(key: bytes, size: int, run: int = 0) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(run.to_bytes(8, "big") + bytes(8)))
    return cipher.encryptor().update(bytes(size))


def entry_masks(key: bytes, entry: int, count: int, nonce: bytes) -> list[int]:
    """So many masks of one entry."""
    info = b"nnguard content key v1\0entry " + entry.to_bytes(4, "big")
    data = keystream(hkdf(key, nonce, info), 2 * count)
    return [int.from_bytes(data[at : at + 2], "little") for at in range(0, 2 * count, 2)]


def read_numbers(data: bytes, part: Masked, count: int) -> list[int]:
    """One variant."""
    w = part.width
    if len(data) != (count * w + 7) // 8:
        raise Outcome("UnlockError", "masks of another number of weights")
    bits = "".join(f"{byte:08b}" for byte in data)
    return [int(bits[w * j : w * (j + 1)], 2) for j in range(count)]


def with_levels(carrier: Carrier, levels: dict[int, int]) -> bytes:
    try:
        coded = carrier.integers()
        for i, h in levels.items():
            coded[i] = 2 * h + coded[i] % 2 if carrier.dependent else h
        indices = np.array(carrier.indices_of(coded), np.int64).astype(np.int32)
        return carrier.encode(indices.reshape(carrier.shape))
    except (Outcome, second_coder.Damaged):
        raise Outcome("UnlockError", "a tensor cannot be restored") from None


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
