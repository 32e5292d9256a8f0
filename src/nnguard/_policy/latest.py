"""Latest statements: a vendor's word, for a while, on which release is the newest (SPEC 13.2).

    statement = nnguard.LatestStatement.load("net.latest")
    nnguard.verify("release.nnc", "vendor.pub", latest=statement)

Whoever keeps new releases from a deployment has to keep new statements from it as well, and the old
one expires: a deployment that is frozen in the past notices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nnguard._base.texts import shown
from nnguard._base.times import CLOCKS_DIFFER, TimeLike, seconds_of, time_of, time_or_now, to_utc
from nnguard._crypto.keys import SignerLike, as_signer
from nnguard._crypto.signed_file import SignedFile
from nnguard._policy.document import Age
from nnguard._policy.finding import Finding
from nnguard._records.claims import Claims
from nnguard.errors import ArgumentError, NnguardError, PolicyError, PolicyReason

__all__ = ["LatestStatement"]

_EXPIRES_AT, _DIGEST = 4, "digest"
_DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True, eq=False)
class LatestStatement(SignedFile):
    """A statement that was read. Nothing in it is to be believed before `authenticate`.

    Attributes:
        encoded: Its bytes.
        claims: Issuer, name, version and number of the newest release, and when this was stated.
        digest: Digest of that release, in hexadecimal (SPEC 6.1, of a set 6.3).
        expires_at: When the statement ceases to hold.

    Examples:
        >>> release = nnguard.sign("model.nnc", "vendor.key", name="digits", release=3)
        >>> found = nnguard.verify(release, "vendor.pub")
        >>> statement = nnguard.LatestStatement.make(
        ...     found.claims, found.digest, "vendor.key", expires_at="2100-01-01"
        ... )
        >>> nnguard.verify(release, "vendor.pub", latest=statement).claims.release
        3
    """

    claims: Claims
    digest: str
    expires_at: datetime

    _WHAT = "latest statement"
    _ARMOR = "NNGUARD LATEST STATEMENT"
    _DOMAIN = b"nnguard latest statement v1\0"
    _MAX_SIZE = 1 << 16

    @classmethod
    def make(
        cls,
        release: Claims,
        digest: str,
        signer: SignerLike,
        *,
        expires_at: TimeLike,
        issued_at: TimeLike | None = None,
    ) -> LatestStatement:
        """Sign a statement.

        Args:
            release: What is claimed of the newest release.
            digest: Its digest, in hexadecimal.
            signer: Signs: a key, the path of one, or your own `Signer`.
            expires_at: When the statement ceases to hold: a time, or ISO 8601 text.
            issued_at: Now, if not given.

        Raises:
            ArgumentError: The release has no number, or the statement would never hold.
        """
        issued = time_or_now(issued_at, "issued_at")
        expires = to_utc(expires_at, "expires_at")
        if release.release is None:
            raise ArgumentError(
                "the release has no number, so it cannot be stated which is the latest",
                hint="sign it with a release number",
            )
        if expires <= issued:
            raise ArgumentError(f"a statement that expires at {expires.isoformat()} never holds")
        claims = Claims(
            release.issuer, release.name, release.version, issued, release=release.release
        )
        more = {_EXPIRES_AT: seconds_of(expires), _DIGEST: bytes.fromhex(digest)}
        return cls._sign(claims.to_cwt() | more, as_signer(signer))

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        expires_at, digest = time_of(claims.get(_EXPIRES_AT)), claims.get(_DIGEST)
        read = Claims.from_cwt({k: v for k, v in claims.items() if k not in (_EXPIRES_AT, _DIGEST)})
        if not isinstance(digest, bytes) or len(digest) != _DIGEST_SIZE:
            raise ValueError("digest")
        if read.release is None or read.issued_at is None or read.issued_at >= expires_at:
            raise ValueError("claims")
        if read.metadata or read.shard is not None:
            raise ValueError("claims of a model")
        return {"claims": read, "digest": digest.hex(), "expires_at": expires_at}

    @classmethod
    def _malformed(cls, message: str) -> NnguardError:
        return PolicyError(message, reason=PolicyReason.MALFORMED, hint="get it again")

    def against(
        self,
        claims: Claims,
        digests: Sequence[str] | None,
        time: datetime,
        max_age: Age | None,
    ) -> Iterator[Finding]:
        """Say why a release is not the newest by this statement, or why that cannot be told.

        Args:
            claims: Those of the release.
            digests: What its signatures sign, in hexadecimal; None for a trial of it.
            time: The time.
            max_age: How old the statement may be, if it must not be as old as it says.
        """
        stated = self.claims
        assert stated.issued_at is not None
        assert stated.release is not None
        about = f"the latest statement is about {shown(stated.issuer + '/' + stated.name)}"
        if (stated.issuer, stated.name) != (claims.issuer, claims.name):
            yield _stale(f"{about}, not about {shown(claims.issuer + '/' + claims.name)}")
            return
        if stated.issued_at - time > CLOCKS_DIFFER:
            yield _stale(
                f"the latest statement is of {stated.issued_at.isoformat()}: in the future"
            )
        if time >= self.expires_at:
            yield _stale(f"the latest statement held until {self.expires_at.isoformat()}")
        elif max_age is not None and time - stated.issued_at > max_age.length:
            since = stated.issued_at.isoformat()
            yield _stale(f"the latest statement is of {since}, more than {max_age} ago")
        if claims.release is None or claims.release < stated.release:
            missing = claims.release is None
            this = "a release without a number" if missing else f"release {claims.release}"
            yield _stale(f"this is {this}, and release {stated.release} is out")
        elif (
            digests is not None and claims.release == stated.release and self.digest not in digests
        ):
            yield _stale(f"this is not the release {stated.release} that the statement is about")

    def to_json(self) -> dict[str, Any]:
        """Return the statement as JSON values."""
        claims = self.claims
        assert claims.issued_at is not None
        return {
            "issuer": claims.issuer,
            "name": claims.name,
            "version": claims.version,
            "release": claims.release,
            "digest": self.digest,
            "issued_at": claims.issued_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "key_id": self.key_id,
        }

    def __repr__(self) -> str:
        claims = self.claims
        return f"<nnguard.LatestStatement {claims.issuer}/{claims.name}, release {claims.release}>"


def _stale(message: str) -> Finding:
    hint = "get the vendor's newest statement, and the release that it names"
    return Finding(PolicyReason.STALE, message, hint)
