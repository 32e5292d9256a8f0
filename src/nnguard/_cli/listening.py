"""What `serve` and `relay` have in common: where they listen, and how they begin and end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import nnguard
from nnguard._cli.commands import Options
from nnguard._cli.options import option
from nnguard._cli.systemd import tell_systemd

if TYPE_CHECKING:
    from nnguard._server.listening import Listening

__all__ = ["listening_of", "listening_options", "serve"]


def read_port(text: str) -> int:
    """Read the number of a port."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise ValueError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def listening_options(
    port: str, behind_proxy: str, make: Callable[..., click.Option] = option
) -> list[click.Option]:
    """Make the options that say where to listen.

    Args:
        port: Where, unless an option says otherwise.
        behind_proxy: What the help says of `--behind-proxy`.
        make: Makes an option.
    """
    return [
        make("--host NAME", "Address to listen on.", default="127.0.0.1"),
        make("--port PORT", "Port; 0 for one that is free.", default=port, read=read_port),
        make("--tls-certificate FILE", "PEM: the certificate, and those up to its root."),
        make("--tls-key FILE", "PEM: its private key."),
        make("--behind-proxy ADDRESS...", behind_proxy),
    ]


def listening_of(options: Options) -> Listening:
    """Return where to listen.

    Raises:
        ArgumentError: Others could listen in.
    """
    from nnguard._server.listening import Listening

    return Listening(
        host=options.host,
        port=options.port,
        certificate=Path(options.tls_certificate) if options.tls_certificate else None,
        key=Path(options.tls_key) if options.tls_key else None,
        proxies=tuple(options.behind_proxy),
    )


def serve(app: Any, listening: Listening) -> None:
    """Answer until a signal to end; the log is on standard error."""
    from nnguard._server.listening import HttpServer
    from nnguard._server.logs import log_to, tell

    log_to(sys.stderr)
    server = HttpServer(app, listening)

    def ready() -> None:
        tell("listening", url=server.url, pid=os.getpid(), version=nnguard.__version__)
        tell_systemd("READY=1")

    with _signals(server.stop):
        server.run(ready)
    tell("ended")


@contextlib.contextmanager
def _signals(stop: Callable[..., object]) -> Iterator[None]:
    """Stop at a signal to end; signals are as they were after it."""
    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
