"""The seller's desk: orders, licenses, activity and the audit log, each for the roles that may.

Whoever has an API token logs in with it; what is done stands in the audit log under its name.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from nnguard._base.times import now
from nnguard._selling.issuer import Issuer
from nnguard._selling.order import Order, OrderState
from nnguard._server.pages.chart import chart_of
from nnguard._server.pages.forms import days_of, end_of, number_of
from nnguard._server.pages.html import show
from nnguard._server.pages.problems import Problem, ProblemError, problem_of
from nnguard._server.pages.seats import names_of, taken_of
from nnguard._server.pages.seller import LoginPages, Seller
from nnguard.errors import LedgerError, NnguardError

__all__ = ["DeskPages"]

_ROWS = 25
_LINES = 50
_MOST = 100
_LAST = 1 << 62
"""Number of an entry of the audit log, at most."""

_BETWEEN = "␟"
"""Stands between product and tier where both are one choice."""


class DeskPages:
    """The pages of the desk.

    Args:
        issuer: Does what is asked for.
        secret: Signs cookies and forms.
    """

    def __init__(self, issuer: Issuer, secret: bytes) -> None:
        self._issuer = issuer
        self._ledger = issuer.ledger
        self._login = LoginPages(issuer.ledger, secret)
        self.sessions = self._login.sessions

    def add_to(self, pages: APIRouter) -> None:
        """Add the pages to a router."""
        self._login.add_to(pages)
        both = ["GET", "POST"]
        for path, answer, methods in (
            ("", self.home, ["GET"]),
            ("/orders", self.orders, ["GET"]),
            ("/orders/new", self.new_order, ["GET"]),
            ("/orders/new", self.make_order, ["POST"]),
            ("/orders/{order_id}", self.order, ["GET"]),
            ("/orders/{order_id}/cancel", self.cancel, both),
            ("/seats/{seat_id}/take-back", self.take_back, both),
            ("/licenses", self.licenses, ["GET"]),
            ("/licenses/{license_id}/revoke", self.revoke, both),
            ("/activity", self.activity, ["GET"]),
            ("/audit", self.audit, ["GET"]),
        ):
            pages.add_api_route(f"/desk{path}", answer, methods=methods)

    def home(self) -> Response:
        """Go to the orders."""
        return RedirectResponse("/desk/orders", 303)

    def orders(
        self, request: Request, search: str = "", state: str = "", after: str = ""
    ) -> Response:
        """List orders."""
        seller = self._login.seller(request, "orders")
        known = next((each for each in get_args(OrderState) if each == state), None)
        found = self._ledger.orders(search=search, state=known, limit=_ROWS + 1, after=after)
        rows = [(order, self._taken(order)) for order in found[:_ROWS]]
        return self._show(
            "orders",
            request,
            seller,
            rows=rows,
            search=search,
            state=known or "",
            after=after,
            more=found[_ROWS - 1].id if len(found) > _ROWS else "",
        )

    def new_order(self, request: Request) -> Response:
        """Ask what was sold."""
        return self._new_order(request, self._login.seller(request, "sell"), {})

    def make_order(
        self,
        request: Request,
        product: Annotated[str, Form()] = "",
        customer: Annotated[str, Form()] = "",
        reference: Annotated[str, Form()] = "",
        seats: Annotated[str, Form()] = "",
        ends: Annotated[str, Form()] = "",
        lasts: Annotated[str, Form()] = "",
        grace: Annotated[str, Form()] = "",
        cooling: Annotated[str, Form()] = "",
        features: Annotated[str, Form()] = "",
        named_devices: Annotated[str, Form()] = "",
        warn_only: Annotated[str, Form()] = "",
        once: Annotated[str, Form()] = "",
    ) -> Response:
        """Write down what was sold."""
        seller = self._login.seller(request, "sell")
        written = {name: text for name, text in locals().items() if isinstance(text, str)}
        try:
            name, _, tier = product.partition(_BETWEEN)
            terms: dict[str, Any] = {
                "customer": customer.strip(),
                "reference": reference.strip(),
                "tier": tier,
                "seats": number_of(seats, "seats", least=1),
                "expires_at": end_of(ends, "ends"),
                "lasts": days_of(lasts, "lasts", least=1) if lasts.strip() else None,
                "grace": days_of(grace or "0", "grace"),
                "cooling": days_of(cooling or "0", "cooling"),
                "features": [word.strip() for word in features.split(",") if word.strip()],
                "named_devices": bool(named_devices),
                "warn_only": bool(warn_only),
            }
            issuer = self._issuer.acting_as(seller.actor)
            order_id = self._ledger.once(
                f"desk:{seller.token.id}:{once}",
                hashlib.sha256(repr(sorted(written.items())).encode()).hexdigest(),
                lambda: issuer.order(name, **terms).id,
            )
            return RedirectResponse(f"/desk/orders/{order_id}?done=made", 303)
        except ProblemError as error:
            problem = error.problem
        except NnguardError as error:
            problem = problem_of(error)
        return self._new_order(request, seller, written, problem)

    def order(self, request: Request, order_id: str, done: str = "") -> Response:
        """Show an order."""
        seller = self._login.seller(request, "orders")
        order = self._found(lambda: self._ledger.order(order_id), "order")
        seats = self._ledger.seats(order.id)
        return self._show(
            "order",
            request,
            seller,
            order=order,
            code=self._issuer.code(order) if "sell" in seller.may else "",
            seats=seats,
            names=names_of(seats),
            taken=taken_of(seats, now()),
            most=_MOST,
            licenses=self._ledger.licenses(order=order.id, limit=_MOST)
            if "licenses" in seller.may
            else [],
            done=done,
        )

    def cancel(
        self, request: Request, order_id: str, reason: Annotated[str, Form()] = ""
    ) -> Response:
        """Ask why an order is cancelled, and cancel it."""
        seller = self._login.seller(request, "change")
        order = self._found(lambda: self._ledger.order(order_id), "order")
        issuer = self._issuer.acting_as(seller.actor)
        return self._with_reason(
            request,
            seller,
            "cancel",
            lambda: issuer.cancel(order.id, reason=reason.strip()),
            reason=reason,
            order=order,
            taken=self._taken(order),
        )

    def take_back(
        self, request: Request, seat_id: str, reason: Annotated[str, Form()] = ""
    ) -> Response:
        """Ask why a seat is taken back, and take it back."""
        seller = self._login.seller(request, "change")
        seat = self._found(lambda: self._ledger.seat(seat_id), "seat")
        order = self._ledger.order(seat.order_id)
        issuer = self._issuer.acting_as(seller.actor)
        return self._with_reason(
            request,
            seller,
            "take_back",
            lambda: issuer.take_back(seat.id, reason=reason.strip()),
            reason=reason,
            order=order,
            seat=seat,
            names=names_of(self._ledger.seats(order.id)),
            free_at=now() + order.cooling,
        )

    def licenses(self, request: Request, search: str = "", after: str = "") -> Response:
        """List licenses."""
        seller = self._login.seller(request, "licenses")
        found = self._ledger.licenses(search=search, limit=_ROWS + 1, after=after)
        return self._show(
            "licenses",
            request,
            seller,
            rows=found[:_ROWS],
            search=search,
            after=after,
            more=found[_ROWS - 1].license_id if len(found) > _ROWS else "",
        )

    def revoke(
        self, request: Request, license_id: str, reason: Annotated[str, Form()] = ""
    ) -> Response:
        """Ask why a license is revoked, and revoke it."""
        seller = self._login.seller(request, "change")
        entry = self._found(lambda: self._ledger.get(license_id), "license")
        issuer = self._issuer.acting_as(seller.actor)
        order = self._ledger.order(entry.order_id) if entry.order_id else None
        return self._with_reason(
            request,
            seller,
            "revoke",
            lambda: issuer.revoke([entry.license_id], reason=reason.strip()),
            reason=reason,
            entry=entry,
            order=order,
        )

    def activity(self, request: Request, days: str = "30") -> Response:
        """Draw how many machines were activated on each day."""
        seller = self._login.seller(request, "activity")
        length = int(days) if days in ("30", "90", "365") else 30
        today = now().date()
        counts = self._ledger.activations(today - timedelta(days=length - 1), today)
        chart = chart_of(counts, today, length)
        return self._show("activity", request, seller, chart=chart, days=length)

    def audit(
        self, request: Request, before: str = "", check: str = "", expect: str = ""
    ) -> Response:
        """Show the audit log, the newest entries first, and check its chain when asked to."""
        seller = self._login.seller(request, "audit")
        problem = None
        if check:
            try:
                self._ledger.check_audit(expect.strip() or None)
            except LedgerError as error:
                problem = Problem("The chain is broken", str(error), 200)
        start = number_of(before, "before", most=_LAST) if before else 0
        found = self._ledger.audit(newest=True, after=start, limit=_LINES + 1)
        return self._show(
            "audit",
            request,
            seller,
            entries=found[:_LINES],
            names={f"token {each.id}": each.name for each in self._ledger.tokens()},
            head=self._ledger.audit_head(),
            more=found[_LINES - 1].number if len(found) > _LINES else 0,
            newest=not start,
            checked=bool(check) and problem is None,
            expect=expect,
            problem=problem,
        )

    def _new_order(
        self,
        request: Request,
        seller: Seller,
        written: dict[str, str],
        problem: Problem | None = None,
    ) -> Response:
        blank = {
            "product": "",
            "customer": "",
            "reference": "",
            "seats": "1",
            "ends": "",
            "lasts": "",
            "grace": "0",
            "cooling": "7",
            "features": "",
            "named_devices": "" if written else "yes",
            "warn_only": "",
            "once": secrets.token_hex(16),
        }
        return self._show(
            "new_order",
            request,
            seller,
            products=self._ledger.products(),
            between=_BETWEEN,
            written=blank | written,
            problem=problem,
        )

    def _with_reason(
        self,
        request: Request,
        seller: Seller,
        name: str,
        act: Callable[[], object],
        *,
        reason: str,
        order: Order | None,
        **values: Any,
    ) -> Response:
        """Ask for a reason, then act, and go back to the order."""
        problem = None
        if request.method == "POST":
            if reason.strip():
                act()
                back = f"/desk/orders/{order.id}" if order else "/desk/licenses"
                return RedirectResponse(f"{back}?done={name}", 303)
            text = "It stands in the audit log, for whoever asks later."
            problem = Problem("Write a reason", text, field="reason")
        return self._show(name, request, seller, order=order, problem=problem, **values)

    def _show(
        self,
        name: str,
        request: Request,
        seller: Seller,
        *,
        problem: Problem | None = None,
        **values: Any,
    ) -> Response:
        return show(
            f"desk/{name}.html",
            request,
            status=200 if problem is None else problem.status,
            seller=seller,
            token=seller.form,
            problem=problem,
            **values,
        )

    def _taken(self, order: Order) -> int:
        return taken_of(self._ledger.seats(order.id), now())

    def _found(self, get: Callable[[], Any], what: str) -> Any:
        """Return what a ledger has, or end with a page that says that it has it not."""
        try:
            return get()
        except LedgerError:
            raise ProblemError(Problem(f"There is no such {what}", status=404)) from None
