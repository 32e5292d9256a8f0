from __future__ import annotations

import pytest

from nnguard._server.settings import ServerSettings, check_url
from nnguard.errors import ArgumentError


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/licenses?a=b",
        "http://localhost:80/",
        "http://127.0.0.1:9000/hook",
        "http://[::1]:9000/hook",
    ],
)
def test_urls_that_nobody_else_reads_are_taken(url: str) -> None:
    assert check_url(url) == url
    assert ServerSettings(webhook_urls=(url,), public_url=url).webhook_urls == (url,)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "http://shop.example/",
        "http://127.0.0.1.shop.example/",
        "http://localhost@shop.example/",
        "https://user:password@shop.example/",
        "https:///path",
        "https://shop.example:99999/",
        "https://shop.example/\r\nX: y",
        "https://shop.example/a b",
        "https://sh\u00f6p.example/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "https://[::1/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_url(url)
    assert "password" not in str(caught.value)
    with pytest.raises(ArgumentError):
        ServerSettings(webhook_urls=(url,))


@pytest.mark.parametrize("rate", ["", "fast", "0x10/minute", "10", "10/fortnight"])
def test_what_is_no_rate_is_refused(rate: str) -> None:
    for name in ("rate", "token_rate", "guess_rate"):
        with pytest.raises(ArgumentError, match="rate"):
            ServerSettings(**{name: rate})  # type: ignore[arg-type]


def test_secrets_are_not_shown() -> None:
    assert "whsec" not in repr(ServerSettings(stripe_secret="whsec_1"))
