"""Claims: what a vendor says of a release, under the signature (CWT, RFC 8392)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from nnguard._base.arguments import wrong_type
from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard._base.times import seconds_of, time_of
from nnguard.errors import ArgumentError, VerificationError

__all__ = ["Claims", "Shard", "check_release"]

_ISSUER, _SUBJECT, _ISSUED_AT = 1, 2, 6  # CWT claims, RFC 8392
_VERSION, _METADATA, _SHARD, _RELEASE = "version", "meta", "shard", "release"
_END = 1 << 63
"""Release numbers are below it."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of a larger model a stream is.

    Attributes:
        set_digest: SHA-256 that stands for all shards and their order, in hexadecimal (SPEC 6.3).
        position: Of this shard in the set, from 0.
        count: Shards of the set.
    """

    set_digest: str
    position: int
    count: int

    def to_cwt(self) -> list[Any]:
        """Return the value of the claim."""
        return [bytes.fromhex(self.set_digest), self.position, self.count]

    @classmethod
    def from_cwt(cls, value: Any) -> Shard | None:
        """Read the value of the claim, None where there is none.

        Raises:
            ValueError: It is malformed.
        """
        match value:
            case None:
                return None
            case [bytes() as digest, int() as position, int() as count] if (
                len(digest) == hashlib.sha256().digest_size and 0 <= position < count
            ):
                return cls(digest.hex(), position, count)
        raise ValueError("shard")

    def to_json(self) -> dict[str, Any]:
        """Return the shard as JSON values."""
        return {"set_digest": self.set_digest, "position": self.position, "count": self.count}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a vendor says of a release, under the signature.

    Attributes:
        issuer: Who signs (CWT `iss`).
        name: What is signed (CWT `sub`).
        version: Of the release.
        issued_at: When it was signed, to the second, UTC (CWT `iat`).
        metadata: Anything else, text to text.
        shard: Which part of a larger model the stream is, if it is one.
        release: A number that only grows from release to release, 0 to 2^63 - 1, by which a
            deployment notices that it was given an older one.

    Examples:
        >>> claims = nnguard.verify("release.nnc", "vendor.pub").claims
        >>> claims.issuer, claims.name, claims.version
        ('acme.ai', 'digits', '1.0')
        >>> claims.metadata["commit"]
        '4f2a91c'
    """

    issuer: str = ""
    name: str = ""
    version: str = ""
    issued_at: datetime | None = None
    metadata: Mapping[str, str] = EMPTY
    shard: Shard | None = None
    release: int | None = None

    def to_cwt(self) -> dict[Any, Any]:
        """Return the CWT claims set (RFC 8392) with what is not empty."""
        claims: dict[Any, Any] = {
            _ISSUER: self.issuer,
            _SUBJECT: self.name,
            _ISSUED_AT: None if self.issued_at is None else seconds_of(self.issued_at),
            _VERSION: self.version,
            _METADATA: dict(self.metadata),
            _SHARD: None if self.shard is None else self.shard.to_cwt(),
            _RELEASE: self.release,
        }
        return {label: value for label, value in claims.items() if value not in ("", None, {})}

    @classmethod
    def from_cwt(cls, claims: Any) -> Claims:
        """Read a claims set.

        Raises:
            VerificationError: It is not one that `to_cwt` makes.
        """
        try:
            seconds = claims.get(_ISSUED_AT)
            issued_at = None if seconds is None else time_of(seconds)
            metadata = FrozenMapping(claims.get(_METADATA, {}))
            read = cls(
                issuer=claims.get(_ISSUER, ""),
                name=claims.get(_SUBJECT, ""),
                version=claims.get(_VERSION, ""),
                issued_at=issued_at,
                metadata=metadata,
                shard=Shard.from_cwt(claims.get(_SHARD)),
                release=check_release(claims.get(_RELEASE)),
            )
            texts = [read.issuer, read.name, read.version, *metadata, *metadata.values()]
            well_formed = all(isinstance(text, str) for text in texts) and read.to_cwt() == claims
        except (AttributeError, TypeError, ValueError, OverflowError, OSError):
            well_formed = False
        if not well_formed:
            raise VerificationError("the claims of the record are malformed")
        return read

    def same_release(self, other: Claims) -> bool:
        """Tell whether both are of one release: all agrees but time and digest of the set."""
        return self._of_release() == other._of_release()

    def _of_release(self) -> Claims:
        shard = None if self.shard is None else replace(self.shard, set_digest="")
        return replace(self, issued_at=None, shard=shard)

    def to_json(self) -> dict[str, Any]:
        """Return the claims as JSON values."""
        shard = {} if self.shard is None else {"shard": self.shard.to_json()}
        return {
            "issuer": self.issuer,
            "name": self.name,
            "version": self.version,
            "release": self.release,
            "issued_at": None if self.issued_at is None else self.issued_at.isoformat(),
            "metadata": dict(self.metadata),
            **shard,
        }


def check_release(release: Any) -> int | None:
    """Return a release number, or None, as it is.

    Raises:
        TypeError: It is something else than an integer.
        ArgumentError: It is out of range.
    """
    if release is None:
        return None
    if type(release) is not int:
        raise wrong_type("release", "an integer", release)
    if not 0 <= release < _END:
        raise ArgumentError(f"release: {release} is not from 0 to 2^63 - 1")
    return release
