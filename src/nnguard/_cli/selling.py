"""`license issue`, `license revoke` and `license list`: what the seller does."""

from __future__ import annotations

from collections.abc import Iterator
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
from nnguard.errors import LedgerError

__all__ = ["run_issue", "run_list", "run_revoke"]

_VARIABLE = "NNGUARD_LEDGER"


def _ledger(*, required: bool) -> click.Option:
    what = f"Ledger of licenses: an SQLite file, or an SQLAlchemy URL (or {_VARIABLE})."
    return option("--ledger URL", what, envvar=_VARIABLE, required=required)


@command(
    argument("TRIAL", "The very stream, or folder, that the customer has."),
    output("License"),
    SIGNING_KEY,
    option("--to FILE", "Customer's public key.", required=True),
    option("--content-key FILE", "Of the lock; by default, from the ledger (--ledger-key)."),
    _ledger(required=False),
    option(
        "--ledger-key FILE",
        "Your own identity (nnguard keygen --identity): the ledger keeps the content key, wrapped "
        "to it, and later licenses need no --content-key.",
    ),
    option("--ledger-passphrase-file FILE", "Its first line is the ledger key's passphrase."),
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
    where you name one. The trial is opened first, in memory, to be sure that the license fits.

    Examples:
      nnguard license issue trial.nnc -o ada.license --key vendor.key \
          --content-key content.key --to ada.pub --customer Ada --expires 30d
      nnguard license issue trial.nnc -o ada.license --key vendor.key \
          --content-key content.key --to ada.pub --ledger licenses.db
    """
    _check_usage(options)
    key = load_signer(options.key, options.passphrase_file)
    content_key = (
        None if options.content_key is None else nnguard.ContentKey.load(options.content_key)
    )
    trial = open_model(options.trial)
    asked: dict[str, Any] = {"to": options.to, "terms": _terms_of(options)}
    with progress_bar(2 * trial.size, "Opening") as progress:  # it is hashed, and opened
        if not options.ledger:
            assert content_key is not None
            issued = nnguard.licensing.issue(
                trial, content_key, signer=key, progress=progress, **asked
            )
            issued.save(options.output, overwrite=options.force)
        else:
            with nnguard.licensing.Ledger(options.ledger) as ledger:
                issued = nnguard.licensing.Issuer(ledger, key, _ledger_key(options)).issue(
                    trial,
                    content_key,
                    output=options.output,
                    overwrite=options.force,
                    progress=progress,
                    **asked,
                )

    def lines() -> Iterator[str]:
        yield f"Issued license {issued.terms.id}: {options.output}"
        yield from terms_lines(issued.terms)

    return Outcome({"file": options.output, "license": issued.terms.to_json()}, lines())


def _check_usage(options: Options) -> None:
    """Stop before a license is made out that would be of no use."""
    if options.device_matches is not None and options.device is None:
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


def _ledger_key(options: Options) -> nnguard.Identity | None:
    if options.ledger_key is None:
        return None
    return load_private(nnguard.Identity, options.ledger_key, options.ledger_passphrase_file)


def _open_ledger(url: str) -> nnguard.licensing.Ledger:
    """Open a ledger that there is; a mistyped name must not become an empty ledger."""
    path = url.removeprefix("sqlite:///")
    if "://" not in path and path and not Path(path).exists():
        hint = f"nnguard license issue --ledger makes it; --ledger or {_VARIABLE} names another"
        raise LedgerError(f"there is no ledger {url}", hint=hint)
    return nnguard.licensing.Ledger(url)


@command(
    argument("ID...", "Licenses, or their first 8 digits.", required=False, type=str),
    option("--reason TEXT", "For the ledger."),
    output("Revocation list"),
    SIGNING_KEY,
    _ledger(required=True),
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
    with _open_ledger(options.ledger) as ledger:
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
    _ledger(required=True),
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
    with _open_ledger(options.ledger) as ledger:
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
