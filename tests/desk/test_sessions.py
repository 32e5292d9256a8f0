"""Who is at a page: cookies and forms that others made, changed, took over or kept for too long."""

from __future__ import annotations

import re
from datetime import timedelta
from http.cookies import SimpleCookie

import httpx
import pytest
from fastapi import Request
from fastapi.responses import Response

import shop as shops
from nnguard._server.pages.sessions import Sessions

SECRET = bytes(32)
HOUR = timedelta(hours=1)


def request_with(cookie: str, host: bytes = b"localhost") -> Request:
    headers = [(b"host", host), (b"cookie", cookie.encode())]
    return Request({"type": "http", "scheme": "http", "path": "/", "headers": headers})


def cookie_of(sessions: Sessions, subject: str, host: bytes = b"localhost") -> str:
    response = Response()
    sessions.open(request_with("", host), response, subject)
    return response.headers["set-cookie"].partition(";")[0]


class TestCookies:
    def test_says_what_was_shown(self) -> None:
        sessions = Sessions(SECRET, "order", HOUR)
        assert sessions.visit(request_with(cookie_of(sessions, "0123"))).subject == "0123"

    def test_ends(self) -> None:
        cookie = cookie_of(Sessions(SECRET, "order", HOUR), "0123")
        ended = Sessions(SECRET, "order", -timedelta(seconds=1))
        assert ended.visit(request_with(cookie)).subject == ""

    @pytest.mark.parametrize("at", [25, -30, -1])
    def test_one_that_was_changed_says_nothing(self, at: int) -> None:
        sessions = Sessions(SECRET, "order", HOUR)
        cookie = cookie_of(sessions, "0123")
        at %= len(cookie)
        changed = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
        if at == len(cookie) - 1:
            changed = cookie[:-1]  # the last digit has bits that mean nothing
        assert sessions.visit(request_with(changed)).subject == ""

    def test_one_of_another_kind_or_secret_says_nothing(self) -> None:
        cookie = cookie_of(Sessions(SECRET, "desk", HOUR), "0123").partition("=")[2]
        for sessions in (Sessions(SECRET, "order", HOUR), Sessions(bytes(31) + b"1", "desk", HOUR)):
            names = [f"nnguard-{kind}={cookie}" for kind in ("order", "desk")]
            assert sessions.visit(request_with("; ".join(names))).subject == ""

    def test_is_new_each_time(self) -> None:
        sessions = Sessions(SECRET, "order", HOUR)
        assert cookie_of(sessions, "0123") != cookie_of(sessions, "0123")

    def test_one_that_was_set_without_tls_is_not_taken_elsewhere(self) -> None:
        sessions = Sessions(SECRET, "order", HOUR)
        cookie = cookie_of(sessions, "0123")
        assert sessions.visit(request_with(cookie, b"licenses.example")).subject == ""

    def test_forms_are_of_one_visit(self) -> None:
        sessions, desk = Sessions(SECRET, "order", HOUR), Sessions(SECRET, "desk", HOUR)
        visits = [sessions.visit(request_with(cookie_of(sessions, name))) for name in "aab"]
        visits += [desk.visit(request_with(cookie_of(desk, "a")))]
        tokens = {sessions.token(visit) for visit in visits} | {desk.token(visits[0])}
        assert len(tokens) == 5


def cookies_of(response: httpx.Response) -> SimpleCookie:
    return SimpleCookie(response.headers["set-cookie"])


@pytest.mark.parametrize("path", ["/", "/desk/login"])
def test_cookies_are_for_the_server_alone(shop: shops.Shop, path: str) -> None:
    answer = httpx.get(shop.server.url + path, headers={"Host": "licenses.example"})
    ((name, cookie),) = cookies_of(answer).items()
    assert name.startswith("__Host-nnguard-")
    assert cookie["secure"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert cookie["path"] == "/"
    assert not cookie["domain"]


def test_at_home_cookies_do_without_tls(shop: shops.Shop) -> None:
    ((name, cookie),) = cookies_of(httpx.get(shop.server.url)).items()
    assert name == "nnguard-order-form"
    assert not cookie["secure"]
    assert cookie["httponly"]


class TestForms:
    def test_one_without_its_token_does_nothing(self, shop: shops.Shop) -> None:
        order = shop.order()
        with shop.customer(order) as visitor:
            request = str(shop.request(order))
            for data in ({}, {"token": ""}, {"token": "0" * 64}, {"token": "é"}):
                answer = visitor.client.post(
                    "/order/request", data=data, files={"file": ("a", request)}
                )
                assert answer.status_code == 403
                assert "This page is out of date" in answer.text
        assert shop.ledger.seats(order.id) == []

    def test_a_file_is_no_token(self, shop: shops.Shop) -> None:
        with shop.customer(shop.order()) as visitor:
            files = {"token": ("a", visitor.token())}
            assert visitor.client.post("/order/leave", files=files).status_code == 403

    def test_a_token_is_of_one_browser(self, shop: shops.Shop) -> None:
        order = shop.order()
        with shop.customer(order) as ada, shop.customer(order) as eve:
            data = {"token": eve.token()}
            assert ada.client.post("/order/leave", data=data).status_code == 403
            assert ada.client.post("/order/leave", data={"token": ada.token()}).status_code == 200

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_a_form_on_another_site_does_nothing(self, shop: shops.Shop, site: str) -> None:
        with shop.customer(shop.order()) as visitor:
            answer = visitor.client.post(
                "/order/leave", data={"token": visitor.token()}, headers={"Sec-Fetch-Site": site}
            )
            assert answer.status_code == 403

    def test_logging_in_needs_one_of_ours_too(self, shop: shops.Shop) -> None:
        """Nobody is logged in as somebody else without noticing."""
        answer = httpx.post(f"{shop.server.url}/desk/login", data={"secret": shop.secrets["shop"]})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    def test_forms_of_orders_are_not_those_of_the_desk(self, shop: shops.Shop) -> None:
        with shop.customer(shop.order()) as visitor:
            token = visitor.token()
            visitor.get("/desk/login")
            assert visitor.client.post("/desk/logout", data={"token": token}).status_code == 403

    def test_every_form_is_sent_with_a_token(self, shop: shops.Shop) -> None:
        order = shop.order()
        license_ = shop.issuer.answer(shop.request(order))
        (seat,) = shop.ledger.seats(order.id)
        with shop.customer(order) as customer, shop.seller("support") as seller:
            for visitor, path in (
                (customer, "/"),
                (customer, "/order"),
                (customer, f"/order/seats/{seat.id}/give-back"),
                (seller, "/desk/orders/new"),
                (seller, f"/desk/orders/{order.id}/cancel"),
                (seller, f"/desk/seats/{seat.id}/take-back"),
                (seller, f"/desk/licenses/{license_.terms.id}/revoke"),
            ):
                visitor.get(path)
                forms = re.findall(
                    '<form[^>]*method="post".*?</form>', visitor.page.text, re.DOTALL
                )
                assert forms, path
                assert all('name="token"' in form for form in forms), path


def test_a_token_that_was_revoked_ends_the_session(shop: shops.Shop) -> None:
    token, secret = shop.ledger.new_token("support", "leaving")
    with shop.visitor() as visitor:
        visitor.get("/desk/login")
        visitor.send("/desk/login", secret=secret)
        assert visitor.get("/desk/orders").url.path == "/desk/orders"
        shop.ledger.revoke_token(token.id)
        assert visitor.get("/desk/orders").url.path == "/desk/login"


def test_sessions_need_the_code_or_the_token_once(shop: shops.Shop) -> None:
    with shop.visitor() as visitor:
        assert visitor.get("/order").url.path == "/"
        assert visitor.get("/desk/orders").url.path == "/desk/login"
        assert visitor.get("/desk").url.path == "/desk/login"
    with shop.customer(shop.order()) as visitor:
        assert visitor.page.url.path == "/order"
        visitor.send("/order/leave")
        assert visitor.get("/order").url.path == "/"
    with shop.seller("shop") as visitor:
        assert visitor.page.url.path == "/desk/orders"
        visitor.send("/desk/logout")
        assert visitor.get("/desk/orders").url.path == "/desk/login"


def test_a_session_of_another_order_shows_nothing_of_this(shop: shops.Shop) -> None:
    order = shop.order()
    shop.issuer.answer(shop.request(order, "ours"))
    (seat,) = shop.ledger.seats(order.id)
    with shop.customer(shop.order(customer="Eve")) as visitor:
        for path in ("license", "give-back"):
            assert visitor.get(f"/order/seats/{seat.id}/{path}").status_code == 404
        visitor.get("/order")
        assert visitor.send(f"/order/seats/{seat.id}/give-back").status_code == 404
    assert shop.ledger.seats(order.id) == [seat]


class TestErrors:
    """What goes wrong before a page is reached is a page, too, for whoever asked for one."""

    BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"

    @pytest.mark.parametrize("path", ["/nothing", "/desk/nothing", "/order/seats/x", "/v1/x"])
    def test_nothing_is_there(self, shop: shops.Shop, path: str) -> None:
        with shop.visitor(Accept=self.BROWSER) as visitor:
            visitor.get(path)
            assert visitor.page.status_code == 404
            assert "There is no such thing here" in visitor.text
            assert "default-src 'none'" in visitor.page.headers["content-security-policy"]
        with shop.visitor(Accept="*/*") as visitor:
            assert visitor.get(path).headers["content-type"] == "application/problem+json"

    def test_a_form_is_too_large(self, shop: shops.Shop) -> None:
        with shop.visitor(Accept=self.BROWSER) as visitor:
            visitor.page = visitor.client.post("/", content=b"x" * ((1 << 20) + 1))
            assert visitor.page.status_code == 413
            assert "This is too large" in visitor.text

    def test_a_page_that_cannot_be_posted_to(self, shop: shops.Shop) -> None:
        with shop.visitor(Accept=self.BROWSER) as visitor:
            assert visitor.client.post("/order").status_code == 405
