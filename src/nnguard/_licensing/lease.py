"""Leases: minutes of a license, which a relay hands out to one machine after the other.

The vendor's license names the key that may sign leases and how many may be out at a time. A lease
holds that license, and the content key once more, wrapped to the machine that has the lease
(`docs/SPEC.md`, section 14.5). It is taken wherever a license is.

    lease = nnguard.licensing.Lease.load("pod.lease")
    print(lease.license.terms.customer, lease.expires_at)
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nnguard._base.times import CLOCKS_DIFFER, TimeLike, seconds_of, time_of, time_or_now
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.identity import Identity, Recipient
from nnguard._crypto.keys import Signer
from nnguard._crypto.signed_file import SignedFile
from nnguard._licensing.claims import ID_SIZE, KEY_ID_SIZE, bytes_claim
from nnguard._licensing.license import License, LicenseTerms
from nnguard._licensing.unwrapped import Unwrapped
from nnguard.errors import LicenseError, Refusal, WrongKeyError

__all__ = ["LONGEST_LEASE", "Lease", "end_of"]

_WRAPPING = b"nnguard license lease content key v1\0"

_EXPIRES, _ISSUED_AT, _ID = 4, 6, 7  # RFC 8392

LONGEST_LEASE = timedelta(days=1)
"""No reader takes a lease that holds for longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease(SignedFile):
    """A lease that was read. Nothing in it is to be believed before `check`.

    Attributes:
        encoded: Its bytes.
        license: The vendor's license, of which it is a part.
        id: What the machine sent when it asked, 16 bytes in hexadecimal (CWT `cti`).
        recipient: Identifier of the machine's key, in hexadecimal.
        issued_at: To the second, UTC (CWT `iat`).
        expires_at: It holds until here (CWT `exp`).

    Examples:
        >>> from datetime import timedelta
        >>> relay, pod = nnguard.Identity.load("me.key"), nnguard.Identity.generate()
        >>> held = licensing.License.load("me.license")
        >>> lease = licensing.Lease.make(
        ...     held,
        ...     held.unwrap(relay),
        ...     pod.recipient,
        ...     relay.request_signer,
        ...     id=16 * "00",
        ...     lasts=timedelta(minutes=5),
        ... )
        >>> lease.license == held
        True
    """

    license: License
    id: str
    recipient: str
    issued_at: datetime
    expires_at: datetime
    _wrapped: bytes

    _WHAT = "lease"
    _ARMOR = "NNGUARD LICENSE LEASE"
    _DOMAIN = b"nnguard license lease v1\0"
    _MAX_SIZE = 1 << 21

    @classmethod
    def make(
        cls,
        license: License,  # noqa: A002
        secrets: Unwrapped,
        recipient: Recipient,
        signer: Signer,
        *,
        id: str,  # noqa: A002
        lasts: timedelta,
        issued_at: TimeLike | None = None,
    ) -> Lease:
        """Wrap a license's secrets to a machine and sign the lease.

        Args:
            license: It names the signer's key as its `leaser`.
            secrets: Those of the license.
            recipient: The machine's key.
            signer: Signs (`Identity.request_signer`).
            id: 16 bytes in hexadecimal.
            lasts: Whole seconds; cut where the license ends.
            issued_at: Now, if None.

        Raises:
            ArgumentError: A claim is out of range.
        """
        start = time_or_now(issued_at, "issued_at")
        end = end_of(license.terms)
        claims = {
            _EXPIRES: seconds_of(start + lasts if end is None else min(start + lasts, end)),
            _ISSUED_AT: seconds_of(start),
            _ID: bytes.fromhex(id),
            "license": license.encoded,
            "to": recipient.id,
        }
        wrapped = recipient.wrap(secrets.to_bytes(), _WRAPPING + encode_cbor(claims))
        return cls._sign({**claims, "key": wrapped}, signer)

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        fields = {
            "license": License.parse(claims.pop("license")),
            "id": bytes_claim(claims.pop(_ID), ID_SIZE),
            "recipient": bytes_claim(claims.pop("to"), KEY_ID_SIZE),
            "issued_at": time_of(claims.pop(_ISSUED_AT)),
            "expires_at": time_of(claims.pop(_EXPIRES)),
            "_wrapped": claims.pop("key"),
        }
        if claims or not isinstance(fields["_wrapped"], bytes):
            raise ValueError("claims")
        if fields["expires_at"] <= fields["issued_at"]:
            raise ValueError("exp")
        return fields

    @property
    def lasts(self) -> timedelta:
        """How long it holds."""
        return self.expires_at - self.issued_at

    def authenticate_lease(self) -> None:
        """Make sure that the key that the license names signed a lease that it allows.

        The license has been authenticated before (steps 3 to 5 of SPEC 14.5).

        Raises:
            WrongKeyError: Another key signed it.
            LicenseError: It was changed, or the license allows no such lease.
        """
        terms = self.license.terms
        if terms.leaser is None:
            raise LicenseError("the license is not one to lease", reason=Refusal.NOT_LEASED)
        self.authenticate([terms.leaser])
        end = end_of(terms)
        if self.lasts > LONGEST_LEASE or (end is not None and self.expires_at > end):
            raise LicenseError("the lease holds for longer than it may", reason=Refusal.NOT_LEASED)

    def check_time(self, time: datetime) -> None:
        """Make sure that the lease holds at a time (step 6 of SPEC 14.5).

        Raises:
            LicenseError: It does not, or the clock is behind.
        """
        if self.issued_at - time > CLOCKS_DIFFER:
            raise LicenseError(
                f"the clock says {time.isoformat()}, and the lease is of "
                f"{self.issued_at.isoformat()}",
                reason=Refusal.CLOCK_SET_BACK,
                hint="set the clock right",
            )
        if time >= self.expires_at:
            raise LicenseError(
                f"the lease ended at {self.expires_at.isoformat()}",
                reason=Refusal.EXPIRED,
                hint="nnguard lease gets a new one",
            )

    def unwrap(self, identity: Identity) -> Unwrapped:
        """Return the license's secrets; the lease has been authenticated before.

        Raises:
            WrongKeyError: The lease is made out to another key.
        """
        mine = identity.recipient.id
        secret = None
        if hmac.compare_digest(mine.hex(), self.recipient):
            claims = parse_cbor(self._envelope.payload)
            del claims["key"]
            info = _WRAPPING + encode_cbor(claims)
            secret = identity.unwrap(self._wrapped, info)
        if secret is None:
            raise WrongKeyError(
                f"the lease is made out to key {self.recipient}, not to {mine.hex()}",
                hint="unlock with the private key that it was asked for with",
            )
        return Unwrapped.from_bytes(secret)

    def to_json(self) -> dict[str, Any]:
        """Return what it says as JSON values."""
        return {
            "id": self.id,
            "recipient": self.recipient,
            "issued_at": self.issued_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "license": self.license.terms.to_json(),
        }

    def __repr__(self) -> str:
        return f"<nnguard.licensing.Lease until {self.expires_at.isoformat()}>"


def end_of(terms: LicenseTerms) -> datetime | None:
    """Return when leases of a license end at the latest; None where it warns and goes on."""
    if terms.expires_at is None or terms.warn_only:
        return None
    return terms.expires_at + terms.grace
