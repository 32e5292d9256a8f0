"""What went wrong, as RFC 9457 has it: problem+json, with the reason and the hint of our errors.

Law: a problem says nothing that the caller has not sent, or may not know; what is a bug, or the
database's own trouble, is said in the log only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from nnguard._base.texts import visible
from nnguard.errors import (
    ActivationError,
    ActivationReason,
    LedgerError,
    LedgerReason,
    NnguardError,
)

__all__ = ["MEDIA_TYPE", "Problem", "Respond", "add_handlers", "problem_of", "response_of"]

MEDIA_TYPE = "application/problem+json"
_LONGEST = 1000

_ACTIVATION = {
    ActivationReason.UNKNOWN_ORDER: 404,
    ActivationReason.ORDER_CANCELLED: 410,
    ActivationReason.ORDER_EXPIRED: 410,
    ActivationReason.RELEASED: 410,
    ActivationReason.NO_SEATS: 409,
    ActivationReason.OTHER_TRIAL: 422,
    ActivationReason.OTHER_KEY: 403,
    ActivationReason.STALE_REQUEST: 422,
    ActivationReason.REFUSED: 403,
    ActivationReason.UNREACHABLE: 503,
}
_LEDGER = {LedgerReason.MISSING: 404, LedgerReason.CONFLICT: 409}


class Problem(HTTPException):
    """An answer that is no success.

    Args:
        status: Of HTTP.
        detail: What is wrong.
        reason: The same for programs, as `ActivationReason` and others have it.
        hint: What to do.
        headers: To send along.
        errors: What is wrong where in the request.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str = "refused",
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.reason, self.hint, self.errors = reason, hint, errors

    @property
    def status(self) -> int:
        """Status of HTTP."""
        return self.status_code

    def to_json(self) -> dict[str, Any]:
        """Return the problem as JSON values."""
        values = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": visible(self.detail)[:_LONGEST],
            "reason": self.reason,
            "hint": visible(self.hint)[:_LONGEST],
        }
        return values if self.errors is None else values | {"errors": self.errors}


def problem_of(error: Exception) -> Problem:
    """Return what an error is to the caller."""
    match error:
        case Problem():
            return error
        case ActivationError():
            status = _ACTIVATION[error.reason]
            return Problem(status, str(error), reason=error.reason.value, hint=error.hint)
        case LedgerError() if error.reason in _LEDGER:
            status = _LEDGER[error.reason]
            return Problem(status, str(error), reason=error.reason.value, hint=error.hint)
        case LedgerError():
            return Problem(
                503,
                "the ledger cannot be reached",
                reason=ActivationReason.UNREACHABLE.value,
                hint="try again in a while",
                headers={"Retry-After": "5"},
            )
        case NnguardError():
            return Problem(422, str(error), reason="malformed", hint=error.hint)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return Problem(
                error.status_code,
                str(error.detail),
                headers=dict(error.headers or {}),
                reason="malformed" if error.status_code == HTTPStatus.BAD_REQUEST else "refused",
            )
    return Problem(500, "this is a bug of the server", reason="bug", hint="please report it")


Respond = Callable[[Problem, Scope], Response]
"""Makes the response that tells a problem to whoever sent the request of this scope."""


def response_of(problem: Problem, _: Scope) -> Response:
    """Return the response that tells a problem to programs."""
    return JSONResponse(
        problem.to_json(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def add_handlers(app: FastAPI, respond: Respond = response_of) -> None:
    """Let an app answer with problems where something is raised.

    Args:
        app: The app.
        respond: Makes the response.
    """

    def handle(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        request.scope["nnguard.problem"] = (problem, error)
        return respond(problem, request.scope)

    for kind in (NnguardError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


def _invalid(error: RequestValidationError) -> Problem:
    """Tell which fields are wrong, without their values, which may be secrets."""
    errors = [
        {"where": [visible(str(step))[:100] for step in each["loc"]], "what": visible(each["msg"])}
        for each in error.errors()[:20]
    ]
    named = ".".join(errors[0]["where"]) if errors else "the request"
    what = errors[0]["what"] if errors else "malformed"
    if named == "body":
        hint = "send JSON, with Content-Type: application/json; /openapi.json has examples"
    else:
        hint = "/openapi.json has the fields, and examples"
    return Problem(422, f"{named}: {what}", reason="malformed", hint=hint, errors=errors)
