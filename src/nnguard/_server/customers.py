"""What customers' machines ask for: licenses, seats given back, the vendor's signed files.

None of it needs a token: requests and receipts are signed, and a code or a seat stands behind them.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from nnguard import licensing
from nnguard._server.access import client_of, limited
from nnguard._server.logs import note
from nnguard._server.metrics import Metrics
from nnguard._server.models import ReceiptOut
from nnguard._server.openapi import armored, problems, published
from nnguard._server.published import file_response, policy, revocations
from nnguard._server.settings import ServerSettings
from nnguard._server.strict import StrictRoute, text_body
from nnguard.errors import (
    ActivationError,
    ActivationReason,
    KeyFormatError,
    LedgerError,
    WrongKeyError,
)
from nnguard.licensing import Issuer

__all__ = ["customers_routes"]

_TEXT = "text/plain; charset=utf-8"


def customers_routes(issuer: Issuer, settings: ServerSettings, metrics: Metrics) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(
        prefix="/v1",
        tags=["customers"],
        route_class=StrictRoute,
        dependencies=[Depends(limited)],
    )
    desk = issuer.acting_as("customer")

    @routes.post(
        "/licenses",
        status_code=201,
        response_class=Response,
        responses=problems(403, 404, 409, 410, 415, 422, 429)
        | {200: armored("License", "The license that was made for this request before.")}
        | {201: armored("License", "A license for the request's key and machine.")},
        openapi_extra={"requestBody": armored("License request", "As the file is.")},
    )
    def answer(request: Request, text: Annotated[str, Depends(text_body)]) -> Response:
        """Answer a request with a license.

        The same request gets the same license again, a new one of the same machine a new license
        for the same seat.
        """
        asked = licensing.Request.from_text(text)
        asked.authenticate_self()
        guesses = request.app.state.access.limits
        guesses.check("guess", client_of(request))
        try:
            license, repeated = desk.answer_once(asked, at=settings.now())  # noqa: A001
        except (KeyFormatError, WrongKeyError) as error:  # of ours: the customer's was read before
            raise LedgerError(f"the keys of this server do not fit its ledger: {error}") from error
        except ActivationError as error:
            if error.reason is ActivationReason.UNKNOWN_ORDER:
                guesses.count("guess", client_of(request))
            raise
        metrics.licenses.labels("repeated" if repeated else "new").inc()
        note(request, license=license.terms.id, order=license.terms.order)
        return Response(str(license), 200 if repeated else 201, media_type=_TEXT)

    @routes.post(
        "/receipts",
        responses=problems(403, 404, 410, 415, 422, 429),
        openapi_extra={"requestBody": armored("License receipt", "As the file is.")},
    )
    def give_back(request: Request, text: Annotated[str, Depends(text_body)]) -> ReceiptOut:
        """Give a seat back: it is free at once, and its licenses are revoked."""
        receipt = licensing.Receipt.from_text(text)
        receipt.authenticate_self()
        seat = desk.give_back(receipt, at=settings.now())
        note(request, seat=seat.id)
        return ReceiptOut(seat=seat.id, state=seat.state)

    published_file: dict[str, Any] = {
        "response_class": Response,
        "responses": published() | problems(404, 429, 503),
    }

    @routes.head("/revocations", include_in_schema=False)
    @routes.get("/revocations", **published_file)
    def revocation_list(request: Request) -> Response:
        """Return the signed list of licenses that hold no longer."""
        return file_response(request, revocations(issuer, settings.now()))

    @routes.head("/policy", include_in_schema=False)
    @routes.get("/policy", **published_file)
    def trust_policy(request: Request) -> Response:
        """Return the vendor's trust policy, if this server has one."""
        return file_response(request, policy(settings.policy_path))

    return routes
