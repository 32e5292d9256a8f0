"""All pages, as one router for the server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request

from nnguard._selling.issuer import Issuer
from nnguard._server.access import limited
from nnguard._server.pages.customer import CustomerPages
from nnguard._server.pages.desk import DeskPages
from nnguard._server.pages.html import asset
from nnguard._server.pages.problems import Page, Problem, ProblemError
from nnguard._server.pages.sessions import Sessions

__all__ = ["pages_routes"]

_SECRET = b"nnguard sessions v1\0"


def pages_routes(issuer: Issuer) -> APIRouter:
    """Return the routes.

    Args:
        issuer: With an identity, which the secret of cookies is derived from: all instances of a
            server know the same ones.
    """
    secret = issuer.secret(_SECRET)
    routes = APIRouter()
    for part in (CustomerPages(issuer, secret), DeskPages(issuer, secret)):
        pages = APIRouter(
            route_class=Page,
            include_in_schema=False,
            dependencies=[Depends(limited), Depends(_only_own_forms(part.sessions))],
        )
        part.add_to(pages)
        routes.include_router(pages)
    routes.add_api_route("/assets/{name}", asset, methods=["GET"], include_in_schema=False)
    return routes


def _only_own_forms(sessions: Sessions) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """Return a dependency that ends requests of forms that were not made here, for this browser."""

    async def check(request: Request) -> None:
        if request.method != "POST":
            return
        token = (await request.form()).get("token", "")
        visit = sessions.visit(request)
        if not isinstance(token, str) or not sessions.allows(request, visit, token):
            text = "It was open for too long, or in another window. Go back, and load it again."
            raise ProblemError(Problem("This page is out of date", text, 403))

    return check
