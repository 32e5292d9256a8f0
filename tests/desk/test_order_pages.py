"""An order's page: what a customer gets there, and what is said where it does not work."""

from __future__ import annotations

import contextlib
import re
import shlex
import sqlite3
from datetime import timedelta
from pathlib import Path

import click
import pytest

import nnguard
import shop as shops
from nnguard._cli.commands import NNGUARD
from nnguard.licensing import License, Receipt

TEMPLATES = Path(nnguard.__file__).parent / "_server" / "pages" / "templates"
HTML = "<script>alert('x')</script><b>Ada & \"Söhne\"</b>"
KEY_OF_ANOTHER_KIND = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


def upload(visitor: shops.Visitor, text: str | bytes) -> None:
    visitor.get("/order")
    visitor.send("/order/request", file=text)


def paste(visitor: shops.Visitor, key: str, name: str) -> None:
    visitor.get("/order")
    visitor.send("/order/key", key=key, name=name)


def test_commands_on_pages_are_commands() -> None:
    """What customers copy is read by the very parser that it is for."""
    found = []
    for page in sorted(TEMPLATES.rglob("*.html")):
        for text in re.findall(r"<code>(nnguard .*?)</code></pre>", page.read_text(), re.DOTALL):
            words = shlex.split(re.sub(r"{{.*?}}", "https://shop.example", text))[1:]
            command: click.Command = NNGUARD
            while isinstance(command, click.Group):
                found.append(words.pop(0))
                named = command.get_command(click.Context(command), found[-1])
                assert named is not None, text
                command = named
            command.make_parser(click.Context(command)).parse_args([*words])
            options = [each for each in command.params if isinstance(each, click.Option)]
            assert all({*each.opts} & {*words} for each in options if each.required), text
    assert {*found} == {"license", "activate", "release", "request", "unlock"}


class TestEntrance:
    @pytest.mark.parametrize("write", [str, str.lower, lambda code: code.replace("-", " ")])
    def test_takes_a_code_as_people_write_it(self, shop: shops.Shop, write: object) -> None:
        order = shop.order(customer="Grace")
        with shop.visitor() as visitor:
            visitor.get("/")
            visitor.send("/", code=f" {write(shop.issuer.code(order))} ")  # type: ignore[operator]
            assert visitor.page.url.path == "/order"
            assert "Grace" in visitor.text

    @pytest.mark.parametrize("code", ["", "K7Q2", "0000-" * 7, HTML, "é" * 40, "\0", "9" * 5000])
    def test_says_that_there_is_no_such_order(self, shop: shops.Shop, code: str) -> None:
        with shop.visitor() as visitor:
            visitor.get("/")
            visitor.send("/", code=code)
            assert visitor.page.status_code == 404
            assert "There is no order with this code" in visitor.text
            assert "<script>" not in visitor.page.text

    def test_guesses_are_few(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = str(tmp_path_factory.mktemp("guesses") / "ledger.db")
        with shops.opened(path, guess_rate="3/minute") as shop, shop.visitor() as visitor:
            visitor.get("/")
            for _ in range(3):
                visitor.send("/", code="K7Q2")
                assert visitor.page.status_code == 404
            visitor.send("/", code=shop.issuer.code(shop.order()))
            assert visitor.page.status_code == 429
            assert "Too many attempts" in visitor.text
            visitor.get("/desk/login")
            visitor.send("/desk/login", secret=shop.secrets["shop"])
            assert visitor.page.status_code == 429


class TestRequests:
    def test_a_license_comes_of_a_request(self, shop: shops.Shop) -> None:
        order = shop.order()
        identity = nnguard.Identity.generate()
        with shop.customer(order) as visitor:
            upload(visitor, str(shop.request(order, "render-01", identity)))
            assert visitor.page.status_code == 200
            assert "The license for Machine 1 is ready" in visitor.text
            (seat,) = shop.ledger.seats(order.id)
            answer = visitor.get(f"/order/seats/{seat.id}/license")
        assert answer.headers["content-disposition"] == (
            'attachment; filename="small-Machine-1.license"'
        )
        license_ = License.from_text(answer.text)
        here = nnguard.licensing.Policy(device=nnguard.licensing.Device.named("render-01"))
        opened = nnguard.unlock(
            shop.sale.locked.trial, license_, identity, shop.sale.trust, license_policy=here
        )
        assert bytes(opened) == bytes(shop.sale.release)

    def test_the_same_request_takes_no_seat_more(self, shop: shops.Shop) -> None:
        order = shop.order(seats=2)
        request = str(shop.request(order, "once"))
        with shop.customer(order) as visitor:
            for _ in range(2):
                upload(visitor, request)
                assert "The license for Machine 1 is ready" in visitor.text
        assert len(shop.ledger.seats(order.id)) == 1
        assert len(shop.ledger.licenses(order=order.id)) == 1

    def test_a_request_from_before_a_renewal_leads_to_its_seat(self, shop: shops.Shop) -> None:
        order, ada = shop.order(), nnguard.Identity.generate()
        requests = [shop.request(order, "rack-7", ada) for _ in range(2)]
        with shop.customer(order) as visitor:
            for request in (*requests, requests[0]):
                upload(visitor, str(request))
                assert "The license for Machine 1 is ready" in visitor.text

    def test_one_too_many_is_told_so(self, shop: shops.Shop) -> None:
        order = shop.order(seats=1)
        shop.issuer.answer(shop.request(order, "first"))
        with shop.customer(order) as visitor:
            assert "None of 1 free" in visitor.text
            upload(visitor, str(shop.request(order, "second")))
            assert visitor.page.status_code == 409
            assert "All seats are taken" in visitor.text
            assert "Give back the seat of a machine" in visitor.text

    def test_one_for_another_order_is_refused(self, shop: shops.Shop) -> None:
        order, other = shop.order(), shop.order()
        with shop.customer(order) as visitor:
            upload(visitor, str(shop.request(other)))
            assert visitor.page.status_code == 422
            assert "This request is for another order" in visitor.text
        assert shop.ledger.seats(other.id) == []

    def test_a_license_is_renewed(self, shop: shops.Shop) -> None:
        order = shop.order()
        identity = nnguard.Identity.generate()
        license_ = shop.issuer.answer(shop.request(order, "render", identity))
        again = nnguard.licensing.Request.make(
            identity,
            stream=license_.terms.stream,
            lock=license_.terms.lock,
            license=license_.terms.id,
            device=nnguard.licensing.Device.named("render"),
        )
        with shop.customer(order) as visitor:
            upload(visitor, str(again))
            assert "The license for Machine 1 is ready" in visitor.text
        with shop.customer(shop.order()) as visitor:
            upload(visitor, str(again))
            assert "This request is for another order" in visitor.text
        assert len(shop.ledger.seats(order.id)) == 1

    @pytest.mark.parametrize(
        ("file", "said"),
        [
            ("", "Choose a file first"),
            ("hello", "This is not a license request Look for a text"),
            (bytes(range(256)), "This is not a license request"),
            (b"x" * 65_537, "This file is too large"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", "This is your private key Keep it to yourself"),
            ("-----BEGIN NNGUARD LICENSE-----\nAAAA\n", "not a license request It is a license."),
            ("-----BEGIN NNGUARD LICENSE REQUEST-----\nAAAA\n", "Not a license request"),
        ],
    )
    def test_other_files_are_told_apart(
        self, shop: shops.Shop, file: str | bytes, said: str
    ) -> None:
        with shop.customer(shop.order()) as visitor:
            upload(visitor, file)
            assert 400 <= visitor.page.status_code < 500
            assert said in visitor.text

    def test_one_that_was_changed_is_refused(self, shop: shops.Shop) -> None:
        order = shop.order()
        request = shop.request(order)
        changed = request.encoded[:-1] + bytes([request.encoded[-1] ^ 1])
        with shop.customer(order) as visitor:
            upload(visitor, str(type(request).parse(changed)))
            assert visitor.page.status_code == 422
        assert shop.ledger.seats(order.id) == []


class TestKeys:
    def test_a_license_comes_of_a_public_key(self, shop: shops.Shop) -> None:
        order = shop.order()
        identity = nnguard.Identity.generate()
        with shop.customer(order) as visitor:
            paste(visitor, f"\n {identity.recipient.pem.decode()}\n", "  Ada's \t laptop ")
            assert "The license for Ada's laptop is ready" in visitor.text
            (seat,) = shop.ledger.seats(order.id)
            answer = visitor.get(f"/order/seats/{seat.id}/license")
        assert 'filename="small-Ada-s-laptop.license"' in answer.headers["content-disposition"]
        license_ = License.from_text(answer.text)
        opened = nnguard.unlock(shop.sale.locked.trial, license_, identity, shop.sale.trust)
        assert bytes(opened) == bytes(shop.sale.release)

    def test_a_private_key_is_not_sent_back(self, shop: shops.Shop) -> None:
        key = nnguard.Identity.generate().pem().decode()
        with shop.customer(shop.order()) as visitor:
            paste(visitor, key, "laptop")
            assert "This is your private key" in visitor.text
            assert key.splitlines()[1] not in visitor.page.text
        assert key.splitlines()[1] not in shop.server.log.getvalue()

    @pytest.mark.parametrize(
        ("key", "name", "said"),
        [
            ("", "laptop", "This is not a public key"),
            (HTML, "laptop", "This is not a public key"),
            (KEY_OF_ANOTHER_KIND, "laptop", "This does not work"),
            ("good", "", "Give the machine a name"),
            ("good", " \n ", "Give the machine a name"),
            ("good", "x" * 101, "This name is too long"),
            ("good", "a\u202eb", "This name is too long, or not text"),
        ],
    )
    def test_what_is_wrong_is_said(self, shop: shops.Shop, key: str, name: str, said: str) -> None:
        order = shop.order()
        if key == "good":
            key = nnguard.Identity.generate().recipient.pem.decode()
        with shop.customer(order) as visitor:
            paste(visitor, key, name)
            assert visitor.page.status_code == 422
            assert said in visitor.text
            assert 'aria-invalid="true"' in visitor.page.text
            assert "<script>" not in visitor.page.text
        assert shop.ledger.seats(order.id) == []

    def test_an_order_may_ask_for_fingerprints(self, shop: shops.Shop) -> None:
        order = shop.order(named_devices=False)
        with shop.customer(order) as visitor:
            assert "With a public key" not in visitor.text
            paste(visitor, nnguard.Identity.generate().recipient.pem.decode(), "laptop")
            assert visitor.page.status_code >= 400
        assert shop.ledger.seats(order.id) == []


class TestGivingBack:
    def test_with_a_receipt_a_seat_is_free_at_once(self, shop: shops.Shop) -> None:
        order = shop.order()
        identity = nnguard.Identity.generate()
        license_ = shop.issuer.answer(shop.request(order, "old", identity))
        (seat,) = shop.ledger.seats(order.id)
        with shop.customer(order) as visitor:
            visitor.get(f"/order/seats/{seat.id}/give-back")
            assert "after 7 days" in visitor.text
            receipt = Receipt.make(identity, license_.terms.id)
            visitor.send(f"/order/seats/{seat.id}/receipt", file=str(receipt))
            assert "The seat of Machine 1 is free again" in visitor.text
            assert "1 of 1 free" in visitor.text
            upload(visitor, str(shop.request(order, "new")))
            assert "The license for Machine 2 is ready" in visitor.text
        assert license_.terms.id in shop.ledger.revoked_ids()

    def test_without_one_a_seat_cools(self, shop: shops.Shop) -> None:
        order = shop.order(cooling=timedelta(days=3))
        license_ = shop.issuer.answer(shop.request(order, "lost"))
        (seat,) = shop.ledger.seats(order.id)
        with shop.customer(order) as visitor:
            visitor.get(f"/order/seats/{seat.id}/give-back")
            assert "another machine can have the seat after 3 days: from" in visitor.text
            visitor.send(f"/order/seats/{seat.id}/give-back")
            assert "The seat of Machine 1 was given back" in visitor.text
            assert "Free on" in visitor.text
            upload(visitor, str(shop.request(order, "new")))
            assert visitor.page.status_code == 409
            assert visitor.get(f"/order/seats/{seat.id}/license").status_code == 404
        (entry,) = shop.ledger.licenses(order=order.id)
        assert entry.license_id == license_.terms.id
        assert entry.reason == "given back on the order's page"

    def test_a_receipt_of_another_machine_gives_nothing_back(self, shop: shops.Shop) -> None:
        order = shop.order(seats=2)
        identity = nnguard.Identity.generate()
        other = shop.issuer.answer(shop.request(order, "other", identity))
        shop.issuer.answer(shop.request(order, "this"))
        _, seat = shop.ledger.seats(order.id)
        with shop.customer(order) as visitor:
            for text in (str(Receipt.make(identity, other.terms.id)), "nothing", ""):
                visitor.get(f"/order/seats/{seat.id}/give-back")
                visitor.send(f"/order/seats/{seat.id}/receipt", file=text)
                assert visitor.page.status_code == 422
        assert [each.state for each in shop.ledger.seats(order.id)] == ["taken", "taken"]

    def test_a_seat_of_a_pasted_key_has_no_receipt(self, shop: shops.Shop) -> None:
        order = shop.order()
        shop.issuer.grant(order, nnguard.Identity.generate().recipient, name="laptop")
        (seat,) = shop.ledger.seats(order.id)
        with shop.customer(order) as visitor:
            visitor.get(f"/order/seats/{seat.id}/give-back")
            assert "Receipt" not in visitor.text
            visitor.send(f"/order/seats/{seat.id}/give-back")
            assert "The seat of laptop was given back" in visitor.text


def test_an_order_that_was_cancelled_says_so(shop: shops.Shop) -> None:
    order = shop.order()
    shop.issuer.answer(shop.request(order, "render"))
    shop.issuer.cancel(order.id, reason=f"Refunded {HTML}")
    with shop.customer(order) as visitor:
        assert "This order was cancelled" in visitor.text
        assert "Refunded <script>" in visitor.text
        assert "<script>" not in visitor.page.text
        assert "Get a license" not in visitor.text
        visitor.send("/order/request", file=str(shop.request(order)))
        assert visitor.page.status_code == 410


def test_an_order_that_has_ended_says_so(shop: shops.Shop) -> None:
    order = shop.order(expires_at="2030-01-01")
    with contextlib.closing(sqlite3.connect(shop.path)) as database, database:
        long_ago = "UPDATE nnguard_orders SET expires_at = 1577836800 WHERE id = ?"
        database.execute(long_ago, [order.id])
    with shop.customer(order) as visitor:
        assert "This order has ended" in visitor.text
        assert "Get a license" not in visitor.text


def test_names_are_text(shop: shops.Shop) -> None:
    order = shop.order(customer=HTML, seats=3)
    recipient = nnguard.Identity.generate().recipient
    shop.issuer.grant(order, recipient, name=HTML)
    (seat,) = shop.ledger.seats(order.id)
    with shop.customer(order) as visitor:
        for path in (
            "/order",
            f"/order?done=license&seat={seat.id}",
            f"/order?done={HTML}&seat={HTML}",
            f"/order/seats/{seat.id}/give-back",
        ):
            visitor.get(path)
            assert visitor.page.status_code == 200
            assert "<script" not in visitor.page.text
            assert "<b>" not in visitor.page.text
        answer = visitor.get(f"/order/seats/{seat.id}/license")
        name = answer.headers["content-disposition"]
        assert name == 'attachment; filename="small-script-alert-x-script-b-Ada-S-hne-b.license"'
