"""The relay on a real socket: what it answers to pods, and to who is none."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import license_server
import nnguard
from leased import NOW, POD, VENDOR, licensed, relay_of, sale, write_license
from license_server import Running
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._relay.app import make_app
from nnguard._relay.holder import Holder
from nnguard._relay.line import HttpLine
from nnguard._relay.refresher import Refresher
from nnguard._relay.relay import Relay
from nnguard.errors import ActivationError, LicenseError, WrongKeyError
from nnguard.licensing import ActivationReason as Reason
from nnguard.licensing import Lease, License, Policy

TOKEN = "a-token-that-is-shared"


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    write_license(tmp_path / "relay.license", 2)
    made = relay_of(tmp_path)
    made.leases.open(first=True)
    return made


@pytest.fixture
def server(relay: Relay) -> Iterator[Running]:
    with license_server.running(make_app(relay, token=TOKEN)) as running:
        yield running


def asked(**changes: Any) -> dict[str, Any]:
    pem = POD.recipient.pem.decode()
    return {"id": secrets.token_hex(16), "recipient": pem, "nonce": "0" * 32, **changes}


def send(
    server: Running,
    method: str,
    path: str,
    body: object = None,
    *,
    token: str = TOKEN,
    kind: str = "application/json",
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = kind
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else data, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def take(server: Running, **changes: Any) -> tuple[int, str]:
    return send(server, "POST", "/v1/leases", asked(**changes))


def holder(server: Running, identity: nnguard.Identity = POD) -> Holder:
    return Holder(HttpLine(server.url, TOKEN), identity, [VENDOR.public_key])


def test_takes_renews_and_gives_back(server: Running, relay: Relay) -> None:
    one, other, third = holder(server), holder(server), holder(server)
    lease = one.ask()
    assert 299 < one.left <= 300
    assert lease.unwrap(POD).content_key == sale().locked.content_key
    other.ask()
    with pytest.raises(ActivationError, match="all 2 leases are out") as caught:
        third.ask()
    assert caught.value.reason is Reason.NO_SEATS
    again = one.ask()
    assert again.id != lease.id
    assert relay.leases.count() == 2
    other.give_back()
    assert not other.left
    third.ask()


def test_a_lost_file_is_no_reason_to_stop_while_there_is_room(
    server: Running, relay: Relay
) -> None:
    one = holder(server)
    one.ask()
    relay.leases.path.unlink()
    relay.leases.open(first=True)
    one.ask()
    assert relay.leases.count() == 1


def test_health_and_numbers(server: Running) -> None:
    holder(server).ask()
    status, text = send(server, "GET", "/healthz", token="")
    assert status == 200
    assert json.loads(text) == {
        "status": "ok", "leases": 2, "out": 1, "expires_at": None, "warnings": [],
    }  # fmt: skip
    assert send(server, "GET", "/metrics", token="")[0] == 401
    status, text = send(server, "GET", "/metrics")
    lines = text.splitlines()
    assert status == 200
    assert "nnguard_leases_out 1.0" in lines
    assert "nnguard_leases_licensed 2.0" in lines
    assert 'nnguard_leases_total{what="taken"} 1.0' in lines
    assert "nnguard_license_ends_seconds +Inf" in lines


@pytest.mark.parametrize("token", ["", "another", TOKEN + "x", "t\u00f6ken"])
def test_without_the_token_nothing_is_heard(server: Running, relay: Relay, token: str) -> None:
    if token.isascii():
        assert send(server, "POST", "/v1/leases", asked(), token=token)[0] == 401
        assert send(server, "DELETE", "/v1/leases/1", token=token)[0] == 401
    else:
        body = json.dumps(asked()).encode()
        head = f"POST /v1/leases HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        rest = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        sent = (head + rest + "Connection: close\r\n\r\n").encode("latin-1")
        assert b" 401 " in server.raw(sent + body)
    assert relay.leases.count() == 0


SMALL_ORDER = (
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    "-----END PUBLIC KEY-----\n"
)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"recipient": "no key"}, 422),
        ({"recipient": VENDOR.public_key.pem.decode()}, 422),
        ({"recipient": SMALL_ORDER}, 422),
        ({"recipient": 7}, 422),
        ({"recipient": "x" * 17000}, 413),
        ({"id": "0" * 31}, 422),
        ({"id": "../" + "0" * 29}, 422),
        ({"id": "G" * 32}, 422),
        ({"id": "0" * 32 + "\n"}, 422),
        ({"nonce": None}, 422),
        ({"nonce": 1}, 422),
        ({"minutes": 10**9}, 422),
    ],
)
def test_other_questions(
    server: Running, relay: Relay, changes: dict[str, Any], status: int
) -> None:
    found, text = take(server, **changes)
    assert found == status
    assert json.loads(text)["status"] == status
    assert relay.leases.count() == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"null", 422),
        (b"[" * 10000, 400),
        (b'{"id": "0", "id": "1"}', 400),
        (b"\xff\xfe", 400),
        (b'{"id": NaN}', 400),
        (b"x" * 20000, 413),
    ],
)
def test_other_bodies(server: Running, body: bytes, status: int) -> None:
    assert send(server, "POST", "/v1/leases", body)[0] == status


def test_other_paths(server: Running, relay: Relay) -> None:
    for path in ("/v1/leases/../../etc/passwd", "/v1/leases/%2e%2e", "/v1/leases/" + "0" * 5000):
        assert send(server, "POST", path + "/renew", asked(id=""))[0] in (404, 422)
        assert send(server, "DELETE", path)[0] in (204, 404)
    assert send(server, "GET", "/v1/leases")[0] == 405
    assert send(server, "GET", "/docs")[0] == 404
    assert sorted(path.name for path in relay.license.parent.iterdir()) == [
        "leases", "relay.license",
    ]  # fmt: skip


def test_a_lease_is_one_machines(server: Running, relay: Relay) -> None:
    """Whoever knows the id, which is in no file, still needs the key that it is for."""
    mine = asked()
    assert send(server, "POST", "/v1/leases", mine)[0] == 201
    another = nnguard.Identity.generate().recipient.pem.decode()
    for path, body in (
        ("/v1/leases", {**mine, "recipient": another}),
        (f"/v1/leases/{mine['id']}/renew", {"recipient": another, "nonce": "0" * 32}),
    ):
        status, text = send(server, "POST", path, body)
        assert (status, json.loads(text)["reason"]) == (403, "other-key")
    assert send(server, "DELETE", f"/v1/leases/{secrets.token_hex(16)}")[0] == 204
    assert relay.leases.count() == 1


def test_nothing_secret_is_logged(server: Running) -> None:
    mine = asked()
    _, text = send(server, "POST", "/v1/leases", mine)
    assert mine["id"] not in Lease.from_text(text).encoded.hex()
    send(server, "DELETE", f"/v1/leases/{mine['id']}")
    server.event("request", method="DELETE")
    log = server.log.getvalue()
    assert mine["id"] not in log
    assert TOKEN not in log


# What a relay does not lease


def refuses(relay: Relay, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        relay.held()
    with license_server.running(make_app(relay)) as server:
        status, text = send(server, "POST", "/v1/leases", asked())
        assert status == 503, text
        assert json.loads(text)["reason"] == "unreachable"
        assert send(server, "GET", "/healthz")[0] == 503
        assert "nnguard_leases_licensed 0.0" in send(server, "GET", "/metrics")[1]
        with pytest.raises(ActivationError) as caught:
            holder(server).ask()
        assert caught.value.reason is Reason.UNREACHABLE
    assert relay.leases.count() == 0


def test_an_expired_license(relay: Relay) -> None:
    write_license(relay.license, 2, expires_at=NOW - timedelta(days=1), grace=timedelta(hours=1))
    refuses(relay, LicenseError, "the license expired")


def test_a_license_in_grace_goes_on(relay: Relay) -> None:
    write_license(relay.license, 2, expires_at=NOW - timedelta(days=1), grace=timedelta(days=9999))
    with license_server.running(make_app(relay)) as server:
        assert holder(server).ask().license.terms.leases == 2
        assert "grace" in json.loads(send(server, "GET", "/healthz")[1])["warnings"][0]


def test_a_license_for_one_machine(relay: Relay) -> None:
    sale().license().save(relay.license, overwrite=True)
    refuses(relay, LicenseError, "for one machine, not for leases")


def test_another_relays_license(relay: Relay) -> None:
    write_license(relay.license, 2, leaser=POD.request_signer.public_key)
    refuses(relay, WrongKeyError, "which is another relay's")


def test_a_license_of_another_vendor(relay: Relay, other_key: nnguard.SigningKey) -> None:
    terms = licensed(2).terms
    key, to = sale().locked.content_key, sale().customer.recipient
    License.make(terms, Unwrapped(key), to, other_key).save(relay.license, overwrite=True)
    refuses(relay, WrongKeyError, "not among the 1 trusted")


def test_another_number_of_leases_by_hand(relay: Relay) -> None:
    changed = licensed(2).encoded.replace(b"\x66leases\x02", b"\x66leases\x09")
    License.parse(changed).save(relay.license, overwrite=True)
    refuses(relay, LicenseError, "the license was changed")


def test_another_machines_license(relay: Relay) -> None:
    binding = nnguard._licensing.device.DeviceBinding.make(  # type: ignore[attr-defined]
        nnguard.licensing.Device.named("rack 1"), 1
    )
    write_license(relay.license, 2, device=binding)
    other = nnguard.licensing.Device.named("rack 2")
    moved = replace(relay, license_policy=lambda: Policy(now=NOW, device=other))
    refuses(moved, LicenseError, "bound to another device")


def test_a_missing_license(relay: Relay) -> None:
    relay.license.unlink()
    refuses(relay, FileNotFoundError, "relay.license")


def test_a_broken_file_of_leases(relay: Relay, server: Running) -> None:
    relay.leases.path.write_text("no database, and long enough to be taken for one" * 99)
    status, text = take(server)
    assert status == 503
    assert "file is not a database" in json.loads(text)["detail"]


# What a machine does not believe


class Answers:
    """A relay that a test plays."""

    def __init__(self, *answers: Lease) -> None:
        self.answers = [*answers]

    def take(self, *_: object) -> Lease:
        return self.answers.pop(0)

    renew = take

    def give_back(self, lease_id: str) -> None:
        pass


def lease(**changes: Any) -> Lease:
    given = {
        "license": licensed(2), "secrets": Unwrapped(sale().locked.content_key),
        "recipient": POD.recipient, "signer": sale().customer.request_signer,
        "id": "0" * 32, "lasts": timedelta(minutes=5), **changes,
    }  # fmt: skip
    return Lease.make(**given)


def test_an_answer_to_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that was right before: whoever listens in cannot keep a pod going without a relay."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "1" * 32)
    for wrong in (lease(), lease(id="1" * 32, recipient=sale().customer.recipient)):
        one = Holder(Answers(wrong), POD, [VENDOR.public_key])
        with pytest.raises(WrongKeyError, match="to another machine, or to another question"):
            one.ask()
        assert not one.left


def test_an_answer_of_another_relay_or_vendor(other_key: nnguard.SigningKey) -> None:
    stranger = License.make(
        licensed(2).terms,
        Unwrapped(sale().locked.content_key),
        sale().customer.recipient,
        other_key,
    )
    for wrong in (lease(signer=POD.request_signer), lease(license=stranger)):
        with pytest.raises(WrongKeyError, match="is signed with key"):
            Holder(Answers(wrong), POD, [VENDOR.public_key]).ask()
    with pytest.raises(LicenseError, match="not one to lease"):
        Holder(Answers(lease(license=sale().license())), POD, [VENDOR.public_key]).ask()


# The relay's own license


def test_renews_its_own_license(relay: Relay) -> None:
    newer = licensed(3)
    seen = []

    def refresh(old: License) -> License:
        seen.append(old)
        return newer

    refresher = Refresher(relay.license, refresh)
    with license_server.running(make_app(relay, refresher=refresher)) as server:
        server.event("refreshed", license=newer.terms.id)
        assert json.loads(send(server, "GET", "/healthz")[1])["leases"] == 3
    assert seen[0].terms.leases == 2
    assert refresher.look() is False
    assert License.load(relay.license) == newer


def test_goes_on_while_the_server_is_away(relay: Relay) -> None:
    def refresh(_: License) -> License:
        raise ActivationError("nobody is there", reason=Reason.UNREACHABLE)

    before = License.load(relay.license)
    refresher = Refresher(relay.license, refresh)
    with license_server.running(make_app(relay, refresher=refresher)) as server:
        server.event("not refreshed", why="nobody is there")
        holder(server).ask()
    assert License.load(relay.license) == before
