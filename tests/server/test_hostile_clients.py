"""Hostile clients, and what they get: a table in `docs/reference/server.md`, which this makes.

`NNGUARD_UPDATE=1` writes it anew.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_shops import paid, report

import nnguard
from license_server import PATIENCE, received
from nnguard.licensing import Device, Receipt, Request
from shop import PRODUCT, Shop, opened

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "server.md"
BEGIN, END = "<!-- hostile -->\n", "<!-- /hostile -->\n"
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
SQL = "Robert'); DROP TABLE nnguard_orders; --"
HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    url = str(tmp_path_factory.mktemp("hostile") / "licenses.db")
    with opened(
        url, stripe_secret="whsec_test", max_body=200_000, body_seconds=1.0, guess_rate="1000/hour"
    ) as found:
        yield found


Sent = httpx.Response | bytes


@dataclass
class Case:
    """Something hostile.

    Attributes:
        what: In words.
        outcome: Status, and what else is to be said.
        send: Does it.
        does: It may change something, since it is no attack on anybody.
    """

    what: str
    outcome: str
    send: Callable[[Shop], Sent]
    does: bool = False


def call(shop: Shop, method: str, path: str, role: str = "", **options: Any) -> httpx.Response:
    headers = dict(options.pop("headers", {}))
    if role:
        headers["Authorization"] = f"Bearer {shop.secrets[role]}"
    return httpx.request(method, shop.server.url + path, headers=headers, timeout=60, **options)


def order_as(role: str, **values: Any) -> Callable[[Shop], Sent]:
    wanted = {"product": PRODUCT, **values}
    return lambda shop: call(shop, "POST", "/v1/orders", role, json=wanted)


def body(data: bytes, path: str = "/v1/orders", **headers: str) -> Callable[[Shop], Sent]:
    return lambda shop: call(shop, "POST", path, "shop", content=data, headers={**JSON, **headers})


def bearer(text: str) -> Callable[[Shop], Sent]:
    return lambda shop: call(
        shop, "GET", "/v1/orders", headers={"Authorization": text.encode("latin-1")}
    )


def activation(change: Callable[[Shop, Request], object]) -> Callable[[Shop], Sent]:
    def send(shop: Shop) -> Sent:
        request = shop.request(shop.order(), "machine")
        return call(shop, "POST", "/v1/licenses", content=str(change(shop, request)), headers=TEXT)

    return send


def get(path: str, role: str = "") -> Callable[[Shop], Sent]:
    return lambda shop: call(shop, "GET", path, role)


def raw(*lines: str, data: bytes = b"") -> Callable[[Shop], Sent]:
    head = "\r\n".join([*lines, "Host: x", "Connection: close", "", ""]).encode("latin-1")
    return lambda shop: shop.server.raw(head + data)


def flipped(shop: Shop, request: Request) -> str:
    """Change a bit of what was signed."""
    data = bytearray(request.encoded)
    data[-1] ^= 1
    return str(Request.parse(bytes(data)))


def other_order(shop: Shop, request: Request) -> Request:
    """Guess a code: that of another order, with its last letter changed."""
    code = shop.issuer.code(shop.order())
    guessed = code[:-1] + ("Q" if code[-1] != "Q" else "R")
    product = shop.ledger.product(PRODUCT)
    return Request.make(
        nnguard.Identity.generate(), stream=product.stream, lock=product.lock, order=guessed
    )


def other_trial(shop: Shop, request: Request) -> Request:
    return Request.make(
        nnguard.Identity.generate(), stream="ab" * 32, lock="cd" * 8, order=request.order
    )


def stolen_refresh(shop: Shop, request: Request) -> Request:
    """Ask for somebody else's license, whose id is known."""
    license_ = shop.issuer.answer(request)
    product = shop.ledger.product(PRODUCT)
    return Request.make(
        nnguard.Identity.generate(),
        stream=product.stream,
        lock=product.lock,
        license=license_.terms.id,
    )


def stolen_receipt(shop: Shop) -> Sent:
    license_ = shop.issuer.answer(shop.request(shop.order(), "machine"))
    receipt = Receipt.make(nnguard.Identity.generate(), license_.terms.id)
    return call(shop, "POST", "/v1/receipts", content=str(receipt), headers=TEXT)


def released_again(shop: Shop) -> Sent:
    """Send the request of a seat that was given back once more."""
    customer = nnguard.Identity.generate()
    request = shop.request(shop.order(), "machine", customer)
    license_ = shop.issuer.answer(request)
    shop.issuer.give_back(Receipt.make(customer, license_.terms.id))
    return call(shop, "POST", "/v1/licenses", content=str(request), headers=TEXT)


def receipt_again(shop: Shop) -> Sent:
    customer = nnguard.Identity.generate()
    license_ = shop.issuer.answer(shop.request(shop.order(), "machine", customer))
    receipt = Receipt.make(customer, license_.terms.id)
    for _ in range(2):
        answer = call(shop, "POST", "/v1/receipts", content=str(receipt), headers=TEXT)
    return answer


def license_as_request(shop: Shop) -> Sent:
    license_ = shop.issuer.answer(shop.request(shop.order(), "machine"))
    return call(shop, "POST", "/v1/licenses", content=str(license_), headers=TEXT)


def slow(shop: Shop) -> Sent:
    with socket.create_connection(shop.server.address, timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /v1/licenses HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 5000\r\n\r\n-----BEGIN"
        )
        return received(connection)


def webhook(**changes: Any) -> Callable[[Shop], Sent]:
    return lambda shop: report(shop, paid("evt_hostile", "pi_hostile"), **changes)


def replayed_webhook(shop: Shop) -> Sent:
    shop.issuer.order(PRODUCT, reference="stripe:pi_replayed", seats=2)
    return report(shop, paid("evt_replayed", "pi_replayed"), at=-301)


DEEP = b'{"product":' + b"[" * 90_000 + b"]" * 90_000 + b"}"
CASES = [
    Case("no token", "401 refused", get("/v1/orders")),
    Case("a token that is made up", "401 refused", bearer(f"Bearer nng_{'0' * 16}_{'a' * 43}")),
    Case("a token of 8,000 letters", "401 refused", bearer("Bearer " + "a" * 8000)),
    Case("a token in another scheme", "401 refused", bearer("Basic bm5nOm5uZw==")),
    Case("a token that is not ASCII", "401 refused", bearer("Bearer nng_\xe9\xff")),
    Case("an auditor makes an order", "403 refused", order_as("auditor")),
    Case("a shop cancels an order", "403 refused",
         lambda shop: call(shop, "POST", f"/v1/orders/{'0' * 16}/cancel", "shop", json={})),
    Case("a shop reads the audit log", "403 refused", get("/v1/audit", "shop")),
    Case("support reads metrics", "403 refused", get("/metrics", "support")),
    Case("SQL as a customer's name", "201", order_as("shop", customer=SQL), does=True),
    Case("HTML as a customer's name", "201", order_as("shop", customer=HTML), does=True),
    Case("SQL in a search", "200", lambda shop: call(
        shop, "GET", "/v1/orders", "shop", params={"search": "' OR 1=1 --%_"})),
    Case("SQL as an id", "422 malformed", get("/v1/orders/' OR 1=1 --", "shop")),
    Case("U+0000 in a name", "422 malformed", order_as("shop", customer="a\0b")),
    Case("U+0000 in a search", "422 malformed", get("/v1/orders?search=a%00b", "shop")),
    Case("half a surrogate pair", "400 malformed", body(b'{"product": "\\ud800"}')),
    Case("seats below one", "422 malformed", order_as("shop", seats=-1)),
    Case("seats as a number of 5,000 digits", "400 malformed",
         body(b'{"product": "small", "seats": ' + b"9" * 5000 + b"}")),
    Case("a field that nobody knows", "422 malformed", order_as("shop", is_admin=True)),
    Case("a name twice in an object", "400 malformed",
         body(b'{"product": "small", "seats": 1, "seats": 1000}')),
    Case("JSON nested 90,000 deep", "400 malformed", body(DEEP)),
    Case("NaN as a number", "400 malformed", body(b'{"product": "small", "seats": NaN}')),
    Case("JSON in UTF-16", "400 malformed", body('{"product": "small"}'.encode("utf-16"))),
    Case("JSON as a form", "422 malformed", lambda shop: call(
        shop, "POST", "/v1/orders", "shop", data={"product": PRODUCT})),
    Case("an Idempotency-Key of 300 letters", "422 malformed",
         body(b'{"product": "small"}', **{"Idempotency-Key": "a" * 300})),
    Case("a body larger than allowed", "413 refused",
         lambda shop: call(shop, "POST", "/v1/licenses", content=b"x" * 200_001, headers=TEXT)),
    Case("a larger body, in chunks, without a length", "413 refused",
         lambda shop: call(shop, "POST", "/v1/licenses", content=iter([b"x" * 101_000] * 2),
                           headers=TEXT)),
    Case("a body that does not come", "408 refused", slow),
    Case("a body of another length than it says", "400", raw(
        "POST /v1/licenses HTTP/1.1", "Content-Length: 5", "Content-Length: 6", data=b"abcdef")),
    Case("both a length and chunks (smuggling)", "400 malformed", raw(
        "POST /v1/licenses HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked",
        data=b"0\r\n\r\nGET /v1/orders HTTP/1.1\r\nHost: x\r\n\r\n")),
    Case("a header with a line end in it", "400", raw("GET /healthz HTTP/1.1", "X: a\rb: c")),
    Case("headers of 600,000 bytes", "400", raw("GET /healthz HTTP/1.1", "X: " + "a" * 600_000)),
    Case("a line end in the path", "404 refused", get("/v1/orders%0d%0aX-Injected:%20yes")),
    Case("a path that climbs", "404 refused", raw("GET /assets/../../pyproject.toml HTTP/1.1")),
    Case("a path that climbs, in escapes", "404 refused",
         raw("GET /assets/..%2f..%2fpyproject.toml HTTP/1.1")),
    Case("a path that climbs, twice escaped", "404",
         raw("GET /assets/%252e%252e%252fpyproject.toml HTTP/1.1")),
    Case("a path with U+0000", "404 refused", raw("GET /v1/policy%00.txt HTTP/1.1")),
    Case("a path with two slashes", "404 refused", raw("GET //v1/revocations HTTP/1.1")),
    Case("a whole URL as the path", "404 refused",
         raw("GET http://other.example/v1/revocations HTTP/1.1")),
    Case("another Host", "200", lambda shop: call(
        shop, "GET", "/v1/revocations", headers={"Host": "other.example"})),
    Case("a method that nobody knows", "405 refused", lambda shop: call(
        shop, "PROPFIND", "/v1/orders", "shop")),
    Case("TRACE", "405 refused", lambda shop: call(shop, "TRACE", "/v1/orders", "shop")),
    Case("an upgrade to WebSocket", "401 refused", raw(
        "GET /v1/orders HTTP/1.1", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")),
    Case("no request, but text", "422 malformed", lambda shop: call(
        shop, "POST", "/v1/licenses", content=b"hello", headers=TEXT)),
    Case("armor of 150,000 bytes around nothing", "422 malformed", lambda shop: call(
        shop, "POST", "/v1/licenses", headers=TEXT,
        content=b"-----BEGIN NNGUARD LICENSE REQUEST-----\n" + b"A" * 150_000
        + b"\n-----END NNGUARD LICENSE REQUEST-----\n")),
    Case("a request as JSON", "415 malformed", lambda shop: call(
        shop, "POST", "/v1/licenses", json={"order": "AAAA"})),
    Case("a license in place of a request", "422 malformed", license_as_request, does=True),
    Case("a request that was changed", "422 malformed", activation(flipped), does=True),
    Case("a request with a code that is guessed", "404 unknown-order", activation(other_order),
         does=True),
    Case("a request for another trial", "422 other-trial", activation(other_trial), does=True),
    Case("a request to refresh somebody else's license", "403 other-key",
         activation(stolen_refresh), does=True),
    Case("a request again, whose seat was given back", "410 released", released_again, does=True),
    Case("a receipt for somebody else's license", "403 other-key", stolen_receipt, does=True),
    Case("a receipt again", "200", receipt_again, does=True),
    Case("a shop's report without a signature", "400 signature", lambda shop: call(
        shop, "POST", "/v1/webhooks/stripe", content=paid("evt_0", "pi_0"), headers=JSON)),
    Case("a shop's report, signed with a guess", "400 signature", webhook(secret="whsec_guess")),
    Case("a shop's report, six minutes old", "400 stale", replayed_webhook, does=True),
]  # fmt: skip


def outcome_of(sent: Sent) -> str:
    """Return status and reason of an answer."""
    if isinstance(sent, bytes):
        head, _, text = sent.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1].decode()
        problem = b"application/problem+json" in head
        return f"{status} {json.loads(text)['reason']}" if problem else status
    if sent.headers.get("Content-Type") == "application/problem+json":
        assert sent.json()["status"] == sent.status_code
        return f"{sent.status_code} {sent.json()['reason']}"
    return str(sent.status_code)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_hostile_clients(shop: Shop, case: Case) -> None:
    before = shop.ledger.check_audit()
    begun = time.monotonic()
    sent = case.send(shop)
    assert time.monotonic() - begun < PATIENCE
    found = outcome_of(sent)
    assert found == case.outcome
    after = shop.ledger.check_audit()
    assert case.does or after == before
    assert httpx.get(f"{shop.server.url}/healthz").status_code == 200
    assert not [line for line in shop.server.events("message") if line["level"] == "error"]
    assert not [line for line in shop.server.events("request") if line["status"] == 500]
    if isinstance(sent, httpx.Response):
        assert "x-injected" not in sent.headers
        assert "Traceback" not in sent.text
        assert sent.headers["X-Content-Type-Options"] == "nosniff"


def test_names_come_back_as_they_were(shop: Shop) -> None:
    for name in (SQL, HTML):
        order_id = order_as("shop", customer=name)(shop).json()["id"]  # type: ignore[union-attr]
        assert call(shop, "GET", f"/v1/orders/{order_id}", "shop").json()["customer"] == name


def test_whoever_guesses_has_to_wait(tmp_path: Path) -> None:
    with opened(str(tmp_path / "licenses.db"), guess_rate="3/hour", rate="20/hour") as shop:
        made_up = bearer(f"Bearer nng_{'0' * 16}_{'a' * 43}")
        found = [outcome_of(made_up(shop)) for _ in range(5)]
        assert found == ["401 refused"] * 3 + ["429 refused"] * 2
        assert outcome_of(get("/v1/orders", "shop")(shop)) == "429 refused"  # that address waits
        answers = [call(shop, "GET", "/v1/revocations") for _ in range(25)]
        assert [answer.status_code for answer in answers].count(429) >= 5
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert httpx.get(f"{shop.server.url}/healthz").status_code == 200


def test_codes_cannot_be_guessed_for_long(tmp_path: Path) -> None:
    with opened(str(tmp_path / "licenses.db"), guess_rate="3/hour") as shop:
        found = [outcome_of(activation(other_order)(shop)) for _ in range(5)]
        assert found == ["404 unknown-order"] * 3 + ["429 refused"] * 2


def test_the_page_has_the_table() -> None:
    rows = [f"| {case.what} | {case.outcome} |\n" for case in CASES]
    table = "\n| what is sent | what comes back |\n|---|---|\n" + "".join(rows) + "\n"
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    found, _, tail = rest.partition(END)
    if os.environ.get("NNGUARD_UPDATE"):
        PAGE.write_text(head + BEGIN + table + END + tail, encoding="utf-8")
    else:
        assert found == table


def test_no_secret_is_in_log_or_metrics(shop: Shop) -> None:
    """After all that was sent above, and a license that was made."""
    customer = nnguard.Identity.generate()
    request = shop.request(shop.order(customer="A. Customer"), "a-machine-of-ours", customer)
    answer = call(shop, "POST", "/v1/licenses", content=str(request), headers=TEXT)
    assert answer.status_code == 201
    shop.server.event("request", route="/v1/licenses", status=201)
    content_key = shop.sale.locked.content_key.secret
    secrets = [content_key.hex(), base64.b64encode(content_key).decode(), "whsec_test", HTML, SQL]
    secrets += [text.split("_")[2] for text in shop.secrets.values()]
    secrets += [shop.issuer.code(order) for order in shop.ledger.orders(limit=1000)]
    secrets += ["a-machine-of-ours", "A. Customer", request.nonce]
    secrets += [digest for _, digest in Device.named("a-machine-of-ours").fingerprint]
    said = shop.server.log.getvalue() + call(shop, "GET", "/metrics", "auditor").text
    assert [secret for secret in secrets if secret in said] == []
