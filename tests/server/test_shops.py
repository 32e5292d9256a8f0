"""What a shop reports through Stripe's scheme, and what the server makes of it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import stripe

from nnguard.errors import LedgerError
from nnguard.licensing import Order
from shop import PRODUCT, Shop

SECRET = "whsec_test"


def event(name: str, kind: str, **what: Any) -> bytes:
    return json.dumps({"id": name, "type": kind, "data": {"object": what}}).encode()


def paid(name: str, payment: str, **changes: Any) -> bytes:
    metadata = {"nnguard_product": PRODUCT, "nnguard_seats": "2", "nnguard_lasts_days": "30"}
    what = {
        "id": f"cs_{payment}",
        "payment_intent": payment,
        "payment_status": "paid",
        "metadata": metadata,
        "customer_details": {"name": "Ada"},
    }
    return event(name, "checkout.session.completed", **what | changes)


def refunded(name: str, payment: str) -> bytes:
    return event(name, "charge.refunded", id="ch_1", payment_intent=payment, refunded=True)


def report(shop: Shop, body: bytes, *, at: int = 0, secret: str = SECRET) -> httpx.Response:
    """Report as Stripe does."""
    when = int(time.time()) + at
    signature = stripe.WebhookSignature._compute_signature(f"{when}.{body.decode()}", secret)
    headers = {"Stripe-Signature": f"t={when},v1={signature}", "Content-Type": "application/json"}
    return httpx.post(f"{shop.server.url}/v1/webhooks/stripe", content=body, headers=headers)


def orders_of(shop: Shop, payment: str) -> list[Order]:
    return [each for each in shop.ledger.orders(search=payment) if payment in each.reference]


def test_a_payment_makes_an_order_once(shop: Shop) -> None:
    first = report(shop, paid("evt_1", "pi_once"))
    (order,) = orders_of(shop, "pi_once")
    assert first.json() == {"outcome": "ordered", "order": order.id}
    assert (order.customer, order.seats, order.product) == ("Ada", 2, PRODUCT)
    assert order.lasts is not None
    assert order.lasts.days == 30
    sent = json.loads(paid("evt_1", "pi_once")) | {"pending_webhooks": 1}
    again = report(shop, json.dumps(sent).encode())
    assert (again.status_code, again.json()["outcome"]) == (200, "repeated")
    other = report(shop, paid("evt_2", "pi_once"))  # another event of the same payment
    assert (other.status_code, other.json()["order"]) == (200, order.id)
    assert orders_of(shop, "pi_once") == [order]


def test_reports_that_come_at_once_make_one_order(shop: Shop) -> None:
    bodies = [paid(f"evt_a{number % 3}", "pi_race") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda body: report(shop, body), bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert len(orders_of(shop, "pi_race")) == 1


def test_a_refund_cancels_the_order(shop: Shop) -> None:
    report(shop, paid("evt_3", "pi_back"))
    answer = report(shop, refunded("evt_4", "pi_back"))
    (order,) = orders_of(shop, "pi_back")
    assert answer.json() == {"outcome": "cancelled", "order": order.id}
    assert (order.state, order.reason) == ("cancelled", "refunded")


def test_a_refund_that_is_heard_of_first_cancels_too(shop: Shop) -> None:
    assert report(shop, refunded("evt_5", "pi_early")).json()["outcome"] == "ignored"
    assert report(shop, paid("evt_6", "pi_early")).json()["outcome"] == "cancelled"
    (order,) = orders_of(shop, "pi_early")
    assert order.state == "cancelled"


def test_refunds_and_payments_that_come_at_once_leave_nothing_open(shop: Shop) -> None:
    for number in range(5):
        payment = f"pi_both{number}"
        bodies = [paid(f"evt_p{number}", payment), refunded(f"evt_r{number}", payment)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda body: report(shop, body), bodies))
        assert {answer.status_code for answer in answers} == {200}
        (order,) = orders_of(shop, payment)
        assert order.state == "cancelled"


def test_what_is_not_of_us_is_ignored(shop: Shop) -> None:
    for body in (
        paid("evt_7", "pi_mug", metadata={}),
        paid("evt_8", "pi_later", payment_status="unpaid"),
        event("evt_9", "invoice.paid", id="in_1"),
        refunded("evt_10", "pi_of_a_mug"),
    ):
        answer = report(shop, body)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "ignored")


def test_an_order_that_cannot_be_is_told_and_may_come_again(shop: Shop) -> None:
    wrong = {"nnguard_product": "no such product"}
    assert report(shop, paid("evt_11", "pi_wrong", metadata=wrong)).status_code == 404
    assert report(shop, paid("evt_11", "pi_wrong", metadata=wrong)).status_code == 404
    assert orders_of(shop, "pi_wrong") == []


@pytest.mark.parametrize(
    ("at", "secret", "reason"),
    [(0, "whsec_guessed", "signature"), (-301, SECRET, "stale"), (400, SECRET, "stale")],
)
def test_what_stripe_did_not_sign_now_does_nothing(
    shop: Shop, at: int, secret: str, reason: str
) -> None:
    answer = report(shop, paid("evt_12", "pi_forged"), at=at, secret=secret)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)
    assert orders_of(shop, "pi_forged") == []


def test_an_event_is_what_it_was_at_first(shop: Shop) -> None:
    report(shop, paid("evt_13", "pi_first"))
    answer = report(shop, paid("evt_13", "pi_second"))
    assert (answer.status_code, answer.json()["reason"]) == (409, "conflict")
    assert orders_of(shop, "pi_second") == []


def test_the_order_is_there_with_the_event_or_not_at_all(shop: Shop) -> None:
    """What fails after the order was made takes the order with it."""
    from nnguard._server import shops
    from nnguard._server.stripe import Paid

    desk = shop.issuer.acting_as("stripe")

    def make() -> str:
        shops._act(desk, Paid("pi_half", PRODUCT))
        raise LedgerError("the power went")

    with pytest.raises(LedgerError):
        shop.ledger.once("stripe:event:evt_14", "00", make)
    assert orders_of(shop, "pi_half") == []
