"""What shops, support and auditors ask for, with API tokens: orders, seats, licenses, the log."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel

from nnguard._selling.entry import LicenseState
from nnguard._selling.order import OrderState
from nnguard._server import models as m
from nnguard._server.access import Anyone, Auditor, Caller, Seller, Support
from nnguard._server.openapi import problems
from nnguard._server.settings import ServerSettings
from nnguard._server.strict import StrictRoute
from nnguard.licensing import Order

__all__ = ["make_order", "sellers_routes"]

_MANY = 1000

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key again, within a day: done once, and answered as the first time.",
        examples=["0f6f2c3e-6a1b-4c53-9a0e-0c8f8f7a5b11"],
    ),
]
Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$", examples=["6f1c0a9be2d34857"])]
LicenseId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["5f0c2a91" * 4])]
Limit = Annotated[int, Query(ge=1, le=_MANY, description="At most so many.")]
After = Annotated[
    str, Query(max_length=64, pattern="^[0-9a-f]*$", description="`next` of the page before.")
]
Search = Annotated[
    str, Query(max_length=200, pattern=r"^[^\x00]*$", description="A part of a name or id.")
]


def sellers_routes(settings: ServerSettings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(
        prefix="/v1",
        tags=["sellers"],
        route_class=StrictRoute,
        responses=problems(401, 403, 422, 429),
    )
    _add_orders(routes, settings)
    _add_seats_and_licenses(routes, settings)
    _add_reading(routes)
    return routes


def _add_orders(routes: APIRouter, settings: ServerSettings) -> None:
    """Add what is about orders."""

    @routes.post(
        "/orders", status_code=201, response_model=m.OrderOut, responses=problems(404, 409, 415)
    )
    def new_order(
        caller: Seller,
        wanted: m.NewOrder,
        response: Response,
        key: Key = None,
    ) -> dict[str, Any]:
        """Make an order; its code is what the customer needs."""
        issuer = caller.issuer
        made = False

        def make() -> str:
            nonlocal made
            made = True
            return make_order(caller, wanted).id

        if key is None:
            order_id = make()
        else:
            order_id = issuer.ledger.once(f"{caller.token.id}:{key}", _digest(wanted), make)
        if not made:
            response.headers["Idempotency-Replayed"] = "true"
        return _shown(caller, settings, issuer.ledger.order(order_id))

    @routes.get("/orders", response_model=m.OrdersOut, responses=problems(404))
    def orders(
        caller: Anyone,
        search: Search = "",
        product: Search = "",
        state: OrderState | None = None,
        limit: Limit = 100,
        after: After = "",
    ) -> dict[str, Any]:
        """List orders, the newest first."""
        found = caller.issuer.ledger.orders(
            search=search, product=product, state=state, limit=limit, after=after
        )
        following = found[-1].id if len(found) == limit else None
        return {"orders": [order.to_json() for order in found], "next": following}

    @routes.get("/orders/{order_id}", response_model=m.OrderOut, responses=problems(404))
    def one_order(order_id: Id, caller: Anyone) -> dict[str, Any]:
        """Show an order."""
        return _shown(caller, settings, caller.issuer.ledger.order(order_id))

    @routes.post("/orders/{order_id}/cancel", response_model=m.OrderOut, responses=problems(404))
    def cancel(order_id: Id, why: m.Reason, caller: Support) -> dict[str, Any]:
        """Cancel an order, and revoke all its licenses. Doing it again changes nothing."""
        order = caller.issuer.cancel(order_id, reason=why.reason, at=settings.now())
        return _shown(caller, settings, order)

    @routes.get("/orders/{order_id}/seats", response_model=m.SeatsOut, responses=problems(404))
    def seats(order_id: Id, caller: Anyone) -> dict[str, Any]:
        """List the seats of an order."""
        ledger = caller.issuer.ledger
        ledger.order(order_id)
        return {"seats": [seat.to_json() for seat in ledger.seats(order_id)]}


def _add_seats_and_licenses(routes: APIRouter, settings: ServerSettings) -> None:
    """Add what is about seats and licenses."""

    @routes.post("/seats/{seat_id}/take-back", response_model=m.SeatOut, responses=problems(404))
    def take_back(seat_id: Id, why: m.Reason, caller: Support) -> dict[str, Any]:
        """Revoke the licenses of a seat, and free it after the order's cooling period."""
        return caller.issuer.take_back(seat_id, reason=why.reason, at=settings.now()).to_json()

    @routes.get("/licenses", response_model=m.LicensesOut, responses=problems(404))
    def licenses(
        caller: Anyone,
        search: Search = "",
        order: Annotated[str, Query(pattern="^([0-9a-f]{16})?$")] = "",
        state: LicenseState | None = None,
        limit: Limit = 100,
        after: Annotated[str, Query(pattern="^([0-9a-f]{32})?$")] = "",
    ) -> dict[str, Any]:
        """List licenses, the newest first."""
        found = caller.issuer.ledger.licenses(
            search=search, order=order, state=state, limit=limit, after=after
        )
        following = found[-1].license_id if len(found) == limit else None
        return {"licenses": [entry.to_json() for entry in found], "next": following}

    @routes.post(
        "/licenses/{license_id}/revoke", response_model=m.LicenseOut, responses=problems(404)
    )
    def revoke(license_id: LicenseId, why: m.Reason, caller: Support) -> dict[str, Any]:
        """Revoke a license. Its seat stays taken, and gets no new one."""
        (entry,) = caller.issuer.revoke([license_id], reason=why.reason, at=settings.now())
        return entry.to_json()


def _add_reading(routes: APIRouter) -> None:
    """Add what is only looked at."""

    @routes.get("/products", response_model=m.ProductsOut)
    def products(caller: Anyone) -> dict[str, Any]:
        """List what is sold."""
        return {"products": [each.to_json() for each in caller.issuer.ledger.products()]}

    @routes.get("/audit", response_model=m.AuditOut)
    def audit(
        caller: Auditor,
        after: Annotated[int, Query(ge=0, le=2**62, description="Number of an entry.")] = 0,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """Return the audit log, the oldest entries first."""
        found = caller.issuer.ledger.audit(after=after, limit=limit)
        following = found[-1].number if len(found) == limit else None
        return {"entries": [entry.to_json() for entry in found], "next": following}


def make_order(caller: Caller, wanted: m.NewOrder) -> Order:
    """Write an order down."""
    return caller.issuer.order(
        wanted.product,
        seats=wanted.seats,
        customer=wanted.customer,
        reference=wanted.reference,
        tier=wanted.tier,
        lasts=None if wanted.lasts_seconds is None else timedelta(seconds=wanted.lasts_seconds),
        grace=timedelta(seconds=wanted.grace_seconds),
        expires_at=wanted.expires_at,
        cooling=timedelta(seconds=wanted.cooling_seconds),
        warn_only=wanted.warn_only,
        named_devices=wanted.named_devices,
        features=wanted.features,
        metadata=wanted.metadata,
    )


def _shown(caller: Caller, settings: ServerSettings, order: Order) -> dict[str, Any]:
    values = order.to_json() | {"url": settings.public_url or None, "code": None}
    if caller.token.role in ("shop", "support"):
        values["code"] = caller.issuer.code(order)
    return values


def _digest(body: BaseModel) -> str:
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
