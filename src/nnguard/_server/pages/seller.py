"""Who is at the desk: API tokens, what their roles may, logging in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from nnguard._selling.ledger import Ledger
from nnguard._selling.tokens import Role, Token
from nnguard._server.access import client_of
from nnguard._server.logs import note
from nnguard._server.pages.html import show
from nnguard._server.pages.problems import ElsewhereError, Problem, ProblemError
from nnguard._server.pages.sessions import Sessions

__all__ = ["LoginPages", "Right", "Seller"]

_LASTS = timedelta(hours=12)

Right = Literal["orders", "sell", "licenses", "change", "activity", "audit"]
_RIGHTS: dict[Role, frozenset[Right]] = {
    "shop": frozenset({"orders", "licenses", "activity", "sell"}),
    "support": frozenset({"orders", "licenses", "activity", "sell", "change"}),
    "auditor": frozenset({"orders", "licenses", "activity", "audit"}),
}
"""What a role sees and does: orders, new ones and order codes, licenses, taking away, and so on."""


@dataclass(frozen=True, slots=True)
class Seller:
    """Who is at the desk.

    Attributes:
        token: What was shown.
        form: What forms carry.
        may: What the role may.
    """

    token: Token
    form: str
    may: frozenset[Right]

    @property
    def actor(self) -> str:
        """Who this is in the audit log."""
        return f"token {self.token.id}"


class LoginPages:
    """The pages by which a seller comes to the desk and leaves it.

    Args:
        ledger: Knows the tokens.
        secret: Signs cookies and forms.
    """

    def __init__(self, ledger: Ledger, secret: bytes) -> None:
        self._ledger = ledger
        self.sessions = Sessions(secret, "desk", _LASTS)

    def add_to(self, pages: APIRouter) -> None:
        """Add the pages to a router."""
        pages.add_api_route("/desk/login", self.entrance, methods=["GET"])
        pages.add_api_route("/desk/login", self.log_in, methods=["POST"])
        pages.add_api_route("/desk/logout", self.log_out, methods=["POST"])

    def entrance(self, request: Request) -> Response:
        """Ask for an API token."""
        return self._entrance(request)

    def log_in(self, request: Request, secret: Annotated[str, Form()] = "") -> Response:
        """Take an API token."""
        guesses, client = request.app.state.access.limits, client_of(request)
        guesses.check("guess", client)
        token = self._ledger.check_token(secret.strip())
        if token is None:
            guesses.count("guess", client)
            text = "Look whether all of it was copied. Tokens that were revoked hold no longer."
            return self._entrance(request, Problem("This token is not known", text, 403, "secret"))
        response = RedirectResponse("/desk/orders", 303)
        self.sessions.open(request, response, token.id)
        return response

    def log_out(self, request: Request) -> Response:
        """Forget the token."""
        response = RedirectResponse("/desk/login", 303)
        self.sessions.close(request, response)
        return response

    def seller(self, request: Request, right: Right) -> Seller:
        """Return who is at the desk, if the token still holds and its role may do this."""
        visit = self.sessions.visit(request)
        if not visit.subject:
            raise ElsewhereError("/desk/login")
        token = self._ledger.token(visit.subject)
        if token.revoked_at is not None:
            raise ElsewhereError("/desk/login")
        note(request, token=token.id)
        may = _RIGHTS[token.role]
        if right not in may:
            text = f"Its role is “{token.role}”. Log in with a token of another role."
            raise ProblemError(Problem("Your token may not do this", text, 403))
        return Seller(token, self.sessions.token(visit), may)

    def _entrance(self, request: Request, problem: Problem | None = None) -> Response:
        visit = self.sessions.visit(request)
        response = show(
            "desk/login.html",
            request,
            status=200 if problem is None else problem.status,
            token=self.sessions.token(visit),
            problem=problem,
        )
        if not visit.subject:
            self.sessions.welcome(request, response, visit)
        return response
