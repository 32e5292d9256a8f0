"""One exchange with a server that may be anything, on a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nnguard._base import http
from nnguard.errors import ActivationError, ActivationReason, ArgumentError


@contextmanager
def answering(*answers: bytes, hang: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A server on a socket, which answers each connection by these bytes; and what it got."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(5)
    asked: list[bytes] = []
    over = threading.Event()

    def serve() -> None:
        for answer in answers:
            connection, _ = listening.accept()
            connection.settimeout(5)
            with connection:
                asked.append(_read(connection))
                connection.sendall(answer)
                if hang:
                    over.wait()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        over.set()
        thread.join(10)
        listening.close()


def _read(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    if data[:1] not in b"GP":  # neither GET nor POST, but TLS
        return data
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    while len(body) < int(length or 0):
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


def reply(status: str, body: bytes, kind: str = "text/plain", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def problem(status: str, body: str) -> bytes:
    return reply(status, body.encode(), "application/problem+json; charset=utf-8")


def refused(answer: bytes) -> ActivationError:
    with answering(answer) as (server, _), pytest.raises(ActivationError) as caught:
        http.post(server, "/v1/licenses", "text")
    return caught.value


def test_texts_go_there_and_come_back() -> None:
    with answering(reply("201 Created", "Grüße".encode()), reply("200 OK", b"")) as (server, asked):
        assert http.post(server + "/", "/v1/licenses", "Ada's") == "Grüße"
        assert http.get(server + "/shop/", "/v1/revocations") == ""
    assert asked[0].startswith(b"POST /v1/licenses HTTP/1.1\r\n")
    assert asked[0].endswith(b"\r\n\r\nAda's")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in asked[0]
    assert asked[1].startswith(b"GET /shop/v1/revocations HTTP/1.1\r\n")


def test_proxies_do_not_see_what_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(reply("200 OK", b"here")) as (server, _):
        assert http.post(server, "/", "") == "here"


@pytest.mark.parametrize("reason", [*ActivationReason])
def test_errors_are_those_of_the_server(reason: ActivationReason) -> None:
    error = refused(
        problem("409 Conflict", f'{{"detail": "no", "hint": "do", "reason": "{reason.value}"}}')
    )
    assert (str(error), error.hint, error.reason) == ("no", "do", reason)


@pytest.mark.parametrize(
    ("answer", "reason", "message"),
    [
        (problem("404 Not Found", '{"detail": "no"}'), "refused", "no"),
        (problem("404 Not Found", '{"detail": 7, "reason": ["x"]}'), "refused", "7"),
        (problem("404 Not Found", "[1]"), "refused", "answered 404, and not as a license"),
        (problem("404 Not Found", '{"a": ' + "[" * 9999), "refused", "not as a license server"),
        (problem("404 Not Found", "{}"), "refused", "answered 404"),
        (reply("404 Not Found", b"<html>", "text/html"), "refused", "not as a license server"),
        (reply("302 Found", b"", more="Location: http://a/\r\n"), "refused", "answered 302"),
        (reply("307 Moved", b"", more="Location: http://a/\r\n"), "refused", "answered 307"),
        (problem("429 Slow", '{"detail": "slow", "reason": "refused"}'), "unreachable", "slow"),
        (problem("503 Away", '{"reason": "no-seats"}'), "unreachable", "it answered 503"),
        (reply("502 Bad Gateway", b"<html>"), "unreachable", "it answered 502"),
        (b"", "unreachable", "closed connection"),
        (b"SSH-2.0-OpenSSH_9\r\n", "unreachable", "SSH"),
        (reply("200 OK", b"x")[:-1], "unreachable", "cut short"),
        (reply("200 OK", b"x" * ((1 << 20) + 1)), "unreachable", "more than 1,048,576 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", "unreachable", "headers"),
    ],
    ids=range(16),
)
def test_answers_of_other_servers(answer: bytes, reason: str, message: str) -> None:
    error = refused(answer)
    assert error.reason.value == reason
    assert message in str(error)


def test_long_words_are_cut() -> None:
    error = refused(problem("400 Bad", f'{{"detail": "{"x" * 9999}", "hint": "{"y" * 9999}"}}'))
    assert len(str(error)) == len(error.hint) == 500


@pytest.mark.parametrize("status", ["404 Not Found", "503 Away"])
def test_words_of_a_server_are_one_line_and_move_no_cursor(status: str) -> None:
    said = r"gone\u001b[2J\u001b]0;x\u0007\ud800\n forged: line"
    error = refused(problem(status, f'{{"detail": "{said}", "hint": "{said}"}}'))
    assert str(error).isprintable()
    assert error.hint.isprintable()
    assert "forged" in str(error)


def test_servers_that_are_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    for server in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}"):
        with pytest.raises(ActivationError, match="cannot be reached") as caught:
            http.get(server, "/")
        assert caught.value.reason is ActivationReason.UNREACHABLE


def test_a_server_that_speaks_no_tls() -> None:
    with (
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (server, _),
        pytest.raises(ActivationError, match="SSL") as caught,
    ):
        http.get(server.replace("http:", "https:"), "/")
    assert caught.value.reason is ActivationReason.UNREACHABLE


def test_a_server_that_takes_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_DEADLINE", 0.2)
    with (
        answering(b"HTTP/1.1 200 OK\r\n", hang=True) as (server, _),
        pytest.raises(ActivationError, match=r"no answer in|timed out") as caught,
    ):
        http.get(server, "/")
    assert caught.value.reason is ActivationReason.UNREACHABLE


@pytest.mark.parametrize(
    "server",
    ["https://a.example", "https://a.example:8443/shop", "http://localhost:8000", "http://[::1]:1"],
)
def test_urls_that_are_asked(server: str) -> None:
    assert http.check_server(f"{server}/") == server


@pytest.mark.parametrize(
    "server",
    [
        "",
        "a.example",
        "ftp://a.example",
        "file:///etc/passwd",
        "https://",
        "https://u:p@a.example",
        "https://a.example/?x=1",
        "https://a.example/#x",
        "https://a\r\nb.example",
        "https://[::1",
        "https://a.example:x",
        "https://a.example:0",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "http://a.example",
    ],
)
def test_urls_that_are_not_asked(server: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        http.check_server(server)
    assert caught.value.hint or "is not a URL" in str(caught.value)
