"""All pages, as one router for the server."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from nnguard._selling.issuer import Issuer
from nnguard._server.pages.customer import CustomerPages
from nnguard._server.pages.desk import DeskPages
from nnguard._server.pages.html import asset
from nnguard._server.pages.problems import Problem, ProblemError
from nnguard._server.pages.sessions import Sessions

__all__ = ["pages_routes"]

_SECRET = b"nnguard sessions v1\0"


def pages_routes(issuer: Issuer) -> APIRouter:
    """Return the routes of all pages.

    Args:
        issuer: With an identity, which the secret of cookies is derived from: all instances of a
            server know the same ones.
    """
    secret = issuer.identity.derive(_SECRET)
    pages = APIRouter()
    for part in (CustomerPages(issuer, secret), DeskPages(issuer, secret)):
        own = APIRouter(dependencies=[Depends(_only_own_forms(part.sessions))])
        part.add_to(own)
        pages.include_router(own)
    pages.add_api_route("/assets/{name}", asset, methods=["GET"], include_in_schema=False)
    return pages


def _only_own_forms(sessions: Sessions):
    async def check(request: Request) -> None:
        if request.method != "POST":
            return
        token = (await request.form()).get("token", "")
        visit = sessions.visit(request)
        if not isinstance(token, str) or not sessions.allows(request, visit, token):
            text = "It was open for too long, or in another window. Go back, and load it again."
            raise ProblemError(Problem("This page is out of date", text, 403))

    return check
