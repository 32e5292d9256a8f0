"""A customer's signed word that a license is not used any more, which gives its seat back.

It is written when the license's tombstone is on the disk: see `nnguard.licensing.release`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nnguard._base.arguments import check_text, loaded
from nnguard._base.times import TimeLike, seconds_of, time_of, time_or_now
from nnguard._crypto.identity import Identity, IdentityLike
from nnguard._licensing.claims import ID_SIZE, bytes_claim, key_claim
from nnguard._licensing.self_signed import SelfSigned
from nnguard.errors import ArgumentError

__all__ = ["Receipt"]

_ISSUED_AT = 6  # RFC 8392


@dataclass(frozen=True, slots=True, eq=False)
class Receipt(SelfSigned):
    """A receipt that was read. Nothing in it is to be believed before `authenticate_self`.

    Attributes:
        encoded: Its bytes.
        key: The customer's request key, which signed it.
        license_id: Identifier of the license that is not used any more, in hexadecimal.
        issued_at: When it was written, to the second, UTC.

    Examples:
        >>> receipt = licensing.release("ada.license", "ada.key", "other.state")
        >>> receipt.save("ada.receipt")
        >>> licensing.Receipt.load("ada.receipt").authenticate_self()
    """

    license_id: str
    issued_at: datetime

    _WHAT = "license receipt"
    _ARMOR = "NNGUARD LICENSE RECEIPT"
    _DOMAIN = b"nnguard license receipt v1\0"
    _MAX_SIZE = 1 << 16

    @classmethod
    def make(
        cls, identity: IdentityLike, license_id: str, *, issued_at: TimeLike | None = None
    ) -> Receipt:
        """Sign a receipt; `nnguard.licensing.release` leaves a tombstone first.

        Args:
            identity: The customer's private key, or its path; the license is made out to it.
            license_id: Identifier of the license, in hexadecimal.
            issued_at: Now, if None.

        Raises:
            ArgumentError: It is not the identifier of a license.
        """
        signer = loaded(identity, Identity, "identity").request_signer
        try:
            encoded = bytes.fromhex(check_text(license_id, "license_id"))
        except ValueError:
            raise ArgumentError("license_id: not hexadecimal") from None
        when = time_or_now(issued_at, "issued_at")
        claims = {
            _ISSUED_AT: seconds_of(when),
            "license": encoded,
            "key": signer.public_key.raw,
        }
        return cls._sign(claims, signer)

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        fields = {
            "license_id": bytes_claim(claims.pop("license"), ID_SIZE),
            "key": key_claim(claims.pop("key")),
            "issued_at": time_of(claims.pop(_ISSUED_AT)),
        }
        if claims:
            raise ValueError("claims")
        return fields

    def to_json(self) -> dict[str, Any]:
        """Return what it says as JSON values."""
        return {
            "license": self.license_id,
            "key_id": self.key_id,
            "issued_at": self.issued_at.isoformat(),
        }

    def __repr__(self) -> str:
        return f"<nnguard.licensing.Receipt of {self.license_id}>"
