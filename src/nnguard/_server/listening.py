"""Listening on a socket: uvicorn, with TLS, and with patience that ends.

Law: without TLS nobody is served but this machine, unless somebody says that a proxy has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from nnguard._base.http import is_loopback
from nnguard.errors import ArgumentError

__all__ = ["HttpServer", "Listening"]

_HEAD_SECONDS = 10.0
"""Until the head of a request has to be there."""

_BACKLOG = 2048
_CONNECTIONS = 1000
_HEAD_SIZE = 16 << 10
_GRACE = 30
"""Seconds for requests that are under way when the server is told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where to listen.

    Attributes:
        host: Name or address of this machine.
        port: 0 for any that is free.
        certificate: PEM file with the certificate of TLS, and those between it and the root.
        key: PEM file with its private key.
        proxies: Addresses or networks of proxies that have TLS, whose `X-Forwarded-For` is
            believed.

    Raises:
        ArgumentError: Others could listen in.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    certificate: Path | None = None
    key: Path | None = None
    proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ArgumentError("TLS needs a certificate and its private key")
        if self.certificate is None and not self.proxies and not is_loopback(self.host):
            raise ArgumentError(
                f"without TLS the server listens on this machine only, and {self.host} is not it",
                hint="--tls-certificate and --tls-key, or --behind-proxy where a proxy has TLS",
            )


class _Patient(H11Protocol):
    """HTTP/1.1 that closes connections on which no request begins in time."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._waiting is None:
            self._wait()  # another request has begun on a connection that was kept

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class HttpServer:
    """A server whose socket is open: whoever connects waits for `run`.

    Args:
        app: What answers.
        listening: Where.

    Attributes:
        url: How this machine reaches it.

    Raises:
        OSError: It cannot listen there.
        ArgumentError: Certificate and key cannot be used.
    """

    def __init__(self, app: ASGIApp, listening: Listening) -> None:
        options: dict[str, Any] = {}
        if listening.certificate is not None:
            context = _context(listening)
            options["ssl_context_factory"] = lambda *_: context
        if listening.proxies:
            options["forwarded_allow_ips"] = [*listening.proxies]
        config = uvicorn.Config(
            app,
            http=_Patient,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(listening.proxies),
            limit_concurrency=_CONNECTIONS,
            h11_max_incomplete_event_size=_HEAD_SIZE,
            timeout_graceful_shutdown=_GRACE,
            **options,
        )
        family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
        where = (listening.host, listening.port)
        self._socket = socket.create_server(where, family=family, backlog=_BACKLOG)
        host, port = self._socket.getsockname()[:2]
        scheme = "http" if listening.certificate is None else "https"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = _Server(config)

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Answer until `stop`; requests that are under way are answered first.

        Args:
            ready: Called when it begins to answer.
        """
        self._server.ready = ready
        self._server.run([self._socket])

    def stop(self, *_: object) -> None:
        """End soon; a handler of signals, too."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    ready: Callable[[], object]

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals to whoever runs the server."""
        return contextlib.nullcontext()


def _context(listening: Listening) -> ssl.SSLContext:
    assert listening.certificate is not None
    assert listening.key is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listening.certificate, listening.key, password=_no_password)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, error.strerror, str(listening.certificate)) from None
    except (ssl.SSLError, ValueError):
        raise ArgumentError(
            "the certificate of TLS and its key cannot be read, or do not belong together",
            hint="both are PEM files; the key has no passphrase",
        ) from None
    return context


def _no_password() -> str:
    """Give no passphrase, where OpenSSL would ask the terminal."""
    raise ValueError("passphrase")
