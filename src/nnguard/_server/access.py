"""Who asks, and how often: API tokens with roles, and limits of rate.

Counts are this process's own: with several instances behind a balancer, each allows the rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Annotated

import limits
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from nnguard._server.logs import note
from nnguard._server.problems import Problem
from nnguard._server.settings import ServerSettings
from nnguard.licensing import Issuer, Token

__all__ = [
    "Access",
    "Anyone",
    "Auditor",
    "Caller",
    "Limits",
    "Seller",
    "Support",
    "client_of",
    "limited",
]

_IPV6_NETWORK = 64
"""Bits that tell one customer's network from another's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks with a token.

    Attributes:
        token: The token, without its secret.
        issuer: Acts in its name.
    """

    token: Token
    issuer: Issuer


class Limits:
    """How often somebody may ask.

    Args:
        settings: Has the rates.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rates = {
            "address": limits.parse(settings.rate),
            "token": limits.parse(settings.token_rate),
            "guess": limits.parse(settings.guess_rate),
        }

    def count(self, kind: str, who: str) -> None:
        """Count a request.

        Raises:
            Problem: It is one too many.
        """
        if not self._limiter.hit(self._rates[kind], kind, who):
            raise self._too_many(kind, who)

    def check(self, kind: str, who: str) -> None:
        """Refuse whoever has used up what was allowed, without counting this time."""
        if not self._limiter.test(self._rates[kind], kind, who):
            raise self._too_many(kind, who)

    def _too_many(self, kind: str, who: str) -> Problem:
        reset = self._limiter.get_window_stats(self._rates[kind], kind, who).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        return Problem(
            429,
            "too many requests",
            hint=f"try again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )


class Access:
    """Checks tokens.

    Args:
        issuer: Its ledger knows the tokens.
        limits: Of rate.
    """

    def __init__(self, issuer: Issuer, limits: Limits) -> None:
        self.limits = limits
        self._issuer = issuer

    def admit(self, request: Request, given: str | None, roles: tuple[str, ...]) -> Caller:
        """Return who asks.

        Raises:
            Problem: There is no token, or it is not valid, or of another role.
        """
        client = client_of(request)
        self.limits.check("guess", client)
        if given is None:
            self.limits.count("address", client)
            raise _unauthorized("this needs an API token")
        token = self._issuer.ledger.check_token(given)
        if token is None:
            self.limits.count("guess", client)
            raise _unauthorized("the API token is not valid")
        note(request, token=token.id)
        self.limits.count("token", token.id)
        if token.role not in roles:
            wanted = " or ".join(roles)
            raise Problem(403, f"this needs a token of {wanted}, and it is of {token.role}")
        return Caller(token, self._issuer.acting_as(f"token {token.id}"))


def client_of(request: Request) -> str:
    """Return whom to count: the address, of IPv6 its network."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address.packed, _IPV6_NETWORK), strict=False))
    return str(address)


async def limited(request: Request) -> None:
    """Count a request without a token: a dependency of routes that need none."""
    access: Access = request.app.state.access
    access.limits.count("address", client_of(request))


_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="An API token, as `nnguard ledger token new` makes it.",
)


def _allow(*roles: str) -> Callable[..., Caller]:
    """Return a dependency that gives the caller, if its token has one of these roles."""

    def admit(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Caller:
        access: Access = request.app.state.access
        given = None if credentials is None else credentials.credentials
        return access.admit(request, given, roles)

    return admit


Anyone = Annotated[Caller, Depends(_allow("shop", "support", "auditor"))]
Seller = Annotated[Caller, Depends(_allow("shop", "support"))]
Support = Annotated[Caller, Depends(_allow("support"))]
Auditor = Annotated[Caller, Depends(_allow("auditor"))]
"""What parameters of routes are that need a token of such a role."""


def _unauthorized(detail: str) -> Problem:
    return Problem(
        401,
        detail,
        hint="Authorization: Bearer nng_..., of nnguard ledger token new",
        headers={"WWW-Authenticate": "Bearer"},
    )
