"""What a customer does to get a license, to keep it fresh, and to give it back.

By files, which the customer and the seller mail each other:

    request = nnguard.licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31")
    request.save("ada.request")

Or by the seller's server:

    server = "https://licenses.acme.ai"
    license = nnguard.licensing.activate(request, server, "ada.key", "vendor.pub")
    license = nnguard.licensing.refresh(license, "ada.key", "vendor.pub")

Law: nothing that a server answers is returned before it was checked as any other license.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from nnguard._base.arguments import check_type, loaded
from nnguard._base.http import check_server, post
from nnguard._base.progress import Progress
from nnguard._base.times import TimeLike, now, to_utc
from nnguard._crypto.identity import Identity, IdentityLike
from nnguard._crypto.trust import Trust
from nnguard._licensing.device import Device
from nnguard._licensing.license import License, LicenseTerms
from nnguard._licensing.policy import Policy
from nnguard._licensing.receipt import Receipt
from nnguard._licensing.request import Request
from nnguard._licensing.state import LicenseState
from nnguard._locking.opening import lock_id
from nnguard._models.stream_set import ModelLike, as_model
from nnguard._operations.authority import PathLike
from nnguard._operations.check_license import check
from nnguard._policy.policy import PolicyLike
from nnguard._records.hashed import digest_of, hash_files
from nnguard.errors import (
    ActivationError,
    ActivationReason,
    ArgumentError,
    LicenseError,
    Refusal,
    WrongKeyError,
)

__all__ = ["activate", "refresh", "release", "renewal", "request", "send"]

_LOG = logging.getLogger("nnguard")

_LICENSES, _RECEIPTS = "/v1/licenses", "/v1/receipts"


def request(
    trial: ModelLike,
    identity: IdentityLike,
    *,
    order: str = "",
    device: Device | PathLike | None = None,
    leases: int = 0,
    issued_at: TimeLike | None = None,
    progress: Progress | None = None,
) -> Request:
    """Ask for a license for a trial: a signed file that the seller, or a server, answers.

    Args:
        trial: The trial: a stream, or a folder of shards.
        identity: The customer's private key, or its path; a key derived from it signs.
        order: Code of the order.
        device: The machine that the license is to be bound to, or the path of its fingerprint;
            none, if None.
        leases: How many machines are to hold a lease of it (`nnguard relay`); 0 of a license for
            one machine.
        issued_at: Now, if None.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        NoRecordError: The stream is not locked.
        FormatError: It is not a stream, or damaged.
        ArgumentError: The order's code is not one; the number of leases is out of range.
        KeyFormatError: The identity cannot be read.

    Examples:
        >>> asked = licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31")
        >>> asked.authenticate_self()
        >>> asked.recipient == nnguard.Recipient.load("ada.pub")
        True
    """
    model = as_model(trial, "trial")
    lock = lock_id(model)
    return Request.make(
        identity,
        stream=digest_of(hash_files(model, progress)).hex(),
        lock=lock,
        order=order,
        device=None if device is None else loaded(device, Device, "device"),
        leases=leases,
        issued_at=issued_at,
    )


def activate(
    request: Request,
    server: str,
    identity: IdentityLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    license_policy: Policy | None = None,
) -> License:
    """Get the license for a request from the seller's server.

    Asked again, a server gives the same license; for the same machine, one of the same seat.

    Args:
        request: What `request` made, with an order code.
        server: URL of the server: `https://...`, or `http://...` of this machine.
        identity: The customer's private key, or its path.
        trust: Trusted keys of the vendor; see `nnguard.verify`.
        policy: Trust policy, in place of trusted keys; see `nnguard.licensing.check`.
        license_policy: What else to ask of the license, and the device, where that is not this
            machine.

    Raises:
        ActivationError: There is no license for this request, or the server cannot be reached, or
            answers with another license; `reason` says why.
        LicenseError: The license does not hold; `reason` says why.
        WrongKeyError: It is signed by a key that is not trusted, or made out to another customer.
        ArgumentError: It is not a URL that is asked.

    Examples:
        >>> asked = licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31")
        >>> try:
        ...     licensing.activate(asked, "https://127.0.0.1:9", "ada.key", "vendor.pub")
        ... except nnguard.errors.ActivationError as error:
        ...     print(error.hint)
        try again later; or send the request by mail (nnguard license request)
    """
    check_type(request, Request, "request")
    mine = loaded(identity, Identity, "identity")
    answer = License.from_text(post(server, _LICENSES, str(request)))
    check(answer, trust, policy=policy, license_policy=license_policy)
    answer.unwrap(mine)
    said = answer.terms
    if (said.stream, said.lock, said.leases) != (request.stream, request.lock, request.leases):
        raise _other_license("the server's license is not of the trial that was asked for")
    return answer


def renewal(
    license: License | PathLike,  # noqa: A002
    identity: IdentityLike,
    *,
    device: Device | PathLike | None = None,
    issued_at: TimeLike | None = None,
) -> Request:
    """Ask for the license that follows one: for the same trial, machine and seat.

    Args:
        license: The license, or its path.
        identity: The customer's private key, or its path.
        device: The machine, or the path of its fingerprint, if the license is bound to one; this
            machine, if None.
        issued_at: Now, if None.

    Examples:
        >>> licensing.renewal("ada.license", "ada.key").license == (
        ...     licensing.License.load("ada.license").terms.id
        ... )
        True
    """
    terms = loaded(license, License, "license").terms
    machine: Device | None = None
    if terms.device is not None:
        machine = Device.this() if device is None else loaded(device, Device, "device")
    return Request.make(
        identity,
        stream=terms.stream,
        lock=terms.lock,
        license=terms.id,
        device=machine,
        leases=terms.leases,
        issued_at=issued_at,
    )


def refresh(
    license: License | PathLike,  # noqa: A002
    identity: IdentityLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    server: str = "",
    device: Device | PathLike | None = None,
    license_policy: Policy | None = None,
    early: bool = False,
) -> License:
    """Renew a license, once half of its life is over.

    Where the server cannot be reached, and the license still holds, it stays; a warning is logged.

    Args:
        license: The license, or its path. The file stays as it is.
        identity: The customer's private key, or its path.
        trust: Trusted keys of the vendor; see `nnguard.verify`.
        policy: Trust policy, in place of trusted keys; see `nnguard.licensing.check`.
        server: URL of the server; the one that the license names, if empty.
        device: The machine, or the path of its fingerprint, if the license is bound to one that is
            not this machine.
        license_policy: What else to ask of the license.
        early: Do not wait for half of its life to be over.

    Returns:
        The new license; or the one that was given, where it need not be renewed yet, or cannot.

    Raises:
        ActivationError: The server refuses, `reason` says why; or cannot be reached, and the
            license does not hold any more.
        LicenseError: It is another machine's, or was given back; or the new one does not hold.
        WrongKeyError: The license is another customer's, or signed by a key that is not trusted.
        ArgumentError: Neither the license nor you name a server.

    Examples:
        >>> license = licensing.License.load("ada.license")
        >>> server = "https://licenses.acme.ai"  # where the license names none
        >>> licensing.refresh(license, "ada.key", "vendor.pub", server=server) == license  # not due
        True
    """
    old = loaded(license, License, "license")
    mine = loaded(identity, Identity, "identity")
    conditions = _conditions(license_policy, device)
    holds = _holds(old, trust, policy, conditions)
    old.unwrap(mine)  # it is authentic, and ours
    where = _server_of(old.terms, server)  # at once, rather than when half of its life is over
    at = now() if conditions.now is None else to_utc(conditions.now)
    if not early and holds is None and not _is_due(old.terms, at):
        return old
    asked = renewal(old, mine, device=conditions.device, issued_at=conditions.now)
    try:
        new = activate(
            asked,
            where,
            mine,
            trust,
            policy=policy,
            license_policy=conditions,
        )
    except ActivationError as error:
        if error.reason is not ActivationReason.UNREACHABLE or holds is not None:
            raise
        _LOG.warning("%s; the license still holds", error)
        return old
    if new.terms.order != old.terms.order or new.terms.issued_at < old.terms.issued_at:
        raise _other_license("the server's license is of another order, or older than this one")
    return new


def release(
    license: License | PathLike,  # noqa: A002
    identity: IdentityLike,
    state: PathLike,
    *,
    issued_at: TimeLike | None = None,
) -> Receipt:
    """Give a license back: it does not hold on this machine any more, and its seat can be free.

    The tombstone is on the disk, in the license state file, before there is a receipt. The seller,
    or the server, frees the seat for the receipt; see `send`. Done again, it makes a new receipt.

    Args:
        license: The license, or its path.
        identity: The customer's private key, or its path.
        state: License state file, which every check of the license on this machine has to name.
        issued_at: Now, if None.

    Raises:
        WrongKeyError: The license is made out to another key.
        LicenseError: The license is malformed, or the state file is none.
        OSError: The state file cannot be written.

    Examples:
        >>> receipt = licensing.release("ada.license", "ada.key", "ada.state")
        >>> policy = licensing.Policy(state="ada.state")
        >>> licensing.check("ada.license", "vendor.pub", license_policy=policy)
        Traceback (most recent call last):
        ...
        nnguard.errors.LicenseError: license ... was given back on this machine
    """
    given = loaded(license, License, "license")
    mine = loaded(identity, Identity, "identity")
    if given.terms.recipient != mine.recipient.id.hex():
        raise WrongKeyError(
            f"the license is made out to key {given.terms.recipient}, "
            f"not to {mine.recipient.id.hex()}",
            hint="give it back with the private key that it was made out to",
        )
    receipt = Receipt.make(mine, given.terms.id, issued_at=issued_at)
    with LicenseState(state) as remembered:
        remembered.bury(given.terms.id)
    return receipt


def send(receipt: Receipt, server: str) -> None:
    """Give the seat of a receipt back to the seller's server; sent again, it changes nothing.

    Args:
        receipt: What `release` made.
        server: URL of the server; see `activate`.

    Raises:
        ActivationError: The server refuses, or cannot be reached.
        ArgumentError: It is not a URL that is asked.

    Examples:
        >>> receipt = licensing.release("ada.license", "ada.key", "ada.state")
        >>> try:
        ...     licensing.send(receipt, "https://127.0.0.1:9")
        ... except nnguard.errors.ActivationError:
        ...     receipt.save("mail-this.receipt")
    """
    check_type(receipt, Receipt, "receipt")
    post(server, _RECEIPTS, str(receipt))


def _conditions(policy: Policy | None, device: Device | PathLike | None) -> Policy:
    conditions = Policy() if policy is None else policy
    return conditions if device is None else replace(conditions, device=device)


def _holds(
    license: License,  # noqa: A002
    trust: Trust | None,
    policy: PolicyLike | None,
    conditions: Policy,
) -> LicenseError | None:
    """Return why a license does not hold any more; other errors are not to be renewed away."""
    try:
        check(license, trust, policy=policy, license_policy=conditions)
    except LicenseError as error:
        if error.reason is not Refusal.EXPIRED:
            raise
        return error
    return None


def _is_due(terms: LicenseTerms, at: datetime) -> bool:
    """Tell whether half of a license's life is over."""
    if terms.expires_at is None:
        return False
    begins = max(terms.not_before, terms.issued_at)
    return at - begins >= terms.expires_at - at


def _server_of(terms: LicenseTerms, server: str) -> str:
    named = server or terms.server
    if not named:
        raise ArgumentError("the license names no server", hint="name one; the seller knows it")
    return check_server(named)


def _other_license(message: str) -> ActivationError:
    return ActivationError(message, reason=ActivationReason.REFUSED, hint="ask the seller")
