from __future__ import annotations

import pytest
from starlette.requests import Request

from nnguard._server.access import Limits, client_of
from nnguard._server.problems import Problem
from nnguard._server.settings import ServerSettings


def request_of(host: str | None) -> Request:
    client = None if host is None else (host, 1)
    return Request({"type": "http", "client": client, "headers": []})


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        (None, ""),
    ],
)
def test_whom_requests_are_counted_for(host: str | None, counted: str) -> None:
    assert client_of(request_of(host)) == counted


def test_one_too_many_is_refused_and_others_are_not() -> None:
    limits = Limits(ServerSettings(rate="3/hour", guess_rate="1/hour"))
    for _ in range(3):
        limits.count("address", "a")
    with pytest.raises(Problem) as caught:
        limits.count("address", "a")
    assert caught.value.status == 429
    assert caught.value.headers
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 7200
    limits.count("address", "b")
    limits.count("token", "a")


def test_guesses_are_counted_only_where_they_are_wrong() -> None:
    limits = Limits(ServerSettings(guess_rate="1/hour"))
    for _ in range(5):
        limits.check("guess", "a")
    limits.count("guess", "a")
    with pytest.raises(Problem):
        limits.check("guess", "a")
    limits.check("guess", "b")
