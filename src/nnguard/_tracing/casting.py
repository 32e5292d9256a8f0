"""Copies of a release: the vendor makes them possible, and a license makes one.

All that the vendor needs comes from their content key, of which licensees get the one below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import ContentKey
from nnguard._locking.coding import encode_all
from nnguard._records.claims import Claims
from nnguard._records.masks import ENTRY_KEY_SIZE, MaskedTensor, Masks
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard._tracing import code
from nnguard._tracing.choosing import Chosen
from nnguard._tracing.masking import (
    Numbers,
    levels_of,
    masked_in,
    masks_of,
    pack,
    place,
    places_in,
    put,
    read,
    split_key,
    unpack,
    with_levels,
)

__all__ = ["Caster", "MarkedTensor", "Marks", "mask", "take_off"]

Fingerprint = npt.NDArray[np.int8]


def mask(
    release: Stream, chosen: Sequence[Chosen], entries: int, claims: Claims | None, key: ContentKey
) -> tuple[Stream, Masks]:
    """Take weights out of a release, and mask them.

    Args:
        release: The release, without records.
        chosen: Which tensors.
        entries: How many entries the code has.
        claims: What the signature of a copy says.
        key: The vendor's content key.

    Returns:
        The release with zeros (with TCQ, or ones) in their places, and the masks.
    """
    nonce = ContentKey.new_nonce()
    places, signs = place(key.below(), nonce), key.keystream("signs", nonce)
    tensors = {each.unit: decode(release[each.unit]) for each in chosen}
    positions: dict[int, Numbers] = {}
    pairs: list[tuple[Numbers, Numbers]] = []
    for each in chosen:
        levels = levels_of(tensors[each.unit])
        small = np.abs(levels) + 1 < 1 << each.width - 1
        may_be = places_in(levels.size, each.unit, each.sparsity, places)
        at = np.flatnonzero(may_be & small)
        positions[each.unit], levels = at, levels[at]
        drawn = np.frombuffer(signs.read(each.unit, 2 * at.size), "<u2").astype(np.int64)
        marked = (drawn >> 1 < each.share * 32768) & (np.abs(levels) > 1)  # zeros stay zeros
        shifts = np.where(marked, 1 - 2 * (drawn & 1), 0)
        pairs.append((levels + shifts, levels - shifts))
    both = [_masks(keys, [*positions.values()], nonce) for keys in _entry_keys(key, nonce, entries)]
    parts = []
    for each, pair, own in zip(chosen, pairs, zip(*both, strict=True), strict=True):
        first, second = (
            pack(values + mask, each.width) for values, mask in zip(pair, own, strict=True)
        )
        parts.append(MaskedTensor(each.unit, each.width, each.sparsity, (first, second)))
    masks = Masks(nonce, entries, tuple(parts), claims)
    zeros = {unit: (at, 0 * at) for unit, at in positions.items()}
    return put(release, tensors, zeros), masks


def take_off(masked: Stream, masks: Masks, key: ContentKey, license_key: bytes) -> Stream:
    """Return the copy of a license.

    Args:
        masked: What the lock opens.
        masks: What the lock says of it.
        key: The content key of the lock.
        license_key: See `Caster.key_for`.

    Raises:
        UnlockError: It is of another lock.
    """
    second, keys = split_key(masks, license_key)
    tensors = read(masked, masks)
    positions = _positions(tensors, masks, key)
    own = _masks(keys, positions, masks.nonce)
    entries = _entries(positions, masks.entries)
    levels: dict[int, tuple[Numbers, Numbers]] = {}
    for part, at, mask, entry in zip(masks.tensors, positions, own, entries, strict=True):
        high, low = unpack(part, at.size)
        values = np.where(second[entry], low, high)
        levels[part.unit] = at, _centered(values - mask, part.width)
    return put(masked, tensors, levels)


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """The marks of one tensor, as only the vendor knows them.

    Attributes:
        positions: int64 array (n), in the tensor, row by row.
        entries: int64 array (n), which entry each belongs to.
        signs: int64 array (n), 1 where the first variant is a step higher than the release, -1
            where it is lower.
    """

    positions: Numbers
    entries: Numbers
    signs: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class MarkedTensor:
    """A tensor of the release, and its marks.

    Attributes:
        unit: Position of its unit.
        tensor: As it is in the release.
        marks: Its marks.
    """

    unit: int
    tensor: QuantizedTensor
    marks: Marks

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.tensor.header.name


class Caster:
    """What the vendor alone can do with a traceable release.

    Args:
        key: The vendor's content key. The lock has the one below it.
        masked: What the lock opens.
        masks: What it says of that.
    """

    def __init__(self, key: ContentKey, masked: Stream, masks: Masks) -> None:
        self._key, self._masks = key, masks
        self.biases = code.biases(key.keystream("biases", masks.nonce), masks.entries)
        self._masked = masked
        self._keys = _entry_keys(key, masks.nonce, masks.entries)

    def key_for(self, license_id: str) -> bytes:
        """Return what makes the copy of a license: for each entry, the key of one variant."""
        second = self.fingerprint(license_id) < 0
        keys = (self._keys[which][entry] for entry, which in enumerate(second.astype(int)))
        return np.packbits(second).tobytes() + b"".join(keys)

    def fingerprint(self, license_id: str) -> Fingerprint:
        """Return the fingerprint of a license: for each entry, 1 where it has the first variant.

        Args:
            license_id: In hexadecimal.
        """
        use = f"fingerprint {license_id}"
        return code.fingerprint(self._key.keystream(use, self._masks.nonce), self.biases)

    def marked_tensors(self) -> list[MarkedTensor]:
        """Return the tensors of the release that have marks."""
        tensors = read(self._masked, self._masks)
        positions = _positions(tensors, self._masks, self._key.below())
        both = [_masks(keys, positions, self._masks.nonce) for keys in self._keys]
        entries = _entries(positions, self._masks.entries)
        parts = zip(self._masks.tensors, positions, entries, *both, strict=True)
        found: list[MarkedTensor] = []
        for part, at, entry, *own in parts:
            high, low = (
                _centered(values - mask, part.width)
                for values, mask in zip(unpack(part, at.size), own, strict=True)
            )
            tensor = with_levels(tensors[part.unit], at, (high + low) // 2)
            signs = (high - low) // 2
            real = signs != 0
            found.append(MarkedTensor(part.unit, tensor, Marks(at[real], entry[real], signs[real])))
        return found

    def release(self) -> Stream:
        """Return the release, as nobody else ever has it."""
        tensors = {each.unit: each.tensor for each in self.marked_tensors()}
        return self._masked.replace(encode_all([*tensors], tensors.__getitem__))


def _entry_keys(key: ContentKey, nonce: bytes, entries: int) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of all entries, for the first variant and for the second."""
    drawn = key.keystream("entries", nonce).read(0, 2 * entries * ENTRY_KEY_SIZE)
    ends = range(0, len(drawn), ENTRY_KEY_SIZE)
    keys = [drawn[at : at + ENTRY_KEY_SIZE] for at in ends]
    return keys[:entries], keys[entries:]


def _positions(
    tensors: Mapping[int, QuantizedTensor], masks: Masks, key: ContentKey
) -> list[Numbers]:
    places = place(key, masks.nonce)
    return [masked_in(tensors[part.unit], part, places) for part in masks.tensors]


def _masks(keys: Sequence[bytes], positions: Sequence[Numbers], nonce: bytes) -> list[Numbers]:
    """Return the masks of all masked weights, by tensor."""
    return _by_tensor(masks_of(keys, sum(at.size for at in positions), nonce), positions)


def _entries(positions: Sequence[Numbers], entries: int) -> list[Numbers]:
    """Return which entry each masked weight belongs to, by tensor: entries take turns."""
    return _by_tensor(np.arange(sum(at.size for at in positions)) % entries, positions)


def _by_tensor(numbers: Numbers, positions: Sequence[Numbers]) -> list[Numbers]:
    return np.split(numbers, np.cumsum([at.size for at in positions])[:-1])


def _centered(values: Numbers, width: int) -> Numbers:
    half = 1 << width - 1
    return (values + half & (1 << width) - 1) - half
