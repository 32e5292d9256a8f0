from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from license_server import PATIENCE, Running, received, running
from nnguard._server.guard import Guard
from nnguard._server.metrics import Metrics
from nnguard._server.problems import Problem, add_handlers
from nnguard._server.settings import ServerSettings
from nnguard._server.strict import StrictRoute
from nnguard.errors import LedgerError

SECRET = "nng_0123_secret"
SETTINGS = ServerSettings(max_body=1000, body_seconds=0.5)


def make() -> FastAPI:
    app = FastAPI()
    app.router.route_class = StrictRoute
    metrics = Metrics(lambda: 7)
    add_handlers(app)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.post("/json/{name}")
    def echo(name: str, value: dict[str, object]) -> dict[str, object]:
        return {"name": name, **value}

    @app.get("/page")
    def page() -> Response:
        policy = "default-src 'self'"
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        return Response("page", headers=headers)

    @app.get("/bug")
    def bug() -> None:
        raise RuntimeError(f"the value {SECRET}")

    @app.get("/database")
    def database() -> None:
        raise LedgerError("the ledger's database fails: no route to host")

    @app.get("/problem")
    def problem() -> None:
        raise Problem(409, "two\nlines \x1b[31m", reason="no-seats", hint="wait")

    @app.get("/metrics")
    def numbers() -> Response:
        return metrics.response()

    app.add_middleware(Guard, settings=SETTINGS, metrics=metrics)
    return app


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(make()) as found:
        yield found


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def test_a_body_as_large_as_allowed_passes(server: Running) -> None:
    assert httpx.post(f"{server.url}/size", content=b"x" * 1000).json() == 1000
    pieces = iter([b"x" * 500, b"y" * 500])
    assert httpx.post(f"{server.url}/size", content=pieces).json() == 1000


def test_a_larger_body_is_refused_before_it_comes(server: Running) -> None:
    answer = server.raw(head("/size", f"Content-Length: {9 << 20}"))  # and none of it
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer
    answer = server.raw(head("/size", "Content-Length: 1001", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    answer = server.raw(head("/size", "Content-Length: " + "9" * 40))
    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))


def test_a_request_with_two_lengths_hides_no_other(server: Running) -> None:
    answer = server.raw(
        head("/size", "Content-Length: 5", "Transfer-Encoding: chunked"),
        b"0\r\n\r\n" + head("/size"),
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_larger_body_is_refused_though_it_does_not_say_so(server: Running) -> None:
    chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    answer = server.raw(head("/size", "Transfer-Encoding: chunked"), chunk * 3 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    answer = server.raw(head("/size", "Transfer-Encoding: chunked"), chunk * 8 + b"1\r\nx\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_who_sends_a_little_too_much_hears_of_it(server: Running) -> None:
    """An answer that comes while somebody sends is lost where the connection is reset."""
    answer = httpx.post(f"{server.url}/size", content=b"x" * (4 << 20))
    assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
    slow = head("/size", "Content-Length: 5000"), b"x" * 2000
    with socket.create_connection(server.address, timeout=PATIENCE) as connection:
        connection.sendall(b"".join(slow))
        assert received(connection).startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_is_refused(server: Running) -> None:
    with socket.create_connection(server.address, timeout=PATIENCE) as slow:
        slow.sendall(head("/size", "Content-Length: 100"))
        slow.sendall(b"x")
        answer = received(slow)  # the server closes
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


def test_who_goes_away_is_no_trouble(server: Running) -> None:
    with socket.create_connection(server.address, timeout=PATIENCE) as gone:
        gone.sendall(head("/size", "Content-Length: 100"))
    assert httpx.get(f"{server.url}/page").status_code == 200


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 500, "JSON"),
        (b'{"a":' * 150, "JSON"),
        (b"{'a': 1}", "JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\\ud800"}', "UTF-8"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"", ""),
    ],
)
def test_json_is_read_in_one_way(server: Running, body: bytes, what: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server.url}/json/x", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert what in answer.json()["detail"]


def test_a_problem_is_told_as_rfc_9457_has_it(server: Running) -> None:
    answer = httpx.get(f"{server.url}/problem")
    assert answer.status_code == 409
    assert answer.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "two\\nlines \\x1b[31m",
        "reason": "no-seats",
        "hint": "wait",
    }


def test_what_is_not_there_is_a_problem_too(server: Running) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/size", 405)):
        answer = httpx.request(method, server.url + path)
        assert answer.status_code == answer.json()["status"] == status
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_bug_says_nothing_to_callers_and_no_message_to_the_log(server: Running) -> None:
    answer = httpx.get(f"{server.url}/bug")
    assert (answer.status_code, answer.json()["reason"]) == (500, "bug")
    line = server.event("request", route="/bug")
    assert line["error"] == "RuntimeError"
    assert line["at"][-1].endswith(" bug")
    assert line["request"] == answer.headers["X-Request-Id"]
    assert SECRET not in answer.text + server.log.getvalue()


def test_the_database_s_trouble_is_for_the_log(server: Running) -> None:
    answer = httpx.get(f"{server.url}/database")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "host" not in answer.text
    line = server.event("request", route="/database")
    assert "no route to host" in line["why"]


def test_answers_have_headers_unless_they_say_otherwise(server: Running) -> None:
    plain = httpx.get(f"{server.url}/nothing").headers
    assert plain["Cache-Control"] == "no-store"
    assert plain["Content-Security-Policy"].startswith("default-src 'none'")
    assert plain["X-Content-Type-Options"] == "nosniff"
    page = httpx.get(f"{server.url}/page").headers
    assert page["Cache-Control"] == "no-cache"
    assert page["Content-Security-Policy"] == "default-src 'self'"
    assert page.get_list("Content-Security-Policy") == ["default-src 'self'"]
    assert "server" not in page


def test_the_log_and_the_metrics_know_routes_and_not_what_was_sent(server: Running) -> None:
    httpx.post(f"{server.url}/json/{SECRET}?{SECRET}", json={SECRET: SECRET})
    httpx.get(f"{server.url}/{SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    numbers = httpx.get(f"{server.url}/metrics").text
    assert 'route="/json/{name}"' in numbers
    assert "nnguard_events_waiting 7.0" in numbers
    server.event("request", route="/json/{name}", status=200)
    server.event("request", route="none", status=404)
    assert SECRET not in numbers + server.log.getvalue()
    assert [line for line in server.events("request") if line["route"] == "/metrics"] == []


def test_methods_that_nobody_knows_are_one_in_the_metrics(server: Running) -> None:
    for method in ("FOO", "PROPFIND", "X" * 1000, "QUERY-9"):
        assert httpx.request(method, f"{server.url}/page").status_code == 405
    numbers = httpx.get(f"{server.url}/metrics").text
    assert 'method="other"' in numbers
    assert "PROPFIND" not in numbers


def test_each_line_of_the_log_is_json(server: Running) -> None:
    httpx.get(f"{server.url}/page")
    server.event("request", route="/page")
    for line in server.log.getvalue().splitlines():
        values = json.loads(line)
        assert values["time"].endswith("+00:00")
        assert {"level", "event"} <= values.keys()


def test_a_connection_on_which_no_request_begins_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnguard._server.listening._HEAD_SECONDS", 0.3)
    with running(make()) as server:
        assert server.raw() == b""
        assert server.raw(b"GET /page HTTP/1.1\r\nHost:") == b""
        with socket.create_connection(server.address, timeout=PATIENCE) as kept:
            kept.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            kept.sendall(b"GET /page")
            assert b"HTTP" not in received(kept)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /page HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 600_000 + b"\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET /page HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /page HTTP/1.1\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused(server: Running, request_: bytes) -> None:
    answer = server.raw(request_, timeout=PATIENCE)
    assert answer.startswith(b"HTTP/1.1 400 ")
