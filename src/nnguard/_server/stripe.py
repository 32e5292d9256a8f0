"""What a shop reports: `Stripe-Signature`, as Stripe defines it, and the events that matter here.

A session that was paid makes an order, by what its metadata says; a refund of all of it cancels
that. Neither happens twice, in whatever order and however often Stripe reports.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnguard._base.mappings import FrozenMapping
from nnguard._server.problems import Problem

__all__ = ["Paid", "Refunded", "check_signature", "read_event"]

_TOLERANCE = 300
_PREFIX = "nnguard_"
_PAID = ("checkout.session.completed", "checkout.session.async_payment_succeeded")
_REFUNDED = "charge.refunded"
_SETTLED = ("paid", "no_payment_required")
_DAY = 86400
_LONGEST_NAME = 200
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Paid:
    """Somebody paid for an order.

    Attributes:
        payment: Stripe's id of the payment, or of the session where there was nothing to pay.
        product: Which product.
        choices: Other arguments of `Issuer.order`.
    """

    payment: str
    product: str
    choices: Mapping[str, Any] = field(default_factory=lambda: FrozenMapping({}))


@dataclass(frozen=True, slots=True)
class Refunded:
    """All of a payment was given back.

    Attributes:
        payment: Stripe's id of the payment.
    """

    payment: str


def check_signature(header: str, body: bytes, secret: str, now: float) -> None:
    """Make sure that Stripe sent a report, and sent it just now.

    Args:
        header: `Stripe-Signature`.
        body: As it came.
        secret: Of this endpoint, `whsec_...`.
        now: Seconds since 1970.

    Raises:
        Problem: It is signed by nobody who knows the secret, or is older than five minutes.
    """
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")[:32]]
    times = [value for name, value in pairs if name == "t"]
    given = [value for name, value in pairs if name == "v1"]
    if len(times) != 1 or not re.fullmatch("[0-9]{1,12}", times[0], re.ASCII) or not given:
        raise Problem(400, "Stripe-Signature is missing or malformed", reason="signature")
    wanted = hmac.new(secret.encode(), times[0].encode() + b"." + body, hashlib.sha256)
    found = [hmac.compare_digest(wanted.hexdigest().encode(), each.encode()) for each in given]
    if not any(found):
        raise Problem(400, "the report's signature is not right", reason="signature")
    if abs(now - int(times[0])) > _TOLERANCE:
        raise Problem(400, "the report is too old, or a clock is wrong", reason="stale")


def read_event(event: Any) -> tuple[str, Paid | Refunded | None]:
    """Return the id of a report that was checked, and what it means, if it concerns us.

    Raises:
        Problem: It is not an event of Stripe, or its metadata does not make an order.
    """
    try:
        match event:
            case {"id": str(name), "type": kind, "data": {"object": {} as what}} if kind in _PAID:
                return name, _paid(what)
            case {"id": str(name), "type": kind, "data": {"object": {} as what}} if (
                kind == _REFUNDED
            ):
                payment = what.get("payment_intent")
                whole = what.get("refunded") is True and isinstance(payment, str) and payment
                return name, Refunded(str(payment)) if whole else None
            case {"id": str(name), "type": str()}:
                return name, None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        detail = f"the session's metadata makes no order: {error}"
        raise Problem(422, detail, reason="malformed") from None
    raise Problem(422, "not an event of Stripe", reason="malformed")


def _paid(session: Mapping[str, Any]) -> Paid | None:
    metadata = session.get("metadata") or {}
    said = {
        name.removeprefix(_PREFIX): value
        for name, value in metadata.items()
        if name.startswith(_PREFIX)
    }
    if "product" not in said or session.get("payment_status") not in _SETTLED:
        return None
    choices: dict[str, Any] = {
        "seats": _whole(said, "seats", 1),
        "tier": str(said.get("tier", "")),
        "customer": _cut(str(said.get("customer", "")) or _buyer(session)),
    }
    for name in ("lasts", "grace", "cooling"):
        if f"{name}_days" in said:
            choices[f"{name}_seconds"] = _DAY * _whole(said, f"{name}_days", 0)
    known = {"product", *choices, *(f"{name}_days" for name in ("lasts", "grace", "cooling"))}
    unknown = sorted(said.keys() - known)
    if unknown:
        raise ValueError(f"nobody knows {_PREFIX}{unknown[0]}")
    payment = session.get("payment_intent") or session["id"]
    return Paid(str(payment), str(said["product"]), FrozenMapping(choices))


def _whole(said: Mapping[str, Any], name: str, otherwise: int) -> int:
    text = str(said.get(name, otherwise))
    if not re.fullmatch("[0-9]{1,6}", text, re.ASCII):
        raise ValueError(f"{_PREFIX}{name} is not a number")
    return int(text)


def _buyer(session: Mapping[str, Any]) -> str:
    details = session.get("customer_details") or {}
    return str(details.get("name") or details.get("email") or "")


def _cut(name: str) -> str:
    """Return so much of a name as an order holds: who paid gets one, whatever people are called."""
    return name.replace("\0", "").encode()[:_LONGEST_NAME].decode(errors="ignore")
