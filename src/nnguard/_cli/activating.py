"""`license request`, `activate`, `refresh` and `release`: a customer gets, keeps and gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

import nnguard
from nnguard._base.atomic import named_together
from nnguard._cli.commands import Options, command
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import PASSPHRASE_FILE, load_private, own_identity
from nnguard._cli.licensing import POLICY, load_device, policy_of, terms_lines
from nnguard._cli.options import AUTHORITY, argument, authority, option, output
from nnguard._cli.output import Outcome, progress_bar
from nnguard.errors import ActivationError, ActivationReason, ArgumentError

__all__ = ["run_activate", "run_refresh", "run_release", "run_request"]

_ORDER = option(
    "--order CODE", "Code of the order (or NNGUARD_ORDER).", envvar="NNGUARD_ORDER", default=""
)
_IDENTITY = option("--identity FILE", "Your private key.", required=True)
_NEW_IDENTITY = option(
    "--identity FILE", "Your private key; it is made, if there is none.", required=True
)
_LEASES = option("--leases N", "Ask for so many leases at a time (nnguard relay).", default=0)


@command(
    argument("TRIAL", "Locked stream, or folder of them.", required=False),
    output("Request"),
    _ORDER,
    _NEW_IDENTITY,
    PASSPHRASE_FILE,
    option("--renews LICENSE", "Ask for the license that follows this one; no --order."),
    option("--device FILE", "Device instead of this machine (nnguard license device)."),
    _LEASES,
    option("--qr", "Show the request's digest as a QR code, too."),
)
def run_request(options: Options) -> Outcome:
    r"""Ask the seller for a license, by a file.

    Write a signed request: your public key, the trial, this machine's fingerprint, hashed, and the
    code of your order. The seller answers it with a license. Read its digest over the telephone,
    if you want to be sure that the seller got what you sent.

    Examples:
      nnguard license request trial.nnc -o ada.request --order K7Q2-9DXM-4T0C-VB31 \
          --identity ada.key
      nnguard license request --renews ada.license -o ada.request --identity ada.key
    """
    if bool(options.trial) == bool(options.renews):
        raise click.UsageError("a request is for a TRIAL, or --renews a license")
    if bool(options.trial) != bool(options.order):
        raise click.UsageError("--order belongs to a TRIAL, and a TRIAL to an order")
    device = load_device(options.device)
    with named_together():
        if options.renews:
            identity = load_private(nnguard.Identity, options.identity, options.passphrase_file)
            made = False
            request = nnguard.licensing.renewal(options.renews, identity, device=device)
        else:
            identity, made = own_identity(options)
            request = _ask(options, identity, device)
        request.save(options.output, overwrite=options.force)

    def lines() -> Iterator[str]:
        yield from _made_lines(options, made)
        yield f"Wrote the request: {options.output} (send it to the seller)"
        yield f"  its digest, for the telephone: {request.digest}"
        if options.qr:
            yield from _qr_lines(request.digest)

    values = {"file": options.output, "request": request.to_json(), "made_identity": made}
    return Outcome(values, lines())


@command(
    argument("TRIAL", "Locked stream, or folder of them."),
    output("License"),
    _ORDER,
    option(
        "--server URL",
        "The seller's license server (or NNGUARD_SERVER).",
        envvar="NNGUARD_SERVER",
        required=True,
    ),
    _NEW_IDENTITY,
    PASSPHRASE_FILE,
    _LEASES,
    AUTHORITY,
    POLICY,
)
def run_activate(options: Options) -> Outcome:
    r"""Get a license from the seller's server.

    Ask the server for a license of your order, for this machine, and check it. Asked again for the
    same machine, the server gives a license of the same seat.

    Examples:
      nnguard license activate trial.nnc -o ada.license --order K7Q2-9DXM-4T0C-VB31 \
          --server https://licenses.acme.ai --identity ada.key --trust vendor.pub
    """
    if not options.order:
        raise click.UsageError("--order is missing; give the code of your order")
    believed = authority(options)
    policy = policy_of(options)
    identity, made = own_identity(options)
    request = _ask(options, identity, policy.device)
    license = nnguard.licensing.activate(  # noqa: A001
        request, options.server, identity, **believed, license_policy=policy
    )
    license.save(options.output, overwrite=options.force)

    def lines() -> Iterator[str]:
        yield from _made_lines(options, made)
        yield f"Activated, license {license.terms.id}: {options.output}"
        yield from terms_lines(license.terms)

    values = {"file": options.output, "license": license.terms.to_json(), "made_identity": made}
    return Outcome(values, lines())


@command(
    argument("LICENSE", "License file; the new license replaces it."),
    _IDENTITY,
    PASSPHRASE_FILE,
    option("--server URL", "License server; by default, the one that the license names."),
    option("--early", "Do not wait for half of its life to be over."),
    AUTHORITY,
    POLICY,
)
def run_refresh(options: Options) -> Outcome:
    """Renew a license from the seller's server.

    Once half of its life is over, ask the server for the license that follows, check it, and put
    it in the place of the old one. Where the server cannot be reached, the license stays, as long
    as it holds. Run it once a day, say, by cron or a timer.

    Examples:
      nnguard license refresh ada.license --identity ada.key --trust vendor.pub
      nnguard license refresh ada.license --identity ada.key --trust vendor.pub --early
    """
    believed = authority(options)
    identity = load_private(nnguard.Identity, options.identity, options.passphrase_file)
    old = nnguard.licensing.License.load(options.license)
    new = nnguard.licensing.refresh(
        old,
        identity,
        **believed,
        server=options.server,
        license_policy=policy_of(options),
        early=options.early,
    )
    renewed = new != old
    if renewed:
        new.save(options.license, overwrite=True)

    def lines() -> Iterator[str]:
        ends = new.terms.expires_at
        until = "for good" if ends is None else f"until {ends.isoformat()}"
        what = "Renewed" if renewed else "Not renewed"
        why = "" if renewed or ends is None else ", and half of that is not over"
        yield f"{what}: {options.license} holds {until}{why}"

    values = {"file": options.license, "renewed": renewed, "license": new.terms.to_json()}
    return Outcome(values, lines())


@command(
    argument("LICENSE", "License file."),
    output("Receipt"),
    _IDENTITY,
    PASSPHRASE_FILE,
    option(
        "--license-state FILE",
        "State file of this machine, which unlock and check name: the license is refused from now "
        "on.",
        required=True,
    ),
    option("--server URL", "Give the seat back to this license server, too."),
)
def run_release(options: Options) -> Outcome:
    r"""Give a license back, so that another machine can have its seat.

    Remember on this machine that the license was given back, and write a signed receipt. For the
    receipt the seller frees the seat; with --server, the server does so at once.

    Examples:
      nnguard license release ada.license -o ada.receipt --identity ada.key \
          --license-state ada.state
      nnguard license release ada.license -o ada.receipt --identity ada.key \
          --license-state ada.state --server https://licenses.acme.ai
    """
    identity = load_private(nnguard.Identity, options.identity, options.passphrase_file)
    license = nnguard.licensing.License.load(options.license)  # noqa: A001
    receipt = nnguard.licensing.release(license, identity, options.license_state)
    receipt.save(options.output, overwrite=options.force)
    if options.server:
        try:
            nnguard.licensing.send(receipt, options.server)
        except ActivationError as error:
            if error.reason is ActivationReason.UNREACHABLE:
                error.hint = f"the receipt is in {options.output}: mail it, or try again later"
            raise

    def lines() -> Iterator[str]:
        yield f"License {receipt.license_id} does not hold here any more"
        use = "the server has freed the seat" if options.server else "send it to the seller"
        yield f"Wrote the receipt: {options.output} ({use})"

    values = {"file": options.output, "sent": bool(options.server), "receipt": receipt.to_json()}
    return Outcome(values, lines())


def _made_lines(options: Options, made: bool) -> Sequence[str]:
    if not made:
        return ()
    return [f"Made your private key: {options.identity} (keep it: licenses open with it alone)"]


def _ask(options: Options, identity: nnguard.Identity, device: Any) -> nnguard.licensing.Request:
    """Make a request for the trial, for this machine where no other device is named."""
    trial = open_model(options.trial)
    with progress_bar(trial.size, "Hashing") as progress:
        return nnguard.licensing.request(
            trial,
            identity,
            order=options.order,
            device=device or nnguard.licensing.Device.this(),
            leases=options.leases,
            progress=progress,
        )


def _qr_lines(text: str) -> Iterator[str]:
    """Draw a QR code, two rows in a line; what is light is drawn, for terminals that are dark."""
    try:
        import segno
    except ModuleNotFoundError:
        raise ArgumentError('QR codes need segno: pip install "nnguard[qr]"') from None
    rows = [[not cell for cell in row] for row in segno.make_qr(text).matrix_iter(border=2)]
    rows += [[True] * len(rows[0])] * (len(rows) % 2)
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        yield "".join(" ▄▀█"[2 * high + low] for high, low in zip(upper, lower, strict=True))
