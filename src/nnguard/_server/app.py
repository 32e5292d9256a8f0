"""The license server as an ASGI app, for one issuer and its ledger.

    app = make_app(issuer, ServerSettings(public_url="https://licenses.example"))

Any number of apps, in any number of processes, may serve one ledger: what they know is in it. Only
counts of requests, and tokens that were checked within the last minute, are a process's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from anyio import to_thread
from fastapi import FastAPI

import nnguard
from nnguard._server.access import Access, Limits
from nnguard._server.customers import customers_routes
from nnguard._server.guard import Guard
from nnguard._server.health import health_routes
from nnguard._server.metrics import Metrics
from nnguard._server.models import ProblemOut
from nnguard._server.openapi import TITLE, TOP
from nnguard._server.pages import pages_routes, respond
from nnguard._server.problems import add_handlers
from nnguard._server.sellers import sellers_routes
from nnguard._server.settings import ServerSettings
from nnguard._server.shops import shops_routes
from nnguard._server.telling import Teller
from nnguard.licensing import Issuer

__all__ = ["make_app"]

_THREADS = 15
"""Requests that are worked on at once: as many as SQLAlchemy has connections for."""


def make_app(issuer: Issuer, settings: ServerSettings | None = None) -> FastAPI:
    """Make the app.

    Args:
        issuer: Signs licenses; its ledger is what is served. It needs the ledger's identity.
        settings: How to behave.
    """
    settings = settings or ServerSettings()
    metrics = Metrics(issuer.ledger.backlog)
    teller = Teller(issuer, settings, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        teller.start()
        yield
        await to_thread.run_sync(teller.stop)

    app = FastAPI(
        title=TITLE,
        version=nnguard.__version__,
        description=TOP,
        license_info={"name": "Apache-2.0"},
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.access = Access(issuer, Limits(settings))
    app.state.metrics, app.state.settings = metrics, settings
    add_handlers(app, respond)
    app.include_router(customers_routes(issuer, settings, metrics))
    app.include_router(sellers_routes(settings))
    app.include_router(shops_routes(issuer, metrics))
    app.include_router(health_routes(issuer, metrics))
    app.include_router(pages_routes(issuer))
    app.add_middleware(Guard, settings=settings, metrics=metrics, respond=respond)
    app.openapi = _documented(app.openapi)  # type: ignore[method-assign]
    return app


def _documented(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return what makes the OpenAPI document, with the schema of problems in it."""

    def openapi() -> dict[str, Any]:
        document = make()
        schemas = document["components"]["schemas"]
        schemas[ProblemOut.__name__] = ProblemOut.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    return openapi
