"""A customer's signed request for a license, which the seller or a server answers.

It says which trial is to be opened, by which key, on which machine, and what was paid for: an order
code, or the license that is to be renewed. It holds no secret but the code (`docs/SPEC.md`, 14.1).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nnguard._base.arguments import check_text, loaded
from nnguard._base.times import TimeLike, seconds_of, time_of, time_or_now
from nnguard._crypto.identity import Identity, IdentityLike, Recipient
from nnguard._licensing.claims import (
    DIGEST_SIZE,
    ID_SIZE,
    KEY_ID_SIZE,
    bytes_claim,
    key_claim,
    text_claim,
)
from nnguard._licensing.device import Device
from nnguard._licensing.self_signed import SelfSigned
from nnguard.errors import ArgumentError, KeyFormatError

__all__ = ["Request"]

_ISSUED_AT, _NONCE = 6, 7  # RFC 8392
_LONGEST_CODE = 64
_MOST_LEASES = 1 << 20
_DIGEST_SHOWN, _GROUP = 10, 4


@dataclass(frozen=True, slots=True, eq=False)
class Request(SelfSigned):
    """A request for a license. Nothing in it is to be believed before `authenticate_self`.

    Attributes:
        encoded: Its bytes.
        key: The customer's request key, which signed it, and signs what follows.
        order: Code of the order that it takes a seat of, or empty.
        license: Identifier of the license that it renews, in hexadecimal, or empty.
        stream: Model digest of the trial, in hexadecimal.
        lock: Identifier of the content key of the trial's outermost lock, in hexadecimal.
        recipient: The customer's public key, which the license is to be made out to.
        device: The machine that the license is for, if any.
        leases: How many machines are to hold a lease of it at a time; 0 of a license for one.
        nonce: 16 bytes in hexadecimal; tells requests apart.
        issued_at: When it was made, to the second, UTC.

    Examples:
        >>> asked = licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31")
        >>> asked.save("ada.request")
        >>> licensing.Request.load("ada.request").digest == asked.digest
        True
    """

    order: str
    license: str
    stream: str
    lock: str
    recipient: Recipient
    device: Device | None
    leases: int
    nonce: str
    issued_at: datetime

    _WHAT = "license request"
    _ARMOR = "NNGUARD LICENSE REQUEST"
    _DOMAIN = b"nnguard license request v1\0"
    _MAX_SIZE = 1 << 16

    @classmethod
    def make(
        cls,
        identity: IdentityLike,
        *,
        stream: str,
        lock: str,
        order: str = "",
        license: str = "",  # noqa: A002
        device: Device | None = None,
        leases: int = 0,
        issued_at: TimeLike | None = None,
    ) -> Request:
        """Make a request; `nnguard.licensing.request` makes one for a trial.

        Args:
            identity: The customer's private key, or its path. A key that is derived from it signs.
            stream: Model digest of the trial, in hexadecimal.
            lock: Identifier of its lock, in hexadecimal.
            order: Order code.
            license: Identifier of the license to renew, in place of an order code.
            device: The machine that the license is for.
            leases: How many machines are to hold a lease of it.
            issued_at: Now, if None.

        Raises:
            ArgumentError: Something is out of range, or is not what it should be.
        """
        if order and license:
            raise ArgumentError("a request has an order code, or renews a license, not both")
        customer = loaded(identity, Identity, "identity")
        signer = customer.request_signer
        claims: dict[Any, Any] = {
            _ISSUED_AT: seconds_of(time_or_now(issued_at, "issued_at")),
            _NONCE: secrets.token_bytes(ID_SIZE),
            "order": check_text(order, "order", _LONGEST_CODE),
            "license": _unhex(license, "license"),
            "stream": _unhex(stream, "stream"),
            "lock": _unhex(lock, "lock"),
            "to": customer.recipient.pem,
            "key": signer.public_key.raw,
            "device": None if device is None else device.to_cbor(),
            "leases": leases or None,
        }
        present = {label: value for label, value in claims.items() if value not in (None, "", b"")}
        return cls._sign(present, signer)

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        fields = {
            "order": _code(claims.pop("order", None)),
            "license": _optional_id(claims.pop("license", None)),
            "stream": bytes_claim(claims.pop("stream"), DIGEST_SIZE),
            "lock": bytes_claim(claims.pop("lock"), KEY_ID_SIZE),
            "recipient": _recipient(claims.pop("to")),
            "key": key_claim(claims.pop("key")),
            "device": Device.from_cbor(claims.pop("device")) if "device" in claims else None,
            "leases": _leases(claims.pop("leases")) if "leases" in claims else 0,
            "nonce": bytes_claim(claims.pop(_NONCE), ID_SIZE),
            "issued_at": time_of(claims.pop(_ISSUED_AT)),
        }
        if claims or (fields["order"] and fields["license"]):
            raise ValueError("claims")
        return fields

    @property
    def digest(self) -> str:
        """A fingerprint to read over the telephone: 16 letters and digits in groups of 4."""
        text = base64.b32encode(hashlib.sha256(self.encoded).digest()[:_DIGEST_SHOWN]).decode()
        return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))

    def to_json(self) -> dict[str, Any]:
        """Return what it says as JSON values, without the order code, which is worth money."""
        return {
            "digest": self.digest,
            "key_id": self.key_id,
            "with_order": bool(self.order),
            "license": self.license,
            "stream": self.stream,
            "lock": self.lock,
            "recipient": self.recipient.id.hex(),
            "device": [] if self.device is None else [kind for kind, _ in self.device.fingerprint],
            "leases": self.leases,
            "issued_at": self.issued_at.isoformat(),
        }

    def __repr__(self) -> str:
        return f"<nnguard.licensing.Request {self.digest}>"


def _unhex(text: str, argument: str) -> bytes:
    try:
        return bytes.fromhex(check_text(text, argument))
    except ValueError:
        raise ArgumentError(f"{argument}: not hexadecimal") from None


def _code(value: Any) -> str:
    """Read an order code; an empty one is left out."""
    if value is None:
        return ""
    code = text_claim(value)
    if not 0 < len(code.encode()) <= _LONGEST_CODE:
        raise ValueError("order")
    return code


def _optional_id(value: Any) -> str:
    return "" if value is None else bytes_claim(value, ID_SIZE)


def _recipient(value: Any) -> Recipient:
    """Read a customer's public key, in the one form that has its identifier."""
    try:
        recipient = Recipient.from_pem(value)
    except KeyFormatError:
        raise ValueError("to") from None
    if recipient.pem != value:
        raise ValueError("to")
    return recipient


def _leases(value: Any) -> int:
    if type(value) is not int or not 0 < value <= _MOST_LEASES:
        raise ValueError("leases")
    return value
