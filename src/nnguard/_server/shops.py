"""Reports of a shop: somebody paid, somebody got the money back."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request

from nnguard._server.access import limited
from nnguard._server.logs import note
from nnguard._server.metrics import Metrics
from nnguard._server.models import ReportOut
from nnguard._server.openapi import problems
from nnguard._server.problems import Problem
from nnguard._server.settings import ServerSettings
from nnguard._server.strict import json_of
from nnguard._server.stripe import Paid, Refunded, check_signature, read_event
from nnguard.licensing import Issuer

__all__ = ["shops_routes"]

_KEPT = timedelta(days=30)
"""How long an event's id is remembered; Stripe reports an event for three days."""


def shops_routes(issuer: Issuer, metrics: Metrics) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1/webhooks", tags=["shops"])
    desk = issuer.acting_as("stripe")

    @routes.post(
        "/stripe",
        responses=problems(404, 409, 422, 429),
        openapi_extra={
            "requestBody": {
                "description": "An event of Stripe, signed with the secret of the endpoint.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    )
    def stripe(request: Request, body: Annotated[bytes, Depends(report)]) -> ReportOut:
        """Hear what Stripe reports: sessions that were paid, charges that were refunded."""
        event = json_of(body)
        name, what = read_event(event)
        done: list[str] = []

        def act() -> str:
            done.append(_act(desk, what))
            return done[0]

        told = desk.ledger.once(f"stripe:event:{name}", _digest(event), act, keep=_KEPT)
        outcome, _, order_id = told.partition(" ")
        if not done and outcome != "ignored":
            outcome = "repeated"
        metrics.reports.labels(outcome).inc()
        note(request, report=outcome, order=order_id)
        return ReportOut.model_validate({"outcome": outcome, "order": order_id or None})

    return routes


async def report(
    request: Request, signature: Annotated[str, Header(alias="Stripe-Signature")] = ""
) -> bytes:
    """Return the body of a report that Stripe signed: a dependency of routes."""
    body = await request.body()
    settings: ServerSettings = request.app.state.settings
    if not settings.stripe_secret:
        raise Problem(404, "this server hears of no shop")
    try:
        check_signature(signature, body, settings.stripe_secret, settings.clock())
    except Problem:
        request.app.state.metrics.reports.labels("refused").inc()
        await limited(request)
        raise
    return body


def _act(desk: Issuer, what: Paid | Refunded | None) -> str:
    """Do what a report asks for; return what that was, and to which order."""
    if what is None:
        return "ignored"
    if isinstance(what, Paid):
        order = desk.order(what.product, reference=_reference(what), **_arguments(what.choices))
        if _mark(desk, what, "paid") == "refunded":
            return f"cancelled {desk.cancel(order.id, reason='refunded').id}"
        return f"ordered {order.id}"
    _mark(desk, what, "refunded")  # a payment that is heard of later finds it
    found = desk.ledger.order_with(_reference(what))
    if found is None:
        return "ignored"
    return f"cancelled {desk.cancel(found.id, reason='refunded').id}"


def _digest(event: Any) -> str:
    """Return a hash of what an event says; how often it was sent stands elsewhere in it."""
    said = json.dumps([event["type"], event["data"]], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _mark(desk: Issuer, what: Paid | Refunded, mark: str) -> str:
    return desk.ledger.once(f"stripe:payment:{what.payment}", "00", lambda: mark, keep=_KEPT)


def _reference(what: Paid | Refunded) -> str:
    return f"stripe:{what.payment}"


def _arguments(choices: Any) -> dict[str, Any]:
    given = dict(choices)
    return {
        name.removesuffix("_seconds"): timedelta(seconds=value)
        if name.endswith("_seconds")
        else value
        for name, value in given.items()
    }
