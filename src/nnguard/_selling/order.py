"""Orders, and the seats that machines take of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from nnguard._base.mappings import EMPTY
from nnguard._base.times import TimeLike, now, to_utc
from nnguard._licensing.device import Device

__all__ = ["Order", "OrderState", "Seat", "SeatState"]

OrderState = Literal["open", "expired", "cancelled"]
SeatState = Literal["taken", "cooling", "free"]


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer bought: a product for so many machines.

    Attributes:
        id: 16 hexadecimal digits; the order code is made of it, and is not kept.
        reference: The shop's own number; no two orders have the same, where it is not empty.
        product: Name of the product.
        customer: Who buys.
        tier: Which tier of the product.
        seats: On how many machines it may run at once.
        lasts: Each license holds so long and is renewed by a refresh; None: to the order's end.
        grace: A license still holds for so long after it has expired.
        expires_at: No license holds longer than this; None forever.
        cooling: A seat that the seller takes back is free after so long.
        warn_only: Licenses that hold no longer only warn.
        named_devices: Whether a machine may be one that the customer names, or not told at all. If
            not, each request has to tell its fingerprint.
        features: Names that your own software may act on.
        metadata: Anything else, text to text.
        created_at: When.
        cancelled_at: When it was cancelled, or None.
        reason: Why it was cancelled.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     order = ledger.orders(search="Ada")[0]
        >>> order.product, order.seats, order.state
        ('digits', 2, 'open')
    """

    id: str
    reference: str
    product: str
    customer: str
    tier: str
    seats: int
    lasts: timedelta | None
    grace: timedelta
    expires_at: datetime | None
    cooling: timedelta
    warn_only: bool
    named_devices: bool
    features: tuple[str, ...]
    created_at: datetime
    metadata: Mapping[str, str] = EMPTY
    cancelled_at: datetime | None = None
    reason: str = ""

    @property
    def state(self) -> OrderState:
        """What it is now: "open", "expired" or "cancelled"."""
        return self.state_at(now())

    def state_at(self, time: TimeLike) -> OrderState:
        """Return what it is at a time."""
        if self.cancelled_at is not None:
            return "cancelled"
        ended = self.expires_at is not None and self.expires_at <= to_utc(time)
        return "expired" if ended else "open"

    def to_json(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        return {
            "id": self.id,
            "reference": self.reference,
            "product": self.product,
            "customer": self.customer,
            "tier": self.tier,
            "seats": self.seats,
            "lasts_seconds": None if self.lasts is None else int(self.lasts.total_seconds()),
            "grace_seconds": int(self.grace.total_seconds()),
            "expires_at": _text(self.expires_at),
            "cooling_seconds": int(self.cooling.total_seconds()),
            "warn_only": self.warn_only,
            "named_devices": self.named_devices,
            "features": list(self.features),
            "metadata": dict(self.metadata),
            "created_at": _text(self.created_at),
            "state": self.state,
            "cancelled_at": _text(self.cancelled_at),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Seat:
    """A place of an order, and the machine that has it, or had it.

    Attributes:
        id: 16 hexadecimal digits.
        order_id: Of the order.
        recipient: Identifier of the customer's key, in hexadecimal.
        request_key: The Ed25519 key that may refresh the license and give the seat back, in
            hexadecimal; None where the license was made out for a pasted public key.
        device: The machine, or None where it was not told.
        name: What people call the machine, or an empty text.
        leases: How many seats a relay has to lease, each of which counts; 0 for one machine.
        taken_at: When it was taken.
        license_id: Of the newest license.
        expires_at: When that ends, or None.
        released_at: When the customer gave the seat back, or None.
        taken_back_at: When the seller took it back, or None.
        free_at: From when on another machine may have its place, or None.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     [seat.state for seat in ledger.seats(ledger.orders(search="Ada")[0].id)]
        ['taken']
    """

    id: str
    order_id: str
    recipient: str
    request_key: str | None
    device: Device | None
    name: str
    leases: int
    taken_at: datetime
    license_id: str
    expires_at: datetime | None
    released_at: datetime | None = None
    taken_back_at: datetime | None = None
    free_at: datetime | None = None

    @property
    def state(self) -> SeatState:
        """What it is now: "taken", "cooling" (taken back, and not yet free) or "free"."""
        return self.state_at(now())

    def state_at(self, time: TimeLike) -> SeatState:
        """Return what it is at a time."""
        if self.free_at is None:
            return "taken"
        return "free" if self.free_at <= to_utc(time) else "cooling"

    @property
    def weight(self) -> int:
        """How many of the order's seats it takes, while it is not free."""
        return max(1, self.leases)

    def to_json(self) -> dict[str, Any]:
        """Return the seat as JSON values; of the machine only which components are known."""
        device = None if self.device is None else [kind for kind, _ in self.device.fingerprint]
        return {
            "id": self.id,
            "order_id": self.order_id,
            "recipient": self.recipient,
            "request_key": self.request_key,
            "device": device,
            "name": self.name,
            "leases": self.leases,
            "state": self.state,
            "taken_at": _text(self.taken_at),
            "license_id": self.license_id,
            "expires_at": _text(self.expires_at),
            "released_at": _text(self.released_at),
            "taken_back_at": _text(self.taken_back_at),
            "free_at": _text(self.free_at),
        }


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
