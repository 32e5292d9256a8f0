"""Telling others what happened: signed, again after failures, once to each that has heard."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

import nnguard
from nnguard._server.metrics import Metrics
from nnguard._server.settings import ServerSettings
from nnguard._server.telling import Teller, secret_of
from nnguard.licensing import Issuer, Ledger
from sales import Sale, sell
from shop import PRODUCT, opened

START = 1_790_000_000
HOUR = 3600


@dataclass
class Receiver:
    """Somebody who is told.

    Attributes:
        url: Where.
        heard: Headers and bodies, in their order.
        status: What it answers with.
    """

    url: str = ""
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.heard]

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.heard]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.heard.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(receiver.status)
            if receiver.status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def sale() -> Sale:
    return sell(nnguard.SigningKey.generate(), sign_trial=True)


@pytest.fixture
def issuer(sale: Sale, tmp_path: Path) -> Iterator[Issuer]:
    with Ledger(tmp_path / "licenses.db") as ledger:
        found = Issuer(ledger, sale.vendor, nnguard.Identity.generate())
        found.add_product(sale.locked.trial, sale.locked.content_key, name=PRODUCT)
        yield found


def teller_of(issuer: Issuer, clock: Clock, *urls: str) -> Teller:
    settings = ServerSettings(webhook_urls=urls, clock=clock)
    return Teller(issuer, settings, Metrics(issuer.ledger.backlog))


def due(clock: Clock) -> None:
    """Let events that were written just now be due."""
    clock.now = time.time() + 1


def test_what_happens_is_told_and_its_signature_is_right(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        opened(
            str(tmp_path / "licenses.db"),
            webhook_urls=(receiver.url,),
            public_url="https://l.example",
        ) as shop,
    ):
        order = shop.order(customer="Müller & Söhne")
        license_ = shop.issuer.answer(shop.request(order, "a"))
        shop.issuer.cancel(order.id, reason="refunded")
        deadline = time.monotonic() + 30
        while len(receiver.heard) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        secret = secret_of(shop.issuer, receiver.url)
        lines = shop.server.log.getvalue()
    for headers, body in receiver.heard:
        standardwebhooks.Webhook(secret).verify(body.decode(), headers)
    messages = {each["type"]: each for each in receiver.messages()}
    assert messages["order.created"]["data"]["order"] == order.id
    assert messages["order.created"]["data"]["url"] == "https://l.example"
    assert messages["license.issued"]["data"]["license"] == license_.terms.id
    assert messages["license.revoked"]["data"]["license"] == license_.terms.id
    assert messages["order.cancelled"]["data"]["reason"] == "refunded"
    code = messages["order.created"]["data"]["code"]
    assert code.count("-") >= 3
    assert secret not in lines
    assert code not in lines


def test_a_receiver_that_is_down_for_an_hour_hears_all_of_it_once(issuer: Issuer) -> None:
    clock = Clock()
    with receiving() as receiver, receiving() as other:
        teller = teller_of(issuer, clock, receiver.url, other.url)
        receiver.status = 503
        orders = [issuer.order(PRODUCT, customer=str(number)) for number in range(5)]
        due(clock)
        begun = clock.now
        while clock.now < begun + HOUR:
            teller.tell_due()
            clock.now += 60
        tries = len(receiver.heard)
        assert 5 * 4 <= tries <= 5 * 8  # later and later
        receiver.status = 200
        receiver.heard.clear()
        while issuer.ledger.backlog():
            teller.tell_due()
            clock.now += 60
        told = [each["data"]["order"] for each in receiver.messages()]
        assert sorted(told) == sorted(each.id for each in orders)
        assert len(other.heard) == 5  # who heard of it was left alone
        assert sorted(receiver.ids()) == sorted(other.ids())
        assert teller.tell_due() == 0


def test_after_three_days_nobody_is_told_any_more(issuer: Issuer) -> None:
    clock = Clock()
    with receiving() as receiver:
        receiver.status = 500
        teller = teller_of(issuer, clock, receiver.url)
        issuer.order(PRODUCT)
        due(clock)
        begun = clock.now
        while issuer.ledger.backlog():
            teller.tell_due()
            clock.now += HOUR
            assert clock.now < begun + 100 * HOUR
    assert clock.now > begun + 60 * HOUR


@pytest.mark.parametrize("status", [301, 302, 400, 404, 500])
def test_only_a_success_is_one_and_nothing_is_followed(issuer: Issuer, status: int) -> None:
    clock = Clock()
    with receiving() as receiver:
        receiver.status = status
        teller = teller_of(issuer, clock, receiver.url)
        issuer.order(PRODUCT)
        due(clock)
        assert teller.tell_due() == 1
        assert len(receiver.heard) == 1
    assert issuer.ledger.backlog() == 1


def test_who_cannot_be_reached_is_tried_again(issuer: Issuer) -> None:
    clock = Clock()
    with receiving() as receiver:
        url = receiver.url
    teller = teller_of(issuer, clock, url)
    issuer.order(PRODUCT)
    due(clock)
    assert teller.tell_due() == 1
    assert issuer.ledger.backlog() == 1


def test_an_event_that_a_killed_instance_had_taken_comes_again(issuer: Issuer) -> None:
    clock = Clock()
    issuer.order(PRODUCT)
    due(clock)
    with receiving() as receiver:
        teller = teller_of(issuer, clock, receiver.url)
        now = ServerSettings(clock=clock).now()
        (taken,) = issuer.ledger.take_events(10, at=now)  # and then it was killed
        assert teller.tell_due() == 0
        clock.now += 10 * 60
        assert teller.tell_due() == 1
        assert receiver.ids() == [taken.id]


def test_several_instances_tell_each_event_once(issuer: Issuer) -> None:
    clock = Clock()
    for number in range(60):
        issuer.order(PRODUCT, customer=str(number))
    due(clock)
    with receiving() as receiver:
        tellers = [teller_of(issuer, clock, receiver.url) for _ in range(3)]

        def tell_all(teller: Teller) -> None:
            while teller.tell_due():
                pass

        threads = [threading.Thread(target=tell_all, args=(each,)) for each in tellers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(receiver.ids()) == len(set(receiver.ids())) == 60


def test_each_receiver_has_a_secret_of_its_own(issuer: Issuer) -> None:
    first, second = (secret_of(issuer, f"https://{name}.example") for name in ("a", "b"))
    assert first != second
    assert first == secret_of(issuer, "https://a.example")


def test_where_nobody_wants_to_hear_events_are_given_up(issuer: Issuer) -> None:
    clock = Clock()
    issuer.order(PRODUCT)
    due(clock)
    teller = teller_of(issuer, clock)
    assert teller.tell_due() == 0
    assert issuer.ledger.backlog() == 1  # somebody may be named yet
    clock.now += 73 * HOUR
    assert teller.tell_due() == 1
    assert issuer.ledger.backlog() == 0
