"""The desk: who may do what there, and what is said and written down."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar

import pytest

import nnguard
import shop as shops
from nnguard._server.pages.chart import chart_of
from nnguard.licensing import Order
from postgresql import Server

HTML = "<script>alert('x')</script><b>Ada & \"Söhne\"</b>"
NOW = datetime.now(timezone.utc)
SUPPORT, SELLERS, ALL = {"support"}, {"shop", "support"}, set(shops.ROLES)
PAGES = {
    "/desk/orders": ALL,
    "/desk/orders?search=x&state=open": ALL,
    "/desk/orders/{order}": ALL,
    "/desk/licenses": ALL,
    "/desk/activity": ALL,
    "/desk/orders/new": SELLERS,
    "/desk/orders/{order}/cancel": SUPPORT,
    "/desk/seats/{seat}/take-back": SUPPORT,
    "/desk/licenses/{license}/revoke": SUPPORT,
    "/desk/audit": {"auditor"},
    "/desk/audit?check=yes": {"auditor"},
}


@pytest.fixture(scope="module")
def ids(shop: shops.Shop) -> dict[str, str]:
    order = shop.order(customer=HTML, reference="named", seats=5, metadata={HTML: HTML})
    shop.issuer.grant(order, nnguard.Identity.generate().recipient, name=HTML)
    (seat,) = shop.ledger.seats(order.id)
    return {"order": order.id, "seat": seat.id, "license": seat.license_id}


@pytest.fixture
def order(shop: shops.Shop) -> Order:
    order = shop.order(customer="Example GmbH")
    shop.issuer.answer(shop.request(order, "render"))
    return order


def fits(page: str, link: str) -> bool:
    """Tell whether a link leads to a page, of whatever order, seat or license."""
    return re.fullmatch(re.sub("{[a-z]+}", "[0-9a-f]+", page), link) is not None


class TestRoles:
    @pytest.mark.parametrize("role", shops.ROLES)
    def test_see_what_is_theirs(self, shop: shops.Shop, ids: dict[str, str], role: str) -> None:
        with shop.seller(role) as visitor:
            for path, roles in PAGES.items():
                visitor.get(path.format(**ids))
                assert visitor.page.status_code == (200 if role in roles else 403), path
                if role not in roles:
                    assert f"Its role is “{role}”" in visitor.text
                links = re.findall('href="(/desk[^"?]*)', visitor.page.text)
                for link in links:
                    allowed = [may for page, may in PAGES.items() if fits(page, link)]
                    assert all(role in may for may in allowed), (path, link)

    @pytest.mark.parametrize("role", ["shop", "auditor"])
    def test_do_not_what_is_not(self, shop: shops.Shop, ids: dict[str, str], role: str) -> None:
        before = shop.ledger.audit_head()
        with shop.seller(role) as visitor:
            for path, roles in PAGES.items():
                if path.endswith(("cancel", "take-back", "revoke")):
                    token = visitor.get("/desk/orders") and visitor.token()
                    answer = visitor.client.post(
                        path.format(**ids), data={"token": token, "reason": "because"}
                    )
                    assert answer.status_code == 403, (path, roles)
        assert shop.ledger.audit_head() == before

    def test_auditors_see_no_codes(self, shop: shops.Shop, ids: dict[str, str]) -> None:
        code = shop.issuer.code(ids["order"])
        for role in shops.ROLES:
            with shop.seller(role) as visitor:
                visitor.get(f"/desk/orders/{ids['order']}")
                assert (code in visitor.page.text) == (role != "auditor")

    def test_nobody_is_nobody(self, shop: shops.Shop, ids: dict[str, str]) -> None:
        with shop.visitor() as visitor:
            for path in PAGES:
                assert visitor.get(path.format(**ids)).url.path == "/desk/login"
            for secret in (
                "",
                "nng_",
                "nng_" + "0" * 16 + "_" + "A" * 43,
                shop.secrets["shop"][:-1],
            ):
                visitor.get("/desk/login")
                visitor.send("/desk/login", secret=secret)
                assert visitor.page.status_code == 403
                assert "This token is not known" in visitor.text


def test_names_are_text(shop: shops.Shop, ids: dict[str, str]) -> None:
    shop.issuer.revoke([ids["license"]], reason=HTML)
    for role in shops.ROLES:
        with shop.seller(role) as visitor:
            for path, roles in PAGES.items():
                if role in roles:
                    visitor.get(path.format(**ids))
                    assert "<script" not in visitor.page.text, path
                    assert "<b>" not in visitor.page.text, path
            visitor.get("/desk/orders?search=" + HTML)
            assert "<script" not in visitor.page.text


@pytest.mark.parametrize(
    "path",
    [
        "orders/0123456789abcdef",
        "orders/..%2f..",
        "seats/x/take-back",
        "licenses/00/revoke",
        "nothing",
    ],
)
def test_what_is_not_there_is_told_so(shop: shops.Shop, path: str) -> None:
    with shop.seller("support") as visitor:
        assert visitor.get(f"/desk/{path}").status_code == 404


class TestNewOrders:
    FORM: ClassVar = {
        "product": "small␟full",
        "customer": " Example GmbH ",
        "reference": "",
        "seats": "3",
        "ends": "2035-12-31",
        "lasts": "30",
        "grace": "14",
        "cooling": "2",
        "features": "export, batch,",
        "named_devices": "yes",
        "once": "0123",
    }

    def make(self, visitor: shops.Visitor, **changes: str) -> None:
        visitor.get("/desk/orders/new")
        once = re.findall('name="once" value="([0-9a-f]+)"', visitor.page.text)[0]
        visitor.send("/desk/orders/new", **{**self.FORM, "once": once, **changes})

    def test_is_made_of_what_was_written(self, shop: shops.Shop) -> None:
        with shop.seller("shop") as visitor:
            self.make(visitor, reference="form-1")
            order = shop.ledger.order(visitor.page.url.path.rpartition("/")[2])
            assert "The order was made" in visitor.text
            assert shop.issuer.code(order) in visitor.text
        assert (order.customer, order.seats, order.tier) == ("Example GmbH", 3, "full")
        assert order.expires_at == datetime(2036, 1, 1, tzinfo=timezone.utc)
        days = (order.lasts, order.grace, order.cooling)
        assert days == (timedelta(days=30), timedelta(days=14), timedelta(days=2))
        assert order.features == ("export", "batch")
        assert order.named_devices
        assert not order.warn_only
        entry = shop.ledger.audit(newest=True, limit=1)[0]
        token = shop.ledger.check_token(shop.secrets["shop"])
        assert token is not None
        assert entry.actor == f"token {token.id}"

    def test_is_made_in_postgresql(self, postgresql: Server) -> None:
        with shops.opened(postgresql.fresh_url()) as shop, shop.seller("shop") as visitor:
            self.make(visitor, customer="Long name " * 20)
            assert "The order was made" in visitor.text

    def test_a_form_that_is_sent_twice_makes_one(self, shop: shops.Shop) -> None:
        with shop.seller("shop") as visitor:
            self.make(visitor, customer="Twice", once="77")
            self.make(visitor, customer="Twice", once="77")
            self.make(visitor, customer="Twice", once="78")
        assert len(shop.ledger.orders(search="Twice")) == 2

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"seats": "0"}, "Write a number from 1"),
            ({"seats": "many"}, "Write a whole number"),
            ({"seats": "-1"}, "Write a whole number"),
            ({"seats": "٣"}, "Write a whole number"),
            ({"seats": "9" * 400}, "Write a whole number"),
            ({"lasts": "0"}, "Write a number from 1"),
            ({"grace": "1.5"}, "Write a whole number"),
            ({"ends": "tomorrow"}, "Write a date such as"),
            ({"ends": "2020-01-01"}, "would never hold"),
            ({"ends": "9999-12-31"}, "lies too far out"),
            ({"product": "nothing␟"}, "product"),
            ({"product": "small␟gold"}, "no tier"),
            ({"customer": HTML, "seats": ""}, "Write a whole number"),
        ],
    )
    def test_what_is_wrong_is_said_and_the_rest_kept(
        self, shop: shops.Shop, changes: dict[str, str], said: str
    ) -> None:
        before = shop.ledger.audit_head()
        with shop.seller("shop") as visitor:
            self.make(visitor, **changes)
            assert 400 <= visitor.page.status_code < 500
            assert said in visitor.text
            assert 'value="export, batch,"' in visitor.page.text
            assert "<script" not in visitor.page.text
        assert shop.ledger.audit_head() == before

    def test_another_order_has_the_reference(self, shop: shops.Shop) -> None:
        shop.order(reference="taken-already")
        with shop.seller("shop") as visitor:
            self.make(visitor, reference="taken-already")
            assert visitor.page.status_code == 409
            assert "This does not fit what is there" in visitor.text


class TestTakingAway:
    def test_needs_a_reason(self, shop: shops.Shop, order: Order) -> None:
        (seat,) = shop.ledger.seats(order.id)
        before = shop.ledger.audit_head()
        with shop.seller("support") as visitor:
            for path in (
                f"/desk/orders/{order.id}/cancel",
                f"/desk/seats/{seat.id}/take-back",
                f"/desk/licenses/{seat.license_id}/revoke",
            ):
                visitor.get(path)
                visitor.send(path, reason="  ")
                assert visitor.page.status_code == 422
                assert "Write a reason" in visitor.text
        assert shop.ledger.audit_head() == before

    def test_revokes_a_license(self, shop: shops.Shop, order: Order) -> None:
        (seat,) = shop.ledger.seats(order.id)
        with shop.seller("support") as visitor:
            visitor.get(f"/desk/orders/{order.id}")
            path = f"/desk/licenses/{seat.license_id}/revoke"
            assert f'href="{path}"' in visitor.page.text
            visitor.get(path)
            visitor.send(path, reason="Leaked")
            assert "The license was revoked" in visitor.text
            assert visitor.page.url.path == f"/desk/orders/{order.id}"
            assert f'href="{path}"' not in visitor.page.text
        entry = shop.ledger.get(seat.license_id)
        assert entry.reason == "Leaked"
        assert shop.ledger.seat(seat.id).state == "taken"

    def test_takes_back_a_seat(self, shop: shops.Shop, order: Order) -> None:
        (seat,) = shop.ledger.seats(order.id)
        with shop.seller("support") as visitor:
            path = f"/desk/seats/{seat.id}/take-back"
            visitor.get(path)
            assert "after 7 days" in visitor.text
            visitor.send(path, reason="Machine died")
            assert "The seat was taken back" in visitor.text
            assert "Free on" in visitor.text
        assert shop.ledger.seat(seat.id).state == "cooling"
        assert shop.ledger.get(seat.license_id).reason == "Machine died"

    def test_cancels_an_order(self, shop: shops.Shop, order: Order) -> None:
        with shop.seller("support") as visitor:
            path = f"/desk/orders/{order.id}/cancel"
            visitor.get(path)
            visitor.send(path, reason="Refunded")
            assert "The order was cancelled" in visitor.text
            assert f'href="{path}"' not in visitor.page.text
        assert shop.ledger.order(order.id).reason == "Refunded"
        assert shop.ledger.licenses(order=order.id)[0].revoked_at is not None


class TestLists:
    def test_come_in_pages(self, shop: shops.Shop) -> None:
        made = [shop.order(customer=f"Paged {number}").id for number in range(30)]
        for identity in (nnguard.Identity.generate(),):
            order = shop.order(customer="Paged licenses", seats=30)
            for number in range(27):
                shop.issuer.grant(order, identity.recipient, name=f"machine {number}")
        with shop.seller("auditor") as visitor:
            for path, least in (("orders", 31), ("licenses", 27)):
                seen: list[str] = []
                link = f"/desk/{path}?search=Paged"
                while link:
                    visitor.get(link)
                    found = re.findall('<th scope="row"[^>]*>(.*?)</th>', visitor.page.text)
                    assert 0 < len(found) <= 25
                    seen += found
                    older = re.findall('href="([^"]*)">Older', visitor.page.text)
                    link = older[0].replace("&amp;", "&") if older else ""
                assert len(seen) == len(set(seen)) == least
                assert "Newest" in visitor.text
            visitor.get("/desk/orders?search=Paged+29")
            assert visitor.page.text.count("<tr>") == 2
            assert made[29] in visitor.page.text
            visitor.get("/desk/orders?search=nothing+fits+this")
            assert "No order fits." in visitor.text

    def test_orders_by_state(self, shop: shops.Shop) -> None:
        order = shop.order(customer="Stateful")
        with shop.seller("shop") as visitor:
            for state, there in (("open", True), ("cancelled", False), ("", True), ("x", True)):
                visitor.get(f"/desk/orders?search=Stateful&state={state}")
                assert (order.id in visitor.page.text) == there
            shop.issuer.cancel(order.id)
            visitor.get("/desk/orders?search=Stateful&state=cancelled")
            assert order.id in visitor.page.text


@pytest.fixture
def small_shop(tmp_path: Path) -> Iterator[shops.Shop]:
    with shops.opened(str(tmp_path / "ledger.db")) as shop:
        yield shop


class TestAudit:
    def test_says_whether_the_chain_is_whole(self, small_shop: shops.Shop) -> None:
        shop = small_shop
        noted = shop.ledger.audit_head()
        assert noted is not None
        for number in range(60):
            shop.order(reference=f"number {number}")
        with shop.seller("auditor") as visitor:
            visitor.get(f"/desk/audit?check=yes&expect={noted.hash}")
            assert "The chain is whole" in visitor.text
            head = shop.ledger.audit_head()
            assert head is not None
            assert head.hash in visitor.text
            numbers: list[int] = []
            link = "/desk/audit"
            while link:
                visitor.get(link)
                numbers += map(int, re.findall('data-label="No.">([0-9]+)', visitor.page.text))
                older = re.findall('href="([^"]*)">Older', visitor.page.text)
                link = older[0] if older else ""
            assert numbers == list(range(head.number, 0, -1))
            visitor.get("/desk/audit?check=yes&expect=" + "0" * 64)
            assert "The chain is broken" in visitor.text
            with contextlib.closing(sqlite3.connect(shop.path)) as database, database:
                database.execute("UPDATE nnguard_audit SET actor = 'nobody' WHERE number = 5")
            visitor.get("/desk/audit?check=yes")
            assert "The chain is broken" in visitor.text
            assert "The chain is whole" not in visitor.text
            assert visitor.get("/desk/audit?before=x").status_code == 422
            assert visitor.get("/desk/audit?before=5000000").status_code == 200


class TestActivity:
    def test_draws_what_the_table_says(self, small_shop: shops.Shop) -> None:
        order = small_shop.order(seats=9)
        for ago in (0, 0, 0, 1, 29, 89):
            small_shop.issuer.grant(
                order,
                nnguard.Identity.generate().recipient,
                name=f"{ago}",
                at=NOW - timedelta(days=ago),
            )
        with small_shop.seller("shop") as visitor:
            for days, count in (("30", 5), ("90", 6), ("1e9", 5)):
                visitor.get(f"/desk/activity?days={days}")
                assert f"{count} machines were activated" in visitor.text
                bars = re.findall("<rect .*?<title>[^:]*: ([0-9]+)</title>", visitor.page.text)
                rows = re.findall('<td class="number">([0-9]+)</td>', visitor.page.text)
                assert list(reversed(bars)) == rows
                assert sum(map(int, rows)) == count

    @pytest.mark.parametrize(
        ("most", "rules"),
        [
            (0, [0, 1, 2, 3, 4]),
            (4, [0, 1, 2, 3, 4]),
            (7, [0, 2, 4, 6, 8]),
            (11, [0, 5, 10, 15]),
            (1234, [0, 500, 1000, 1500]),
            (10**6, [0, 500_000, 1_000_000]),
        ],
    )
    def test_lines_have_round_numbers(self, most: int, rules: list[int]) -> None:
        today = date(2026, 11, 5)
        chart = chart_of({today: most}, today, 30)
        assert [number for number, _ in chart.rules] == rules
        assert chart.bars[-1].height <= chart.base
        assert chart.bars[-1].y >= 0
        assert len(chart.bars) == 30
        assert len(chart.labels) == 6
