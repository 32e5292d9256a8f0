"""What customers do at a command line to get a license, to keep it, and to give it back."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import nnguard
from nnguard.errors import ActivationError, ActivationReason
from nnguard.licensing import Issuer, Ledger, License, Order, Receipt, Request
from sales import Sale, sell
from shop import Shop, opened
from transcripts import Run

REQUEST = ("license", "request", "trial.nnc", "-o", "ada.request", "--identity", "ada.key")
UNLOCK = ("unlock", "trial.nnc", "-o", "full.nnc", "--license", "ada.license")
UNLOCK = (*UNLOCK, "--identity", "ada.key", "--trust", "vendor.pub", "--license-state", "ada.state")
RELEASE = ("license", "release", "ada.license", "-o", "ada.receipt", "--identity", "ada.key")
RELEASE = (*RELEASE, "--license-state", "ada.state")
CODE = "K7Q2-9DXM-4T0C-VB31"


@pytest.fixture(scope="module")
def sale(key: nnguard.SigningKey) -> Sale:
    return sell(key, sign_trial=True)


@pytest.fixture
def issuer(sale: Sale, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """The seller, in a folder of its own."""
    with Ledger(str(tmp_path_factory.mktemp("seller") / "ledger.db")) as ledger:
        issuer = Issuer(ledger, sale.vendor, nnguard.Identity.generate())
        issuer.add_product(sale.locked.trial, sale.locked.content_key, name="small")
        yield issuer


@pytest.fixture
def order(issuer: Issuer) -> Order:
    return issuer.order("small", customer="Ada", seats=1, lasts=timedelta(days=30))


@pytest.fixture(autouse=True)
def trial(sale: Sale, folder: Path) -> None:
    sale.locked.trial.save("trial.nnc")


def by_mail(issuer: Issuer, name: str = "ada") -> License:
    """Let the seller answer the request that lies in the customer's folder."""
    license_ = issuer.answer(Request.from_text(Path(f"{name}.request").read_text()))
    Path(f"{name}.license").write_text(f"Dear Ada,\n> {license_}".replace("\n", "\r\n"))
    return license_


def test_everything_without_a_socket(
    run: Run, issuer: Issuer, order: Order, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders, the customer's and the seller's, and what they mail each other."""

    def no_socket(*_: object, **__: object) -> socket.socket:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", no_socket)
    asked = run(*REQUEST, "--order", issuer.code(order).lower())
    assert asked.code == 0, asked.err
    assert "Made your private key: ada.key" in asked.out
    assert Request.load("ada.request").digest in asked.out
    assert Path("ada.key").stat().st_mode & 0o777 == 0o600

    first = by_mail(issuer)
    assert run("license", "check", "ada.license", "--trust", "vendor.pub").code == 0
    assert run(*UNLOCK).code == 0
    assert Path("full.nnc").read_bytes() == bytes(sale.release)

    renewed = run(
        *("license", "request", "--renews", "ada.license", "-o", "ada.request"),
        *("--identity", "ada.key", "--force"),
    )
    assert renewed.code == 0, renewed.err
    second = by_mail(issuer)
    assert second != first
    assert len(issuer.ledger.seats(order.id)) == 1

    Path("full.nnc").unlink()
    assert run(*UNLOCK).code == 0
    released = run(*RELEASE)
    assert released.code == 0, released.err
    refused = run(*UNLOCK, "--force")
    assert refused.code == 9
    assert "was given back on this machine" in refused.err

    assert run("license", "device", "-o", "eve.device", "--name", "rack-7").code == 0
    ask = (*REQUEST[:-1], "eve.key", "--order", issuer.code(order), "--device", "eve.device")
    assert run(*ask, "--force").code == 0
    with pytest.raises(ActivationError) as caught:
        by_mail(issuer)
    assert caught.value.reason is ActivationReason.NO_SEATS
    issuer.give_back(Receipt.load("ada.receipt"))
    by_mail(issuer)
    check = ("license", "check", "ada.license", "--trust", "vendor.pub")
    assert run(*check, "--device", "eve.device").code == 0
    assert run(*check).code == 9  # on a machine that has no such name


def test_request_as_json_and_as_qr_code(run: Run) -> None:
    asked = run(*REQUEST, "--order", CODE, "--qr")
    assert asked.code == 0, asked.err
    rows = [line for line in asked.out.splitlines() if set(line) <= set(" ▀▄█")]
    assert len(rows) == 13
    assert {len(row) for row in rows} == {25}
    again = run(*REQUEST, "--order", CODE, "--force", "--json")
    values = json.loads(again.out)
    assert values["made_identity"] is False
    assert values["request"]["digest"] == Request.load("ada.request").digest
    assert CODE not in again.out


def test_order_code_can_come_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments are seen by everybody on the machine."""
    monkeypatch.setenv("NNGUARD_ORDER", CODE)
    assert run(*REQUEST).code == 0
    assert Request.load("ada.request").order == CODE


def test_identity_that_is_made_can_be_protected(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("phrase").write_text("correct horse\n")
    assert run(*REQUEST, "--order", CODE, "--passphrase-file", "phrase").code == 0
    assert b"ENCRYPTED" in Path("ada.key").read_bytes()
    again = run(*REQUEST, "--order", CODE, "--force", "--passphrase-file", "phrase")
    assert again.code == 0, again.err
    monkeypatch.setenv("NNGUARD_PASSPHRASE", "wrong")
    assert run(*REQUEST, "--order", CODE, "--force").code == 6


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("license request -o x --identity ada.key", 2, "a request is for a TRIAL, or --renews"),
        ("license request trial.nnc -o x --identity ada.key", 2, "a TRIAL to an order"),
        ("license request --renews ada.license --order A -o x --identity k", 2, "--order belongs"),
        (f"license request model.nnc -o x --identity k --order {CODE}", 5, "not locked"),
        (f"license request nowhere.nnc -o x --identity k --order {CODE}", 1, "no such file"),
        (f"license request trial.nnc -o x --identity no/k --order {CODE}", 1, "no folder no"),
        (f"license request trial.nnc -o x --identity k --order {CODE * 4}", 2, "76 bytes"),
        (f"license request trial.nnc -o x --identity k --leases -1 --order {CODE}", 2, "range"),
    ],
    ids=range(8),
)
def test_requests_that_cannot_be_made(run: Run, arguments: str, code: int, message: str) -> None:
    result = run(*arguments.split())
    assert result.code == code
    assert message in result.err
    assert not Path("x").exists()
    assert not Path("k").exists()


def test_show_knows_requests_and_receipts(run: Run, issuer: Issuer, order: Order) -> None:
    run(*REQUEST, "--order", issuer.code(order))
    shown = run("license", "show", "ada.request")
    assert shown.code == 0
    assert f"Request {Request.load('ada.request').digest} (not checked)" in shown.out
    assert issuer.code(order) not in shown.out
    license_ = by_mail(issuer)
    run(*RELEASE)
    assert f"Receipt of license {license_.terms.id}" in run("license", "show", "ada.receipt").out
    values = json.loads(run("license", "show", "ada.receipt", "--json").out)
    assert values["receipt"]["license"] == license_.terms.id
    assert f"order       {order.id}" in run("license", "show", "ada.license").out


def test_requests_are_no_licenses(run: Run) -> None:
    run(*REQUEST, "--order", CODE)
    result = run("license", "check", "ada.request", "--trust", "vendor.pub")
    assert result.code == 9
    assert "takes a license, and ada.request is a request" in result.err


# Licenses that only warn


@pytest.fixture
def ended(issuer: Issuer, sale: Sale) -> None:
    """A license that ended the day before yesterday, and only warns."""
    order = issuer.order("small", lasts=timedelta(days=1), warn_only=True)
    then = datetime.now(timezone.utc) - timedelta(days=3)
    ada = nnguard.Identity.generate()
    ada.save("ada.key")
    asked = nnguard.licensing.request(
        sale.locked.trial, ada, order=issuer.code(order), issued_at=then
    )
    issuer.answer(asked, at=then).save("ada.license")


LICENSED = ("--license", "ada.license", "--identity", "ada.key", "--trust", "vendor.pub")


def test_commands_warn_and_go_on(run: Run, ended: None, sale: Sale) -> None:
    checked = run("license", "check", "ada.license", "--trust", "vendor.pub")
    assert checked.code == 0
    assert "warns only  yes" in checked.out
    for result in (checked, run(*UNLOCK), run("gate", "trial.nnc", "served", *LICENSED)):
        assert result.code == 0, result.err
        assert result.err.count("its seller lets it go on") == 1
    assert Path("full.nnc").read_bytes() == bytes(sale.release)
    logged = run("gate", "trial.nnc", "again", *LICENSED, "--log-json")
    assert any(
        "its seller lets it go on" in str(json.loads(line)) for line in logged.err.splitlines()
    )
    values = run("license", "check", "ada.license", "--trust", "vendor.pub", "--json")
    assert "lets it go on" in json.loads(values.out)["warnings"][0]


def test_loading_warns_and_goes_on(ended: None, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("torch")
    import nnguard.torch

    state = nnguard.torch.load("trial.nnc", "vendor.pub", license="ada.license", identity="ada.key")
    assert state
    assert [each for each in caplog.messages if "its seller lets it go on" in each]


# With a server


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(str(tmp_path_factory.mktemp("shop") / "ledger.db")) as shop:
        yield shop


@pytest.fixture
def activated(shop: Shop, run: Run) -> Order:
    """An order, of which this machine has the only seat."""
    order = shop.order(lasts=timedelta(days=30))
    shop.sale.locked.trial.save("sold.nnc")
    shop.sale.vendor.public_key.save("shop.pub")
    result = run(
        *("license", "activate", "sold.nnc", "-o", "sold.license", "--identity", "ada.key"),
        *("--order", shop.issuer.code(order), "--server", shop.server.url, "--trust", "shop.pub"),
    )
    assert result.code == 0, result.err
    assert "Made your private key: ada.key" in result.out
    assert f"order       {order.id}" in result.out
    return order


REFRESH = ("license", "refresh", "sold.license", "--identity", "ada.key", "--trust", "shop.pub")


def test_refresh_puts_the_new_license_in_the_place_of_the_old(
    run: Run, shop: Shop, activated: Order
) -> None:
    first = Path("sold.license").read_bytes()
    result = run(*REFRESH, "--server", shop.server.url)
    assert (result.code, Path("sold.license").read_bytes()) == (0, first)
    assert "Not renewed: sold.license holds until" in result.out
    result = run(*REFRESH, "--server", shop.server.url, "--early", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["renewed"] is True
    assert Path("sold.license").read_bytes() != first
    opened = ("unlock", "sold.nnc", "-o", "sold.full", "--license", "sold.license")
    assert run(*opened, "--identity", "ada.key", "--trust", "shop.pub").code == 0
    assert Path("sold.full").read_bytes() == bytes(shop.sale.release)


def test_refresh_goes_on_without_a_server(run: Run, activated: Order) -> None:
    first = Path("sold.license").read_bytes()
    result = run(*REFRESH, "--server", "http://127.0.0.1:9", "--early")
    assert (result.code, Path("sold.license").read_bytes()) == (0, first)
    assert "cannot be reached" in result.err
    assert "the license still holds" in result.err
    result = run(*REFRESH, "--server", "http://127.0.0.1:9", "--now", "2100-01-01", "--json")
    assert result.code == 19
    assert json.loads(result.out)["reason"] == "unreachable"
    result = run(*REFRESH, "--server", "http://10.0.0.1")  # said at once, although it is not due
    assert result.code == 2
    assert "asked over TLS" in result.err
    result = run(*REFRESH, "--early")
    assert result.code == 2
    assert "names no server" in result.err
    assert Path("sold.license").read_bytes() == first


def test_release_with_a_server(run: Run, shop: Shop, activated: Order) -> None:
    gives = ("license", "release", "sold.license", "-o", "sold.receipt", "--identity", "ada.key")
    gives = (*gives, "--license-state", "ada.state")
    result = run(*gives, "--server", "http://127.0.0.1:9")
    assert result.code == 19
    assert "the receipt is in sold.receipt" in result.err
    check = ("license", "check", "sold.license", "--trust", "shop.pub")
    assert run(*check, "--license-state", "ada.state").code == 9  # it has gone, all the same
    result = run(*gives, "--server", shop.server.url, "--force")
    assert result.code == 0, result.err
    assert "the server has freed the seat" in result.out
    assert [seat.state for seat in shop.ledger.seats(activated.id)] == ["free"]


def test_activate_without_a_code(run: Run) -> None:
    asks = ("license", "activate", "trial.nnc", "-o", "x", "--identity", "k", "--trust")
    result = run(*asks, "vendor.pub", "--server", "https://a.example")
    assert result.code == 2
    assert "--order is missing" in result.err
