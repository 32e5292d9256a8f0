"""A license: what a vendor permits a customer, signed, with the content key wrapped to him.

A CWT (RFC 8392) in a COSE_Sign1 with EdDSA, as text in armor. It is no bearer token: the content
key in it opens with the customer's private key alone (HPKE, RFC 9180), and is bound to all that the
license says (`docs/SPEC.md`, section 11).

    license = nnguard.License.load("acme.license")
    print(license.customer, license.expires_at)
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from nnguard._base.files import read_file, write_bytes
from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard._crypto.armor import read_armor, write_armor
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.cose import EDDSA, Label, Sign1, encode_cbor, parse_cbor, parse_sign1, sign1
from nnguard._crypto.identity import Identity, Recipient
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._licensing.device import DeviceBinding
from nnguard.errors import LicenseError, Refusal, VerificationError, WrongKeyError

__all__ = ["License", "LicenseTerms", "seconds_of", "time_of", "unarmor"]

_ARMOR = "NNGUARD LICENSE"
_DOMAIN = b"nnguard license v1\0"
_WRAPPING = b"nnguard license content key v1\0"
_MAX_FILE_SIZE = 1 << 20

_ISSUER, _SUBJECT, _EXPIRES, _NOT_BEFORE, _ISSUED_AT, _ID = 1, 2, 4, 5, 6, 7  # RFC 8392
_ID_SIZE, _DIGEST_SIZE, _KEY_ID_SIZE = 16, 32, 8


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
        }
        return {label: value for label, value in claims.items() if value not in ("", None, {}, [])}

    @classmethod
    def from_cwt(cls, claims: Mapping[Any, Any]) -> LicenseTerms:
        """Read a claims set.

        Raises:
            ValueError: It is not one that `to_cwt` makes.
        """
        device = claims.get("device")
        expires = claims.get(_EXPIRES)
        terms = cls(
            id=_bytes(claims[_ID], _ID_SIZE),
            issuer=_text(claims.get(_ISSUER, "")),
            customer=_text(claims.get(_SUBJECT, "")),
            product=_text(claims.get("product", "")),
            tier=_text(claims.get("tier", "")),
            issued_at=time_of(claims[_ISSUED_AT]),
            not_before=time_of(claims[_NOT_BEFORE]),
            expires_at=None if expires is None else time_of(expires),
            grace=timedelta(seconds=claims.get("grace", 0)),
            features=tuple(map(_text, claims.get("features", []))),
            metadata=FrozenMapping(
                {_text(key): _text(value) for key, value in claims.get("meta", {}).items()}
            ),
            device=None if device is None else DeviceBinding.from_cbor(device),
            stream=_bytes(claims["stream"], _DIGEST_SIZE),
            opens=_bytes(claims["opens"], _DIGEST_SIZE),
            lock=_bytes(claims["lock"], _KEY_ID_SIZE),
            recipient=_bytes(claims["to"], _KEY_ID_SIZE),
        )
        if encode_cbor(terms.to_cwt()) != encode_cbor(dict(claims)) or terms.grace < timedelta(0):
            raise ValueError("claims")
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
        }


@dataclass(frozen=True, slots=True, eq=False)
class License:
    """A license that was read. Nothing in it is to be believed before `authenticate`.

    Attributes:
        terms: What it says.
        key_id: Key of the vendor, as it says, in hexadecimal.
        encoded: Its bytes.
    """

    terms: LicenseTerms
    key_id: str
    encoded: bytes
    _wrapped: bytes
    _envelope: Sign1

    @classmethod
    def make(
        cls, terms: LicenseTerms, content_key: ContentKey, recipient: Recipient, signer: Signer
    ) -> License:
        """Wrap the content key to the customer and sign the license.

        Raises:
            ValueError: A claim has not its type, or is out of range; or the signer's signature does
                not verify with its own public key.
        """
        claims = terms.to_cwt()
        wrapped = recipient.wrap(content_key.secret, _WRAPPING + encode_cbor(claims))
        payload = encode_cbor({**claims, "key": wrapped})
        encoded = sign1(signer, {Label.KID: signer.public_key.id}, payload, _DOMAIN)
        try:
            return cls.parse(encoded)
        except LicenseError:
            raise ValueError("a claim has not its type, or is out of range") from None

    @classmethod
    def parse(cls, encoded: bytes) -> License:
        """Read a license's bytes; its signature is not checked.

        Raises:
            LicenseError: It is malformed.
        """
        try:
            envelope = parse_sign1(encoded)
            claims = parse_cbor(envelope.payload)
            protected = {Label.ALG: EDDSA, Label.KID: envelope.key_id}
            if envelope.protected != protected or not isinstance(claims["key"], bytes):
                raise ValueError("fields")
            wrapped = claims.pop("key")
            terms = LicenseTerms.from_cwt(claims)
        except (VerificationError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise LicenseError(
                "this is no license, or it was changed", reason=Refusal.MALFORMED
            ) from None
        return cls(terms, envelope.key_id.hex(), encoded, wrapped, envelope)

    @classmethod
    def from_text(cls, text: str) -> License:
        """Read a license from its armor, as a file or an e-mail has it; see `parse`."""
        return cls.parse(unarmor(_ARMOR, text))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> License:
        """Read a license from a file; see `parse`."""
        data = read_file(path, _MAX_FILE_SIZE)
        try:
            return cls.from_text(data.decode("utf-8", "replace"))
        except LicenseError as error:
            raise LicenseError(f"{path}: {error}", reason=error.reason, hint=error.hint) from None

    def __str__(self) -> str:
        """Return the license in armor."""
        return write_armor(_ARMOR, self.encoded)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the license to a file, in armor."""
        write_bytes(Path(path), str(self).encode(), overwrite=overwrite)

    def authenticate(self, keys: Sequence[PublicKey]) -> None:
        """Make sure that a trusted vendor signed the license.

        Raises:
            WrongKeyError: It is signed by a key that is not trusted.
            LicenseError: It was changed.
        """
        key = next((key for key in keys if key.id.hex() == self.key_id), None)
        if key is None:
            raise WrongKeyError(
                f"the license is signed with key {self.key_id}, "
                f"which is not among the {len(keys)} trusted",
                hint="it is another vendor's, or the vendor has a new key",
            )
        if not self._envelope.verified_by(key, _DOMAIN):
            raise LicenseError("the license was changed", reason=Refusal.MALFORMED)

    def unwrap(self, identity: Identity) -> ContentKey:
        """Return the content key; the license has been authenticated before.

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
        return ContentKey(secret)

    def __repr__(self) -> str:
        return f"<nnguard.License {self.terms.id} to {self.terms.customer!r}>"


def unarmor(label: str, text: str) -> bytes:
    """Return what is inside an armor.

    Raises:
        LicenseError: There is none, or it is damaged.
    """
    try:
        return read_armor(label, text)
    except ValueError as error:
        raise LicenseError(f"not an {label.lower()}: {error}", reason=Refusal.MALFORMED) from None


def seconds_of(time: datetime) -> int:
    """Return seconds since 1970.

    Raises:
        ValueError: The time has no time zone, or lies too far out.
    """
    if time.tzinfo is None:
        raise ValueError("a time needs a time zone")
    try:
        return int(time.astimezone(timezone.utc).timestamp())
    except OverflowError:
        raise ValueError("a time lies too far out") from None


def time_of(seconds: Any) -> datetime:
    """Return the time that a number of seconds since 1970 names.

    Raises:
        ValueError: It names none.
    """
    if type(seconds) is not int:
        raise ValueError("time")
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, OSError):
        raise ValueError("time") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _bytes(value: Any, size: int) -> str:
    if not isinstance(value, bytes) or len(value) != size:
        raise ValueError("bytes")
    return value.hex()
