"""What the API takes and gives, as its OpenAPI document says it.

Names are those of the ledger's objects; times are ISO 8601 with a zone, lengths of time seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from nnguard._selling.order import OrderState, SeatState

__all__ = [
    "AuditOut",
    "LicenseOut",
    "LicensesOut",
    "NewOrder",
    "OrderOut",
    "OrdersOut",
    "ProblemOut",
    "ProductsOut",
    "Reason",
    "ReceiptOut",
    "ReportOut",
    "SeatOut",
    "SeatsOut",
]

_CENTURY = 100 * 366 * 24 * 3600

Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Seconds = Annotated[int, Field(ge=0, le=_CENTURY)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Out(BaseModel):
    """What goes out was made here; it is only described."""


class NewOrder(_In):
    """An order to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "product": "digits",
                    "customer": "Ada",
                    "reference": "shop-1001",
                    "seats": 2,
                    "lasts_seconds": 30 * 86400,
                    "grace_seconds": 7 * 86400,
                }
            ]
        }
    )

    product: Name = Field(description="Name or lock of a product.")
    seats: int = Field(1, ge=1, le=1_000_000, description="On how many machines it may run.")
    customer: Text = Field("", description="Who buys.")
    reference: Text = Field(
        "", description="The shop's number. The same, with the same content, is the same order."
    )
    tier: Text = Field("", description="Which tier; by default, the highest.")
    lasts_seconds: Annotated[int, Field(ge=1, le=_CENTURY)] | None = Field(
        None, description="Each license holds so long; by default, to the order's end."
    )
    grace_seconds: Seconds = Field(0, description="A license holds so long after it expired.")
    expires_at: AwareDatetime | None = Field(
        None, strict=False, description="No license holds longer; by default, forever."
    )
    cooling_seconds: Seconds = Field(
        7 * 86400, description="A seat that is taken back is free after so long."
    )
    warn_only: bool = Field(False, description="Licenses that hold no longer only warn.")
    named_devices: bool = Field(True, description="Whether customers may name their machines.")
    features: list[Name] = Field([], max_length=64)
    metadata: dict[Name, Text] = Field({}, max_length=64)


class Reason(_In):
    """Why something is done."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "refunded"}]})

    reason: Text = Field("", description="For the ledger and its audit log.")


class OrderOut(_Out):
    """An order."""

    id: str = Field(examples=["6f1c0a9be2d34857"])
    reference: str
    product: str
    customer: str
    tier: str
    seats: int
    lasts_seconds: int | None
    grace_seconds: int
    expires_at: datetime | None
    cooling_seconds: int
    warn_only: bool
    named_devices: bool
    features: list[str]
    metadata: dict[str, str]
    created_at: datetime
    state: OrderState
    cancelled_at: datetime | None
    reason: str
    code: str | None = Field(
        None, description="The order code, where one order is asked for; not for auditors."
    )
    url: str | None = Field(None, description="Where its customer enters the code.")


class OrdersOut(_Out):
    """A page of orders."""

    orders: list[OrderOut]
    next: str | None = Field(None, description="Give it as `after`; null on the last page.")


class SeatOut(_Out):
    """A seat, and the machine that has it, or had it."""

    id: str
    order_id: str
    recipient: str
    request_key: str | None
    device: list[str] | None = Field(description="Which components of the machine are known.")
    name: str
    leases: int
    state: SeatState
    taken_at: datetime
    license_id: str
    expires_at: datetime | None
    released_at: datetime | None
    taken_back_at: datetime | None
    free_at: datetime | None


class SeatsOut(_Out):
    """The seats of an order."""

    seats: list[SeatOut]


class LicenseOut(_Out):
    """A license that was issued."""

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
    revoked_at: datetime | None
    reason: str


class LicensesOut(_Out):
    """A page of licenses."""

    licenses: list[LicenseOut]
    next: str | None = None


class TierOut(_Out):
    """A tier of a product."""

    name: str
    opens: str


class ProductOut(_Out):
    """A trial that is sold."""

    name: str
    stream: str
    lock: str
    issuer: str
    tiers: list[TierOut]
    added_at: datetime


class ProductsOut(_Out):
    """All products."""

    products: list[ProductOut]


class AuditEntryOut(_Out):
    """One line of the audit log."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    previous: str
    hash: str


class AuditOut(_Out):
    """A page of the audit log, the oldest entries first."""

    entries: list[AuditEntryOut]
    next: int | None = None


class ReceiptOut(_Out):
    """A seat that was given back."""

    seat: str
    state: SeatState


class ReportOut(_Out):
    """What became of a shop's report."""

    outcome: Literal["ordered", "cancelled", "ignored", "repeated"]
    order: str | None = None


class ProblemOut(_Out):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no such order"])
    reason: str = Field(examples=["unknown-order"])
    hint: str = Field(examples=["ask the vendor for the order code"])
    errors: list[dict[str, Any]] | None = None
