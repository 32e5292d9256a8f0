"""What went wrong, as people read it on a page: a title, what it means, and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Scope

from nnguard._server import problems
from nnguard._server.pages.html import show
from nnguard.errors import ActivationError, ActivationReason, NnguardError

__all__ = ["ElsewhereError", "Page", "Problem", "ProblemError", "problem_of", "respond"]

_REASONS = {
    ActivationReason.UNKNOWN_ORDER: (
        "There is no order with this code",
        "Look for a typing mistake. The code is in what the shop sent you when you bought.",
    ),
    ActivationReason.ORDER_CANCELLED: (
        "This order was cancelled",
        "Its licenses hold no longer. Ask the seller if you think that this is a mistake.",
    ),
    ActivationReason.ORDER_EXPIRED: (
        "This order has ended",
        "It gives no more licenses. Ask the seller to extend it.",
    ),
    ActivationReason.NO_SEATS: (
        "All seats are taken",
        "Give back the seat of a machine that you no longer use, or buy more seats.",
    ),
    ActivationReason.OTHER_TRIAL: (
        "This is for another product",
        "Make the request again, with the trial that belongs to this order.",
    ),
    ActivationReason.OTHER_KEY: (
        "Another key has this seat",
        "Use the identity file that the license was first requested with.",
    ),
    ActivationReason.RELEASED: (
        "This machine's seat was given back",
        "Make a new request on the machine; it takes a seat of its own.",
    ),
    ActivationReason.STALE_REQUEST: (
        "This request is too old, or from a clock that is wrong",
        "Make a new request, and upload it within a week.",
    ),
}


_TITLES = {
    403: "This is not for you",
    404: "There is no such thing here",
    409: "This does not fit what is there",
    413: "This is too large",
    408: "This took too long",
    429: "Too many attempts",
    500: "Something is wrong on our side",
    503: "This cannot be done now",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that did not work.

    Attributes:
        title: What, in a few words.
        text: What it means, or what to do; may be empty.
        status: HTTP status.
        field: Name of the form's field that it is about, or empty.
    """

    title: str
    text: str = ""
    status: int = 422
    field: str = ""


class ProblemError(Exception):
    """Ends a request with a page that tells a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


class ElsewhereError(Exception):
    """Ends a request by sending the browser to another page."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def problem_of(error: Exception, field: str = "") -> Problem:
    """Put an error into words."""
    wire = problems.problem_of(error)
    if isinstance(error, ActivationError) and error.reason in _REASONS:
        return Problem(*_REASONS[error.reason], wire.status, field)
    return dataclasses.replace(_in_words(wire), field=field)


def respond(wire: problems.Problem, scope: Scope) -> Response:
    """Answer with a page where a browser asked for one, and with problem+json else."""
    request = Request(scope)
    if "text/html" not in request.headers.get("accept", ""):
        return problems.response_of(wire, scope)
    response = show("problem.html", request, status=wire.status, problem=_in_words(wire))
    response.headers.update(wire.headers or {})
    return response


class Page(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_with_a_page(request: Request) -> Response:
            try:
                return await answer(request)
            except ElsewhereError as error:
                return RedirectResponse(error.path, 303)
            except ProblemError as error:
                problem = error.problem
            except (
                problems.Problem,
                NnguardError,
                HTTPException,
                RequestValidationError,
            ) as error:
                request.scope["nnguard.problem"] = (problems.problem_of(error), error)
                problem = problem_of(error)
            finally:
                await request.close()  # files that came with a form
            return show("problem.html", request, status=problem.status, problem=problem)

        return answer_with_a_page


def _in_words(wire: problems.Problem) -> Problem:
    title = _TITLES.get(wire.status, "This does not work")
    said = ("", HTTPStatus(wire.status).phrase)
    text = " ".join(_sentence(part) for part in (wire.detail, wire.hint) if part not in said)
    return Problem(title, text, wire.status)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
