"""Masked weights, in two variants: a license takes the masks off one of them, for each entry.

In one variant a weight is a step higher than in the release, in the other a step lower, or the
other way round: only the vendor knows. Who has the key of one variant learns neither the other nor
which is which, and so does not know what to take off.

Masks are keystreams of an entry's key, added modulo a power of two (`docs/SPEC.md`, section 6.7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import ContentKey, Keystream, entry_masks
from nnguard._locking.coding import encode_all, read_all
from nnguard._records.masks import ENTRY_KEY_SIZE, MaskedTensor, Masks
from nnguard._stream import Stream, Unit
from nnguard._stream.quantized import MAX_WEIGHTS, QuantizedTensor, integers_of, with_integers
from nnguard.errors import FormatError, UnlockError

__all__ = [
    "level_size",
    "levels_of",
    "masked_in",
    "masks_of",
    "pack",
    "place",
    "places_in",
    "put",
    "read",
    "split_key",
    "unpack",
    "with_levels",
]

Numbers = npt.NDArray[np.int64]


def place(key: ContentKey, nonce: bytes) -> Keystream:
    """Return what decides which weights are masked; the key is that of the lock."""
    return key.keystream("marks", nonce)


def places_in(size: int, unit: int, sparsity: int, places: Keystream) -> npt.NDArray[np.bool_]:
    """Return for each weight of a tensor whether it may be masked."""
    if not sparsity:
        return np.ones(size, bool)
    drawn = np.frombuffer(places.read(unit, size), np.uint8)
    chosen: npt.NDArray[np.bool_] = drawn & ((1 << sparsity) - 1) == 0
    return chosen


def levels_of(tensor: QuantizedTensor) -> Numbers:
    """Return what is masked of each weight, flat: with TCQ, coded integers without their parity.

    The parities drive the trellis: they stay, and no other weight changes.
    """
    integers = integers_of(tensor).reshape(-1)
    return integers >> 1 if tensor.header.dependent else integers


def level_size(tensor: QuantizedTensor) -> float:
    """Return how far a weight moves when its level grows by 1."""
    return tensor.step * (4 if tensor.header.dependent else 1)


def with_levels(tensor: QuantizedTensor, positions: Numbers, levels: Numbers) -> QuantizedTensor:
    """Return the tensor with other levels at some positions.

    Raises:
        ValueError: An index would be too large.
    """
    integers, twofold = integers_of(tensor).reshape(-1), int(tensor.header.dependent)
    integers[positions] = levels << twofold | integers[positions] & twofold
    return with_integers(tensor, integers.reshape(tensor.indices.shape))


def read(masked: Stream, masks: Masks) -> dict[int, QuantizedTensor]:
    """Decode the masked tensors of a stream, by unit.

    Raises:
        UnlockError: One is not there, or is damaged.
    """
    units = [part.unit for part in masks.tensors]
    if all(unit < len(masked) and _can_be_masked(masked[unit]) for unit in units):
        tensors = read_all(masked, units)
        if len(tensors) == len(units):
            return tensors
    raise UnlockError("the lock names a tensor that cannot be masked")


def _can_be_masked(unit: Unit) -> bool:
    """Tell whether a unit is quantized, and of a size that a lock may change.

    However few bytes it has: of a tensor that is masked all over, only zeros are left.
    """
    return unit.quantized is not None and unit.quantized.size <= MAX_WEIGHTS


def masked_in(tensor: QuantizedTensor, part: MaskedTensor, places: Keystream) -> Numbers:
    """Return which weights are masked: those that may be, and of which nothing is left.

    Returns:
        int64 array, ascending; in the tensor, row by row.
    """
    may_be = places_in(tensor.indices.size, part.unit, part.sparsity, places)
    return np.flatnonzero(may_be & (levels_of(tensor) == 0))


def put(
    stream: Stream,
    tensors: Mapping[int, QuantizedTensor],
    levels_at: Mapping[int, tuple[Numbers, Numbers]],
) -> Stream:
    """Return a stream with other levels in some tensors: by unit, where, and which.

    Raises:
        UnlockError: A tensor cannot have them.
    """

    def changed(unit: int) -> QuantizedTensor:
        return with_levels(tensors[unit], *levels_at[unit])

    try:
        return stream.replace(encode_all([*levels_at], changed))
    except (FormatError, ValueError):
        raise UnlockError("a tensor that the lock masks cannot be restored") from None


def masks_of(keys: Sequence[bytes], count: int, nonce: bytes) -> Numbers:
    """Return masks of so many weights, of which entries take turns: 16 bits each.

    Args:
        keys: For each entry, the key of the variant.
        count: Masked weights of all tensors.
        nonce: Of the masks.
    """
    each = -(-count // len(keys))
    drawn = b"".join(entry_masks(key, entry, 2 * each, nonce) for entry, key in enumerate(keys))
    by_entry = np.frombuffer(drawn, "<u2").reshape(len(keys), each)
    return by_entry.T.reshape(-1)[:count].astype(np.int64)


def split_key(masks: Masks, license_key: bytes) -> tuple[npt.NDArray[np.bool_], list[bytes]]:
    """Return of what a license has, for each entry, whether it is the second variant, and its key.

    Raises:
        UnlockError: It is not for these masks.
    """
    if len(license_key) != masks.key_size:
        raise UnlockError("the license has keys for another lock")
    start = (masks.entries + 7) // 8
    bits = np.unpackbits(np.frombuffer(license_key, np.uint8, start), count=masks.entries)
    ends = range(start, len(license_key), ENTRY_KEY_SIZE)
    return bits.astype(bool), [license_key[at : at + ENTRY_KEY_SIZE] for at in ends]


def pack(values: Numbers, width: int) -> bytes:
    """Return numbers as `width` bits each, padded to whole bytes."""
    places = np.arange(width - 1, -1, -1)
    return np.packbits((values[:, None] >> places & 1).astype(np.uint8)).tobytes()


def unpack(part: MaskedTensor, count: int) -> Iterator[Numbers]:
    """Read both variants of a tensor with so many masked weights.

    Raises:
        UnlockError: They are of another number.
    """
    places = 1 << np.arange(part.width - 1, -1, -1, dtype=np.int64)
    for variant in part.variants:
        if len(variant) != (count * part.width + 7) // 8:
            raise UnlockError("the lock masks another number of weights than there are")
        bits = np.unpackbits(np.frombuffer(variant, np.uint8), count=count * part.width)
        yield bits.reshape(count, part.width) @ places
