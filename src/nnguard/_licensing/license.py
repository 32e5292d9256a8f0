"""Licenses: what a customer may do, signed by the vendor, with the content key for that customer.

A CWT (RFC 8392) in a signed file. A license is not a bearer token: the content key in it opens with
the customer's private key alone (HPKE, RFC 9180), and is bound to all that the license says
(`docs/SPEC.md`, section 11).

    license = nnguard.licensing.License.load("acme.license")
    print(license.terms.customer, license.terms.expires_at)
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard._base.times import seconds_of, time_of
from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.identity import Identity, Recipient
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._crypto.signed_file import SignedFile
from nnguard._licensing.claims import (
    DIGEST_SIZE,
    ID_SIZE,
    KEY_ID_SIZE,
    bytes_claim,
    key_claim,
    text_claim,
)
from nnguard._licensing.device import DeviceBinding
from nnguard._licensing.unwrapped import Unwrapped
from nnguard.errors import WrongKeyError

__all__ = ["License", "LicenseTerms"]

_WRAPPING = b"nnguard license content key v1\0"

_ISSUER, _SUBJECT, _EXPIRES, _NOT_BEFORE, _ISSUED_AT, _ID = 1, 2, 4, 5, 6, 7  # RFC 8392


@dataclass(frozen=True, slots=True)
class LicenseTerms:
    """What a license says.

    Attributes:
        id: 16 bytes in hexadecimal (CWT `cti`).
        issuer: Who sells (CWT `iss`).
        customer: Who bought (CWT `sub`).
        product: What.
        tier: Which quality of it.
        features: Names that the vendor's own software may act on.
        metadata: Anything else, text to text.
        issued_at: To the second, UTC (CWT `iat`).
        not_before: It holds from here on (CWT `nbf`).
        expires_at: And until here (CWT `exp`); None forever.
        grace: It still holds for so long after that, and says so.
        device: The devices that it holds on; None for all.
        stream: Model digest of the trial that it opens, in hexadecimal.
        opens: Model digest of what it makes of the trial, in hexadecimal.
        lock: Identifier of the content key of the trial's outermost lock, in hexadecimal.
        recipient: Identifier of the customer's key, in hexadecimal.
        order: Identifier of the order that it belongs to, or empty.
        server: URL of the server that renews it, or empty.
        warn_only: Where it was revoked, or has expired, readers warn and go on.
        leases: How many machines may hold a lease of it at a time; 0 of a license for one.
        leaser: The key that signs leases.

    Examples:
        >>> terms = licensing.License.load("me.license").terms
        >>> terms.product, terms.expires_at.year
        ('digits', 2035)
    """

    id: str
    issuer: str
    customer: str
    product: str
    tier: str
    issued_at: datetime
    not_before: datetime
    stream: str
    opens: str
    lock: str
    recipient: str
    expires_at: datetime | None = None
    grace: timedelta = timedelta(0)
    features: tuple[str, ...] = ()
    metadata: Mapping[str, str] = EMPTY
    device: DeviceBinding | None = None
    order: str = ""
    server: str = ""
    warn_only: bool = False
    leases: int = 0
    leaser: PublicKey | None = None

    def to_cwt(self) -> dict[Any, Any]:
        """Return the CWT claims set, without the wrapped content key."""
        claims: dict[Any, Any] = {
            _ISSUER: self.issuer,
            _SUBJECT: self.customer,
            _EXPIRES: None if self.expires_at is None else seconds_of(self.expires_at),
            _NOT_BEFORE: seconds_of(self.not_before),
            _ISSUED_AT: seconds_of(self.issued_at),
            _ID: bytes.fromhex(self.id),
            "product": self.product,
            "tier": self.tier,
            "features": list(self.features),
            "meta": dict(self.metadata),
            "grace": int(self.grace.total_seconds()),
            "device": None if self.device is None else self.device.to_cbor(),
            "stream": bytes.fromhex(self.stream),
            "opens": bytes.fromhex(self.opens),
            "lock": bytes.fromhex(self.lock),
            "to": bytes.fromhex(self.recipient),
            "order": self.order,
            "server": self.server,
            "warn": 1 if self.warn_only else None,
            "leases": self.leases or None,
            "leaser": None if self.leaser is None else self.leaser.raw,
        }
        return {label: value for label, value in claims.items() if value not in ("", None, {}, [])}

    @classmethod
    def from_cwt(cls, claims: Mapping[Any, Any]) -> LicenseTerms:
        """Read a claims set.

        Raises:
            ValueError: It is not one that `to_cwt` makes; or another error, where a claim has the
                wrong type.
        """
        device = claims.get("device")
        expires, leaser = claims.get(_EXPIRES), claims.get("leaser")
        terms = cls(
            id=bytes_claim(claims[_ID], ID_SIZE),
            issuer=text_claim(claims.get(_ISSUER, "")),
            customer=text_claim(claims.get(_SUBJECT, "")),
            product=text_claim(claims.get("product", "")),
            tier=text_claim(claims.get("tier", "")),
            issued_at=time_of(claims[_ISSUED_AT]),
            not_before=time_of(claims[_NOT_BEFORE]),
            expires_at=None if expires is None else time_of(expires),
            grace=timedelta(seconds=claims.get("grace", 0)),
            features=tuple(map(text_claim, claims.get("features", []))),
            metadata=FrozenMapping(
                {
                    text_claim(key): text_claim(value)
                    for key, value in claims.get("meta", {}).items()
                }
            ),
            device=None if device is None else DeviceBinding.from_cbor(device),
            stream=bytes_claim(claims["stream"], DIGEST_SIZE),
            opens=bytes_claim(claims["opens"], DIGEST_SIZE),
            lock=bytes_claim(claims["lock"], KEY_ID_SIZE),
            recipient=bytes_claim(claims["to"], KEY_ID_SIZE),
            order=text_claim(claims.get("order", "")),
            server=text_claim(claims.get("server", "")),
            warn_only="warn" in claims,
            leases=claims.get("leases", 0),
            leaser=None if leaser is None else key_claim(leaser),
        )
        if encode_cbor(terms.to_cwt()) != encode_cbor(dict(claims)) or terms.grace < timedelta(0):
            raise ValueError("claims")
        if terms.leases < 0 or bool(terms.leases) != (terms.leaser is not None):
            raise ValueError("leases")
        if terms.expires_at is not None:
            terms.expires_at + terms.grace  # is a time that there is
        return terms

    def to_json(self) -> dict[str, Any]:
        """Return the terms as JSON values."""
        return {
            "id": self.id,
            "issuer": self.issuer,
            "customer": self.customer,
            "product": self.product,
            "tier": self.tier,
            "features": list(self.features),
            "metadata": dict(self.metadata),
            "issued_at": self.issued_at.isoformat(),
            "not_before": self.not_before.isoformat(),
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
            "grace_seconds": int(self.grace.total_seconds()),
            "device": None if self.device is None else self.device.to_json(),
            "stream": self.stream,
            "opens": self.opens,
            "recipient": self.recipient,
            "order": self.order,
            "server": self.server,
            "warn_only": self.warn_only,
            "leases": self.leases,
        }


@dataclass(frozen=True, slots=True, eq=False)
class License(SignedFile):
    """A license that was read. Nothing in it is to be believed before `authenticate`.

    Attributes:
        encoded: Its bytes.
        terms: What it says.
        signature: Record of the signature of the copy that it opens, where the lock is traceable
            and the release was signed; empty otherwise.

    Examples:
        >>> license = licensing.License.load("me.license")
        >>> license.terms.customer
        'Ada Ltd.'
    """

    terms: LicenseTerms
    signature: bytes
    _wrapped: bytes

    _WHAT = "license"
    _ARMOR = "NNGUARD LICENSE"
    _DOMAIN = b"nnguard license v1\0"
    _MAX_SIZE = 1 << 20

    @classmethod
    def make(
        cls,
        terms: LicenseTerms,
        secrets: Unwrapped,
        recipient: Recipient,
        signer: Signer,
        *,
        signature: bytes = b"",
    ) -> License:
        """Wrap the secrets to the customer and sign the license.

        Args:
            terms: What it says.
            secrets: What opens the lock.
            recipient: The customer's public key.
            signer: The vendor's key.
            signature: See `License`.

        Raises:
            ArgumentError: A claim has the wrong type, or is out of range.
            ArgumentError: The signature does not verify with the signer's own public key.
        """
        claims = terms.to_cwt()
        wrapped = recipient.wrap(secrets.to_bytes(), _WRAPPING + encode_cbor(claims))
        copy = {"copy": signature} if signature else {}
        return cls._sign({**claims, **copy, "key": wrapped}, signer)

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        wrapped, signature = claims.pop("key"), claims.pop("copy", None)
        if not isinstance(wrapped, bytes):
            raise ValueError("key")
        if signature is None:
            signature = b""
        elif not isinstance(signature, bytes) or not signature:
            raise ValueError("copy")
        terms = LicenseTerms.from_cwt(claims)
        return {"terms": terms, "signature": signature, "_wrapped": wrapped}

    def unwrap(self, identity: Identity) -> Unwrapped:
        """Return the content key, and what goes with it; the license has been authenticated before.

        Raises:
            WrongKeyError: The license is made out to another key.
        """
        mine = identity.recipient.id
        secret = None
        if hmac.compare_digest(mine.hex(), self.terms.recipient):
            info = _WRAPPING + encode_cbor(self.terms.to_cwt())
            secret = identity.unwrap(self._wrapped, info)
        if secret is None:
            raise WrongKeyError(
                f"the license is made out to key {self.terms.recipient}, not to {mine.hex()}",
                hint="unlock with the private key whose public half you sent to the vendor",
            )
        return Unwrapped.from_bytes(secret)

    def __repr__(self) -> str:
        return f"<nnguard.licensing.License {self.terms.id} to {self.terms.customer!r}>"
