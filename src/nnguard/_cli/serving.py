"""`serve`: the license server."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.keys import PASSPHRASE_FILE, load_private, load_signer, read_secret
from nnguard._cli.listening import listening_of, listening_options, serve
from nnguard._cli.options import option, under
from nnguard._cli.output import Outcome
from nnguard._cli.selling import open_ledger

__all__ = ["check_installed", "run_serve"]

_PORT = "8443"
_VARIABLES = "NNGUARD_"
_PACKAGES = ("sqlalchemy", "fastapi", "uvicorn", "jinja2", "argon2", "limits", "httpx")


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
        *listening_options(_PORT, "A proxy, or its network, has TLS and tells who asks.", _set),
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
        stripe_secret=read_secret(options.stripe_secret_file),
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

        serve(make_app(issuer, settings), listening_of(options))
    return Outcome({}, [])


def check_installed() -> None:
    """Make sure that there is what servers are made of.

    Raises:
        ImportError: The extra is not installed.
    """
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            message = f'a server needs {name}: pip install "nnguard[server]"'
            raise ImportError(message, name=name)


def _secrets(issuer: nnguard.licensing.Issuer, urls: tuple[str, ...]) -> Outcome:
    from nnguard._server.telling import secret_of

    secrets = {url: secret_of(issuer, url) for url in urls}

    def lines() -> Iterator[str]:
        for url, secret in secrets.items():
            yield f"{url} {secret}"

    return Outcome({"secrets": secrets}, lines())
