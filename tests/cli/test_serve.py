"""`nnguard serve`: a process that listens, answers and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import nnguard
from license_server import received
from nnguard.licensing import Issuer, Ledger, License, Request
from sales import Sale, sell
from transcripts import Run

PATIENCE = 60
SERVE = ("serve", "--ledger", "licenses.db", "--key", "vendor.key", "--ledger-key", "desk.key")


@pytest.fixture(scope="module")
def sale() -> Sale:
    return sell(nnguard.SigningKey.generate(), sign_trial=True)


@pytest.fixture
def issuer(sale: Sale, folder: Path) -> Iterator[Issuer]:
    """A ledger with a product, and the keys of the desk."""
    sale.vendor.save("vendor.key", overwrite=True)
    desk = nnguard.Identity.generate()
    desk.save("desk.key")
    with Ledger("licenses.db") as ledger:
        found = Issuer(ledger, sale.vendor, desk)
        found.add_product(sale.locked.trial, sale.locked.content_key, name="small")
        yield found


@dataclass
class Process:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def read(self, event: str) -> dict[str, Any]:
        """Read the log up to a line of an event."""
        assert self.process.stderr
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"no {event}: {self.lines}")

    @property
    def url(self) -> str:
        (line,) = [line for line in self.lines if line["event"] == "listening"]
        return str(line["url"])


@contextmanager
def serving(*options: str, **variables: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "nnguard", *SERVE, "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    try:
        found = Process(process)
        found.read("listening")
        yield found
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def request_for(issuer: Issuer) -> str:
    product = issuer.ledger.product("small")
    code = issuer.code(issuer.order("small"))
    identity = nnguard.Identity.generate()
    request = Request.make(identity, stream=product.stream, lock=product.lock, order=code)
    return str(request)


def test_it_answers_until_it_is_told_to_end(issuer: Issuer, tmp_path: Path) -> None:
    """Options may be variables; systemd is told; what has begun is answered before the end."""
    body = request_for(issuer).encode()
    Path("stripe").write_text("whsec_from a file\n")
    variables = {"NNGUARD_STRIPE_SECRET_FILE": "stripe", "NNGUARD_RATE": "3/hour"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        variables["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        with serving("--public-url", "https://licenses.example", **variables) as server:
            assert manager.recv(100) == b"READY=1"
            report = f"{server.url}/v1/webhooks/stripe"
            found = [httpx.post(report, content=b"{}").status_code for _ in range(2)]
            assert found == [400, 400]  # and not 404: it has the secret
            host, port = server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as begun:
                head = f"POST /v1/licenses HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                begun.sendall(head.encode() + b"Content-Type: text/plain\r\n\r\n" + body[:100])
                httpx.get(f"{server.url}/healthz")  # by now it has heard of that one
                server.process.send_signal(signal.SIGTERM)
                begun.sendall(body[100:])
                answer = received(begun).decode()
            assert answer.startswith("HTTP/1.1 201 ")
            license_ = License.from_text(answer)
            assert license_.terms.server == "https://licenses.example"
            server.read("ended")
            assert server.process.wait(PATIENCE) == 0
            assert {line["level"] for line in server.lines} <= {"info", "warning"}
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{server.url}/healthz")


def test_two_servers_share_a_ledger(issuer: Issuer) -> None:
    token = {"Authorization": f"Bearer {issuer.ledger.new_token('shop', 'shop')[1]}"}
    keyed = {**token, "Idempotency-Key": "one"}
    with serving() as one, serving() as other:
        first, second = (
            httpx.post(f"{server.url}/v1/orders", json={"product": "small"}, headers=keyed).json()
            for server in (one, other)
        )
        assert first == second
        issuer.cancel(first["id"])
        tags = {httpx.get(f"{each.url}/v1/revocations").headers["ETag"] for each in (one, other)}
        assert len(tags) == 1
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(PATIENCE) == 0


def test_secrets_of_webhooks_are_shown(issuer: Issuer, run: Run) -> None:
    urls = ("https://a.example/hook", "https://b.example/hook")
    asked = [word for url in urls for word in ("--webhook", url)]
    result = run(*SERVE, *asked, "--show-webhook-secrets")
    assert result.code == 0
    words = [line.split() for line in result.out.splitlines()]
    assert [url for url, _ in words] == [*urls]
    assert len({secret for _, secret in words if secret.startswith("whsec_")}) == 2
    values = json.loads(run(*SERVE, *asked, "--show-webhook-secrets", "--json").out)
    assert values["secrets"] == dict(words)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--host", "0.0.0.0"), 2, "without TLS"),
        (("--port", "70000"), 2, "not a port"),
        (("--rate", "often"), 2, "not a rate"),
        (("--webhook", "http://shop.example"), 2, "https"),
        (("--public-url", "licenses.example"), 2, "https"),
        (("--tls-certificate", "vendor.pub"), 2, "private key"),
        (("--tls-certificate", "vendor.pub", "--tls-key", "vendor.key"), 2, "certificate of TLS"),
        (("--stripe-secret-file", "nothing"), 1, "no such file"),
        (("--key", "vendor.pub"), 6, ""),
        (("--ledger-key", "other.key"), 7, "with another identity"),
        (("--ledger", "license.db"), 14, "there is no ledger license.db"),
        (("--policy", "nothing"), 1, "no such file"),
        (("--policy", "vendor.pub"), 18, "vendor.pub"),
    ],
)
def test_what_cannot_be_is_told_before_it_listens(
    issuer: Issuer, run: Run, options: tuple[str, ...], code: int, said: str
) -> None:
    nnguard.Identity.generate().save("other.key")
    result = run(*SERVE, *options)
    assert (result.code, result.out) == (code, "")
    assert said in result.err


def test_a_port_that_is_taken_is_told(issuer: Issuer, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(*SERVE, "--port", str(taken.getsockname()[1]))
    assert result.code == 1
    assert "in use" in result.err
