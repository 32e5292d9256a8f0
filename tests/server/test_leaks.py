"""Nothing that a server logs, answers, counts or keeps gives a secret away.

A whole life is lived, in both databases: orders from a shop, licenses, sessions, webhooks, refusals
of every kind, bugs whose messages quote secrets, a database that goes away. Then all that came of
it is searched for every secret: as bytes, as hexadecimal, in Base64, as Python shows bytes.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_shops import paid, report

import nnguard
from nnguard._licensing.license import License
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._selling.order_code import LABEL as CODES
from nnguard._server.telling import secret_of
from planting import Secrets
from postgresql import PASSWORD, PROGRAMS, Server
from shop import PRODUCT, ROLES, Shop, opened

STRIPE = "whsec_c3RyaXBlIHNlY3JldCBvZiBhIHNob3A"
HOOK = "http://127.0.0.1:9/hook"  # nobody is there
PASSPHRASE = "correct horse battery staple"
TEXT = {"Content-Type": "text/plain"}


@dataclass
class Life:
    """What was done, what must not be found, and where to look.

    Attributes:
        shop: The shop.
        secrets: What must not be found.
        dump: Returns the whole database.
        stop: Lets the database go away, if it can.
        shown: What came out, by name.
    """

    shop: Shop
    secrets: Secrets
    dump: Callable[[], bytes]
    stop: Callable[[], None] | None = None
    shown: dict[str, bytes] = field(default_factory=dict)

    def ask(self, name: str, method: str, path: str, **options: Any) -> httpx.Response:
        answer = httpx.request(method, self.shop.server.url + path, timeout=30, **options)
        head = "\n".join(f"{key}: {value}" for key, value in answer.headers.items())
        self.shown[name] = f"{answer.status_code}\n{head}\n\n{answer.text}".encode()
        return answer

    def found(self) -> list[tuple[str, list[str]]]:
        """Return where something was found, and what."""
        everything = {**self.shown, "log": self.shop.server.log.getvalue().encode()}
        named = ((name, self.secrets.found_in(data)) for name, data in everything.items())
        return [(name, secrets) for name, secrets in named if secrets]


@pytest.fixture(params=["sqlite", "postgresql"])
def life(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Life]:
    settings = {"stripe_secret": STRIPE, "webhook_urls": (HOOK,)}
    if request.param == "sqlite":
        path = tmp_path / "licenses.db"
        with opened(str(path), **settings) as shop:
            yield Life(shop, secrets_of(shop), lambda: dump_of_file(path))
        return
    server: Server = request.getfixturevalue("postgresql")
    name = server.make_database()
    with opened(server.url(name), **settings) as shop:
        life = Life(shop, secrets_of(shop), lambda: dump_of(server.folder, name))
        life.stop = lambda: server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        yield life


def secrets_of(shop: Shop) -> Secrets:
    """Return everything that is secret in a shop."""
    secrets, issuer = Secrets(), shop.issuer
    identity = issuer._identity
    assert identity is not None
    secrets.add("content key", shop.sale.locked.content_key.secret)
    secrets.add("vendor's key", raw(shop.sale.vendor))
    secrets.add("ledger key", raw(identity))
    for label in (CODES, b"nnguard sessions v1\0", b"nnguard webhooks v1\0"):
        secrets.add(label.decode().rstrip("\0"), issuer.secret(label))
    hook = secret_of(issuer, HOOK)
    secrets.add("webhook secret", base64.b64decode(hook.removeprefix("whsec_")))
    for role in ROLES:
        text = shop.secrets[role].split("_", 2)[2]
        secrets.add(f"token of {role}", text.encode())
        secrets.add(f"half a token of {role}", text[:20].encode())
    secrets.add("Stripe's secret", STRIPE.removeprefix("whsec_").encode())
    secrets.add("database's password", PASSWORD.encode())
    secrets.add("passphrase", PASSPHRASE.encode())
    return secrets


def raw(key: nnguard.SigningKey | nnguard.Identity) -> bytes:
    """Return the 32 bytes of a private key, which end its file."""
    with tempfile.TemporaryDirectory() as folder:
        key.save(Path(folder, "key"))
        lines = Path(folder, "key").read_text().splitlines()
    return base64.b64decode("".join(lines[1:-1]))[-32:]


def add_code(secrets: Secrets, name: str, code: str) -> None:
    """Plant an order code, and half of one, however it is written."""
    for text in (code, code.replace("-", ""), code.lower(), code.lower().replace("-", "")):
        secrets.add(f"code {name} {text}", text.encode())
        secrets.add(f"half a code {name} {text}", text[len(text) // 2 :].encode())


def dump_of_file(path: Path) -> bytes:
    with sqlite3.connect(path) as connection:
        statements = "\n".join(connection.iterdump())
    return statements.encode() + b"".join(each.read_bytes() for each in path.parent.glob("lic*"))


def dump_of(folder: Path, name: str) -> bytes:
    assert PROGRAMS is not None
    program = PROGRAMS / "pg_dump"
    command = [program if program.exists() else shutil.which("pg_dump") or program]
    command += ["--host", folder, "--username", "vendor", "--dbname", name]
    done = subprocess.run(
        command, env=os.environ | {"PGPASSWORD": PASSWORD}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def typed_wrong(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "2")


def live(life: Life) -> None:
    """Do everything once."""
    shop = life.shop
    bearer = {"Authorization": f"Bearer {shop.secrets['shop']}"}
    asked = {"product": PRODUCT, "customer": "Ada", "seats": 1}
    key = {"Idempotency-Key": "first-order"}
    made = life.ask("order", "POST", "/v1/orders", json=asked, headers=bearer | key).json()
    order, code = shop.ledger.order(made["id"]), made["code"]
    del life.shown["order"]  # tells the code to whom it is for
    add_code(life.secrets, "of API", code)
    assert report(shop, paid("evt_leak", "pi_leak"), secret=STRIPE).status_code == 200
    (bought,) = shop.ledger.orders(search="pi_leak")
    add_code(life.secrets, "of Stripe", shop.issuer.code(bought))
    customer = nnguard.Identity.generate()
    life.secrets.add("customer's key", raw(customer))
    life.secrets.add("request key", raw(customer.request_signer))
    answers = [
        life.ask(f"license {name}", "POST", "/v1/licenses", content=str(request), headers=TEXT)
        for name, request in (
            ("new", shop.request(order, "rack-7", customer)),
            ("without a seat", shop.request(order, "rack-8")),
        )
    ]
    assert [answer.status_code for answer in answers] == [201, 409]
    refusals(life, code)
    pages(life, order)
    auditor = {"Authorization": f"Bearer {shop.secrets['auditor']}"}
    for path in ("/metrics", "/v1/audit", "/v1/licenses", "/v1/revocations", "/openapi.json"):
        assert life.ask(path, "GET", path, headers=auditor).status_code == 200
    listed = life.ask("orders", "GET", "/v1/orders", headers=auditor)
    assert order.id in listed.text
    shop.server.event("webhook", outcome="failed")


def refusals(life: Life, code: str) -> None:
    """Ask for what is refused, with secrets in every place."""
    shop = life.shop
    token = shop.secrets["shop"]
    wrong = {"Authorization": f"Bearer {typed_wrong(token)}"}
    shopping = {"Authorization": f"Bearer {token}"}
    for name, method, path, options in (
        ("wrong token", "GET", "/v1/orders", {"headers": wrong}),
        ("wrong scheme", "GET", "/v1/orders", {"headers": {"Authorization": f"Basic {token}"}}),
        ("wrong role", "GET", "/v1/audit", {"headers": shopping}),
        ("code in a path", "GET", f"/v1/orders/{code}", {"headers": shopping}),
        ("code nowhere", "GET", f"/v1/nothing/{code}", {}),
        ("query", "GET", f"/v1/orders?after={token}&search={code}", {"headers": shopping}),
        ("page", "GET", f"/?code={code}&token={token}", {}),
        ("bad field", "POST", "/v1/orders", {"json": {"code": code, token: 1}}),
        ("bad field told", "POST", "/v1/orders", {"json": {token: code}, "headers": shopping}),
        ("no request", "POST", "/v1/licenses", {"content": code + token, "headers": TEXT}),
        ("no JSON", "POST", "/v1/orders", {"content": token, "headers": shopping}),
        ("no method", "DELETE", f"/v1/orders/{code}", {"headers": shopping}),
    ):
        assert life.ask(name, method, path, **options).status_code < 500, name
    shown = life.shown.pop("bad field told")  # names what the caller called a field
    assert code.encode() not in shown
    assert report(shop, paid("evt_no", "pi_no"), secret=typed_wrong(STRIPE)).status_code == 400


def pages(life: Life, order: nnguard.licensing.Order) -> None:
    """Visit pages, and those that tell what went wrong."""
    shop = life.shop
    with shop.visitor() as visitor:
        visitor.get("/")
        visitor.send("/", code=typed_wrong(shop.issuer.code(order)))
        shown = visitor.page.text
        visitor.get("/desk/login")
        visitor.send("/desk/login", secret=typed_wrong(shop.secrets["support"]))
        life.shown["login failed"] = visitor.page.text.encode()
    kept = re.sub('value="[^"]*"', "", shown)  # what somebody typed may stand in the field
    life.shown["wrong code"] = kept.encode()
    with shop.customer(order) as customer:
        customer.send("/order/request", file=b"no request")
        own = shop.issuer.code(order)  # on the page of who has it
        life.shown["bad file"] = customer.page.text.replace(own, "").encode()
    with shop.seller("auditor") as seller:
        for path in ("/desk", "/desk/audit", f"/desk/orders/{order.id}", "/desk/none"):
            life.shown[f"auditor {path}"] = seller.get(path).text.encode()


def test_nothing_gives_a_secret_away(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    live(life)
    bugs(life, monkeypatch)
    life.shown["dump"] = life.dump()
    assert life.shop.ledger.orders()[0].id.encode() in life.shown["dump"]
    if life.stop is not None:
        life.stop()
        assert life.ask("no database", "GET", "/readyz").status_code == 503
        life.shop.server.event("request", route="/readyz", status=503)
    assert life.found() == []


def bugs(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bugs happen where secrets are at hand; their messages quote them."""
    shop = life.shop
    order = shop.order(seats=3)
    add_code(life.secrets, "of a bug", shop.issuer.code(order))
    request = shop.request(order, "a")

    def make(terms: Any, unwrapped: Unwrapped, *_: Any) -> License:
        key = unwrapped.content_key.secret
        quoted = f"{key!r} {key.hex()} {shop.secrets['shop']} {request.order}"
        raise ValueError(quoted) from RuntimeError(quoted)

    with monkeypatch.context() as patch:
        patch.setattr(License, "make", make)
        answer = life.ask("bug", "POST", "/v1/licenses", content=str(request), headers=TEXT)
        assert (answer.status_code, answer.json()["reason"]) == (500, "bug")
        with shop.customer(order) as customer:
            customer.send("/order/request", file=str(request))
            assert customer.page.status_code == 500
            life.shown["bug on a page"] = customer.page.text.encode()
    line = shop.server.event("request", status=500)
    assert line["error"] == "ValueError < RuntimeError"
    assert any(place.endswith(" make") for place in line["at"])


@pytest.mark.parametrize("life", ["sqlite"], indirect=True)
def test_search_finds_what_is_there(life: Life) -> None:
    """A token, and the content key, are found in what would be a leak."""
    token = life.shop.secrets["support"]
    for shown in (token, token.encode().hex(), base64.b64encode(token.encode()).decode()):
        assert "token of support" in life.secrets.found_in(shown.encode())
    key = life.shop.sale.locked.content_key.secret
    assert life.secrets.found_in(repr({"key": key}).encode()) == ["content key"]


def test_a_server_that_does_not_start_says_no_secret(tmp_path: Path) -> None:
    """Neither the passphrase, nor the database's password, nor what a secret's file holds."""
    nnguard.SigningKey.generate().save(tmp_path / "vendor.key")
    nnguard.Identity.generate().save(tmp_path / "desk.key", passphrase=PASSPHRASE)
    (tmp_path / "wrong").write_text(PASSPHRASE[:-1])
    (tmp_path / "right").write_text(PASSPHRASE)
    (tmp_path / "stripe").write_text(STRIPE)
    keys = ["--key", "vendor.key", "--ledger-key", "desk.key", "--stripe-secret-file", "stripe"]
    for word, ledger in (("wrong", "a.db"), ("right", "postgresql://u:p%40ss%2Fw@127.0.0.1:9/db")):
        command = [sys.executable, "-m", "nnguard", "serve", *keys, "--ledger", ledger, "-v"]
        done = subprocess.run(
            [*command, "--ledger-passphrase-file", word],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode
        shown = done.stdout + done.stderr
        for secret in (PASSPHRASE[:-1], STRIPE[6:], "p%40ss", "p@ss"):
            assert secret not in shown
