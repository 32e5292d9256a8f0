"""Whether the server is alive, whether it can work, and what Prometheus wants to know."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from nnguard._server.access import Auditor
from nnguard._server.metrics import Metrics
from nnguard._server.openapi import problems
from nnguard.licensing import Issuer

__all__ = ["health_routes"]


class Health(BaseModel):
    """How it is."""

    status: Literal["ok"] = "ok"


def health_routes(issuer: Issuer, metrics: Metrics) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz")
    async def alive() -> Health:  # it needs no thread, of which a slow database may hold all
        """Answer, whatever the ledger does."""
        return Health()

    @routes.get("/readyz", responses=problems(503))
    def ready() -> Health:
        """Answer if the ledger does."""
        issuer.ledger.backlog()
        return Health()

    @routes.get(
        "/metrics",
        response_class=Response,
        responses=problems(401, 403, 429)
        | {200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
    )
    def numbers(_: Auditor) -> Response:
        """Return counts and durations."""
        return metrics.response()

    return routes
