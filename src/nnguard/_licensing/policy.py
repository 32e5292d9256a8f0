"""Whether a license holds here and now.

checks = nnguard.Checks(revocations="acme.revoked", max_age=timedelta(days=7))
status = nnguard.check_license("acme.license", trust=["vendor.pub"], checks=checks)
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from nnguard._base.files import read_file, write_bytes
from nnguard._crypto.keys import PublicKey, Trust, load_trust
from nnguard._licensing.device import Device
from nnguard._licensing.license import License, LicenseTerms, seconds_of, time_of
from nnguard._licensing.revocation import RevocationList
from nnguard.errors import LicenseError, Refusal

__all__ = ["Checks", "LicenseLike", "LicenseStatus", "as_license", "check_license"]

LicenseLike = License | str | os.PathLike[str]
"""What functions take for a license: a `License` or the path of one."""

_CLOCKS_DIFFER = timedelta(minutes=5)
"""How far a clock may be behind those of others before it counts as set back."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What a deployment knows, and asks of a license besides its signature.

    Attributes:
        now: The time; the system's, if None.
        device: The machine; the one that this runs on, if None.
        revocations: List of revoked licenses, or its path, signed by the key that signed the
            license.
        max_age: Refuse a revocation list that is older, and a license without a list.
        state: File in which the newest time that was ever seen is kept, whether the license held
            then or not, so that a clock that is set back is noticed.
    """

    now: datetime | None = None
    device: Device | None = None
    revocations: RevocationList | str | os.PathLike[str] | None = None
    max_age: timedelta | None = None
    state: str | os.PathLike[str] | None = None


@dataclass(frozen=True, slots=True)
class LicenseStatus:
    """A license that holds.

    Attributes:
        terms: What it says.
        checked_at: The time that it was checked against.
        in_grace: It has expired, and holds for its grace period only.
    """

    terms: LicenseTerms
    checked_at: datetime
    in_grace: bool

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return {
            "license": self.terms.to_json(),
            "checked_at": self.checked_at.isoformat(),
            "in_grace": self.in_grace,
        }


def as_license(license: LicenseLike) -> License:  # noqa: A002
    """Return the license itself, or the one in the file of this path."""
    return license if isinstance(license, License) else License.load(license)


def check_license(
    license: LicenseLike,  # noqa: A002
    trust: Trust,
    *,
    checks: Checks | None = None,
) -> LicenseStatus:
    """Check that a trusted vendor signed a license and that it holds here and now.

    Whether it fits a stream and a customer's key, `unlock` checks.

    Args:
        license: A license or the path of one.
        trust: Trusted keys; see `nnguard.verify`.
        checks: What else to ask.

    Raises:
        WrongKeyError: It is signed by a key that is not trusted, or the revocation list by another
            than the license.
        LicenseError: It was changed, or does not hold; `reason` says why.
    """
    return check(as_license(license), load_trust(trust), checks or Checks())


def check(license: License, keys: Sequence[PublicKey], checks: Checks) -> LicenseStatus:  # noqa: A002
    """Do what `check_license` does."""
    license.authenticate(keys)
    terms = license.terms
    now = _whole_seconds(checks.now)
    revocations = _list_of(checks, [key for key in keys if key.id.hex() == license.key_id])
    newest = [terms.issued_at] + ([] if revocations is None else [revocations.issued_at])
    seen = None if checks.state is None else _read_state(Path(checks.state))
    _check_clock(now, max(newest + ([] if seen is None else [seen])))
    if checks.state is not None and (seen is None or now > seen):
        _write_state(Path(checks.state), now)  # before anything is refused for the time
    _check_revocation(terms, revocations, checks.max_age, now)
    in_grace = _check_period(terms, now)
    _check_device(terms, checks.device)
    return LicenseStatus(terms, now, in_grace)


def _whole_seconds(now: datetime | None) -> datetime:
    return time_of(seconds_of(datetime.now(timezone.utc) if now is None else now))


def _list_of(checks: Checks, keys: Sequence[PublicKey]) -> RevocationList | None:
    found = checks.revocations
    if found is None:
        return None
    revocations = found if isinstance(found, RevocationList) else RevocationList.load(found)
    revocations.authenticate(keys)
    return revocations


def _check_clock(now: datetime, newest: datetime) -> None:
    if newest - now > _CLOCKS_DIFFER:
        raise LicenseError(
            f"the clock says {now.isoformat()}, but it was {newest.isoformat()} before",
            reason=Refusal.CLOCK_SET_BACK,
            hint="set the clock right",
        )


def _check_revocation(
    terms: LicenseTerms,
    revocations: RevocationList | None,
    max_age: timedelta | None,
    now: datetime,
) -> None:
    if revocations is not None and revocations.revokes(terms.id):
        raise LicenseError(f"license {terms.id} was revoked", reason=Refusal.REVOKED)
    if max_age is None:
        return
    if revocations is None or now - revocations.issued_at > max_age:
        what = "there is no list" if revocations is None else f"it is of {revocations.issued_at}"
        raise LicenseError(
            f"a revocation list of the last {max_age} is required: {what}",
            reason=Refusal.STALE_REVOCATIONS,
            hint="get the vendor's newest list",
        )


def _check_period(terms: LicenseTerms, now: datetime) -> bool:
    """Return whether the license holds by its grace period only."""
    if now < terms.not_before:
        raise LicenseError(
            f"the license holds from {terms.not_before.isoformat()} on",
            reason=Refusal.NOT_YET_VALID,
        )
    if terms.expires_at is None or now < terms.expires_at:
        return False
    if now >= terms.expires_at + terms.grace:
        raise LicenseError(
            f"the license expired at {terms.expires_at.isoformat()}",
            reason=Refusal.EXPIRED,
            hint="ask the vendor for a new one",
        )
    return True


def _check_device(terms: LicenseTerms, device: Device | None) -> None:
    if terms.device is None:
        return
    found = terms.device.matches(Device.this() if device is None else device)
    if found < terms.device.required:
        raise LicenseError(
            f"the license is bound to another device: {found} traits match, "
            f"{terms.device.required} of {len(terms.device.prints)} have to",
            reason=Refusal.OTHER_DEVICE,
        )


def _read_state(path: Path) -> datetime | None:
    """Return the newest time in a state file; None where there is none."""
    try:
        return time_of(json.loads(read_file(path))["newest"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LicenseError(
            f"{path} is no state file, or it was damaged", reason=Refusal.CLOCK_SET_BACK
        ) from None


def _write_state(path: Path, now: datetime) -> None:
    text = json.dumps({"newest": seconds_of(now)})
    write_bytes(path, text.encode(), overwrite=True)
