"""Activating, refreshing and giving back, by a server on a socket and its ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._licensing.unwrapped import Unwrapped
from nnguard.errors import (
    ActivationError,
    ActivationReason,
    ArgumentError,
    LicenseError,
    Refusal,
    WrongKeyError,
)
from nnguard.licensing import Device, License, Order, Policy, activate, refresh, release, send
from shop import Shop, opened

MONTH = timedelta(days=30)
RACK, OTHER = Device.named("rack-1"), Device.named("rack-2")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(str(tmp_path_factory.mktemp("shop") / "ledger.db")) as shop:
        yield shop


@pytest.fixture
def order(shop: Shop) -> Order:
    return shop.order(lasts=MONTH, grace=timedelta(days=10))


@pytest.fixture
def ada() -> nnguard.Identity:
    return nnguard.Identity.generate()


def get(shop: Shop, order: Order, ada: nnguard.Identity, device: Device = RACK) -> License:
    """Activate the shop's product for a machine."""
    request = nnguard.licensing.request(
        shop.sale.locked.trial, ada, order=shop.issuer.code(order), device=device
    )
    policy = Policy(device=device)
    return activate(request, shop.server.url, ada, shop.sale.trust, license_policy=policy)


def renew(shop: Shop, license_: License, ada: nnguard.Identity, **options: Any) -> License:
    """Refresh early, unless an option says otherwise."""
    given = {"early": True, "device": RACK, "server": shop.server.url}
    return refresh(license_, ada, shop.sale.trust, **{**given, **options})


def now() -> datetime:
    return datetime.now(timezone.utc)


@contextmanager
def answering(text: str) -> Iterator[str]:
    """A server that answers whatever it is asked with a text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_license_that_was_activated_unlocks(shop: Shop, order: Order, ada: Any) -> None:
    license_ = get(shop, order, ada)
    assert license_.terms.order == order.id
    full = nnguard.unlock(
        shop.sale.locked.trial,
        license_,
        ada,
        shop.sale.trust,
        license_policy=Policy(device=RACK),
    )
    assert bytes(full) == bytes(shop.sale.release)


def test_same_machine_takes_no_other_seat(shop: Shop, order: Order, ada: Any) -> None:
    assert get(shop, order, ada) != get(shop, order, ada)
    with pytest.raises(ActivationError) as caught:
        get(shop, order, nnguard.Identity.generate(), OTHER)
    assert caught.value.reason is ActivationReason.NO_SEATS
    assert caught.value.hint


def test_wrong_code(shop: Shop, order: Order, ada: Any) -> None:
    request = nnguard.licensing.request(shop.sale.locked.trial, ada, order="K7Q2-9DXM-4T0C")
    with pytest.raises(ActivationError) as caught:
        activate(request, shop.server.url, ada, shop.sale.trust)
    assert caught.value.reason is ActivationReason.UNKNOWN_ORDER


def test_license_is_renewed_once_half_of_its_life_is_over(
    shop: Shop, order: Order, ada: Any
) -> None:
    first = get(shop, order, ada)
    assert renew(shop, first, ada, early=False) is first
    second = renew(shop, first, ada)
    assert second != first
    assert (second.terms.order, second.terms.stream) == (order.id, first.terms.stream)
    assert [seat.license_id for seat in shop.ledger.seats(order.id)] == [second.terms.id]
    assert renew(shop, first, ada) not in (first, second)  # an old one serves as well


def test_half_of_its_life(
    shop: Shop, order: Order, ada: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody answers; so a warning says that somebody was asked."""
    license_ = get(shop, order, ada)
    for after, asked in ((MONTH / 2 - timedelta(seconds=1), False), (MONTH / 2, True)):
        caplog.clear()
        policy = Policy(now=license_.terms.issued_at + after, device=RACK)
        kept = refresh(license_, ada, shop.sale.trust, server=NOWHERE, license_policy=policy)
        assert kept is license_
        assert any("the license still holds" in each for each in caplog.messages) is asked


def test_server_that_is_away_stops_nobody_in_grace(
    shop: Shop, order: Order, ada: Any, caplog: pytest.LogCaptureFixture
) -> None:
    license_ = get(shop, order, ada)
    end = license_.terms.issued_at + MONTH
    in_grace = Policy(now=end + timedelta(days=9), device=RACK)
    assert renew(shop, license_, ada, server=NOWHERE, license_policy=in_grace) is license_
    assert any("grace period only" in each for each in caplog.messages)
    assert any("cannot be reached" in each for each in caplog.messages)
    over = Policy(now=end + timedelta(days=10), device=RACK)
    with pytest.raises(ActivationError) as caught:
        renew(shop, license_, ada, server=NOWHERE, license_policy=over)
    assert caught.value.reason is ActivationReason.UNREACHABLE


def test_license_that_has_expired_is_renewed(shop: Shop, ada: Any) -> None:
    """The clock of the machine is right, and the old license is over."""
    order = shop.order(lasts=timedelta(minutes=30))
    license_ = shop.issuer.answer(
        nnguard.licensing.request(
            shop.sale.locked.trial,
            ada,
            order=shop.issuer.code(order),
            device=RACK,
            issued_at=now() - timedelta(hours=1),
        ),
        at=now() - timedelta(hours=1),
    )
    assert renew(shop, license_, ada, early=False).terms.issued_at >= now() - timedelta(minutes=1)


def test_refusals_of_the_server_are_passed_on(shop: Shop, order: Order, ada: Any) -> None:
    license_ = get(shop, order, ada)
    shop.issuer.cancel(order.id, reason="refund")
    with pytest.raises(ActivationError) as caught:
        renew(shop, license_, ada)
    assert caught.value.reason is ActivationReason.ORDER_CANCELLED


def test_license_is_renewed_for_its_machine_only(
    shop: Shop, order: Order, ada: Any, tmp_path: Path
) -> None:
    license_ = get(shop, order, ada)
    with pytest.raises(LicenseError) as caught:
        renew(shop, license_, ada, device=OTHER)
    assert caught.value.reason is Refusal.OTHER_DEVICE
    with pytest.raises(WrongKeyError):
        renew(shop, license_, nnguard.Identity.generate())
    with pytest.raises(WrongKeyError):
        refresh(license_, ada, nnguard.SigningKey.generate().public_key, device=RACK)
    release(license_, ada, tmp_path / "state")
    policy = Policy(state=tmp_path / "state", device=RACK)
    with pytest.raises(LicenseError) as caught:
        renew(shop, license_, ada, license_policy=policy)
    assert caught.value.reason is Refusal.RELEASED


def test_license_without_a_server(shop: Shop, order: Order, ada: Any) -> None:
    license_ = get(shop, order, ada)
    with pytest.raises(ArgumentError, match="names no server"):
        renew(shop, license_, ada, server="")
    named = signed(shop, ada, license_, server=shop.server.url)
    assert renew(shop, named, ada, server="").terms.order == order.id


def signed(shop: Shop, ada: nnguard.Identity, license_: License, **terms: Any) -> License:
    """The same license, with other terms, signed by the vendor."""
    content_key, recipient = shop.sale.locked.content_key, ada.recipient
    return License.make(
        replace(license_.terms, **terms), Unwrapped(content_key), recipient, shop.sale.vendor
    )


def test_answers_of_a_server_that_lies(shop: Shop, order: Order, ada: Any) -> None:
    license_ = get(shop, order, ada)
    eve = nnguard.SigningKey.generate()
    stranger = nnguard.Identity.generate()
    terms, key = license_.terms, Unwrapped(shop.sale.locked.content_key)
    answers = {
        "nonsense": (LicenseError, "not a license"),
        str(nnguard.licensing.Receipt.make(ada, terms.id)): (LicenseError, "not a license"),
        str(License.make(terms, key, ada.recipient, eve)): (WrongKeyError, "not among"),
        str(
            License.make(
                replace(terms, recipient=stranger.recipient.id.hex()),
                key,
                stranger.recipient,
                shop.sale.vendor,
            )
        ): (WrongKeyError, "made out to"),
        str(signed(shop, ada, license_, stream="00" * 32)): (ActivationError, "not of the trial"),
        str(signed(shop, ada, license_, order="")): (ActivationError, "another order"),
        str(signed(shop, ada, license_, issued_at=terms.issued_at - MONTH)): (
            ActivationError,
            "older than this one",
        ),
        str(signed(shop, ada, license_, expires_at=now() - MONTH, not_before=now() - 2 * MONTH)): (
            LicenseError,
            "expired",
        ),
    }
    for text, (error, message) in answers.items():
        with answering(text) as server, pytest.raises(error, match=message):
            renew(shop, license_, ada, server=server)


def test_seat_is_free_when_its_receipt_has_come(
    shop: Shop, order: Order, ada: Any, tmp_path: Path
) -> None:
    license_ = get(shop, order, ada)
    receipt = release(license_, ada, tmp_path / "state")
    send(receipt, shop.server.url)
    send(receipt, shop.server.url)
    assert get(shop, order, nnguard.Identity.generate(), OTHER).terms.order == order.id
    with pytest.raises(ActivationError) as caught:
        renew(shop, license_, ada)
    assert caught.value.reason is ActivationReason.RELEASED
