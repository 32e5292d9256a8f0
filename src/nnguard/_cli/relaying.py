"""`relay`, which leases a license to machines, and `lease`, by which a machine gets its lease."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.keys import PASSPHRASE_FILE, load_private, own_identity, read_secret
from nnguard._cli.licensing import POLICY, policy_of
from nnguard._cli.listening import listening_of, listening_options, serve
from nnguard._cli.options import AUTHORITY, argument, authority, option, output, read_number, under
from nnguard._cli.output import Outcome, warn
from nnguard.errors import ActivationError

if TYPE_CHECKING:
    from nnguard._relay.relay import Relay

__all__ = ["run_lease", "run_relay"]

_SHORTEST, _LONGEST = 3, 3600


def _token_file() -> click.Option:
    return option("--token-file FILE", "Its first line is a secret that relay and machines share.")


def read_minutes(text: str) -> int:
    """Read a number of minutes; return whole seconds."""
    seconds = int(60 * read_number(text))
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(f"{text!r} is not between {_SHORTEST / 60} and {_LONGEST // 60} minutes")
    return seconds


def read_patience(text: str) -> float:
    """Read a number of seconds, 0 or more."""
    seconds = read_number(text)
    if seconds < 0:
        raise ValueError(f"{text!r} is less than 0")
    return seconds


@command(
    argument("LICENSE", "License for leases; it is renewed here."),
    option("--identity FILE", "Private key that the license is made out to.", required=True),
    PASSPHRASE_FILE,
    option("--leases-file FILE", "Remembers what is out; made, if missing.", required=True),
    option("--first-time", "There never was a relay: hand out leases of a new file at once."),
    option(
        "--minutes N", "How long a lease holds unless it is renewed.", default="5",
        read=read_minutes,
    ),
    option("--server URL", "License server; by default, the one that the license names."),
    under(
        "Where",
        *listening_options("8444", "A proxy, or its network, has TLS."),
        _token_file(),
    ),
    AUTHORITY,
    POLICY,
)  # fmt: skip
def run_relay(options: Options) -> Outcome:
    r"""Lease a license to machines of a cluster.

    Hold a license for N leases in your network, and lease it for minutes to machines that come and
    go (nnguard lease), never to more than N at once, whatever crashes and whatever clocks do.
    Nobody outside is needed for that. In the background, the license is renewed from the seller's
    server; it holds on while that is away. Relays on one machine may share a leases file. The log
    is JSON, a line for each event, on standard error.

    Examples:
      nnguard relay relay.license --identity relay.key --trust vendor.pub \
          --leases-file relay.leases --host 0.0.0.0 --tls-certificate relay.pem --tls-key tls.key
    """
    believed = authority(options)
    identity = load_private(nnguard.Identity, options.identity, options.passphrase_file)
    token = read_secret(options.token_file)
    from nnguard._relay.app import make_app
    from nnguard._relay.refresher import Refresher

    listening = listening_of(options)
    relay = _relay_of(options, identity, believed)
    terms = relay.held().license.terms
    relay.leases.open(first=options.first_time)
    refresher = None
    if options.server or terms.server:
        renew = partial(
            nnguard.licensing.refresh,
            identity=identity,
            **believed,
            server=options.server,
            license_policy=policy_of(options),
        )
        refresher = Refresher(relay.license, renew)
    serve(make_app(relay, token=token, refresher=refresher), listening)
    return Outcome({}, [])


def _relay_of(options: Options, identity: nnguard.Identity, believed: dict[str, Any]) -> Relay:
    from nnguard._operations.authority import authority_of
    from nnguard._relay.leases import Leases
    from nnguard._relay.relay import Relay

    leaser = identity.request_signer.public_key.id.hex()
    return Relay(
        license=Path(options.license),
        identity=identity,
        authority=partial(authority_of, **believed),
        leases=Leases(Path(options.leases_file), leaser, options.minutes),
        license_policy=partial(policy_of, options),
    )


@command(
    argument("URL", "Where the relay is.", type=str),
    argument(
        "COMMAND...", "What to run, after --, as long as there is a lease.", required=False,
        type=click.UNPROCESSED,
    ),
    output("Lease"),
    option(
        "--identity FILE", "This machine's private key; it is made, if there is none.",
        required=True,
    ),
    PASSPHRASE_FILE,
    _token_file(),
    option("--wait SECONDS", "Wait so long for a lease.", default="0", read=read_patience),
    option(
        "--trust PATH...",
        "Trusted public keys: a PEM file with one or more, or a folder of them; may be repeated.",
        required=True,
    ),
)  # fmt: skip
def run_lease(options: Options) -> Outcome:
    r"""Get a lease from a relay, and run a command under it.

    Write a lease, which unlocks the trial as its license does, for some minutes and for this
    machine. With a COMMAND, renew it as long as that runs, and give it back then. Where it cannot
    be renewed, the command gets SIGTERM, and SIGKILL before the lease ends. Signals are passed on;
    the exit code is the command's.

    Examples:
      nnguard lease https://relay.example:8444 -o pod.lease --identity pod.key --trust vendor.pub
      nnguard lease https://relay.example:8444 -o pod.lease --identity pod.key \
          --trust vendor.pub --wait 60 -- python serve.py
    """
    from nnguard._crypto.trust import load_trust
    from nnguard._relay.command import acquire, run_leased
    from nnguard._relay.holder import Holder
    from nnguard._relay.line import HttpLine

    identity, _ = own_identity(options)
    line = HttpLine(options.url, read_secret(options.token_file))
    holder = Holder(line, identity, load_trust(options.trust))
    lease = acquire(holder, options.wait)
    path = Path(options.output)
    if not options.commands:
        lease.save(path, overwrite=options.force)
        return Outcome({"file": options.output, "lease": lease.to_json()}, _lines(options, lease))
    try:
        lease.save(path, overwrite=options.force)
        code = run_leased(holder, partial(_replace, path), options.commands)
    finally:
        try:
            holder.give_back()
        except ActivationError as error:
            warn(f"the lease is not given back, and ends by itself: {error}")
    return Outcome({"exit_code": code}, [], code)


def _replace(path: Path, lease: nnguard.licensing.Lease) -> None:
    lease.save(path, overwrite=True)


def _lines(options: Options, lease: nnguard.licensing.Lease) -> Iterator[str]:
    yield f"Leased until {lease.expires_at.isoformat()}: {options.output}"
