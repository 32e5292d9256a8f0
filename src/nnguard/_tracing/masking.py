"""Masks on weights: modular addition, so that all stays exact.

A mark is a weight that is masked. It belongs to one entry of its tensor's table, and has a sign.
Without the tensor's table, a masked weight is a random number. A license has the table less a
fingerprint: what takes the mask off leaves the fingerprint on the weight, a step up or down
(`docs/SPEC.md`, section 6.7).
Law: `add` of numbers, and then of their negatives, gives the tensor back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import ContentKey, Keystream
from nnguard._locking.choice import can_lock
from nnguard._locking.coding import encode_all
from nnguard._records.masks import MaskedTensor, Masks
from nnguard._records.replaced import Replaced
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, decode, integers_of, with_integers
from nnguard._stream.trellis import is_path
from nnguard.errors import FormatError, UnlockError

__all__ = ["Marks", "add", "levels_of", "marks_of", "pack", "place", "shifted", "unpack"]

Numbers = npt.NDArray[np.int64]
"""For each entry of a tensor's table."""


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """The marks of one tensor.

    Attributes:
        positions: int64 array (n), ascending; in the tensor, row by row.
        entries: int64 array (n), which mask each has.
        signs: int64 array (n), 1 where the mask is added, -1 where it is taken off.
    """

    positions: npt.NDArray[np.int64]
    entries: npt.NDArray[np.int64]
    signs: npt.NDArray[np.int64]


def place(key: ContentKey, masks: Masks) -> Keystream:
    """Return what decides where the marks are; key is that of the lock."""
    return key.keystream("marks", masks.nonce)


def marks_of(part: MaskedTensor, shape: Sequence[int], places: Keystream) -> Marks:
    """Return the marks of a tensor.

    Args:
        part: What the lock says of it.
        shape: Of the tensor.
        places: See `place`.

    Raises:
        ValueError: It says so of a tensor of another shape.
    """
    rows = _bits(part.rows, shape[0])
    columns = _bits(part.columns, int(np.prod(shape[1:], dtype=np.int64)))
    drawn = np.frombuffer(places.read(part.unit, rows.size * columns.size), np.uint8)
    chosen = (drawn & ((1 << part.sparsity) - 1)) == 0
    positions = np.flatnonzero(chosen & (rows[:, None] & columns).reshape(-1))
    signs = 1 - 2 * (drawn[positions] >> 7).astype(np.int64)
    return Marks(positions, np.arange(positions.size) % part.entries, signs)


def levels_of(tensor: QuantizedTensor) -> npt.NDArray[np.int64]:
    """Return what is masked of each weight, flat: with TCQ, coded integers without their parity.

    The parities drive the trellis: they stay, and no other weight changes.
    """
    integers = integers_of(tensor).reshape(-1)
    return integers >> 1 if tensor.header.dependent else integers


def shifted(
    tensor: QuantizedTensor, part: MaskedTensor, marks: Marks, numbers: Numbers
) -> QuantizedTensor:
    """Add to each mark the number of its entry, by its sign, modulo `2**part.width`.

    Raises:
        ValueError: An index would be too large.
    """
    integers, at = integers_of(tensor).reshape(-1), marks.positions
    twofold = int(tensor.header.dependent)
    half = 1 << part.width - 1
    moved = (integers[at] >> twofold) + marks.signs * numbers[marks.entries]
    moved = (moved + half & (1 << part.width) - 1) - half
    integers[at] = moved << twofold | integers[at] & twofold
    return with_integers(tensor, integers.reshape(tensor.indices.shape))


def add(stream: Stream, masks: Masks, places: Keystream, numbers: Sequence[Numbers]) -> Stream:
    """Add numbers to all marks of a stream, and put right what is too large for a mask.

    Args:
        stream: The stream.
        masks: What the lock says.
        places: See `place`.
        numbers: For each masked tensor.

    Raises:
        UnlockError: The lock speaks of another stream.
    """
    by_unit = dict(zip((part.unit for part in masks.tensors), numbers, strict=True))
    parts = {part.unit: part for part in masks.tensors}
    if not all(unit < len(stream) and can_lock(stream[unit]) for unit in parts):
        raise UnlockError("the lock names a tensor that cannot be masked")

    def moved(unit: int) -> QuantizedTensor:
        tensor, part = decode(stream[unit]), parts[unit]
        marks = marks_of(part, tensor.indices.shape, places)
        return put_back(shifted(tensor, part, marks, by_unit[unit]), part.outliers)

    try:
        return stream.replace(encode_all([*parts], moved))
    except (FormatError, ValueError):
        raise UnlockError("a tensor that the lock masks cannot be restored") from None


def put_back(tensor: QuantizedTensor, part: Replaced | None) -> QuantizedTensor:
    """Put weights back where a list says what they were.

    Raises:
        ValueError: The list does not fit the tensor.
    """
    if part is None:
        return tensor
    indices = tensor.indices.reshape(-1).copy()
    if int(part.positions[-1]) >= indices.size:
        raise ValueError("a weight that is not there")
    indices[part.positions] = np.asarray(part.values, np.int32)
    if tensor.header.dependent and not is_path(indices):
        raise ValueError("an index that its state does not have")
    return tensor.with_indices(indices)


def pack(masks: Masks, numbers: Sequence[Numbers]) -> bytes:
    """Return numbers as what a license has: `width` bits each, for each tensor whole bytes."""
    return b"".join(_pack(part, each) for part, each in zip(masks.tensors, numbers, strict=True))


def unpack(masks: Masks, packed: bytes) -> list[Numbers]:
    """Read what `pack` wrote.

    Raises:
        UnlockError: It is not for these masks.
    """
    if len(packed) != masks.key_size:
        raise UnlockError("the license has masks of another lock")
    return [*_unpack(masks, packed)]


def _pack(part: MaskedTensor, numbers: Numbers) -> bytes:
    places = np.arange(part.width - 1, -1, -1)
    return np.packbits((numbers[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _unpack(masks: Masks, packed: bytes) -> Iterator[Numbers]:
    start = 0
    for part in masks.tensors:
        own = np.frombuffer(packed, np.uint8, part.key_size, start)
        bits = np.unpackbits(own, count=part.entries * part.width).reshape(-1, part.width)
        yield bits @ (1 << np.arange(part.width - 1, -1, -1, dtype=np.int64))
        start += part.key_size


def _bits(packed: bytes, count: int) -> npt.NDArray[np.bool_]:
    if len(packed) != (count + 7) // 8:
        raise ValueError("a tensor of another shape")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)
