"""`product`, `order` and `ledger`: the seller at the desk, whose customers have no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import nnguard
from selling_behavior import goods
from transcripts import Run

pytest.importorskip("sqlalchemy")

SIGN = ("--key", "vendor.key")
OPEN = ("--ledger-key", "desk.key")
GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"


@pytest.fixture(autouse=True)
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put what the seller has, and a trial, into the folder."""
    monkeypatch.setenv("NNGUARD_LEDGER", "licenses.db")
    key, identity, _, locked = goods()
    key.save("vendor.key", overwrite=True)
    key.public_key.save("vendor.pub", overwrite=True)
    identity.save("desk.key")
    locked.trial.save("trial.nnc")
    locked.content_key.save("content.key")


def done(run: Run, *arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert (result.code, result.err) == (0, ""), result.out + result.err
    printed: dict[str, Any] = json.loads(result.out)
    return printed


def add_product(run: Run) -> None:
    done(run, "product", "add", "trial.nnc", "--content-key", "content.key", *SIGN, *OPEN)


def order(run: Run, *options: str) -> dict[str, Any]:
    return done(run, "order", "new", "small", *OPEN, *options)


def test_a_sale_without_a_network(run: Run, folder: Path) -> None:
    add_product(run)
    made = order(run, "--seats", "1", "--customer", "Ada", "--lasts", "30d", "--grace", "7d")
    ada = nnguard.Identity.generate()
    ada.save("ada.key")
    request = nnguard.licensing.request("trial.nnc", ada, order=made["code"])
    request.save("ada.request")
    answer = ("license", "issue", "--request", "ada.request", *SIGN, *OPEN)
    issued = done(run, *answer, "-o", "ada.license")["license"]
    assert (issued["customer"], issued["order"]) == ("Ada", made["order"]["id"])
    done(run, *answer, "-o", "again.license")
    assert Path("again.license").read_bytes() == Path("ada.license").read_bytes()
    unlock = ("unlock", "trial.nnc", "--license", "ada.license", "--identity", "ada.key")
    done(run, *unlock, "--trust", "vendor.pub", "-o", "full.nnc")
    assert Path("full.nnc").read_bytes() == bytes(goods().release)

    other = nnguard.licensing.request("trial.nnc", nnguard.Identity.generate(), order=made["code"])
    other.save("other.request")
    refused = run("license", "issue", "--request", "other.request", *SIGN, *OPEN, "-o", "x.license")
    assert (refused.code, refused.out) == (19, "")
    assert "1 of 1 seats" in refused.err
    assert not Path("x.license").exists()

    nnguard.licensing.Receipt.make(ada, issued["id"]).save("ada.receipt")
    assert done(run, "order", "give-back", "ada.receipt")["seat"]["state"] == "free"
    done(run, "license", "issue", "--request", "other.request", *SIGN, *OPEN, "-o", "x.license")


def test_a_dead_machine_gives_its_seat_back_after_a_while(run: Run) -> None:
    add_product(run)
    made = order(run, "--cooling", "0d")
    nnguard.licensing.request("trial.nnc", nnguard.Identity.generate(), order=made["code"]).save(
        "a.request"
    )
    done(run, "license", "issue", "--request", "a.request", *SIGN, *OPEN, "-o", "a.license")
    (seat,) = done(run, "order", "seats", made["order"]["id"])["seats"]
    assert seat["state"] == "taken"
    result = run("order", "take-back", seat["id"], "--reason", "it burned down")
    assert "license revoke -o" in result.out
    assert done(run, "license", "list", "--revoked")["licenses"][0]["reason"] == "it burned down"
    assert done(run, "order", "show", made["order"]["id"])["seats_used"] == 0


def test_orders_are_listed_shown_and_cancelled(run: Run) -> None:
    assert run("order", "list").code == 14
    add_product(run)
    first = order(run, "--customer", "Ada", "--reference", "A-1")
    assert order(run, "--customer", "Ada", "--reference", "A-1") == first
    assert run("order", "new", "small", *OPEN, "--reference", "A-1").code == 14
    order(run, "--customer", "Eve")
    listed = run("order", "list").out.splitlines()
    assert [line.split()[2] for line in listed] == ["customer", "Eve", "Ada"]
    found = done(run, "order", "list", "--search", "a-1")["orders"]
    assert [each["customer"] for each in found] == ["Ada"]
    shown = done(run, "order", "show", first["order"]["id"])
    assert "code" not in shown
    by_code = done(run, "order", "show", first["code"].lower(), *OPEN)
    assert by_code == {**shown, "code": first["code"]}
    assert run("order", "show", "K7Q2", *OPEN).code == 19
    assert "Cancelled" in run("order", "cancel", first["order"]["id"], "--reason", "refund").out
    (cancelled,) = done(run, "order", "list", "--state", "cancelled")["orders"]
    assert cancelled["reason"] == "refund"
    assert run("order", "cancel", "0" * 16).code == 14
    assert run("order", "list", "--state", "odd").code == 2


def test_the_audit_log_is_checked_and_shown(run: Run) -> None:
    add_product(run)
    before = done(run, "ledger", "audit")
    order(run)
    result = run("ledger", "audit", "--expect", before["head"], "--show", "1")
    assert result.code == 0
    assert "whole: 3 entries" in result.out
    assert "order.created" in result.out
    assert run("ledger", "audit", "--expect", "ab" * 32).code == 14
    assert run("ledger", "audit", "--expect", "no hash").code == 2


def test_tokens_are_made_listed_and_revoked(run: Run) -> None:
    result = run("ledger", "token", "new", "--role", "shop", "--name", "web")
    text = result.out.strip()
    with nnguard.licensing.Ledger("licenses.db") as ledger:
        token = ledger.check_token(text)
    assert token is not None
    listed = run("ledger", "token", "list").out
    assert token.id in listed
    assert text.split("_", 2)[2] not in listed
    done(run, "ledger", "token", "revoke", token.id)
    with nnguard.licensing.Ledger("licenses.db") as ledger:
        assert ledger.check_token(text) is None
    assert run("ledger", "token", "new", "--role", "root", "--name", "web").code == 2


def test_an_older_ledger_is_upgraded(run: Run) -> None:
    shutil.copy(GOLDEN / "ledger.db", "licenses.db")
    result = run("license", "list")
    assert result.code == 14
    assert "nnguard ledger upgrade" in result.err
    assert done(run, "ledger", "upgrade")["upgraded"]
    assert not done(run, "ledger", "upgrade")["upgraded"]
    assert len(done(run, "license", "list")["licenses"]) == 3
    assert run("ledger", "upgrade", "--ledger", "nowhere.db").code == 14


def test_a_request_without_an_order_is_answered_from_the_trial(run: Run) -> None:
    ada = nnguard.Identity.generate()
    device = nnguard.licensing.Device.named("rack-7")
    nnguard.licensing.request("trial.nnc", ada, device=device).save("ada.request")
    issue = ("license", "issue", "trial.nnc", *SIGN, "--content-key", "content.key")
    issued = done(run, *issue, "--request", "ada.request", "-o", "a.license", "--customer", "Ada")
    assert issued["license"]["recipient"] == ada.recipient.id.hex()
    assert issued["license"]["device"] == {"required": 1, "of": 1}
    other = nnguard.licensing.Request.make(ada, stream="ab" * 32, lock="ab" * 8)
    other.save("other.request")
    assert run(*issue, "--request", "other.request", "-o", "b.license").code == 19


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "there is no TRIAL"),
        (("--request", "r"), "--ledger-key"),
        (("--request", "r", *OPEN, "--customer", "Ada"), "--customer contradicts --request"),
        (("trial.nnc", "--content-key", "content.key"), "--to is missing"),
        (
            ("trial.nnc", "--content-key", "content.key", "--to", "a", "--request", "b"),
            "--to is missing",
        ),
    ],
)
def test_what_contradicts_a_request_is_refused(
    run: Run, arguments: tuple[str, ...], says: str
) -> None:
    result = run("license", "issue", *arguments, *SIGN, "-o", "a.license")
    assert result.code == 2
    assert says in result.err
