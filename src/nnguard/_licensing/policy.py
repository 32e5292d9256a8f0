"""Whether a license holds here and now.

policy = nnguard.licensing.Policy(revocations="acme.revoked", max_age=timedelta(days=7))
status = nnguard.licensing.check("acme.license", trust="vendor.pub", license_policy=policy)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nnguard._base.arguments import check_type, loaded, wrong_type
from nnguard._base.files import read_file
from nnguard._base.times import CLOCKS_DIFFER, TimeLike, now, to_utc
from nnguard._crypto.keys import PublicKey
from nnguard._licensing.device import Device
from nnguard._licensing.lease import Lease
from nnguard._licensing.license import License, LicenseTerms
from nnguard._licensing.revocation import RevocationList
from nnguard._licensing.state import LicenseState
from nnguard.errors import ArgumentError, LicenseError, Refusal, WrongKeyError

__all__ = ["LicenseLike", "Policy", "Status", "as_license", "check_license", "license_of"]

_LOG = logging.getLogger("nnguard")

LicenseLike = License | Lease | str | os.PathLike[str]
"""What functions take for a license: a `License`, a `Lease` of one, or the path of either."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment knows, and asks of a license besides its signature.

    Attributes:
        now: The time, a datetime or ISO 8601 text; the system's, if None.
        device: The machine, or the path of its fingerprint; the one that this runs on, if None.
        revocations: List of revoked licenses, or its path, signed by the key that signed the
            license.
        max_age: Refuse a revocation list that is older, and a license without a list.
        state: License state file. It keeps the newest time that was ever seen, whether the license
            held then or not, so that a clock that is set back is noticed; and which licenses were
            given back (`nnguard.licensing.release`).

    Raises:
        ArgumentError: `now` has no time zone, or `max_age` is negative.

    Examples:
        >>> policy = licensing.Policy(now="2030-06-01", revocations="acme.revoked")
        >>> licensing.check("me.license", "vendor.pub", license_policy=policy).in_grace
        False
    """

    now: TimeLike | None = None
    device: Device | str | os.PathLike[str] | None = None
    revocations: RevocationList | str | os.PathLike[str] | None = None
    max_age: timedelta | None = None
    state: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.now is not None:
            object.__setattr__(self, "now", to_utc(self.now, "now"))
        if self.max_age is None:
            return
        check_type(self.max_age, timedelta, "max_age")
        if self.max_age < timedelta(0):
            raise ArgumentError("max_age: an age is not negative")


@dataclass(frozen=True, slots=True)
class Status:
    """A license that holds.

    Attributes:
        terms: What it says.
        checked_at: The time that it was checked against.
        in_grace: It has expired, and holds for its grace period only.
        warnings: What people should know: that it has expired; or, where the seller chose to warn
            rather than to stop anybody, why it would be refused.

    Examples:
        >>> status = licensing.check("me.license", "vendor.pub")
        >>> status.terms.tier
        'full'
    """

    terms: LicenseTerms
    checked_at: datetime
    in_grace: bool
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return {
            "license": self.terms.to_json(),
            "checked_at": self.checked_at.isoformat(),
            "in_grace": self.in_grace,
            "warnings": list(self.warnings),
        }


def as_license(license: LicenseLike) -> License | Lease:  # noqa: A002
    """Return the license or lease itself, or the one in the file of this path."""
    if isinstance(license, (License, Lease)):
        return license
    if not isinstance(license, (str, os.PathLike)):
        raise wrong_type("license", "a path or a License or Lease", license)
    text = read_file(license, Lease._MAX_SIZE).decode("utf-8", "replace")
    kind = Lease if Lease.is_in(text) and not License.is_in(text) else License
    return kind.load(license)


def license_of(license: License | Lease) -> License:  # noqa: A002
    """Return the vendor's license: of a lease, the one that it is a part of."""
    return license.license if isinstance(license, Lease) else license


def check_license(
    given: License | Lease,
    keys: Sequence[PublicKey],
    license_policy: Policy | None,
) -> Status:
    """Check that one of these keys signed a license, and that it holds here and now.

    Of a lease, that goes for its license, but for the device; then for the lease itself.

    Raises:
        WrongKeyError: It is signed by another key, or the revocation list by another than the
            license.
        LicenseError: It was changed, or does not hold; `reason` says why.
    """
    policy = Policy() if license_policy is None else license_policy
    check_type(policy, Policy, "license_policy")
    license = license_of(given)  # noqa: A001
    license.authenticate(keys)  # step 2 of SPEC 11.3
    revocations = _revocations(policy, license, keys)
    terms = license.terms
    doubts = _Doubts(terms.warn_only)
    time = now() if policy.now is None else to_utc(policy.now)
    newest, released = _remembered(policy.state, terms, time)
    time = _check_clock(terms, revocations, newest, time, doubts)  # step 3
    if released:  # step 4
        raise LicenseError(
            f"license {terms.id} was given back on this machine",
            reason=Refusal.RELEASED,
            hint="ask for a new one: nnguard license request",
        )
    _check_revocation(terms, revocations, doubts)
    _check_age(revocations, policy.max_age, time)
    in_grace = _check_period(terms, time, doubts)  # step 5
    if isinstance(given, Lease):
        given.authenticate_lease()  # steps 3 to 5 of SPEC 14.5
        given.check_time(time)  # step 6
    else:
        _check_device(terms, policy)  # step 6; unlocking does the others
    for warning in doubts.warnings:
        _LOG.warning("%s", warning)
    return Status(terms, time, in_grace, tuple(doubts.warnings))


class _Doubts:
    """What speaks against a license: it is refused, or, where its seller chose so, warned of."""

    def __init__(self, warn_only: bool) -> None:
        self._warn_only = warn_only
        self.warnings: list[str] = []

    def raise_or_warn(self, error: LicenseError) -> None:
        if not self._warn_only:
            raise error
        self.warnings.append(f"{error}; its seller lets it go on")


def _revocations(
    policy: Policy,
    license: License,  # noqa: A002
    keys: Sequence[PublicKey],
) -> RevocationList | None:
    """Return the list that the policy names; the key that signed the license signed it, too."""
    if policy.revocations is None:
        return None
    revocations = loaded(policy.revocations, RevocationList, "revocations")
    if revocations.key_id != license.key_id:
        raise WrongKeyError(
            f"the revocation list is signed with key {revocations.key_id}, "
            f"the license with key {license.key_id}",
            hint="a list counts for licenses of the key that signed it",
        )
    revocations.authenticate(keys)
    return revocations


def _remembered(
    path: str | os.PathLike[str] | None, terms: LicenseTerms, time: datetime
) -> tuple[datetime | None, bool]:
    """Return the newest time before now, and whether the license was given back; remember now."""
    if path is None:
        return None, False
    with LicenseState(path) as state:
        newest = state.newest
        state.remember(time)  # whatever is refused from here on
        return newest, state.has_released(terms.id)


def _check_clock(
    terms: LicenseTerms,
    revocations: RevocationList | None,
    seen: datetime | None,
    time: datetime,
    doubts: _Doubts,
) -> datetime:
    """Make sure that it was never later than now, and return what time it is at least."""
    issued = [terms.issued_at] + ([] if revocations is None else [revocations.issued_at])
    newest = max(issued if seen is None else [*issued, seen])
    if newest - time <= CLOCKS_DIFFER:
        return time
    doubts.raise_or_warn(
        LicenseError(
            f"the clock says {time.isoformat()}, but it was {newest.isoformat()} before",
            reason=Refusal.CLOCK_SET_BACK,
            hint="set the clock right",
        )
    )
    return newest


def _check_revocation(
    terms: LicenseTerms, revocations: RevocationList | None, doubts: _Doubts
) -> None:
    if revocations is not None and revocations.revokes(terms.id):
        doubts.raise_or_warn(
            LicenseError(f"license {terms.id} was revoked", reason=Refusal.REVOKED)
        )


def _check_age(
    revocations: RevocationList | None, max_age: timedelta | None, time: datetime
) -> None:
    """Make sure that the list is as fresh as the deployment wants it."""
    if max_age is None:
        return
    if revocations is None or time - revocations.issued_at > max_age:
        found = "there is none"
        if revocations is not None:
            found = f"this one is of {revocations.issued_at.isoformat()}"
        raise LicenseError(
            f"a revocation list of the last {_in_words(max_age)} is required: {found}",
            reason=Refusal.STALE_REVOCATIONS,
            hint="get the vendor's newest list",
        )


def _check_period(terms: LicenseTerms, time: datetime, doubts: _Doubts) -> bool:
    """Return whether the license holds by its grace period only."""
    if time < terms.not_before:
        raise LicenseError(
            f"the license holds from {terms.not_before.isoformat()} on",
            reason=Refusal.NOT_YET_VALID,
        )
    if terms.expires_at is None or time < terms.expires_at:
        return False
    expired, ends = terms.expires_at.isoformat(), terms.expires_at + terms.grace
    if time < ends:
        until = f"it holds for its grace period only, until {ends.isoformat()}"
        doubts.warnings.append(f"the license expired at {expired}: {until}")
        return True
    doubts.raise_or_warn(
        LicenseError(
            f"the license expired at {expired}",
            reason=Refusal.EXPIRED,
            hint="ask the vendor for a new one",
        )
    )
    return False


def _check_device(terms: LicenseTerms, policy: Policy) -> None:
    if terms.device is None:
        return
    device = Device.this() if policy.device is None else loaded(policy.device, Device, "device")
    found = terms.device.matches(device)
    if found < terms.device.required:
        raise LicenseError(
            f"the license is bound to another device: {found} of its {len(terms.device.prints)} "
            f"components match, {terms.device.required} must",
            reason=Refusal.OTHER_DEVICE,
            hint="ask the vendor for a license for this device (nnguard license device)",
        )


def _in_words(length: timedelta) -> str:
    """Return a length of time without the zeros that Python prints."""
    return str(length).removesuffix(", 0:00:00")
