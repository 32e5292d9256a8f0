"""`license`: issue, show, check, revoke, list, device."""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import nnguard
from nnguard.cli.keys import add_signing_key, load_identity, load_signing_key
from nnguard.cli.locking import add_checks, checks_of, parse_time
from nnguard.cli.output import add_json, add_output, print_json, say
from nnguard.cli.signing import add_trust, pair
from nnguard.files import write_bytes

__all__ = ["add_commands"]

_LEDGER = "licenses.db"
_LEDGER_VARIABLE = "NNGUARD_LEDGER"


def add_commands(commands: Any) -> None:
    """Add `license` and its own commands."""
    group = commands.add_parser(
        "license",
        help="issue, show, check, revoke and list licenses",
        description="The issuing desk, and what customers need of it. What was issued stands in a "
        "ledger, which never holds a content key in the clear.",
        epilog="example:\n"
        "  nnguard license issue trial.nnc -o ada.license --key vendor.key \\\n"
        "      --content-key content.key --to ada.pub --customer Ada --expires 2027-12-31\n"
        "  nnguard license list\n"
        "  nnguard license revoke 5f0c2a91 --key vendor.key -o acme.revoked",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_issue(own)
    parser = own.add_parser("show", help="show what a license says, without checking it")
    parser.add_argument("license", metavar="LICENSE", help="license file")
    add_json(parser)
    parser.set_defaults(run=_show)
    parser = own.add_parser("check", help="check that a license holds here and now")
    parser.add_argument("license", metavar="LICENSE", help="license file")
    add_trust(parser)
    add_checks(parser)
    add_json(parser)
    parser.set_defaults(run=_check)
    _add_revoke(own)
    parser = own.add_parser("list", help="list licenses that were issued")
    _add_ledger(parser)
    parser.add_argument("--customer", default="", help="of this customer only")
    parser.add_argument("--product", default="", help="of this product only")
    parser.add_argument("--revoked", action="store_true", help="revoked ones only")
    add_json(parser)
    parser.set_defaults(run=_list)
    parser = own.add_parser(
        "device",
        help="write down this machine's traits for the vendor",
        description="Write the SHA-256 of a few traits of this machine: identifier of the system, "
        "network cards and the like. The vendor binds a license to them.",
    )
    add_output(parser, what="device file")
    add_json(parser)
    parser.set_defaults(run=_device)


def _add_issue(own: Any) -> None:
    parser = own.add_parser(
        "issue",
        help="make out a license",
        description="Make out a license for a trial, readable for one customer alone, and write it "
        "into the ledger. The trial is opened first, in memory, to be sure that the license fits.",
        epilog="example:\n  nnguard license issue trial.nnc -o ada.license --key vendor.key \\\n"
        "      --content-key content.key --to ada.pub --customer Ada --expires 2027-12-31",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trial", metavar="TRIAL", help="the very stream that the customer has")
    add_output(parser, what="license")
    add_signing_key(parser)
    parser.add_argument(
        "--content-key", metavar="FILE", help="of the lock; by default, from the ledger (--desk)"
    )
    parser.add_argument(
        "--desk", metavar="FILE",
        help="your own identity (nnguard keygen --identity): the ledger keeps the content key, "
        "wrapped to it",
    )  # fmt: skip
    parser.add_argument("--to", required=True, metavar="FILE", help="the customer's public key")
    parser.add_argument("--customer", default="", help="who buys")
    parser.add_argument("--product", default="", help="what; by default, as the trial's signature")
    parser.add_argument("--issuer", default="", help="who sells; by default, the same")
    parser.add_argument("--tier", default="", metavar="NAME", help="what it opens")
    parser.add_argument("--expires", type=parse_time, metavar="TIME", help="such as 2027-12-31")
    parser.add_argument("--not-before", type=parse_time, metavar="TIME", help="holds from then on")
    parser.add_argument(
        "--grace", type=float, default=0, metavar="DAYS", help="holds so long after it expired"
    )
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
    parser = own.add_parser(
        "revoke",
        help="revoke licenses and sign the list of all that were",
        description="Note in the ledger that licenses hold no longer, and sign the list that "
        "deployments check. Without an identifier, the list is only signed again, so that it is "
        "fresh.",
        epilog="example:\n"
        "  nnguard license revoke 5f0c2a91 --reason refund --key vendor.key -o acme.revoked",
        formatter_class=argparse.RawDescriptionHelpFormatter,
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


def _issue(options: argparse.Namespace) -> None:
    key = load_signing_key(options)
    identity = None if options.desk is None else load_identity(options.desk, options)
    content_key = (
        None if options.content_key is None else nnguard.ContentKey.load(options.content_key)
    )
    device = None
    if options.device is not None:
        device = nnguard.Device.from_json(Path(options.device).read_text(encoding="utf-8"))
    with nnguard.Ledger(options.ledger) as ledger:
        license = nnguard.Desk(ledger, key, identity).issue(  # noqa: A001
            options.trial,
            content_key,
            to=options.to,
            customer=options.customer,
            product=options.product,
            issuer=options.issuer,
            tier=options.tier,
            expires=options.expires,
            not_before=options.not_before,
            grace=timedelta(days=options.grace),
            features=options.feature,
            metadata=dict(options.meta),
            device=device,
            device_traits=options.device_traits,
        )
    license.save(options.output, overwrite=options.force)
    if options.json:
        print_json({"ok": True, "file": options.output, "license": license.terms.to_json()})
    else:
        say(f"Issued license {license.terms.id}: {options.output}")
        _say_terms(license.terms)


def _show(options: argparse.Namespace) -> None:
    license = nnguard.License.load(options.license)  # noqa: A001
    if options.json:
        shown = {"verified": False, "key_id": license.key_id, **license.terms.to_json()}
        print_json({"ok": True, "license": shown})
        return
    say(f"License {license.terms.id} (not checked), signed with key {license.key_id}")
    _say_terms(license.terms)


def _check(options: argparse.Namespace) -> None:
    status = nnguard.check_license(options.license, options.trust, checks=checks_of(options))
    if options.json:
        print_json({"ok": True, **status.to_json()})
        return
    say(f"License {status.terms.id} holds" + (" in its grace period" if status.in_grace else ""))
    _say_terms(status.terms)


def _revoke(options: argparse.Namespace) -> None:
    with nnguard.Ledger(options.ledger) as ledger:
        desk = nnguard.Desk(ledger, load_signing_key(options))
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
    say(f"Signed the list of {len(revocations.hashes)}: {options.output}")


def _list(options: argparse.Namespace) -> None:
    with nnguard.Ledger(options.ledger) as ledger:
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


def _line_of(entry: nnguard.Entry) -> str:
    until = "for ever" if entry.expires_at is None else f"until {entry.expires_at.date()}"
    if entry.revoked_at is not None:
        until = f"revoked {entry.revoked_at.date()}"
    what = f"{entry.product or '-'} ({entry.tier})"
    start = f"{entry.license_id}  {entry.issued_at.date()}"
    return f"{start}  {entry.customer or '-'}  {what}  {until}"


def _device(options: argparse.Namespace) -> None:
    device = nnguard.Device.this()
    write_bytes(Path(options.output), device.to_json().encode(), overwrite=options.force)
    kinds = [kind for kind, _ in device.traits]
    if options.json:
        print_json({"ok": True, "file": options.output, "traits": kinds})
    else:
        say(f"Wrote {len(kinds)} traits, hashed ({', '.join(kinds)}): {options.output}")


def _say_terms(terms: nnguard.LicenseTerms) -> None:
    lines = [
        ("issuer", terms.issuer),
        ("customer", terms.customer),
        ("product", terms.product),
        ("tier", terms.tier),
        ("features", ", ".join(terms.features)),
        ("issued at", terms.issued_at.isoformat()),
        ("not before", terms.not_before.isoformat()),
        ("expires at", "never" if terms.expires_at is None else terms.expires_at.isoformat()),
        ("grace", str(terms.grace) if terms.grace else ""),
        ("device", _device_line(terms.device)),
        ("stream", terms.stream),
    ]
    lines += [("meta", f"{key}={value}") for key, value in terms.metadata.items()]
    for label, value in lines:
        if value:
            say(f"  {label:<11} {value}")


def _device_line(binding: Any) -> str:
    if binding is None:
        return ""
    return f"bound to one: {binding.required} of {len(binding.prints)} traits"
