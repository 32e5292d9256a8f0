"""`license`, what customers need of it, and what is asked of a license besides its signature."""

from __future__ import annotations

from collections.abc import Iterator

import nnguard
from nnguard._base.files import read_file
from nnguard._cli.commands import Group, Options, command
from nnguard._cli.options import AUTHORITY, argument, authority, option, output, under
from nnguard._cli.output import Outcome
from nnguard._licensing.policy import as_license
from nnguard._licensing.receipt import Receipt
from nnguard._licensing.request import Request

__all__ = [
    "POLICY",
    "load_device",
    "policy_of",
    "run_check",
    "run_device",
    "run_license",
    "run_show",
    "terms_lines",
]

_LARGEST = 1 << 21

POLICY = under(
    "License",
    option("--revocations FILE", "The vendor's revocation list."),
    option("--max-age DURATION", "Require a revocation list no older than this, such as 7d."),
    option(
        "--license-state FILE",
        "Remember the newest time, and licenses that were given back: neither comes again.",
    ),
    option("--device FILE", "Device instead of this machine (nnguard license device)."),
    option("--now TIME", "Time instead of the clock's."),
)

run_license = Group(
    "license",
    {
        "Sellers": {"issue": "selling", "revoke": "selling", "list": "selling"},
        "Customers": {
            "request": "activating",
            "activate": "activating",
            "refresh": "activating",
            "release": "activating",
            "show": "licensing",
            "check": "licensing",
            "device": "licensing",
        },
    },
    """
  nnguard license issue trial.nnc -o ada.license --key vendor.key \\
      --content-key content.key --to ada.pub --customer Ada --expires 2027-12-31
  nnguard license request trial.nnc -o ada.request --order K7Q2-9DXM-4T0C-VB31 \\
      --identity ada.key
  nnguard license check ada.license --trust vendor.pub
  nnguard license list --ledger licenses.db
  nnguard license revoke 5f0c2a91 --ledger licenses.db --key vendor.key -o acme.revoked
""",
    help="Issue licenses, ask for them, keep them fresh, check and revoke them.\n\n"
    "What was issued stands in a ledger, where you name one; it never holds a content key in the "
    "clear.",
)


@command(
    argument("FILE", "License, lease, request or receipt."),
)
def run_show(options: Options) -> Outcome:
    """Show what a license, a lease, a request or a receipt says, without checking it.

    Nothing of it is checked, its signature neither.

    Examples:
      nnguard license show ada.license
      nnguard license show ada.request
    """
    text = read_file(options.file, _LARGEST).decode("utf-8", "replace")
    if Request.is_in(text):
        return _show_request(Request.load(options.file))
    if Receipt.is_in(text):
        receipt = Receipt.load(options.file)
        what = f"Receipt of license {receipt.license_id} (not checked)"
        facts = [("issued at", receipt.issued_at.isoformat()), ("key", receipt.key_id)]
        return Outcome({"receipt": receipt.to_json()}, [what, *_fact_lines(facts)])
    found = as_license(options.file)
    if isinstance(found, nnguard.licensing.Lease):
        return _show_lease(found)

    def lines() -> Iterator[str]:
        yield f"License {found.terms.id} (not checked), signed with key {found.key_id}"
        yield from terms_lines(found.terms)

    shown = {"verified": False, "key_id": found.key_id, **found.terms.to_json()}
    return Outcome({"license": shown}, lines())


def _show_lease(lease: nnguard.licensing.Lease) -> Outcome:
    def lines() -> Iterator[str]:
        until = lease.expires_at.isoformat()
        yield f"Lease until {until} (not checked), signed with key {lease.key_id}"
        yield from _fact_lines([("machine's", f"key {lease.recipient}")])
        yield f"Of license {lease.license.terms.id}, signed with key {lease.license.key_id}"
        yield from terms_lines(lease.license.terms)

    return Outcome({"lease": lease.to_json()}, lines())


def _show_request(request: Request) -> Outcome:
    device = request.device
    kinds = [] if device is None else [kind for kind, _ in device.fingerprint]
    facts = [
        ("order", "by its code" if request.order else ""),
        ("renews", request.license),
        ("issued at", request.issued_at.isoformat()),
        ("customer's", f"key {request.recipient.id.hex()}"),
        ("device", ", ".join(kinds)),
        ("leases", str(request.leases or "")),
        ("stream", request.stream),
    ]
    what = f"Request {request.digest} (not checked), signed with key {request.key_id}"
    return Outcome({"request": request.to_json()}, [what, *_fact_lines(facts)])


@command(
    argument("LICENSE", "License file."),
    AUTHORITY,
    POLICY,
)
def run_check(options: Options) -> Outcome:
    """Check that a license holds here and now.

    Check that a trusted vendor signed a license, and that it holds here and now. Whether it is for
    your trial and your key, unlock checks.

    Examples:
      nnguard license check ada.license --trust vendor.pub
      nnguard license check ada.license --trust vendor.pub --revocations acme.revoked --max-age 7d
    """
    status = nnguard.licensing.check(
        options.license, **authority(options), license_policy=policy_of(options)
    )

    def lines() -> Iterator[str]:
        yield f"License {status.terms.id} holds{' in its grace period' if status.in_grace else ''}"
        yield from terms_lines(status.terms)

    return Outcome(status.to_json(), lines())


@command(
    output("Device file"),
    option(
        "--name TEXT",
        "Instead of what this machine is made of, a name that you give it: for containers and "
        "other machines that are new each time they start.",
    ),
)
def run_device(options: Options) -> Outcome:
    """Write down this machine's fingerprint for the vendor.

    Write the SHA-256 of a few components of this machine: identifier of the system, network cards
    and the like. The vendor binds a license to them.

    Examples:
      nnguard license device -o ada.device
      nnguard license device -o pod.device --name inference-3
    """
    device = (
        nnguard.licensing.Device.named(options.name)
        if options.name
        else nnguard.licensing.Device.this()
    )
    device.save(options.output, overwrite=options.force)
    kinds = [kind for kind, _ in device.fingerprint]
    count = "1 component" if len(kinds) == 1 else f"{len(kinds)} components"
    what = f"{count}, hashed ({', '.join(kinds)})"
    return Outcome(
        {"file": options.output, "fingerprint": kinds},
        [f"Wrote {what}: {options.output} (send it to the vendor)"],
    )


def policy_of(options: Options) -> nnguard.licensing.Policy:
    """Return the policy that the options ask for."""
    return nnguard.licensing.Policy(
        now=options.now,
        device=load_device(options.device),
        revocations=options.revocations,
        max_age=options.max_age,
        state=options.license_state,
    )


def load_device(path: str | None) -> nnguard.licensing.Device | None:
    """Read a device file, if there is one."""
    return None if path is None else nnguard.licensing.Device.load(path)


def terms_lines(terms: nnguard.licensing.LicenseTerms) -> Iterator[str]:
    """Say what a license grants."""
    device = ""
    if terms.device is not None:
        most = len(terms.device.prints)
        device = f"bound to one: {terms.device.required} of {most} components of its fingerprint"
    facts = [
        ("issuer", terms.issuer),
        ("customer", terms.customer),
        ("product", terms.product),
        ("tier", terms.tier),
        ("features", ", ".join(terms.features)),
        ("issued at", terms.issued_at.isoformat()),
        ("not before", terms.not_before.isoformat()),
        ("expires at", "never" if terms.expires_at is None else terms.expires_at.isoformat()),
        ("grace", str(terms.grace).removesuffix(", 0:00:00") if terms.grace else ""),
        ("device", device),
        ("order", terms.order),
        ("renewed by", terms.server),
        ("leases", str(terms.leases or "")),
        ("warns only", "yes" if terms.warn_only else ""),
        ("stream", terms.stream),
    ]
    facts += [("meta", f"{key}={value}") for key, value in terms.metadata.items()]
    yield from _fact_lines(facts)


def _fact_lines(facts: list[tuple[str, str]]) -> Iterator[str]:
    for label, value in facts:
        if value:
            yield f"  {label:<11} {value}"
