"""What a license server is told when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import limits

from nnguard._base.http import is_loopback
from nnguard._base.times import time_of
from nnguard.errors import ArgumentError

__all__ = ["ServerSettings", "check_url"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a license server behaves, whatever socket it listens on.

    Attributes:
        public_url: Where customers reach it, for links to an order's page.
        policy_path: Signed trust policy to hand out, if any; read anew each time.
        stripe_secret: With which Stripe signs what it reports; without it, it reports nothing.
        webhook_urls: Who is told what happens.
        rate: Requests of one address without a token, as the package `limits` reads it.
        token_rate: Requests with one token.
        guess_rate: Tokens and order codes that one address may get wrong.
        max_body: Bytes of a request's body.
        body_seconds: Until all of the body has to be there.
        clock: Seconds since 1970; tests turn it.

    Raises:
        ArgumentError: A URL is neither https nor of this machine; or a rate cannot be read.
    """

    public_url: str = ""
    policy_path: Path | None = None
    stripe_secret: str = field(default="", repr=False)
    webhook_urls: tuple[str, ...] = ()
    rate: str = "120/minute"
    token_rate: str = "1200/minute"  # noqa: S105 - no secret
    guess_rate: str = "20/minute"
    max_body: int = 1 << 20
    body_seconds: float = 10.0
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        for url in (*self.webhook_urls, *filter(None, [self.public_url])):
            check_url(url)
        for rate in (self.rate, self.token_rate, self.guess_rate):
            try:
                limits.parse(rate)
            except ValueError:
                hint = "an example: 120/minute"
                raise ArgumentError(f"{rate!r} is not a rate", hint=hint) from None

    def now(self) -> datetime:
        """Return the time of its clock, in UTC."""
        return time_of(int(self.clock()))

    @property
    def is_https(self) -> bool:
        """Tell whether customers reach the server by https, as far as it knows."""
        return self.public_url.startswith("https:")


def check_url(url: str) -> str:
    """Return a URL of https, or of http on this machine.

    Raises:
        ArgumentError: It is another one, or holds a password.
    """
    try:
        parts = urlsplit(url)
        port_is_right = parts.port != 0
    except ValueError:
        raise ArgumentError("a URL is malformed") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if not (secure and plain and parts.hostname and port_is_right):
        raise ArgumentError(
            f"not a URL of https, or of http on this machine: {url.rpartition('@')[2]!r}",
            hint="an example: https://shop.example/licenses; passwords have no place in it",
        )
    return url
