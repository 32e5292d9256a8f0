"""`license issue`, `license revoke` and `license list`: what the seller does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import SIGNING_KEY, load_private, load_signer
from nnguard._cli.licensing import load_device, terms_lines
from nnguard._cli.options import argument, option, output, under
from nnguard._cli.output import Outcome, progress_bar, table
from nnguard._records.hashed import digest_of, hash_files
from nnguard.errors import LedgerError

__all__ = [
    "LEDGER_KEY",
    "check_exists",
    "ledger_option",
    "load_ledger_key",
    "open_ledger",
    "run_issue",
    "run_list",
    "run_revoke",
]

_VARIABLE = "NNGUARD_LEDGER"
_TERMS = (
    *("to", "content_key", "customer", "product", "issuer", "tier", "expires", "not_before"),
    *("grace", "feature", "meta", "device", "device_matches"),
)


LEDGER_KEY = [
    option(
        "--ledger-key FILE",
        "Your own identity (nnguard keygen --identity): the ledger keeps content keys, wrapped to "
        "it, and codes of orders come from it.",
    ),
    option("--ledger-passphrase-file FILE", "Its first line is the ledger key's passphrase."),
]


def ledger_option(*, required: bool = True) -> click.Option:
    """Make the option that names a ledger."""
    what = f"Ledger of licenses: an SQLite file, or an SQLAlchemy URL (or {_VARIABLE})."
    return option("--ledger URL", what, envvar=_VARIABLE, required=required)


@command(
    argument("TRIAL", "The very stream, or folder, that the customer has.", required=False),
    output("License"),
    SIGNING_KEY,
    option("--to FILE", "Customer's public key."),
    option("--request FILE", "Customer's request, in place of --to; its order needs no TRIAL."),
    option("--server URL", "With an order: where the license is refreshed from."),
    option(
        "--any-signer",
        "The trial may be signed with another key than --key; customers have to trust both. "
        "Give --product and --issuer: what the trial says of them is not checked.",
    ),
    option("--content-key FILE", "Of the lock; by default, from the ledger (--ledger-key)."),
    ledger_option(required=False),
    LEDGER_KEY,
    under(
        "Terms",
        option("--customer TEXT", "Who buys."),
        option("--product TEXT", "What; by default, as the trial says."),
        option("--issuer TEXT", "Who sells; by default, as the trial says."),
        option("--tier NAME", "What it opens; by default, all that the content key does."),
        option("--expires TIME", "Such as 30d, from now, or 2027-12-31, UTC; by default, never."),
        option("--not-before TIME", "It holds from then on."),
        option("--grace DURATION", "It holds so long after it expired, such as 7d.", default="0d"),
        option("--feature NAME...", "May be repeated."),
        option("--meta KEY=VALUE...", "Anything else; may be repeated."),
        option("--device FILE", "Bind it to this device (nnguard license device)."),
        option(
            "--device-matches N", "Components of its fingerprint that have to match (all but one)."
        ),
    ),
)
def run_issue(options: Options) -> Outcome:
    r"""Make out a license.

    Make out a license for a trial, readable for one customer alone, and write it into the ledger,
    where you name one. The trial is opened first, in memory, to be sure that the license fits. A
    request of an order is answered as the license server does, and takes one of its seats.

    Examples:
      nnguard license issue trial.nnc -o ada.license --key vendor.key \
          --content-key content.key --to ada.pub --customer Ada --expires 30d
      nnguard license issue trial.nnc -o ada.license --key vendor.key \
          --content-key content.key --to ada.pub --ledger licenses.db
      nnguard license issue --request ada.request -o ada.license --key vendor.key \
          --ledger licenses.db --ledger-key desk.key
    """
    if options.trial is None:
        issued = _answer(options)
    else:
        _check_usage(options)
        issued = _issue(options)

    def lines() -> Iterator[str]:
        yield f"Issued license {issued.terms.id}: {options.output}"
        yield from terms_lines(issued.terms)
        if issued.signature and not options.ledger:
            yield "It opens a copy with a fingerprint. As it is in no ledger, trace needs this file"

    return Outcome({"file": options.output, "license": issued.terms.to_json()}, lines())


def _answer(options: Options) -> nnguard.licensing.License:
    """Answer a request of an order, which says all that options say otherwise."""
    if options.request is None:
        raise click.UsageError(
            "there is no TRIAL: name it, or give a --request, whose order names it"
        )
    if not options.ledger or options.ledger_key is None:
        raise click.UsageError("orders stand in a ledger: name it (--ledger, --ledger-key)")
    given = [name for name in _TERMS if getattr(options, name) not in ("", None, (), timedelta(0))]
    if given:
        named = given[0].replace("_", "-")
        raise click.UsageError(f"--{named} contradicts --request: its order says what it is for")
    request = nnguard.licensing.Request.load(options.request)
    with open_ledger(options.ledger) as ledger:
        key = load_signer(options.key, options.passphrase_file)
        issuer = nnguard.licensing.Issuer(
            ledger, key, load_ledger_key(options), server=options.server
        )
        issued = issuer.answer(request)
    issued.save(options.output, overwrite=options.force)
    return issued


def _issue(options: Options) -> nnguard.licensing.License:
    key = load_signer(options.key, options.passphrase_file)
    content_key = (
        None if options.content_key is None else nnguard.ContentKey.load(options.content_key)
    )
    trial = open_model(options.trial)
    asked: dict[str, Any] = {"to": options.to, "terms": _terms_of(options)}
    if options.request is not None:
        asked = _asked_by(options, trial)
    asked["any_signer"] = bool(options.any_signer)
    with progress_bar(2 * trial.size, "Opening") as progress:  # it is hashed, and opened
        if not options.ledger:
            assert content_key is not None
            issued = nnguard.licensing.issue(
                trial, content_key, signer=key, progress=progress, **asked
            )
            issued.save(options.output, overwrite=options.force)
        else:
            with nnguard.licensing.Ledger(options.ledger) as ledger:
                issued = nnguard.licensing.Issuer(ledger, key, load_ledger_key(options)).issue(
                    trial,
                    content_key,
                    output=options.output,
                    overwrite=options.force,
                    progress=progress,
                    **asked,
                )
    return issued


def _asked_by(options: Options, trial: nnguard.Stream | nnguard.StreamSet) -> dict[str, Any]:
    """Return to whom a license is made out, and what it says, for a request without an order."""
    request = nnguard.licensing.Request.load(options.request)
    request.authenticate_self()
    if request.order or request.license:
        raise click.UsageError("the request is of an order: leave TRIAL out, and give --ledger")
    if request.stream != digest_of(hash_files(trial)).hex():
        raise nnguard.errors.ActivationError(
            "the request is for another trial",
            reason=nnguard.errors.ActivationReason.OTHER_TRIAL,
            hint="the customer makes it with the very trial that you sell",
        )
    terms = dataclasses.replace(_terms_of(options), device=request.device)
    return {"to": request.recipient, "terms": terms}


def _check_usage(options: Options) -> None:
    """Stop before a license is made out that would be of no use."""
    if (options.to is None) == (options.request is None):
        raise click.UsageError("--to is missing: name the customer's public key, or a --request")
    if options.request is not None and options.device is not None:
        raise click.UsageError("--device contradicts --request, which names the device")
    if options.server:
        raise click.UsageError("--server needs an order: servers refresh only what has a seat")
    if options.device_matches is not None and options.device is None and options.request is None:
        raise click.UsageError("--device-matches needs --device: name the device")
    if options.ledger_key is not None and not options.ledger:
        raise click.UsageError("--ledger-key opens content keys in a ledger: name it with --ledger")
    if options.content_key is None and options.ledger_key is None:
        raise click.UsageError(
            "there is no content key: give the lock's --content-key, or --ledger and --ledger-key, "
            "if the ledger keeps it"
        )


def _terms_of(options: Options) -> nnguard.licensing.Terms:
    return nnguard.licensing.Terms(
        customer=options.customer,
        product=options.product,
        issuer=options.issuer,
        tier=options.tier,
        expires_at=options.expires,
        not_before=options.not_before,
        grace=options.grace,
        features=options.feature,
        metadata=dict(options.meta),
        device=load_device(options.device),
        device_matches=options.device_matches,
    )


def load_ledger_key(options: Options) -> nnguard.Identity | None:
    """Load the identity that `--ledger-key` names, if it does."""
    if options.ledger_key is None:
        return None
    return load_private(nnguard.Identity, options.ledger_key, options.ledger_passphrase_file)


def open_ledger(url: str) -> nnguard.licensing.Ledger:
    """Open a ledger that there is; a mistyped name must not become an empty ledger."""
    check_exists(url)
    return nnguard.licensing.Ledger(url)


def check_exists(url: str) -> None:
    """Make sure that there is a ledger, where that can be told by its name."""
    path = url.removeprefix("sqlite:///")
    if "://" not in path and path and not Path(path).exists():
        hint = f"nnguard product add makes it; --ledger or {_VARIABLE} names another"
        raise LedgerError(f"there is no ledger {url}", hint=hint)


@command(
    argument("ID...", "Licenses, or their first 8 digits.", required=False, type=str),
    option("--reason TEXT", "For the ledger."),
    output("Revocation list"),
    SIGNING_KEY,
    ledger_option(),
)
def run_revoke(options: Options) -> Outcome:
    r"""Revoke licenses and sign the list of all that were.

    Note in the ledger that licenses hold no longer, and sign the list that deployments check.
    Without an identifier, the list is only signed again, so that it is fresh.

    Examples:
      nnguard license revoke 5f0c2a91 --reason refund --ledger licenses.db --key vendor.key \
          -o acme.revoked
      nnguard license revoke --ledger licenses.db --key vendor.key -o acme.revoked --force
    """
    key = load_signer(options.key, options.passphrase_file)
    with open_ledger(options.ledger) as ledger:
        issuer = nnguard.licensing.Issuer(ledger, key)
        revoked = issuer.revoke(options.ids, reason=options.reason)
        revocations = issuer.revocation_list()
    revocations.save(options.output, overwrite=options.force)
    count = len(revocations.hashes)

    def lines() -> Iterator[str]:
        for entry in revoked:
            yield f"Revoked {entry.license_id} of {entry.customer or 'a customer without a name'}"
        yield f"Signed the list, {count} revoked so far: {options.output}"

    ids = [entry.license_id for entry in revoked]
    return Outcome({"file": options.output, "revoked": ids, "on_list": count}, lines())


@command(
    ledger_option(),
    option("--customer TEXT", "Of this customer only."),
    option("--product TEXT", "Of this product only."),
    option("--revoked", "Revoked ones only."),
)
def run_list(options: Options) -> Outcome:
    """List licenses that were issued.

    They are those of the ledger, in the order of issue.

    Examples:
      nnguard license list --ledger licenses.db
      nnguard license list --ledger licenses.db --customer Ada --json
    """
    with open_ledger(options.ledger) as ledger:
        entries = ledger.entries(
            customer=options.customer,
            product=options.product,
            revoked=True if options.revoked else None,
        )

    def lines() -> Iterator[str]:
        headings = ("license", "issued", "customer", "product", "tier", "expires")
        yield from table(headings, map(_row, entries)) if entries else ["There is no such license."]

    return Outcome({"licenses": [entry.to_json() for entry in entries]}, lines())


def _row(entry: nnguard.licensing.LedgerEntry) -> tuple[str, ...]:
    until = "never" if entry.expires_at is None else str(entry.expires_at.date())
    if entry.revoked_at is not None:
        reason = f" ({entry.reason})" if entry.reason else ""
        until = f"revoked {entry.revoked_at.date()}{reason}"
    issued = str(entry.issued_at.date())
    names = (entry.customer or "-", entry.product or "-", entry.tier)
    return (entry.license_id, issued, *names, until)
