"""The vendor's signed list of licenses that hold no longer.

It holds hashes of the licenses' identifiers, so it tells nobody who bought what.

    revoked = nnguard.licensing.RevocationList.make([license.terms.id], signer="vendor.key")
    revoked.save("acme.revoked")
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nnguard._base.arguments import check_text
from nnguard._base.times import TimeLike, seconds_of, time_of, time_or_now
from nnguard._crypto.keys import SignerLike, as_signer
from nnguard._crypto.signed_file import SignedFile
from nnguard.errors import ArgumentError

__all__ = ["RevocationList"]

_HASH_LABEL = b"nnguard revoked license v1\0"
_ISSUER, _ISSUED_AT, _REVOKED = 1, 6, "revoked"
_ID_SIZE, _HASH_SIZE = 16, 32


@dataclass(frozen=True, slots=True, eq=False)
class RevocationList(SignedFile):
    """A list that was read. Nothing in it is to be believed before `authenticate`.

    Attributes:
        encoded: Its bytes.
        issuer: Who signed it, as it says.
        issued_at: When, to the second, UTC.
        hashes: Of the identifiers of the licenses.

    Examples:
        >>> ada = licensing.License.load("ada.license").terms
        >>> licensing.RevocationList.load("acme.revoked").revokes(ada.id)
        True
    """

    issuer: str
    issued_at: datetime
    hashes: frozenset[bytes]

    _WHAT = "revocation list"
    _ARMOR = "NNGUARD REVOCATION LIST"
    _DOMAIN = b"nnguard revocation list v1\0"
    _MAX_SIZE = 1 << 24

    @classmethod
    def make(
        cls,
        ids: Iterable[str],
        signer: SignerLike,
        *,
        issuer: str = "",
        issued_at: TimeLike | None = None,
    ) -> RevocationList:
        """Sign a list.

        Args:
            ids: Identifiers of all licenses that hold no longer, in hexadecimal.
            signer: Signs: a key, the path of one, or your own `Signer`.
            issuer: Who signs.
            issued_at: Now, if not given.

        Raises:
            ArgumentError: An identifier is not that of a license, or not a whole one; the time has
                no time zone.
        """
        hashes = b"".join(sorted({_hash(license_id) for license_id in ids}))
        when = time_or_now(issued_at, "issued_at")
        claims = {
            _ISSUER: check_text(issuer, "issuer"),
            _ISSUED_AT: seconds_of(when),
            _REVOKED: hashes,
        }
        return cls._sign(claims, as_signer(signer))

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        match claims:
            case {1: str() as issuer, 6: int() as seconds, "revoked": bytes() as joined} if (
                len(claims) == 3 and len(joined) % _HASH_SIZE == 0
            ):
                hashes = [joined[at : at + _HASH_SIZE] for at in range(0, len(joined), _HASH_SIZE)]
                if hashes == sorted(set(hashes)):
                    issued_at = time_of(seconds)
                    return {"issuer": issuer, "issued_at": issued_at, "hashes": frozenset(hashes)}
        raise ValueError("claims")

    def revokes(self, license_id: str) -> bool:
        """Tell whether a license is on the list."""
        return _hash(license_id) in self.hashes

    def __repr__(self) -> str:
        size, issued_at = len(self.hashes), self.issued_at.isoformat()
        return f"<nnguard.licensing.RevocationList of {size}, {issued_at}>"


def _hash(license_id: str) -> bytes:
    try:
        encoded = bytes.fromhex(check_text(license_id, "license_id"))
    except ValueError:
        encoded = b""
    if len(encoded) != _ID_SIZE:
        raise ArgumentError(
            f"not the id of a license: {license_id!r}",
            hint=f"an id has {2 * _ID_SIZE} hexadecimal digits",
        )
    return hashlib.sha256(_HASH_LABEL + encoded).digest()
