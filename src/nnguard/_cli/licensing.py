"""`license`: the vendor's desk, and what customers need: `show`, `check`, `device`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import nnguard
from nnguard._base.files import write_bytes
from nnguard._cli import desk
from nnguard._cli.checks import add_checks, checks_of
from nnguard._cli.output import add_json, add_output, print_json, say
from nnguard._cli.signing import add_trust
from nnguard._cli.terms import add_command, say_terms

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add `license` and its own commands."""
    group = add_command(
        commands,
        "license",
        "issue, show, check, revoke and list licenses",
        "The issuing desk, and what customers need of it. What was issued stands in a ledger, "
        "which never holds a content key in the clear.",
        "  nnguard license issue trial.nnc -o ada.license --key vendor.key \\\n"
        "      --content-key content.key --to ada.pub --customer Ada --expires 2027-12-31\n"
        "  nnguard license list\n"
        "  nnguard license revoke 5f0c2a91 --key vendor.key -o acme.revoked",
    )
    own = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    desk.add_commands(own)
    parser = add_command(
        own,
        "show",
        "show what a license says, without checking it",
        "Show what a license says. Nothing of it is checked, its signature neither.",
        "  nnguard license show ada.license",
    )
    parser.add_argument("license", metavar="LICENSE", help="license file")
    add_json(parser)
    parser.set_defaults(run=_show)
    parser = add_command(
        own,
        "check",
        "check that a license holds here and now",
        "Check that a trusted vendor signed a license, and that it holds here and now. Whether it "
        "is for your trial and your key, unlock checks.",
        "  nnguard license check ada.license --trust vendor.pub\n"
        "  nnguard license check ada.license --trust vendor.pub --revocations acme.revoked "
        "--max-age 7",
    )
    parser.add_argument("license", metavar="LICENSE", help="license file")
    add_trust(parser)
    add_checks(parser)
    add_json(parser)
    parser.set_defaults(run=_check)
    parser = add_command(
        own,
        "device",
        "write down this machine's traits for the vendor",
        "Write the SHA-256 of a few traits of this machine: identifier of the system, network "
        "cards and the like. The vendor binds a license to them.",
        "  nnguard license device -o ada.device",
    )
    add_output(parser, what="device file")
    add_json(parser)
    parser.set_defaults(run=_device)


def _show(options: argparse.Namespace) -> None:
    license = nnguard.License.load(options.license)  # noqa: A001
    if options.json:
        shown = {"verified": False, "key_id": license.key_id, **license.terms.to_json()}
        print_json({"ok": True, "license": shown})
        return
    say(f"License {license.terms.id} (not checked), signed with key {license.key_id}")
    say_terms(license.terms)


def _check(options: argparse.Namespace) -> None:
    status = nnguard.licensing.check(options.license, options.trust, policy=checks_of(options))
    if options.json:
        print_json({"ok": True, **status.to_json()})
        return
    say(f"License {status.terms.id} holds" + (" in its grace period" if status.in_grace else ""))
    say_terms(status.terms)


def _device(options: argparse.Namespace) -> None:
    device = nnguard.Device.this()
    write_bytes(Path(options.output), device.to_json().encode(), overwrite=options.force)
    kinds = [kind for kind, _ in device.fingerprint]
    if options.json:
        print_json({"ok": True, "file": options.output, "traits": kinds})
    else:
        what = f"{len(kinds)} traits, hashed ({', '.join(kinds)})"
        say(f"Wrote {what}: {options.output} (send it to the vendor)")
