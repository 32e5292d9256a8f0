from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from nnguard._server.problems import Problem
from nnguard._server.stripe import Paid, Refunded, check_signature, read_event

SECRET = "whsec_a test's"
NOW = 1_790_000_000
BODY = json.dumps({"id": "evt_1"}).encode()


def header(body: bytes = BODY, at: int = NOW, secret: str = SECRET) -> str:
    """Sign as Stripe's own library does."""
    signed = stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", secret)
    return f"t={at},v1={signed}"


def session(**changes: Any) -> dict[str, Any]:
    what = {
        "id": "cs_1",
        "payment_intent": "pi_1",
        "payment_status": "paid",
        "customer_details": {"name": "Ada", "email": "ada@example.com"},
        "metadata": {"nnguard_product": "digits", "nnguard_seats": "3", "other": "theirs"},
    }
    return {
        "id": "evt_1",
        "type": "checkout.session.completed",
        "data": {"object": what | changes},
    }


def test_what_stripe_signs_is_taken() -> None:
    check_signature(header(), BODY, SECRET, NOW)
    check_signature(header(at=NOW - 300), BODY, SECRET, NOW)
    rolled = f"{header(secret='whsec_of yesterday')},{header().partition(',')[2]}"
    check_signature(rolled, BODY, SECRET, NOW)  # while a secret is replaced there are two
    stripe.WebhookSignature.verify_header(BODY.decode(), header(), SECRET)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "t=",
        f"t={NOW}",
        "v1=00",
        header(secret="whsec_another"),
        header(body=b'{"id": "evt_2"}'),
        header().replace(f"t={NOW}", f"t={NOW + 1}"),
        header() + f",t={NOW}",
        header().replace("v1=", "v0="),
        header(at=NOW - 301),
        header(at=NOW + 301),
        header().replace("t=", "t=+"),
        "t=" + "9" * 5000 + ",v1=00",
        header().upper(),
        f"t={NOW},v1=\u00e9",
        "," * 10000,
    ],
)
def test_what_stripe_did_not_sign_just_now_is_refused(given: str) -> None:
    with pytest.raises(Problem) as caught:
        check_signature(given, BODY, SECRET, NOW)
    assert caught.value.status == 400
    assert caught.value.reason in ("signature", "stale")


def test_a_session_that_was_paid_is_an_order() -> None:
    name, what = read_event(session())
    assert name == "evt_1"
    assert what == Paid("pi_1", "digits", what.choices)  # type: ignore[union-attr]
    assert dict(what.choices) == {"seats": 3, "tier": "", "customer": "Ada"}  # type: ignore[union-attr]


def test_metadata_says_how_long_licenses_hold() -> None:
    days = {"nnguard_lasts_days": "30", "nnguard_grace_days": "7", "nnguard_cooling_days": "1"}
    metadata = {"nnguard_product": "digits", "nnguard_customer": "Example Inc.", **days}
    _, what = read_event(session(metadata=metadata, payment_intent=None))
    assert isinstance(what, Paid)
    assert what.payment == "cs_1"  # nothing was to pay
    assert dict(what.choices) == {
        "seats": 1,
        "tier": "",
        "customer": "Example Inc.",
        "lasts_seconds": 30 * 86400,
        "grace_seconds": 7 * 86400,
        "cooling_seconds": 86400,
    }


def test_what_is_paid_later_is_an_order_later() -> None:
    assert read_event(session(payment_status="unpaid")) == ("evt_1", None)
    later = {**session(), "type": "checkout.session.async_payment_succeeded"}
    assert isinstance(read_event(later)[1], Paid)
    failed = {**session(), "type": "checkout.session.async_payment_failed"}
    assert read_event(failed) == ("evt_1", None)


def test_sessions_of_something_else_are_left_alone() -> None:
    assert read_event(session(metadata={})) == ("evt_1", None)
    assert read_event(session(metadata=None)) == ("evt_1", None)


def test_a_whole_refund_counts() -> None:
    charge = {"payment_intent": "pi_1", "refunded": True}
    event = {"id": "evt_2", "type": "charge.refunded", "data": {"object": charge}}
    assert read_event(event) == ("evt_2", Refunded("pi_1"))
    charge["refunded"] = False  # a part of it
    assert read_event(event) == ("evt_2", None)
    charge |= {"refunded": True, "payment_intent": None}
    assert read_event(event) == ("evt_2", None)


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"id": 1, "type": "x"},
        {"id": "evt", "type": 1},
        session(metadata={"nnguard_product": "digits", "nnguard_seats": "many"}),
        session(metadata={"nnguard_product": "digits", "nnguard_seats": "1e9"}),
        session(metadata={"nnguard_product": "digits", "nnguard_sets": "1"}),
        session(metadata=["nnguard_product"]),
        session(customer_details=["Ada"]),
    ],
)
def test_what_makes_no_order_is_told(event: Any) -> None:
    with pytest.raises(Problem) as caught:
        read_event(event)
    assert caught.value.status == 422


@pytest.mark.parametrize("name", ["x" * 500, "\U0001f600" * 100, "A\0da", "ä" * 99 + "€" * 9])
def test_who_paid_gets_an_order_whatever_their_name_is(name: str) -> None:
    for changes in (
        {"customer_details": {"name": name}},
        {"metadata": {"nnguard_product": "digits", "nnguard_customer": name}},
    ):
        _, paid = read_event(session(**changes))
        assert isinstance(paid, Paid)
        customer = paid.choices["customer"]
        assert len(customer.encode()) <= 200
        assert name.replace("\0", "").startswith(customer)
