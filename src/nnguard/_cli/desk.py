"""`license issue`, `revoke` and `list`: the vendor's desk and its ledger."""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import nnguard
from nnguard._cli.checks import load_device, parse_days, parse_time
from nnguard._cli.keys import add_signing_key, load_identity, load_signing_key
from nnguard._cli.output import add_json, add_output, print_json, progress_bar, say
from nnguard._cli.signing import pair
from nnguard._cli.terms import add_command, say_terms
from nnguard._models.stream_set import open_model

__all__ = ["add_commands"]

_LEDGER = "licenses.db"
_LEDGER_VARIABLE = "NNGUARD_LEDGER"


def add_commands(own: Any) -> None:
    """Add the commands to those of `license`."""
    _add_issue(own)
    _add_revoke(own)
    parser = add_command(
        own,
        "list",
        "list licenses that were issued",
        "List what stands in the ledger, in the order of issue.",
        "  nnguard license list\n  nnguard license list --customer Ada --json",
    )
    _add_ledger(parser)
    parser.add_argument("--customer", default="", help="of this customer only")
    parser.add_argument("--product", default="", help="of this product only")
    parser.add_argument("--revoked", action="store_true", help="revoked ones only")
    add_json(parser)
    parser.set_defaults(run=_list)


def _add_issue(own: Any) -> None:
    parser = add_command(
        own,
        "issue",
        "make out a license",
        "Make out a license for a trial, readable for one customer alone, and write it into the "
        "ledger. The trial is opened first, in memory, to be sure that the license fits.",
        "  nnguard license issue trial.nnc -o ada.license --key vendor.key \\\n"
        "      --content-key content.key --to ada.pub --customer Ada --expires 2027-12-31",
    )
    parser.add_argument(
        "trial", metavar="TRIAL", help="the very stream, or folder, that the customer has"
    )
    add_output(parser, what="license")
    add_signing_key(parser)
    parser.add_argument(
        "--content-key", metavar="FILE", help="of the lock; by default, from the ledger (--desk)"
    )
    parser.add_argument(
        "--desk", metavar="FILE",
        help="your own identity (nnguard keygen --identity): the ledger keeps the content key, "
        "wrapped to it, and later licenses need no --content-key",
    )  # fmt: skip
    parser.add_argument(
        "--desk-passphrase-file", metavar="FILE", help="first line is the identity's passphrase"
    )
    parser.add_argument("--to", required=True, metavar="FILE", help="the customer's public key")
    parser.add_argument("--customer", default="", help="who buys")
    parser.add_argument("--product", default="", help="what; by default, as the trial's signature")
    parser.add_argument("--issuer", default="", help="who sells; by default, the same")
    parser.add_argument(
        "--tier",
        default="",
        metavar="NAME",
        help="what it opens; by default, all that the key does",
    )
    parser.add_argument(
        "--expires", type=parse_time, metavar="TIME",
        help="such as 2027-12-31: when that day begins, in UTC; by default, never",
    )  # fmt: skip
    parser.add_argument("--not-before", type=parse_time, metavar="TIME", help="holds from then on")
    parser.add_argument(
        "--grace", type=parse_days, default=timedelta(0), metavar="DAYS",
        help="holds so long after it expired",
    )  # fmt: skip
    parser.add_argument(
        "--feature", action="append", default=[], metavar="NAME", help="may be repeated"
    )
    parser.add_argument(
        "--meta", action="append", default=[], metavar="KEY=VALUE", type=pair,
        help="anything else; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--device", metavar="FILE", help="bind to this device (nnguard license device)"
    )
    parser.add_argument(
        "--device-traits", type=int, metavar="K",
        help="traits of the device that have to match (all but one)",
    )  # fmt: skip
    _add_ledger(parser)
    add_json(parser)
    parser.set_defaults(run=_issue)


def _add_revoke(own: Any) -> None:
    parser = add_command(
        own,
        "revoke",
        "revoke licenses and sign the list of all that were",
        "Note in the ledger that licenses hold no longer, and sign the list that deployments "
        "check. Without an identifier, the list is only signed again, so that it is fresh.",
        "  nnguard license revoke 5f0c2a91 --reason refund --key vendor.key -o acme.revoked\n"
        "  nnguard license revoke --key vendor.key -o acme.revoked --force",
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="license, or its first 8 digits")
    parser.add_argument("--reason", default="", help="for the ledger")
    add_output(parser, what="revocation list")
    add_signing_key(parser)
    _add_ledger(parser)
    add_json(parser)
    parser.set_defaults(run=_revoke)


def _add_ledger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ledger",
        default=os.environ.get(_LEDGER_VARIABLE, _LEDGER),
        metavar="URL",
        help=f"SQLite file or SQLAlchemy URL (${_LEDGER_VARIABLE}, or {_LEDGER})",
    )


def _open_ledger(url: str) -> nnguard.Ledger:
    """Open a ledger that there is; a mistyped name must not become an empty ledger."""
    path = url.removeprefix("sqlite:///")
    if "://" not in path and path and not Path(path).exists():
        hint = f"nnguard license issue makes it; --ledger or {_LEDGER_VARIABLE} names another"
        raise nnguard.LedgerError(f"there is no ledger {url}", hint=hint)
    return nnguard.Ledger(url)


def _check_terms(options: argparse.Namespace) -> None:
    """Stop before a license is made out that would be of no use."""
    if options.device_traits is not None and options.device is None:
        raise ValueError("--device-traits is of no use without --device")
    if options.content_key is None and options.desk is None:
        raise ValueError("give the lock's --content-key, or --desk, if the ledger keeps it")


def _issue(options: argparse.Namespace) -> None:
    _check_terms(options)
    key = load_signing_key(options)
    identity = None
    if options.desk is not None:
        own = argparse.Namespace(passphrase_file=options.desk_passphrase_file)
        identity = load_identity(options.desk, own)
    content_key = (
        None if options.content_key is None else nnguard.ContentKey.load(options.content_key)
    )
    trial = open_model(options.trial)
    terms = nnguard.licensing.Terms(
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
        device_matches=options.device_traits,
    )
    with (
        nnguard.Ledger(options.ledger) as ledger,
        progress_bar(2 * trial.size, "Opening") as progress,  # it is hashed, and opened
    ):
        license = nnguard.licensing.Issuer(ledger, key, identity).issue(  # noqa: A001
            trial,
            content_key,
            output=options.output,
            overwrite=options.force,
            to=options.to,
            terms=terms,
            progress=progress,
        )
    if options.json:
        print_json({"ok": True, "file": options.output, "license": license.terms.to_json()})
    else:
        say(f"Issued license {license.terms.id}: {options.output}")
        say_terms(license.terms)


def _revoke(options: argparse.Namespace) -> None:
    key = load_signing_key(options)
    with _open_ledger(options.ledger) as ledger:
        desk = nnguard.licensing.Issuer(ledger, key)
        revoked = desk.revoke(options.ids, reason=options.reason)
        revocations = desk.revocation_list()
    revocations.save(options.output, overwrite=options.force)
    if options.json:
        ids = [entry.license_id for entry in revoked]
        count = len(revocations.hashes)
        print_json({"ok": True, "file": options.output, "revoked": ids, "on_list": count})
        return
    for entry in revoked:
        say(f"Revoked {entry.license_id} of {entry.customer or 'a customer without a name'}")
    say(f"Signed the list, {len(revocations.hashes)} revoked so far: {options.output}")


def _list(options: argparse.Namespace) -> None:
    with _open_ledger(options.ledger) as ledger:
        entries = ledger.entries(
            customer=options.customer,
            product=options.product,
            revoked=True if options.revoked else None,
        )
    if options.json:
        print_json({"ok": True, "licenses": [entry.to_json() for entry in entries]})
        return
    for entry in entries:
        say(_line_of(entry))
    if not entries:
        say("No such license.")


def _line_of(entry: nnguard.licensing.LedgerEntry) -> str:
    until = "forever" if entry.expires_at is None else f"until {entry.expires_at.date()}"
    if entry.revoked_at is not None:
        reason = f" ({entry.reason})" if entry.reason else ""
        until = f"revoked {entry.revoked_at.date()}{reason}"
    what = f"{entry.product or '-'} ({entry.tier})"
    start = f"{entry.license_id}  {entry.issued_at.date()}"
    return f"{start}  {entry.customer or '-'}  {what}  {until}"
