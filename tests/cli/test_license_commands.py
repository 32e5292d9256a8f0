"""`license`: the vendor's desk and its ledger, and what customers ask of a license."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
import samples
from nnguard._cli import main
from nnguard._cli.options import read_time
from transcripts import Run, is_one_line

pytest.importorskip("sqlalchemy")

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202eLicense 00 holds"
ISSUE = ("license", "issue", "trial.nnc", "--key", "vendor.key")
SOLD = (*ISSUE, "--content-key", "content.key", "--to", "ada.pub")
REVOKE = ("license", "revoke", "--key", "vendor.key", "-o", "acme.revoked")
CHECK = ("license", "check", "ada.license", "--trust", "vendor.pub")


@pytest.fixture(scope="module")
def release(key: nnguard.SigningKey) -> nnguard.Stream:
    """A release with room for a lock, a signature and a mark."""
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=30_000))
    return nnguard.sign(model, key, issuer="acme.ai", name="small")


@pytest.fixture(scope="module")
def locked(release: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Locked:
    return nnguard.lock(release, soft=nnguard.Soft(fraction=0.001), signer=key)


@pytest.fixture(autouse=True)
def shop(
    folder: Path, locked: nnguard.Locked, monkeypatch: pytest.MonkeyPatch
) -> nnguard.ContentKey:
    """Put a trial, its content key and a customer's pair into the folder."""
    monkeypatch.setenv("NNGUARD_LEDGER", "licenses.db")
    locked.trial.save("trial.nnc")
    locked.content_key.save("content.key")
    ada = nnguard.Identity.generate()
    ada.save("ada.key")
    ada.recipient.save("ada.pub")
    return locked.content_key


def issue(run: Run, *options: str, output: str = "ada.license") -> dict[str, Any]:
    """Issue a license and return its terms."""
    result = run(*SOLD, "-o", output, *options, "--json")
    assert (result.code, result.err) == (0, ""), result.out
    printed = json.loads(result.out)
    assert (printed["ok"], printed["file"]) == (True, output)
    terms: dict[str, Any] = printed["license"]
    return terms


def licenses(run: Run, *options: str) -> list[dict[str, Any]]:
    result = run("license", "list", *options, "--json")
    assert (result.code, result.err) == (0, "")
    entries: list[dict[str, Any]] = json.loads(result.out)["licenses"]
    return entries


# Issuing


def test_issue_writes_a_license_for_one_customer(run: Run, folder: Path) -> None:
    terms = ("--customer", "Ada", "--expires", "2090-12-31", "--grace", "7", "--feature", "a")
    result = run(*SOLD, "-o", "ada.license", *terms, "--feature", "b", "--meta", "order=7")
    assert (result.code, result.err) == (0, "")
    license_ = nnguard.licensing.License.load("ada.license")
    assert result.out.startswith(f"Issued license {license_.terms.id}: ada.license\n")
    for line in (
        "  issuer      acme.ai",
        "  customer    Ada",
        "  product     small",
        "  tier        full",
        "  features    a, b",
        "  expires at  2090-12-31T00:00:00+00:00",
        "  grace       7 days",
        "  meta        order=7",
    ):
        assert line in result.out.splitlines()
    assert license_.terms.recipient == nnguard.Recipient.load("ada.pub").id.hex()
    text = (folder / "ada.license").read_text()
    assert text.startswith("-----BEGIN NNGUARD LICENSE-----\n")
    assert max(map(len, text.splitlines())) <= 76, "an e-mail does not break its lines"


def test_issuer_and_product_may_be_given(run: Run) -> None:
    terms = issue(run, "--issuer", "shop.example", "--product", "bundle")
    assert (terms["issuer"], terms["product"]) == ("shop.example", "bundle")
    assert terms["expires_at"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2090-12-31", "2090-12-31T00:00:00+00:00"),
        ("2090-12-31T18:00", "2090-12-31T18:00:00+00:00"),
        ("2090-12-31T18:00:05Z", "2090-12-31T18:00:05+00:00"),
        ("2090-12-31 18:00+01:00", "2090-12-31T17:00:00+00:00"),
        ("2090-12-31T23:30:00-01:00", "2091-01-01T00:30:00+00:00"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, expected: str) -> None:
    assert read_time(text).isoformat() == expected


def test_license_that_holds_later(run: Run) -> None:
    issue(run, "--not-before", "2089-01-01", "--expires", "2090-01-01T12:00:00Z")
    early = run(*CHECK, "--json")
    assert (early.code, json.loads(early.out)["reason"]) == (9, "not-yet-valid")
    assert run(*CHECK, "--now", "2090-01-01T11:59:59Z").code == 0
    late = run(*CHECK, "--now", "2090-01-01T12:00:00Z", "--json")
    assert (late.code, json.loads(late.out)["reason"]) == (9, "expired")


@pytest.mark.parametrize(
    ("options", "code", "advice"),
    [
        ("--content-key vendor.key", 6, "not a content key"),
        ("--content-key other.key", 7, "content key"),
        ("--to vendor.pub", 6, "keygen --identity"),
        ("--to missing.pub", 1, "missing.pub"),
        ("--key ada.key", 6, "ada.key"),
        ("--tier gold", 10, "it opens full"),
        ("--expires 2020-01-01", 2, "never hold"),
        ("--expires 2089-01-01 --not-before 2089-01-01", 2, "never hold"),
        ("--device vendor.pub", 2, "vendor.pub: not the fingerprint"),
        ("--device release.nnc", 2, "release.nnc: not the fingerprint"),
        ("--device d --device-matches 3", 2, "2 components"),
        ("--device-matches 1", 2, "--device"),
        ("--ledger-key vendor.key", 6, "vendor.key"),
        ("--ledger-passphrase-file secret --ledger-key desk.key", 6, "not protected"),
        ("-o no/such.license", 1, "no folder no"),
        ("-o vendor.pub", 1, "exists already"),
    ],
)
def test_license_that_cannot_be_issued(
    run: Run, folder: Path, options: str, code: int, advice: str
) -> None:
    nnguard.ContentKey.generate().save("other.key")
    nnguard.Identity.generate().save("desk.key")
    device = nnguard.licensing.Device.of_values([("host", "ada"), ("disk", "1")])
    (folder / "d").write_text(device.to_json())
    (folder / "secret").write_text("secret\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run(*SOLD, "-o", "ada.license", *options.split())
    assert (result.code, result.out) == (code, "")
    assert advice in result.err
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    if after.pop("licenses.db", None) is not None:
        assert not licenses(run), "nothing stands in the ledger"
    assert after == before


@pytest.mark.parametrize(
    ("trial", "code"), [("release.nnc", 5), ("model.nnc", 5), ("vendor.pub", 3), ("missing", 1)]
)
def test_license_needs_a_trial(run: Run, folder: Path, trial: str, code: int) -> None:
    result = run(*("license", "issue", trial, *SOLD[3:]), "-o", "ada.license")
    assert (result.code, result.out) == (code, "")
    assert not (folder / "ada.license").exists()


def test_license_is_overwritten_only_by_force(run: Run, folder: Path) -> None:
    (folder / "ada.license").write_text("mine")
    assert run(*SOLD, "-o", "ada.license").code == 1
    assert (folder / "ada.license").read_text() == "mine"
    assert not (folder / "licenses.db").exists()
    assert run(*SOLD, "-o", "ada.license", "--force").code == 0
    assert nnguard.licensing.License.load("ada.license")


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("license", "COMMAND"),
        ("license sell", "there is no command sell"),
        ("license issue trial.nnc -o a --key vendor.key", "--to"),
        ("license issue trial.nnc -o a --to ada.pub", "--key"),
        ("license issue t -o a --key k --to p --expires tomorrow", "such as 2027-12-31"),
        ("license issue t -o a --key k --to p --expires 9999-12-31T23:00-05:00", "is not a date"),
        ("license issue t -o a --key k --to p --grace -1", "'-1' is not a length of time"),
        ("license issue t -o a --key k --to p --grace nan", "'nan' is not a length of time"),
        ("license issue t -o a --key k --to p --grace 1e12", "'1e12' is not a length of time"),
        ("license issue t -o a --key k --to p --meta order", "KEY=VALUE"),
        ("license check ada.license", "--trust"),
        ("license check ada.license --trust vendor.pub --max-age 1e300", "length of time"),
        ("license show", "FILE"),
        ("license revoke 5f0c2a91 -o acme.revoked", "--key"),
        ("license device", "--output is missing"),
    ],
)
def test_wrong_usage_of_license(
    command: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    printed = capsys.readouterr().err
    assert is_one_line(printed) or (command == "license" and printed.startswith("Usage: nnguard"))
    assert advice in printed


# Showing and checking


def test_show_says_that_nothing_was_checked(run: Run, key: nnguard.SigningKey) -> None:
    terms = issue(run, "--customer", "Ada")
    result = run("license", "show", "ada.license")
    assert (result.code, result.err) == (0, "")
    first = result.out.splitlines()[0]
    assert first == (
        f"License {terms['id']} (not checked), signed with key {key.public_key.id.hex()}"
    )
    assert "  customer    Ada" in result.out
    assert "  expires at  never" in result.out
    printed = json.loads(run("license", "show", "ada.license", "--json").out)["license"]
    assert printed == {"verified": False, "key_id": key.public_key.id.hex(), **terms}


def test_show_of_something_else(run: Run, folder: Path) -> None:
    for name in ("vendor.pub", "trial.nnc", "content.key"):
        result = run("license", "show", name, "--json")
        assert result.code == 9
        assert json.loads(result.out)["reason"] == "malformed"
        assert name in json.loads(result.out)["message"]


def test_check_asks_for_signature_time_and_revocation(run: Run) -> None:
    terms = issue(run, "--expires", "2090-01-01", "--grace", "1")
    result = run(*CHECK)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"License {terms['id']} holds\n")
    assert run(*CHECK[:-1], "other.pub").code == 7
    grace = run(*CHECK, "--now", "2090-01-01T12:00")
    assert grace.out.startswith(f"License {terms['id']} holds in its grace period\n")
    printed = json.loads(run(*CHECK, "--now", "2090-01-01T12:00", "--json").out)
    assert (printed["in_grace"], printed["checked_at"]) == (True, "2090-01-01T12:00:00+00:00")


def test_license_survives_an_e_mail_and_no_change(run: Run, folder: Path) -> None:
    issue(run)
    text = (folder / "ada.license").read_text()
    quoted = "Dear Ada,\r\n\r\n" + text.replace("\n", "\r\n") + "\r\n-- \r\nacme\r\n"
    (folder / "ada.license").write_bytes(quoted.encode())
    assert run(*CHECK).code == 0
    armor = re.search("-\n\n?(.*)\n-", text, re.DOTALL)
    assert armor is not None
    data = bytearray(base64.b64decode(armor[1]))
    for at in range(0, len(data), 7):
        data[at] ^= 4
        (folder / "ada.license").write_text(text.replace(armor[1], base64.b64encode(data).decode()))
        assert run(*CHECK).code in (7, 9), f"byte {at}"
        data[at] ^= 4


def test_license_of_a_device(run: Run, folder: Path) -> None:
    result = run("license", "device", "-o", "ada.device")
    assert (result.code, result.err) == (0, "")
    device = nnguard.licensing.Device.from_json((folder / "ada.device").read_text())
    assert f"Wrote {len(device.fingerprint)} components, hashed" in result.out
    assert run("license", "device", "-o", "ada.device").code == 1
    printed = json.loads(run("license", "device", "-o", "ada.device", "-f", "--json").out)
    assert printed["fingerprint"] == [kind for kind, _ in device.fingerprint]
    terms = issue(run, "--device", "ada.device", "--device-matches", "1")
    assert terms["device"] == {"required": 1, "of": len(device.fingerprint)}
    assert (
        f"bound to one: 1 of {len(device.fingerprint)}" in run("license", "show", "ada.license").out
    )
    assert run(*CHECK).code == 0
    other = nnguard.licensing.Device.of_values([("host", "elsewhere")])
    (folder / "other.device").write_text(other.to_json())
    refused = run(*CHECK, "--device", "other.device", "--json")
    assert (refused.code, json.loads(refused.out)["reason"]) == (9, "other-device")


# The ledger


def test_ledger_lists_what_was_issued(run: Run, folder: Path) -> None:
    ada = issue(run, "--customer", "Ada", "--expires", "2090-12-31")
    eve = issue(run, "--customer", "Eve", "--product", "bundle", output="eve.license")
    result = run("license", "list")
    assert (result.code, result.err) == (0, "")
    today = ada["issued_at"][:10]
    assert result.out.splitlines() == [
        f"{'license':<32}  {'issued':<10}  customer  product  tier  expires",
        f"{ada['id']}  {today}  Ada       small    full  2090-12-31",
        f"{eve['id']}  {today}  Eve       bundle   full  never",
    ]
    assert [entry["license_id"] for entry in licenses(run)] == [ada["id"], eve["id"]]
    assert [entry["customer"] for entry in licenses(run, "--customer", "Eve")] == ["Eve"]
    assert [entry["customer"] for entry in licenses(run, "--product", "small")] == ["Ada"]
    assert licenses(run, "--revoked") == []
    assert run("license", "list", "--customer", "Bob").out == "There is no such license.\n"
    assert stat.S_IMODE((folder / "licenses.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("command", [("license", "list"), REVOKE])
@pytest.mark.parametrize("ledger", ["missing.db", "sqlite:///missing.db", "no/such/folder.db"])
def test_ledger_that_does_not_exist_is_not_made(
    run: Run, folder: Path, command: tuple[str, ...], ledger: str
) -> None:
    """A mistyped name must not look like an empty ledger, nor sign an empty list."""
    before = {path.name for path in folder.iterdir()}
    result = run(*command, "--ledger", ledger)
    assert (result.code, result.out) == (14, "")
    assert f"there is no ledger {ledger}" in result.err
    assert "NNGUARD_LEDGER" in result.err
    assert {path.name for path in folder.iterdir()} == before


def test_ledger_may_be_named(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGUARD_LEDGER", "desk.db")
    first = issue(run)
    second = issue(run, "--ledger", "sqlite:///other.db", output="b.license")
    assert not (folder / "licenses.db").exists()
    assert [entry["license_id"] for entry in licenses(run)] == [first["id"]]
    found = licenses(run, "--ledger", "other.db")
    assert [entry["license_id"] for entry in found] == [second["id"]]


def test_ledger_that_cannot_be_opened(run: Run) -> None:
    result = run("license", "list", "--ledger", "trial.nnc")
    assert (result.code, result.out) == (14, "")
    assert "trial.nnc" in result.err
    url = "postgresql://vendor:hunter2@localhost:1/desk"
    result = run("license", "list", "--ledger", url)
    assert result.code in (1, 14), "no driver, or no server"
    assert "hunter2" not in result.err


def test_failed_issue_leaves_no_entry(run: Run) -> None:
    issue(run)
    assert run(*SOLD, "-o", "no/such.license").code == 1
    assert run(*SOLD, "-o", "b.license", "--tier", "gold").code == 10
    assert len(licenses(run)) == 1


# Content keys in the ledger


def test_desk_keeps_the_content_key_for_later(run: Run, folder: Path) -> None:
    assert run("keygen", "desk", "--identity", "--post-quantum").code == 0
    refused = run(*ISSUE, "--to", "ada.pub", "-o", "a.license")
    assert refused.code == 2
    assert "--ledger-key" in refused.err
    later = (*ISSUE, "--to", "ada.pub", "--ledger-key", "desk.key")
    refused = run(*later, "-o", "a.license")
    assert refused.code == 6
    assert "give the content key once" in refused.err
    issue(run, "--ledger-key", "desk.key")
    (folder / "content.key").unlink()
    assert run(*later, "-o", "b.license").code == 0
    customer = ("--identity", "ada.key", "--trust", "vendor.pub")
    assert run("unlock", "trial.nnc", "-o", "f.nnc", "--license", "b.license", *customer).code == 0
    assert (folder / "f.nnc").read_bytes() == (folder / "release.nnc").read_bytes()
    refused = run(*ISSUE, "--to", "ada.pub", "--ledger-key", "ada.key", "-o", "c.license")
    assert refused.code == 7
    assert not (folder / "c.license").exists()
    assert len(licenses(run)) == 2


def test_desk_and_vendor_have_passphrases_of_their_own(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    (folder / "secret").write_text("desk's\n")
    (folder / "other").write_text("vendor's\n")
    keygen = ("keygen", "desk", "--identity", "--passphrase-file", "secret")
    assert run(*keygen).code == 0
    key.save("seller.key", passphrase="vendor's")
    passphrases = ("--ledger-passphrase-file", "secret", "--passphrase-file", "other")
    sold = (*SOLD, "-o", "ada.license", "--key", "seller.key", "--ledger-key", "desk.key")
    assert run(*sold, *passphrases).code == 0
    assert nnguard.licensing.License.load("ada.license").key_id == key.public_key.id.hex()


@pytest.mark.parametrize("desk", [(), ("--ledger-key", "desk.key")])
def test_content_key_is_nowhere_in_the_clear(
    run: Run, folder: Path, shop: nnguard.ContentKey, desk: tuple[str, ...]
) -> None:
    assert run("keygen", "desk", "--identity").code == 0
    printed = run(*SOLD, "-o", "ada.license", "--customer", "Ada", *desk).out
    printed += run("license", "list", "--json").out + run("license", "show", "ada.license").out
    printed += run(*ISSUE, "--to", "ada.pub", *desk, "-o", "b", "--tier", "gold").err
    secret = shop.secret
    with sqlite3.connect("licenses.db") as ledger:
        dump = "\n".join(ledger.iterdump())
    files = [path.read_bytes() for path in folder.iterdir() if path.name != "content.key"]
    for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:40]):
        assert not any(form in data for data in files)
        assert form.decode("latin-1") not in printed + dump
        assert form.hex() not in dump.lower(), "SQLite dumps bytes in hexadecimal"
    assert "nnguard_content_keys" in dump
    assert "Ada" in dump


# Revoking


def test_revoked_license_holds_no_longer(run: Run, folder: Path) -> None:
    ada = issue(run, "--customer", "Ada")
    issue(run, "--customer", "Eve", output="eve.license")
    result = run(*REVOKE, ada["id"][:8], "--reason", "refund")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"Revoked {ada['id']} of Ada",
        "Signed the list, 1 revoked so far: acme.revoked",
    ]
    assert run(*CHECK).code == 0, "the deployment does not know yet"
    refused = run(*CHECK, "--revocations", "acme.revoked", "--json")
    assert (refused.code, json.loads(refused.out)["reason"]) == (9, "revoked")
    eve = ("license", "check", "eve.license", "--trust", "vendor.pub")
    assert run(*eve, "--revocations", "acme.revoked", "--max-age", "7").code == 0
    (entry,) = licenses(run, "--revoked")
    assert (entry["license_id"], entry["reason"]) == (ada["id"], "refund")
    assert f"revoked {entry['revoked_at'][:10]} (refund)" in run("license", "list").out
    text = (folder / "acme.revoked").read_text()
    assert ada["id"] not in text, "the list tells nobody who bought what"


def test_list_is_signed_again_when_nothing_is_revoked(run: Run, folder: Path) -> None:
    terms = issue(run)
    printed = json.loads(run(*REVOKE, terms["id"], "--json").out)
    assert printed == {
        "ok": True,
        "file": "acme.revoked",
        "revoked": [terms["id"]],
        "on_list": 1,
    }
    assert run(*REVOKE).code == 1, "the list is there already"
    assert json.loads(run(*REVOKE, "--force", "--json").out)["on_list"] == 1
    fresh = ("--revocations", "acme.revoked", "--max-age", "1", "--json")
    later = datetime.now(timezone.utc) + timedelta(days=2)
    issue(run, output="b.license")
    check = ("license", "check", "b.license", "--trust", "vendor.pub", *fresh)
    assert run(*check).code == 0
    stale = run(*check, "--now", later.isoformat())
    assert (stale.code, json.loads(stale.out)["reason"]) == (9, "stale-revocations")


@pytest.mark.parametrize(
    ("license_id", "advice"),
    [("0" * 32, "no license"), ("abc", "8 or more"), ("../../etc", "not a license id")],
)
def test_license_that_is_not_in_the_ledger_is_not_revoked(
    run: Run, folder: Path, license_id: str, advice: str
) -> None:
    terms = issue(run)
    result = run(*REVOKE, terms["id"], license_id)
    assert (result.code, result.out) == (14, "")
    assert advice in result.err
    assert not (folder / "acme.revoked").exists()
    assert not licenses(run, "--revoked"), "all or none"


def test_revoking_without_the_key_revokes_nothing(run: Run, folder: Path) -> None:
    terms = issue(run)
    for options in (("--key", "vendor.pub"), ("-o", "no/such.revoked")):
        assert run(*REVOKE, terms["id"], *options).code in (1, 6)
        assert not licenses(run, "--revoked")


# All of them


def test_hostile_customers_are_printed_harmlessly(run: Run, folder: Path) -> None:
    terms = issue(run, "--customer", HOSTILE, "--product", HOSTILE, "--meta", f"a={HOSTILE}")
    unlock = ("unlock", "trial.nnc", "-o", "full.nnc", "--license", "ada.license")
    shows = (
        ("license", "show", "ada.license"),
        ("license", "show", "ada.license", "--json"),
        CHECK,
        ("license", "list"),
        ("license", "list", "--json"),
        (*REVOKE, terms["id"], "--reason", HOSTILE),
        (*unlock, "--identity", "ada.key", "--trust", "vendor.pub", "--watermark"),
        ("verify", "full.nnc", "--trust", "vendor.pub"),
        ("inspect", "full.nnc"),
    )
    for command in shows:
        result = run(*command)
        assert result.code == 0, result.err
        assert not set("\x1b\x07\r\u202e") & set(result.out), command
        assert "License 00 holds" not in result.out.splitlines()
        if command[0] != "unlock":
            assert "x1b" in result.out or "u001b" in result.out


def test_unprintable_options_end_in_an_exit_code(run: Run, folder: Path) -> None:
    for option in ("--customer", "--product", "--tier", "--feature"):
        result = run(*SOLD, "-o", "ada.license", option, "\udcff")
        assert result.code in (2, 10), option
        assert not (folder / "ada.license").exists()


def test_json_failures_of_license_commands_have_no_words_on_standard_error(run: Run) -> None:
    for command, code in (
        ("license show missing", 1),
        ("license check vendor.pub --trust vendor.pub", 9),
        ("license list --ledger missing.db", 14),
        ("license revoke --ledger missing.db --key vendor.key -o r", 14),
        ("license issue trial.nnc -o l --key vendor.key --to ada.pub", 2),
    ):
        result = run(*command.split(), "--json")
        assert (result.code, result.err) == (code, "")
        failure = json.loads(result.out)
        assert failure["ok"] is False
        assert failure["message"]


@pytest.mark.parametrize("command", ["", "issue", "show", "check", "revoke", "list", "device"])
def test_help_of_license_commands_has_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["license", *command.split(), "--help"]) == 0
    assert f"  nnguard license {command}".rstrip() in capsys.readouterr().out.split("example")[-1]


def test_process_sells_and_checks(folder: Path) -> None:
    done = samples.run_process(*SOLD, "-o", "ada.license", NNGUARD_LEDGER="desk.db")
    assert (done.returncode, done.stderr) == (0, b"")
    done = samples.run_process("license", "list", NNGUARD_LEDGER="desk.db")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 2, "headings, and a license"
    shutil.copy("vendor.pub", "ada.license")
    done = samples.run_process(*CHECK)
    assert (done.returncode, done.stdout) == (9, b"")
    assert is_one_line(done.stderr.decode())
    assert done.stderr.startswith(b"nnguard: ada.license: ")
