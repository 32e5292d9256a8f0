"""The vendor's signed list of licenses that hold no longer.

It holds hashes of the licenses' identifiers, so it tells nobody who bought what.

    revoked = nnguard.RevocationList.make([license.terms.id], signer=key)
    revoked.save("acme.revoked")
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nnguard._base.files import read_file, write_bytes
from nnguard._crypto.armor import write_armor
from nnguard._crypto.cose import EDDSA, Label, Sign1, encode_cbor, parse_cbor, parse_sign1, sign1
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._licensing.license import seconds_of, time_of, unarmor
from nnguard.errors import LicenseError, Refusal, VerificationError, WrongKeyError

__all__ = ["RevocationList"]

_ARMOR = "NNGUARD REVOCATION LIST"
_DOMAIN = b"nnguard revocation list v1\0"
_HASH_LABEL = b"nnguard revoked license v1\0"
_ISSUER, _ISSUED_AT, _REVOKED = 1, 6, "revoked"
_ID_SIZE, _HASH_SIZE = 16, 32
_MAX_FILE_SIZE = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class RevocationList:
    """A list that was read. Nothing in it is to be believed before `authenticate`.

    Attributes:
        issuer: Who signed it, as it says.
        issued_at: When, to the second, UTC.
        hashes: Of the identifiers of the licenses.
        key_id: Key of the vendor, in hexadecimal.
        encoded: Its bytes.
    """

    issuer: str
    issued_at: datetime
    hashes: frozenset[bytes]
    key_id: str
    encoded: bytes
    _envelope: Sign1

    @classmethod
    def make(
        cls,
        ids: Iterable[str],
        signer: Signer,
        *,
        issuer: str = "",
        issued_at: datetime | None = None,
    ) -> RevocationList:
        """Sign a list.

        Args:
            ids: Identifiers of all licenses that hold no longer, in hexadecimal.
            signer: Signs: a key, or your own `Signer`.
            issuer: Who signs.
            issued_at: Now, if not given.

        Raises:
            ValueError: An identifier is none, or not a whole one; the time has no time zone.
        """
        hashes = b"".join(sorted({_hash(license_id) for license_id in ids}))
        when = datetime.now(timezone.utc) if issued_at is None else issued_at
        claims = {_ISSUER: issuer, _ISSUED_AT: seconds_of(when), _REVOKED: hashes}
        header = {Label.KID: signer.public_key.id}
        return cls.parse(sign1(signer, header, encode_cbor(claims), _DOMAIN))

    @classmethod
    def parse(cls, encoded: bytes) -> RevocationList:
        """Read a list's bytes; its signature is not checked.

        Raises:
            LicenseError: It is malformed.
        """
        try:
            envelope = parse_sign1(encoded)
            if envelope.protected != {Label.ALG: EDDSA, Label.KID: envelope.key_id}:
                raise ValueError("header")
            issuer, issued_at, hashes = _parse_claims(parse_cbor(envelope.payload))
        except (VerificationError, ValueError):
            raise LicenseError(
                "this is no revocation list, or it was changed", reason=Refusal.MALFORMED
            ) from None
        return cls(issuer, issued_at, hashes, envelope.key_id.hex(), encoded, envelope)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RevocationList:
        """Read a list from a file; see `parse`."""
        data = read_file(path, _MAX_FILE_SIZE)
        try:
            return cls.parse(unarmor(_ARMOR, data.decode("utf-8", "replace")))
        except LicenseError as error:
            raise LicenseError(f"{path}: {error}", reason=error.reason, hint=error.hint) from None

    def __str__(self) -> str:
        """Return the list in armor."""
        return write_armor(_ARMOR, self.encoded)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the list to a file, in armor."""
        write_bytes(Path(path), str(self).encode(), overwrite=overwrite)

    def authenticate(self, keys: Sequence[PublicKey]) -> None:
        """Make sure that one of these keys signed the list.

        Raises:
            WrongKeyError: It is signed by another.
            LicenseError: It was changed.
        """
        key = next((key for key in keys if key.id.hex() == self.key_id), None)
        if key is None:
            raise WrongKeyError(
                f"the revocation list is signed with key {self.key_id}, "
                f"not with {' or '.join(key.id.hex() for key in keys)}",
                hint="a list counts for licenses of the key that signed it",
            )
        if not self._envelope.verified_by(key, _DOMAIN):
            raise LicenseError("the revocation list was changed", reason=Refusal.MALFORMED)

    def revokes(self, license_id: str) -> bool:
        """Tell whether a license is on the list."""
        return _hash(license_id) in self.hashes

    def __repr__(self) -> str:
        return f"<nnguard.RevocationList of {len(self.hashes)}, {self.issued_at.isoformat()}>"


def _hash(license_id: str) -> bytes:
    encoded = bytes.fromhex(license_id)
    if len(encoded) != _ID_SIZE:
        raise ValueError(f"no license id: {license_id!r}")
    return hashlib.sha256(_HASH_LABEL + encoded).digest()


def _parse_claims(claims: Any) -> tuple[str, datetime, frozenset[bytes]]:
    match claims:
        case {1: str() as issuer, 6: int() as seconds, "revoked": bytes() as joined} if (
            len(claims) == 3 and len(joined) % _HASH_SIZE == 0
        ):
            hashes = [joined[at : at + _HASH_SIZE] for at in range(0, len(joined), _HASH_SIZE)]
            if hashes == sorted(set(hashes)):
                return issuer, time_of(seconds), frozenset(hashes)
    raise ValueError("claims")
