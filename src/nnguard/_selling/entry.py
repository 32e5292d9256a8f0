"""Ledger entries, and what every database can hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from nnguard._base.arguments import wrong_type
from nnguard._base.times import to_utc
from nnguard._licensing.license import License
from nnguard.errors import ArgumentError

__all__ = [
    "LONGEST_ID",
    "SHORTEST_ID",
    "TIMES",
    "LedgerEntry",
    "LicenseState",
    "check_id",
    "check_storable",
]

SHORTEST_ID, LONGEST_ID = 8, 128
"""Digits of a license id: the fewest that look it up, and the most."""

LicenseState = Literal["valid", "expired", "revoked"]

TIMES = ("issued_at", "not_before", "expires_at", "revoked_at")
_IDS = ("license_id", "recipient", "stream", "content_key_id")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A license that was issued.

    Times become UTC and lose what is below a second. Identifiers are hexadecimal, lower case, of
    at most 128 digits. Text is Unicode without U+0000, which not every database can hold.

    Attributes:
        license_id: Of the license; 8 digits or more.
        product: What was sold.
        customer: Who bought it.
        recipient: Identifier of the customer's key.
        tier: Up to which tier the license opens the product.
        stream: Digest of the trial that the license is for.
        content_key_id: Which content key the license holds.
        issued_at: When the license was issued.
        not_before: When it begins.
        expires_at: When it ends, or None.
        armored: The text of the license file; it holds the content key only wrapped to the
            customer.
        revoked_at: When it was revoked, or None.
        reason: Why it was revoked.
        order_id: Of the order that it is of, or empty; the ledger knows, and `add` takes no notice.
        seat_id: Of the seat that it is of, likewise.

    Raises:
        ArgumentError: A time has no zone or lies too far out, or a text or identifier is not as
            above.

    Examples:
        >>> with licensing.Ledger("licenses.db") as ledger:
        ...     entry = ledger.entries(customer="Ada")[0]
        >>> entry.reason
        'refund'
    """

    license_id: str
    product: str
    customer: str
    recipient: str
    tier: str
    stream: str
    content_key_id: str
    issued_at: datetime
    not_before: datetime
    expires_at: datetime | None
    armored: str = field(repr=False)
    revoked_at: datetime | None = None
    reason: str = ""
    order_id: str = ""
    seat_id: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _IDS:
                check_id(value, each.name)
            elif each.name not in TIMES:
                check_storable(value, each.name)
            elif value is not None or each.name in ("issued_at", "not_before"):
                object.__setattr__(self, each.name, to_utc(value, each.name))
        if len(self.license_id) < SHORTEST_ID:
            raise ArgumentError(f"license_id has fewer than {SHORTEST_ID} digits")

    @classmethod
    def of(cls, license_: License) -> LedgerEntry:
        """Return the entry of a license."""
        terms = license_.terms
        return cls(
            license_id=terms.id,
            product=terms.product,
            customer=terms.customer,
            recipient=terms.recipient,
            tier=terms.tier,
            stream=terms.stream,
            content_key_id=terms.lock,
            issued_at=terms.issued_at,
            not_before=terms.not_before,
            expires_at=terms.expires_at,
            armored=str(license_),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values, without the license file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["armored"]
        for name in ("order_id", "seat_id"):
            if not values[name]:
                del values[name]
        times = {name: values[name].isoformat() for name in TIMES if values[name] is not None}
        return values | times


def check_storable(text: Any, name: str) -> str:
    """Return a text that every database can hold."""
    if not isinstance(text, str):
        raise wrong_type(name, "text", text)
    if re.search("[\0\ud800-\udfff]", text):
        raise ArgumentError(f"{name} holds U+0000 or half a surrogate pair, which databases cannot")
    return text


def check_id(text: Any, name: str) -> str:
    """Return an identifier that every database can hold."""
    digits = check_storable(text, name)
    if not re.fullmatch(f"[0-9a-f]{{1,{LONGEST_ID}}}", digits):
        raise ArgumentError(f"{name} is not 1 to {LONGEST_ID} hexadecimal digits, lower case")
    return digits
