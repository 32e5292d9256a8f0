"""License servers for tests: real ones, on a socket of this machine."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nnguard._server.listening import HttpServer, Listening
from nnguard._server.logs import log_to

PATIENCE = 60

_LOGS: list[io.StringIO] = []
"""Of servers that run: a process has one log, which is that of the newest."""


@dataclass
class Running:
    """A server that runs in a thread.

    Attributes:
        url: Where it is.
        log: What it has logged.
    """

    url: str
    log: io.StringIO

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host.strip("[]"), int(port)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Return the lines of the log, those of one event."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if name in ("", line["event"])]

    def event(self, name: str, **known: Any) -> dict[str, Any]:
        """Wait until there is a line of an event; it may come just after the answer."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.events(name):
                if known.items() <= line.items():
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {name} {known} in\n{self.log.getvalue()}")

    def raw(self, *pieces: bytes, timeout: float = PATIENCE) -> bytes:
        """Send bytes as they are; return all that comes back until the server closes."""
        with socket.create_connection(self.address, timeout=timeout) as connection:
            for piece in pieces:
                connection.sendall(piece)
            return received(connection)


def received(connection: socket.socket | ssl.SSLSocket) -> bytes:
    """Return what comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


@contextlib.contextmanager
def running(app: Any, listening: Listening | None = None) -> Iterator[Running]:
    """Run a server until the end of the block."""
    server = HttpServer(app, listening or Listening(port=0))
    log = io.StringIO()
    log_to(log)
    _LOGS.append(log)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready.set,))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield Running(server.url, log)
    finally:
        server.stop()
        thread.join(PATIENCE)
        _LOGS.remove(log)
        if _LOGS:
            log_to(_LOGS[-1])
        assert not thread.is_alive()
