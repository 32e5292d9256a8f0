"""`serve`: the license server."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

import nnguard
from nnguard._base.files import read_file
from nnguard._cli.commands import Options, command
from nnguard._cli.keys import PASSPHRASE_FILE, load_private, load_signer
from nnguard._cli.options import option, under
from nnguard._cli.output import Outcome
from nnguard._cli.selling import open_ledger
from nnguard._cli.systemd import tell_systemd

__all__ = ["check_installed", "run_serve"]

_LONGEST_SECRET = 4096
_PORT = "8443"
_VARIABLES = "NNGUARD_"
_PACKAGES = ("sqlalchemy", "fastapi", "uvicorn", "jinja2", "argon2", "limits", "httpx")


def read_port(text: str) -> int:
    """Read the number of a port."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise ValueError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _set(declaration: str, help: str, **attributes: object) -> click.Option:  # noqa: A002
    """Make an option that an environment variable can stand for."""
    name = declaration.split(" ")[0].removeprefix("--").upper().replace("-", "_")
    return option(declaration, help, envvar=_VARIABLES + name, **attributes)


@command(
    _set("--ledger URL", "Ledger: an SQLAlchemy URL, or an SQLite file.", required=True),
    _set("--key FILE", "Private key: a PEM file, or pkcs11:... in a token.", required=True),
    PASSPHRASE_FILE,
    _set("--ledger-key FILE", "Identity that the ledger's keys are wrapped to.", required=True),
    _set("--ledger-passphrase-file FILE", "Its first line is the ledger key's passphrase."),
    under(
        "Where",
        _set("--host NAME", "Address to listen on.", default="127.0.0.1"),
        _set("--port PORT", "Port; 0 for one that is free.", default=_PORT, read=read_port),
        _set("--tls-certificate FILE", "PEM: the certificate, and those up to its root."),
        _set("--tls-key FILE", "PEM: its private key."),
        _set("--behind-proxy ADDRESS...", "A proxy, or its network, has TLS and tells who asks."),
        _set("--public-url URL", "Where customers reach the server."),
    ),
    under(
        "What",
        _set("--policy FILE", "Signed trust policy to hand out."),
        _set("--webhook URL...", "Tell this URL what happens; may be repeated."),
        option("--show-webhook-secrets", "Print what receivers check signatures with, and end."),
        _set("--stripe-secret-file FILE", "Its first line is the secret of Stripe's webhook."),
    ),
    under(
        "Limits",
        _set("--rate RATE", "Requests of an address without a token.", default="120/minute"),
        _set("--token-rate RATE", "Requests with one token.", default="1200/minute"),
        _set("--guess-rate RATE", "Wrong tokens and codes of an address.", default="20/minute"),
    ),
)
def run_serve(options: Options) -> Outcome:
    r"""Serve licenses: to customers, shops and sellers.

    Answer requests for licenses from orders in a ledger, over HTTP, with pages for customers and
    sellers, until SIGTERM. Several servers may share a ledger. Without TLS only this machine is
    served, unless a proxy has it. Each option has an environment variable: NNGUARD_ and its name.
    The log is JSON, a line for each event, on standard error.

    Examples:
      nnguard serve --ledger licenses.db --key vendor.key --ledger-key desk.key
      nnguard serve --ledger postgresql://nnguard@db/licenses --key vendor.key \
          --ledger-key desk.key --host 0.0.0.0 --behind-proxy 10.0.0.0/8 \
          --public-url https://licenses.example --webhook https://shop.example/licenses
    """
    check_installed()
    from nnguard._server.settings import ServerSettings

    settings = ServerSettings(
        public_url=options.public_url,
        policy_path=Path(options.policy) if options.policy else None,
        stripe_secret=_stripe_secret(options),
        webhook_urls=tuple(options.webhook),
        rate=options.rate,
        token_rate=options.token_rate,
        guess_rate=options.guess_rate,
    )
    if settings.policy_path is not None:
        nnguard.TrustPolicy.load(settings.policy_path)  # better no server than one without it
    key = load_signer(options.key, options.passphrase_file)
    identity = load_private(nnguard.Identity, options.ledger_key, options.ledger_passphrase_file)
    with open_ledger(options.ledger) as ledger:
        issuer = nnguard.licensing.Issuer(
            ledger, key, identity, actor="server", server=options.public_url
        )
        if options.show_webhook_secrets:
            return _secrets(issuer, settings.webhook_urls)
        from nnguard._server.app import make_app
        from nnguard._server.listening import HttpServer, Listening
        from nnguard._server.logs import log_to, tell

        listening = Listening(
            host=options.host,
            port=options.port,
            certificate=Path(options.tls_certificate) if options.tls_certificate else None,
            key=Path(options.tls_key) if options.tls_key else None,
            proxies=tuple(options.behind_proxy),
        )
        log_to(sys.stderr)
        server = HttpServer(make_app(issuer, settings), listening)

        def ready() -> None:
            tell("listening", url=server.url, pid=os.getpid(), version=nnguard.__version__)
            tell_systemd("READY=1")

        with _signals(server.stop):
            server.run(ready)
        tell("ended")
    return Outcome({}, [])


@contextlib.contextmanager
def _signals(stop: Callable[..., object]) -> Iterator[None]:
    """Stop at a signal to end; signals are as they were after it."""
    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def check_installed() -> None:
    """Make sure that there is what servers are made of.

    Raises:
        ImportError: The extra is not installed.
    """
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            message = f'a server needs {name}: pip install "nnguard[server]"'
            raise ImportError(message, name=name)


def _stripe_secret(options: Options) -> str:
    if not options.stripe_secret_file:
        return ""
    text = read_file(options.stripe_secret_file, _LONGEST_SECRET).decode("utf-8", "replace")
    secret = text.partition("\n")[0].strip()
    if not secret:
        raise click.UsageError(f"{options.stripe_secret_file} has no secret in its first line")
    return secret


def _secrets(issuer: nnguard.licensing.Issuer, urls: tuple[str, ...]) -> Outcome:
    from nnguard._server.telling import secret_of

    secrets = {url: secret_of(issuer, url) for url in urls}

    def lines() -> Iterator[str]:
        for url, secret in secrets.items():
            yield f"{url} {secret}"

    return Outcome({"secrets": secrets}, lines())
