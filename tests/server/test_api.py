"""What the API does for customers, shops, support and auditors, in both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

import nnguard
from nnguard.licensing import License, Receipt, RevocationList
from shop import PRODUCT, Shop

TEXT = {"Content-Type": "text/plain"}


def ask(shop: Shop, method: str, path: str, role: str = "", **options: Any) -> httpx.Response:
    headers = options.pop("headers", {})
    if role:
        headers = {"Authorization": f"Bearer {shop.secrets[role]}", **headers}
    return httpx.request(method, shop.server.url + path, headers=headers, timeout=30, **options)


def activate(shop: Shop, text: object) -> httpx.Response:
    return ask(shop, "POST", "/v1/licenses", content=str(text), headers=TEXT)


def reason_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["reason"]


def new_order(shop: Shop, role: str = "shop", **values: Any) -> dict[str, Any]:
    answer = ask(shop, "POST", "/v1/orders", role, json={"product": PRODUCT, **values})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_from_an_order_to_a_model_that_is_unlocked(shop: Shop) -> None:
    order = new_order(shop, seats=1, customer="Müller & Söhne", lasts_seconds=30 * 86400)
    assert order["url"] == "https://licenses.example"
    customer = nnguard.Identity.generate()
    request = shop.request(shop.ledger.order(order["id"]), "rack-7", customer)
    assert shop.issuer.code(order["id"]) == order["code"]
    answer = activate(shop, request)
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    license_ = License.from_text(answer.text)
    assert license_.terms.customer == "Müller & Söhne"
    policy = nnguard.licensing.Policy(device=request.device)
    full = nnguard.unlock(
        shop.sale.locked.trial, license_, customer, shop.sale.trust, license_policy=policy
    )
    assert bytes(full) == bytes(shop.sale.release)
    again = activate(shop, request)
    assert (again.status_code, again.text) == (200, answer.text)


def test_seats_are_counted_and_given_back(shop: Shop) -> None:
    order = shop.order(seats=1)
    customer = nnguard.Identity.generate()
    first = License.from_text(activate(shop, shop.request(order, "a", customer)).text)
    assert reason_of(activate(shop, shop.request(order, "b"))) == (409, "no-seats")
    receipt = Receipt.make(customer, first.terms.id)
    back = ask(shop, "POST", "/v1/receipts", content=str(receipt), headers=TEXT)
    assert (back.status_code, back.json()["state"]) == (200, "free")
    assert activate(shop, shop.request(order, "b")).status_code == 201
    listed = RevocationList.from_text(ask(shop, "GET", "/v1/revocations").text)
    assert listed.revokes(first.terms.id)
    seats = ask(shop, "GET", f"/v1/orders/{order.id}/seats", "auditor").json()["seats"]
    assert sorted(seat["state"] for seat in seats) == ["free", "taken"]


def test_support_takes_back_revokes_and_cancels(shop: Shop) -> None:
    order = shop.order(seats=2, cooling=timedelta(days=3))
    licenses = [License.from_text(activate(shop, shop.request(order, n)).text) for n in "ab"]
    seats = ask(shop, "GET", f"/v1/orders/{order.id}/seats", "support").json()["seats"]
    why = {"reason": "the machine died"}
    taken = ask(shop, "POST", f"/v1/seats/{seats[0]['id']}/take-back", "support", json=why)
    assert (taken.status_code, taken.json()["state"]) == (200, "cooling")
    revoked = ask(
        shop, "POST", f"/v1/licenses/{licenses[1].terms.id}/revoke", "support", json=why
    ).json()
    assert revoked["reason"] == "the machine died"
    assert revoked["revoked_at"]
    cancelled = ask(shop, "POST", f"/v1/orders/{order.id}/cancel", "support", json=why).json()
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "the machine died")
    assert reason_of(activate(shop, shop.request(order, "c"))) == (410, "order-cancelled")
    listed = RevocationList.from_text(ask(shop, "GET", "/v1/revocations").text)
    listed.authenticate(shop.sale.trust)
    assert all(listed.revokes(each.terms.id) for each in licenses)


def test_what_was_done_is_in_the_audit_log_with_the_token(shop: Shop) -> None:
    order = new_order(shop, customer="audited")
    entries: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = ask(shop, "GET", f"/v1/audit?limit=7&after={after}", "auditor").json()
        entries += page["entries"]
        after = page["next"]
    (entry,) = [each for each in entries if each["subject"] == order["id"]]
    token = shop.secrets["shop"].split("_")[1]
    assert (entry["action"], entry["actor"]) == ("order.created", f"token {token}")
    assert [each["number"] for each in entries] == [*range(1, len(entries) + 1)]
    head = shop.ledger.check_audit(expect=entry["hash"])
    assert head is not None
    assert head.number == len(entries)


def test_orders_and_licenses_are_found_page_by_page(shop: Shop) -> None:
    orders = [shop.order(customer=f"page {number}") for number in range(5)]
    found: list[str] = []
    after = ""
    while after is not None:
        query = {"search": "page ", "limit": 2, "after": after}
        page = ask(shop, "GET", "/v1/orders", "shop", params=query).json()
        assert all(order["code"] is None for order in page["orders"])
        found += [order["id"] for order in page["orders"]]
        after = page["next"]
    assert found == [order.id for order in reversed(orders)]
    for number in range(3):
        assert activate(shop, shop.request(orders[0], f"m{number}")).status_code in (201, 409)
    query = {"order": orders[0].id}
    page = ask(shop, "GET", "/v1/licenses", "auditor", params=query).json()
    assert [each["customer"] for each in page["licenses"]] == ["page 0"]
    assert "armored" not in page["licenses"][0]
    unknown = ask(shop, "GET", "/v1/orders?after=" + "0" * 16, "shop")
    assert reason_of(unknown) == (404, "missing")


def test_codes_are_for_those_who_sell(shop: Shop) -> None:
    order = shop.order()
    shown = {
        role: ask(shop, "GET", f"/v1/orders/{order.id}", role).json()["code"]
        for role in shop.secrets
    }
    code = shop.issuer.code(order)
    assert shown == {"shop": code, "support": code, "auditor": None}


def test_an_idempotency_key_makes_one_order(shop: Shop) -> None:
    key = {"Idempotency-Key": "4f1c"}
    wanted = {"product": PRODUCT, "customer": "once"}

    def order(_: int) -> httpx.Response:
        return ask(shop, "POST", "/v1/orders", "shop", json=wanted, headers=key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(order, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replayed = ["Idempotency-Replayed" in answer.headers for answer in answers]
    assert replayed.count(False) == 1
    other = {**wanted, "seats": 2}
    answer = ask(shop, "POST", "/v1/orders", "shop", json=other, headers=key)
    assert reason_of(answer) == (409, "conflict")
    theirs = ask(shop, "POST", "/v1/orders", "support", json=other, headers=key)
    assert theirs.status_code == 201  # another token's key is another key


def test_a_reference_is_of_one_order(shop: Shop) -> None:
    first = new_order(shop, reference="shop-1")
    assert new_order(shop, reference="shop-1")["id"] == first["id"]
    wanted = {"product": PRODUCT, "reference": "shop-1", "seats": 9}
    answer = ask(shop, "POST", "/v1/orders", "shop", json=wanted)
    assert reason_of(answer) == (409, "conflict")


@pytest.mark.parametrize(
    "changes",
    [
        {"product": None},
        {"product": ""},
        {"seats": 0},
        {"seats": "1"},
        {"seats": 1.5},
        {"seats": True},
        {"seats": 10**30},
        {"lasts_seconds": 0},
        {"lasts_seconds": 10**12},
        {"expires_at": "tomorrow"},
        {"expires_at": "2030-01-01T00:00:00"},
        {"expires_at": 1},
        {"customer": "x" * 501},
        {"customer": "a\0b"},
        {"features": "all"},
        {"features": ["x"] * 65},
        {"metadata": {"a": 1}},
        {"tier": "no such tier"},
        {"unknown": 1},
        {"code": "AAAA"},
    ],
)
def test_an_order_that_cannot_be_is_refused(shop: Shop, changes: dict[str, Any]) -> None:
    wanted = {"product": PRODUCT, **changes}
    answer = ask(shop, "POST", "/v1/orders", "shop", json=wanted)
    assert reason_of(answer) == (422, "malformed")


def test_a_product_that_is_not_sold_is_missing(shop: Shop) -> None:
    answer = ask(shop, "POST", "/v1/orders", "shop", json={"product": "another"})
    assert reason_of(answer) == (404, "missing")
    (product,) = ask(shop, "GET", "/v1/products", "auditor").json()["products"]
    assert product["name"] == PRODUCT


def test_signed_files_are_cached_until_they_change(shop: Shop) -> None:
    first = ask(shop, "GET", "/v1/revocations")
    assert first.headers["Cache-Control"] == "public, max-age=60"
    tag = first.headers["ETag"]
    second = ask(shop, "GET", "/v1/revocations", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (second.status_code, second.content, second.headers["ETag"]) == (304, b"", tag)
    head = ask(shop, "HEAD", "/v1/revocations")
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)
    order = shop.order()
    activate(shop, shop.request(order, "a"))
    assert ask(shop, "GET", "/v1/revocations").headers["ETag"] == tag
    shop.issuer.cancel(order.id)  # at the desk, say
    third = ask(shop, "GET", "/v1/revocations", headers={"If-None-Match": tag})
    assert third.status_code == 200
    assert third.headers["ETag"] != tag


def test_without_a_policy_there_is_none(shop: Shop) -> None:
    assert reason_of(ask(shop, "GET", "/v1/policy"))[0] == 404


def test_each_role_may_do_what_it_is_for(shop: Shop) -> None:
    order = shop.order()
    activate(shop, shop.request(order, "a"))
    (seat,) = shop.ledger.seats(order.id)
    order_path, seat_path = f"/v1/orders/{order.id}", f"/v1/seats/{seat.id}"
    license_path = f"/v1/licenses/{seat.license_id}"
    wanted, why = {"product": PRODUCT}, {"reason": "test"}
    everyone, sellers = {"shop", "support", "auditor"}, {"shop", "support"}
    allowed: list[tuple[str, str, Any, set[str]]] = [
        ("POST", "/v1/orders", wanted, sellers),
        ("GET", "/v1/orders", None, everyone),
        ("GET", order_path, None, everyone),
        ("GET", f"{order_path}/seats", None, everyone),
        ("GET", "/v1/licenses", None, everyone),
        ("GET", "/v1/products", None, everyone),
        ("GET", "/v1/audit", None, {"auditor"}),
        ("GET", "/metrics", None, {"auditor"}),
        ("POST", f"{license_path}/revoke", why, {"support"}),
        ("POST", f"{seat_path}/take-back", why, {"support"}),
        ("POST", f"{order_path}/cancel", why, {"support"}),
    ]
    for method, path, body, roles in allowed:
        assert reason_of(ask(shop, method, path, json=body)) == (401, "refused")
        for role in sorted(everyone - roles):
            assert reason_of(ask(shop, method, path, role, json=body)) == (403, "refused"), path
        for role in sorted(roles):
            assert ask(shop, method, path, role, json=body).status_code in (200, 201), path


def test_a_token_that_was_revoked_is_refused_at_once(shop: Shop) -> None:
    token, text = shop.ledger.new_token("auditor", "leaving")
    headers = {"Authorization": f"Bearer {text}"}
    assert ask(shop, "GET", "/v1/orders", headers=headers).status_code == 200
    shop.ledger.revoke_token(token.id)
    assert reason_of(ask(shop, "GET", "/v1/orders", headers=headers)) == (401, "refused")


def test_health(shop: Shop) -> None:
    for path in ("/healthz", "/readyz"):
        assert ask(shop, "GET", path).json() == {"status": "ok"}


def test_metrics_count(shop: Shop) -> None:
    activate(shop, shop.request(shop.order(), "counted"))
    text = ask(shop, "GET", "/metrics", "auditor").text
    assert 'nnguard_licenses_total{kind="new"}' in text
    assert 'nnguard_http_requests_total{method="POST",route="/v1/licenses",status="201"}' in text
    assert "nnguard_events_waiting" in text


def test_a_request_that_is_too_old_is_refused(shop: Shop) -> None:
    old = datetime.now(timezone.utc) - timedelta(days=30)
    order = shop.order()
    product = shop.ledger.product(PRODUCT)
    request = nnguard.licensing.Request.make(
        nnguard.Identity.generate(),
        stream=product.stream,
        lock=product.lock,
        order=shop.issuer.code(order),
        issued_at=old,
    )
    assert reason_of(activate(shop, request)) == (422, "stale-request")
