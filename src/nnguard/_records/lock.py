"""The lock record: a release, or what restores it, encrypted and authenticated.

A COSE_Encrypt0 with AES-256-GCM. Its protected header names the key and the tier that it opens; the
frame's header is associated data. The content is CBOR: the tensors that are scrambled, the weights
that were replaced, and the units and digests of the streams that the lock opens
(`docs/SPEC.md`, section 6.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.cose import (
    A256GCM,
    TAG_SIZE,
    Encrypt0,
    Label,
    parse_encrypt0,
    peek_encrypt0,
)
from nnguard._stream.bits import BitReader, BitWriter
from nnguard.errors import ArgumentError, FormatError, NnguardError, UnlockError, VerificationError

__all__ = ["PEEK_SIZE", "LockContent", "LockRecord", "LockShard", "LockedFile", "Replaced"]

Part = bytes | memoryview | range

_DOMAIN = b"nnguard lock v1\0"
_TIER, _SHARD = "tier", "shard"
_MAX_TIER = 255
PEEK_SIZE = 512
"""Bytes of a record that tell what lock it is; what is encrypted may be as large as a network."""

_DIGEST_SIZE, _KEY_ID_SIZE, _SET_ID_SIZE = 32, 8, 16
_MAX_ORDER = 24
_LARGEST_INDEX = (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Replaced:
    """Weights of one tensor that were replaced.

    Attributes:
        unit: Position of its unit.
        positions: int64 array, ascending; secret, as the values are, so `repr` shows neither.
        values: int32 array, the original indices.
    """

    unit: int
    positions: npt.NDArray[np.int64] = field(repr=False)
    values: npt.NDArray[np.int32] = field(repr=False)

    def to_cbor(self) -> list[Any]:
        """Encode the list, positions as gaps."""
        gaps = np.diff(self.positions, prepend=-1) - 1
        gap_order, value_order = _best_order(gaps), _best_order(_unsigned(self.values))
        writer = BitWriter()
        for gap, value in zip(gaps.tolist(), _unsigned(self.values).tolist(), strict=True):
            writer.ue(gap_order, gap)
            writer.ue(value_order, value)
        writer.align()
        return [self.unit, self.positions.size, gap_order, value_order, writer.to_bytes()]

    @classmethod
    def from_cbor(cls, encoded: Any) -> Replaced:
        """Decode a list.

        Raises:
            ValueError: It is malformed.
        """
        match encoded:
            case [
                int() as unit,
                int() as count,
                int() as gap_order,
                int() as value_order,
                (bytes() | memoryview()) as bits,
            ] if 0 < count <= 8 * len(bits) and min(gap_order, value_order) >= 0:
                return cls(unit, *_read_list(bytes(bits), count, gap_order, value_order))
        raise ValueError("replaced")


@dataclass(frozen=True, slots=True, eq=False)
class LockedFile:
    """A stream that a lock opens.

    Attributes:
        name: Of its file in a set; empty where it takes the place of the trial.
        digest: Its model digest.
        units: Its units, in order: bytes of one or several (or a view of many), and ranges of
            positions in the degraded stream, once that is put right. Secret, so `repr` does not
            show them.
    """

    name: str
    digest: bytes
    units: tuple[Part, ...] = field(repr=False)

    @property
    def carried(self) -> int:
        """Bytes of the stream that are in the record."""
        return sum(len(part) for part in self.units if not isinstance(part, range))

    def to_cbor(self) -> list[Any]:
        """Encode the file."""
        units = [
            [part.start, part.stop - part.start] if isinstance(part, range) else part
            for part in self.units
        ]
        return [self.name, self.digest, units]

    @classmethod
    def from_cbor(cls, encoded: Any) -> LockedFile:
        """Decode a file.

        Raises:
            ValueError: It is malformed.
        """
        match encoded:
            case [str() as name, bytes() as digest, [_, *_] as units] if (
                len(digest) == _DIGEST_SIZE
            ):
                return cls(name, digest, tuple(map(_units_from_cbor, units)))
        raise ValueError("file")


@dataclass(frozen=True, slots=True, eq=False)
class LockContent:
    """What the content key makes readable.

    Attributes:
        scrambled: Positions of the units of tensors to unscramble first, ascending.
        replaced: Weights to put back, ascending by unit.
        files: What the lock opens, ascending by name.
    """

    scrambled: tuple[int, ...]
    replaced: tuple[Replaced, ...]
    files: tuple[LockedFile, ...]

    def __bytes__(self) -> bytes:
        """Encode the content."""
        replaced = [part.to_cbor() for part in self.replaced]
        files = [file.to_cbor() for file in self.files]
        return encode_cbor([list(self.scrambled), replaced, files])

    @classmethod
    def parse(cls, data: bytes) -> LockContent:
        """Decode the content.

        Raises:
            UnlockError: It is malformed; whoever made the lock did it wrong.
        """
        try:
            match parse_cbor(data, views=True):
                case [[*scrambled], [*replaced], [*encoded]] if all(
                    type(unit) is int for unit in scrambled
                ):
                    files = tuple(map(LockedFile.from_cbor, encoded))
                    names = [file.name for file in files]
                    if names == sorted(set(names)):
                        return cls(
                            tuple(scrambled), tuple(map(Replaced.from_cbor, replaced)), files
                        )
        except (ValueError, OverflowError, NnguardError):
            pass
        raise UnlockError("the content of the lock is malformed")


@dataclass(frozen=True, slots=True)
class LockShard:
    """Which part of a locked set a trial is.

    Attributes:
        set_id: 16 bytes that all streams of the set have in common.
        position: Of this one among the files of the trial, from 0.
        count: Files of the trial.
    """

    set_id: bytes
    position: int
    count: int

    @classmethod
    def from_cbor(cls, encoded: Any) -> LockShard | None:
        """Read an entry of the protected header; None where it is none."""
        match encoded:
            case [bytes() as set_id, int() as position, int() as count] if (
                len(set_id) == _SET_ID_SIZE and 0 <= position < count
            ):
                return cls(set_id, position, count)
        return None

    def to_cbor(self) -> list[Any]:
        """Encode the entry."""
        return [self.set_id, self.position, self.count]


@dataclass(frozen=True, slots=True)
class LockRecord:
    """A lock that was parsed, but not opened.

    Attributes:
        tier: Name of what it opens.
        shard: Which part of a locked set it is in, if it is in one.
        envelope: The COSE message.
    """

    tier: str
    shard: LockShard | None
    envelope: Encrypt0

    @staticmethod
    def seal(
        key: ContentKey,
        nonce: bytes,
        tier: str,
        content: LockContent | bytes,
        header: bytes,
        *,
        shard: LockShard | None = None,
    ) -> bytes:
        """Make a record; its size does not depend on `header`, the frame's.

        Raises:
            ArgumentError: The name of the tier is too long.
        """
        if len(tier.encode()) > _MAX_TIER:
            raise ArgumentError(f"the name of a tier has at most {_MAX_TIER} bytes")
        protected: dict[Any, Any] = {_TIER: tier}
        if shard is not None:
            protected[_SHARD] = shard.to_cbor()
        return key.seal(bytes(content), protected, nonce, _DOMAIN + header)

    @staticmethod
    def size_of(key: ContentKey, tier: str, content: bytes, shard: LockShard | None) -> int:
        """Return the bytes of the record that `seal` makes of a content."""
        nonce = key.new_nonce()
        empty = len(LockRecord.seal(key, nonce, tier, b"", b"", shard=shard)) - TAG_SIZE - 1
        sealed = len(content) + TAG_SIZE
        return empty + len(encode_cbor(sealed)) + sealed

    @classmethod
    def parse(cls, record: bytes) -> LockRecord:
        """Read a record.

        Raises:
            VerificationError: It is malformed.
        """
        return cls._of(parse_encrypt0(record))

    @classmethod
    def peek(cls, start: bytes) -> LockRecord:
        """Read the first `PEEK_SIZE` bytes of a record, or fewer where it has no more.

        Returns:
            The record without what is encrypted.

        Raises:
            VerificationError: It is malformed.
        """
        return cls._of(peek_encrypt0(start))

    @classmethod
    def _of(cls, envelope: Encrypt0) -> LockRecord:
        tier = envelope.protected.get(_TIER)
        shard = LockShard.from_cbor(envelope.protected.get(_SHARD))
        expected = {
            Label.ALG: A256GCM,
            Label.KID: envelope.key_id,
            Label.IV: envelope.nonce,
            _TIER: tier,
        }
        if shard is not None:
            expected[_SHARD] = shard.to_cbor()
        if (
            not isinstance(tier, str)
            or len(tier.encode()) > _MAX_TIER
            or len(envelope.key_id) != _KEY_ID_SIZE
            or encode_cbor(expected) != encode_cbor(envelope.protected)
        ):
            raise VerificationError("the protected header of the lock is malformed")
        return cls(tier, shard, envelope)

    def open(self, key: ContentKey, header: bytes) -> LockContent:
        """Decrypt the content.

        Args:
            key: That of `envelope.key_id`.
            header: The frame's.

        Raises:
            VerificationError: The record was changed.
            UnlockError: It is malformed.
        """
        content = key.open(self.envelope, _DOMAIN + header)
        if content is None:
            raise VerificationError("the lock was changed: its content is not authentic")
        return LockContent.parse(content)


def _units_from_cbor(encoded: Any) -> Part:
    match encoded:
        case bytes() | memoryview() if encoded:
            return encoded
        case [int() as position, int() as count] if position >= 0 and count > 0:
            return range(position, position + count)
    raise ValueError("units")


def _read_list(
    bits: bytes, count: int, gap_order: int, value_order: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    reader = BitReader(bits)
    numbers = np.zeros((count, 2), np.int64)
    try:
        for row in range(count):
            numbers[row] = reader.ue(gap_order), reader.ue(value_order)
        reader.align()
    except FormatError:
        raise ValueError("list ends too early, or has no end") from None
    folded = numbers[:, 1]
    values = np.where(folded & 1, (folded + 1) >> 1, -(folded >> 1))
    if reader.byte_position != len(bits) or np.abs(values).max() > _LARGEST_INDEX:
        raise ValueError("list goes on, or an index is too large")
    return np.cumsum(numbers[:, 0] + 1) - 1, values.astype(np.int32)


def _unsigned(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Fold signed numbers into unsigned ones, small ones first, as `ie(k)` does."""
    wide = values.astype(np.int64)
    return np.where(wide > 0, 2 * wide - 1, -2 * wide)


def _best_order(numbers: npt.NDArray[np.int64]) -> int:
    """Return the order of the Exp-Golomb code that takes the fewest bits."""

    def bits(order: int) -> int:
        scaled = (numbers >> order) + 1
        return int((2 * np.frexp(scaled.astype(np.float64))[1] - 1).sum()) + order * numbers.size

    return min(range(_MAX_ORDER), key=bits)
