"""The lock record: a release, or what restores it, encrypted and authenticated.

A COSE_Encrypt0 with AES-256-GCM. Its protected header names the key and the tier that it opens; the
frame's header is associated data. The content is CBOR: the tensors that are scrambled, the weights
that were replaced, and the units and digests of the streams that the lock opens
(`docs/SPEC.md`, section 6.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

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
from nnguard._records.masks import Masks
from nnguard._records.replaced import Replaced
from nnguard.errors import ArgumentError, NnguardError, UnlockError, VerificationError

__all__ = [
    "PEEK_SIZE",
    "Difference",
    "LockContent",
    "LockRecord",
    "LockShard",
    "LockedFile",
    "Part",
]

_DOMAIN = b"nnguard lock v1\0"
_TIER, _SHARD = "tier", "shard"
_MAX_TIER = 255
PEEK_SIZE = 512
"""Bytes of a record that tell what lock it is; what is encrypted may be as large as a network."""

_DIGEST_SIZE, _KEY_ID_SIZE, _SET_ID_SIZE = 32, 8, 16


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """A unit of a stream that a lock opens, less one of the degraded stream.

    Attributes:
        base: Position of the latter.
        unit: Bytes of the difference (`nnguard._stream.differences`).
    """

    base: int
    unit: bytes | memoryview = field(repr=False)

    def __len__(self) -> int:
        return len(self.unit)


Part = bytes | memoryview | range | Difference


@dataclass(frozen=True, slots=True, eq=False)
class LockedFile:
    """A stream that a lock opens.

    Attributes:
        name: Of its file in a set; empty where it takes the place of the trial.
        digest: Its model digest.
        units: Its units, in order: bytes of one or several (or a view of many), ranges of
            positions in the degraded stream, once that is put right, and differences to units of
            that. Secret, so `repr` does not show them.
        masks: Where weights of it are masked: a license takes the masks off.
    """

    name: str
    digest: bytes
    units: tuple[Part, ...] = field(repr=False)
    masks: Masks | None = field(default=None, repr=False)

    @property
    def carried(self) -> int:
        """Bytes of the stream that are in the record; masked weights among them."""
        whole = sum(len(part) for part in self.units if not isinstance(part, range))
        return whole + (0 if self.masks is None else self.masks.size)

    @property
    def bases(self) -> list[int]:
        """Positions of the units that others are differences to."""
        return [part.base for part in self.units if isinstance(part, Difference)]

    @property
    def shared(self) -> list[range]:
        """Positions of the units that the degraded stream has, too."""
        return [part for part in self.units if isinstance(part, range)]

    @property
    def named(self) -> list[range]:
        """Positions that it names in the degraded stream, shared units and bases."""
        return self.shared + [range(base, base + 1) for base in self.bases]

    def to_cbor(self) -> list[Any]:
        """Encode the file."""
        units = [_units_to_cbor(part) for part in self.units]
        masks = [] if self.masks is None else [self.masks.to_cbor()]
        return [self.name, self.digest, units, *masks]

    @classmethod
    def from_cbor(cls, encoded: Any) -> LockedFile:
        """Decode a file.

        Raises:
            ValueError: It is malformed.
        """
        match encoded:
            case [str() as name, bytes() as digest, [_, *_] as units, *more] if (
                len(digest) == _DIGEST_SIZE and len(more) <= 1
            ):
                masks = Masks.from_cbor(more[0]) if more else None
                return cls(name, digest, tuple(map(_units_from_cbor, units)), masks)
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
                    if names == sorted(set(names)) and _are_apart(files):
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
    def size_of(key: ContentKey, tier: str, size: int, shard: LockShard | None) -> int:
        """Return the bytes of the record that `seal` makes of a content of so many bytes."""
        nonce = key.new_nonce()
        empty = len(LockRecord.seal(key, nonce, tier, b"", b"", shard=shard)) - TAG_SIZE - 1
        sealed = size + TAG_SIZE
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


def _are_apart(files: Iterable[LockedFile]) -> bool:
    """Tell whether files name no position of the degraded stream twice."""
    named = [(part.start, part.stop) for file in files for part in file.named]
    return all(one[1] <= other[0] for one, other in pairwise(sorted(named)))


def _units_to_cbor(part: Part) -> Any:
    match part:
        case range():
            return [part.start, part.stop - part.start]
        case Difference():
            return [part.base, part.unit]
    return part


def _units_from_cbor(encoded: Any) -> Part:
    match encoded:
        case bytes() | memoryview() if encoded:
            return encoded
        case [int() as base, (bytes() | memoryview()) as unit] if base >= 0 and unit:
            return Difference(base, unit)
        case [int() as position, int() as count] if position >= 0 and count > 0:
            return range(position, position + count)
    raise ValueError("units")
