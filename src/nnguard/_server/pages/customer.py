"""An order's page: what a customer sees and does with an order code, and with nothing else."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import RedirectResponse, Response

from nnguard._base.times import now
from nnguard._crypto.identity import Recipient
from nnguard._licensing.license import License
from nnguard._licensing.receipt import Receipt
from nnguard._licensing.request import Request as LicenseRequest
from nnguard._selling.issuer import Issuer
from nnguard._selling.order import Order, Seat
from nnguard._server.access import client_of
from nnguard._server.logs import note
from nnguard._server.pages.forms import pasted_text_of, text_of
from nnguard._server.pages.html import HEADERS, show
from nnguard._server.pages.problems import ElsewhereError, Problem, ProblemError, problem_of
from nnguard._server.pages.seats import names_of, taken_of
from nnguard._server.pages.sessions import Sessions, Visit
from nnguard.errors import ActivationError, NnguardError

__all__ = ["CustomerPages"]

_LASTS = timedelta(hours=2)
_LONGEST_NAME = 100


class CustomerPages:
    """The pages of orders.

    Args:
        issuer: Answers requests; what it does stands in the audit log as the order page's.
        secret: Signs cookies and forms.
    """

    def __init__(self, issuer: Issuer, secret: bytes) -> None:
        self._issuer = issuer.acting_as("order page")
        self._ledger = issuer.ledger
        self.sessions = Sessions(secret, "order", _LASTS)

    def add_to(self, pages: APIRouter) -> None:
        """Add the pages to a router."""
        pages.add_api_route("/", self.entrance, methods=["GET"])
        pages.add_api_route("/", self.enter, methods=["POST"])
        pages.add_api_route("/order", self.order, methods=["GET"])
        pages.add_api_route("/order/leave", self.leave, methods=["POST"])
        pages.add_api_route("/order/request", self.answer, methods=["POST"])
        pages.add_api_route("/order/key", self.grant, methods=["POST"])
        seat = "/order/seats/{seat_id}"
        pages.add_api_route(f"{seat}/license", self.license, methods=["GET"])
        pages.add_api_route(f"{seat}/give-back", self.giving_back, methods=["GET"])
        pages.add_api_route(f"{seat}/give-back", self.give_back, methods=["POST"])
        pages.add_api_route(f"{seat}/receipt", self.give_back_with_receipt, methods=["POST"])

    def entrance(self, request: Request) -> Response:
        """Ask for an order code."""
        return self._entrance(request)

    def enter(self, request: Request, code: Annotated[str, Form()] = "") -> Response:
        """Take an order code."""
        guesses, client = request.app.state.access.limits, client_of(request)
        guesses.check("guess", client)
        try:
            order = self._issuer.order_of(code)
        except ActivationError as error:
            guesses.count("guess", client)
            return self._entrance(request, code, problem_of(error, "code"))
        response = RedirectResponse("/order", 303)
        self.sessions.open(request, response, order.id)
        return response

    def leave(self, request: Request) -> Response:
        """Forget the order."""
        response = RedirectResponse("/", 303)
        self.sessions.close(request, response)
        return response

    def order(self, request: Request, done: str = "", seat: str = "") -> Response:
        """Show the order."""
        order, visit = self._visited(request)
        return self._order(request, order, visit, done=done, seat=seat)

    def answer(self, request: Request, file: UploadFile | None = None) -> Response:
        """Take a request file; a license comes of it."""
        order, visit = self._visited(request)
        try:
            asked = LicenseRequest.from_text(text_of(file, "file", LicenseRequest._ARMOR))
            self._check_order(asked, order)
            license_, repeated = self._issuer.answer_once(asked)
            return self._licensed(request, license_, order, "repeated" if repeated else "new")
        except NnguardError as error:
            problem = problem_of(error, "file")
        except ProblemError as error:
            problem = error.problem
        return self._order(request, order, visit, problem=problem)

    def grant(
        self, request: Request, key: Annotated[str, Form()] = "", name: Annotated[str, Form()] = ""
    ) -> Response:
        """Take a public key and the name of a machine; a license comes of it."""
        order, visit = self._visited(request)
        field = "key"
        try:
            recipient = Recipient.from_pem(pasted_text_of(key, "key", "PUBLIC KEY").encode())
            field = "name"
            license = self._issuer.grant(order, recipient, name=_name(name))  # noqa: A001
            return self._licensed(request, license, order)
        except NnguardError as error:
            problem = problem_of(error, field)
        except ProblemError as error:
            problem = error.problem
        key = "" if "PRIVATE KEY" in key else key  # nothing sends it once more
        return self._order(request, order, visit, problem=problem, key=key, name=name)

    def license(self, request: Request, seat_id: str) -> Response:
        """Send the newest license of a seat, as a file."""
        order, _ = self._visited(request)
        seat = self._seat(order, seat_id)
        text = self._ledger.get(seat.license_id).armored
        name = names_of(self._ledger.seats(order.id))[seat.id]
        words = re.sub(r"[^A-Za-z0-9._]+", "-", f"{order.product} {name}").strip("-.")
        headers = {"Content-Disposition": f'attachment; filename="{words}.license"'}
        return Response(text, 200, HEADERS | headers, "application/octet-stream")

    def giving_back(self, request: Request, seat_id: str) -> Response:
        """Ask how a seat is given back."""
        order, visit = self._visited(request)
        return self._giving_back(request, order, visit, self._seat(order, seat_id))

    def give_back(self, request: Request, seat_id: str) -> Response:
        """Give back a seat whose machine cannot say so itself: it is free after a while."""
        order, _ = self._visited(request)
        seat = self._issuer.take_back(
            self._seat(order, seat_id).id, reason="given back on the order's page"
        )
        return RedirectResponse(f"/order?done=cooling&seat={seat.id}", 303)

    def give_back_with_receipt(
        self, request: Request, seat_id: str, file: UploadFile | None = None
    ) -> Response:
        """Give back a seat whose machine wrote a receipt: it is free at once."""
        order, visit = self._visited(request)
        seat = self._seat(order, seat_id)
        try:
            receipt = Receipt.from_text(text_of(file, "file", Receipt._ARMOR))
            if receipt.key.raw.hex() != seat.request_key:
                text = "Upload the receipt that this machine wrote, or give the seat back without."
                raise ProblemError(Problem("This receipt is of another machine", text, 422, "file"))
            self._issuer.give_back(receipt)
            return RedirectResponse(f"/order?done=free&seat={seat.id}", 303)
        except NnguardError as error:
            problem = problem_of(error, "file")
        except ProblemError as error:
            problem = error.problem
        return self._giving_back(request, order, visit, seat, problem)

    def _visited(self, request: Request) -> tuple[Order, Visit]:
        """Return the order that a browser has shown the code of."""
        visit = self.sessions.visit(request)
        if not visit.subject:
            raise ElsewhereError("/")
        return self._ledger.order(visit.subject), visit

    def _seat(self, order: Order, seat_id: str) -> Seat:
        """Return a seat of an order that a machine has."""
        for seat in self._ledger.seats(order.id):
            if seat.id == seat_id and seat.state == "taken":
                return seat
        raise ProblemError(Problem("This order has no such seat now", status=404))

    def _check_order(self, asked: LicenseRequest, order: Order) -> None:
        if asked.order:
            own = self._issuer.order_of(asked.order).id == order.id
        else:
            keys = [seat.request_key for seat in self._ledger.seats(order.id)]
            own = asked.key.raw.hex() in keys
        if not own:
            text = "Make it again with the code of this order, or open the page of the other one."
            raise ProblemError(Problem("This request is for another order", text, 422, "file"))

    def _licensed(
        self,
        request: Request,
        license: License,  # noqa: A002
        order: Order,
        kind: str = "new",
    ) -> Response:
        number = license.terms.id
        request.app.state.metrics.licenses.labels(kind).inc()
        note(request, license=number, order=order.id)
        seat = self._ledger.seat_of(number)  # which may have a newer license by now
        assert seat is not None
        return RedirectResponse(f"/order?done=license&seat={seat.id}", 303)

    def _entrance(
        self, request: Request, code: str = "", problem: Problem | None = None
    ) -> Response:
        visit = self.sessions.visit(request)
        response = show(
            "entrance.html",
            request,
            status=200 if problem is None else problem.status,
            token=self.sessions.token(visit),
            code=code,
            problem=problem,
        )
        if not visit.subject:
            self.sessions.welcome(request, response, visit)
        return response

    def _order(
        self,
        request: Request,
        order: Order,
        visit: Visit,
        *,
        problem: Problem | None = None,
        done: str = "",
        **values: str,
    ) -> Response:
        when = now()
        seats = self._ledger.seats(order.id)
        return show(
            "order.html",
            request,
            status=200 if problem is None else problem.status,
            token=self.sessions.token(visit),
            order=order,
            code=self._issuer.code(order),
            server=request.app.state.settings.public_url,
            seats=[seat for seat in seats if seat.state_at(when) != "free"],
            names=names_of(seats),
            free=order.seats - taken_of(seats, when),
            problem=problem,
            done=done,
            about=next((seat for seat in seats if seat.id == values.get("seat")), None),
            key=values.get("key", ""),
            name=values.get("name", ""),
        )

    def _giving_back(
        self,
        request: Request,
        order: Order,
        visit: Visit,
        seat: Seat,
        problem: Problem | None = None,
    ) -> Response:
        return show(
            "give_back.html",
            request,
            status=200 if problem is None else problem.status,
            token=self.sessions.token(visit),
            order=order,
            seat=seat,
            names=names_of(self._ledger.seats(order.id)),
            free_at=now() + order.cooling,
            problem=problem,
        )


def _name(text: str) -> str:
    """Return the name of a machine."""
    name = " ".join(text.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        title = "Give the machine a name" if not name else "This name is too long, or not text"
        raise ProblemError(Problem(title, field="name"))
    return name
