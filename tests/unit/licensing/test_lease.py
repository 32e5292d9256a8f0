"""Leases are taken where licenses are, and by whom, for what and when the license says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import nnguard
import sales
from nnguard._licensing.unwrapped import Unwrapped
from nnguard.licensing import Lease, License, Policy
from nnguard.licensing import Refusal as Reason
from sales import DAY, START, Sale

ID = "00" * 15 + "01"
MINUTES = timedelta(minutes=5)
POD = nnguard.Identity.generate()


@pytest.fixture(scope="module")
def sale(key: nnguard.SigningKey) -> Sale:
    return sales.sell(key, sign_trial=True)


def to_lease(sale: Sale, *, signer: nnguard.Signer | None = None, **terms: Any) -> License:
    """A license that the customer's request key may lease twice at a time."""
    leaser = sale.customer.request_signer.public_key
    found = replace(sale.license().terms, **{"leases": 2, "leaser": leaser, **terms})
    key = sale.locked.content_key
    return License.make(found, Unwrapped(key), sale.customer.recipient, signer or sale.vendor)


def lease_of(sale: Sale, license_: License | None = None, **changes: Any) -> Lease:
    given: dict[str, Any] = {
        "recipient": POD.recipient,
        "signer": sale.customer.request_signer,
        "id": ID,
        "lasts": MINUTES,
        "issued_at": START + DAY,
        **changes,
    }
    recipient, signer = given.pop("recipient"), given.pop("signer")
    license_ = to_lease(sale) if license_ is None else license_
    return Lease.make(license_, Unwrapped(sale.locked.content_key), recipient, signer, **given)


def unlock(sale: Sale, lease: Lease | Path, at: datetime = START + DAY, **options: Any) -> object:
    given = {"identity": POD, "license_policy": Policy(now=at), **options}
    return nnguard.unlock(sale.locked.trial, lease, trust=sale.trust, **given)


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        call()
    return caught.value.reason


def test_unlocks_for_the_pod(sale: Sale, tmp_path: Path) -> None:
    lease = lease_of(sale)
    assert bytes(unlock(sale, lease)) == bytes(sale.release)
    lease.save(tmp_path / "pod.lease")
    assert bytes(unlock(sale, tmp_path / "pod.lease")) == bytes(sale.release)
    assert Lease.load(tmp_path / "pod.lease") == lease
    policy = Policy(now=START + DAY)
    status = nnguard.licensing.check(
        tmp_path / "pod.lease", trust=sale.trust, license_policy=policy
    )
    assert status.terms == lease.license.terms
    with pytest.raises(nnguard.errors.WrongKeyError, match="made out to key"):
        unlock(sale, lease, identity=sale.customer)


def test_a_text_with_a_license_is_one(sale: Sale, tmp_path: Path) -> None:
    license_ = sale.license()
    (tmp_path / "both").write_text(f"{lease_of(sale)}{license_}")
    both = nnguard.unlock(
        sale.locked.trial, tmp_path / "both", sale.customer, sale.trust,
        license_policy=Policy(now=START + DAY),
    )  # fmt: skip
    assert bytes(both) == bytes(sale.release)


def test_does_not_ask_for_the_relays_machine(sale: Sale) -> None:
    relay = nnguard.licensing.Device.named("relay")
    binding = nnguard._licensing.device.DeviceBinding.make(relay, 1)  # type: ignore[attr-defined]
    license_ = to_lease(sale, device=binding)
    pod = nnguard.licensing.Device.named("pod")
    policy = Policy(now=START + DAY, device=pod)
    assert unlock(sale, lease_of(sale, license_), license_policy=policy)


def test_watermark_is_that_of_the_license(sale: Sale) -> None:
    lease = lease_of(sale)
    marked = unlock(sale, lease, watermark=True)
    report = nnguard.verify(marked, sale.trust)  # type: ignore[arg-type]
    assert report.licensed_to == lease.license.terms


def test_ends(sale: Sale) -> None:
    lease = lease_of(sale)
    end = START + DAY + MINUTES
    assert lease.expires_at == end
    assert unlock(sale, lease, end - timedelta(seconds=1))
    assert refusal(lambda: unlock(sale, lease, end)) is Reason.EXPIRED
    early = START + DAY - timedelta(minutes=5)
    assert unlock(sale, lease, early)
    earlier = early - timedelta(seconds=1)
    assert refusal(lambda: unlock(sale, lease, earlier)) is Reason.CLOCK_SET_BACK


def test_is_cut_where_the_license_ends(sale: Sale) -> None:
    end = START + DAY + timedelta(minutes=3)
    license_ = to_lease(sale, expires_at=end - timedelta(minutes=1), grace=timedelta(minutes=1))
    assert lease_of(sale, license_).expires_at == end
    goes_on = replace(license_.terms, warn_only=True)
    license_ = to_lease(
        sale, **{name: getattr(goes_on, name) for name in ("expires_at", "grace", "warn_only")}
    )
    assert lease_of(sale, license_).lasts == MINUTES


def longer(sale: Sale, claims: dict[Any, Any], license_: License) -> Lease:
    """A lease as another program might sign it."""
    lease = lease_of(sale, license_)
    found = nnguard._crypto.cbor.parse_cbor(lease._envelope.payload)  # type: ignore[attr-defined]
    return Lease._sign({**found, **claims}, sale.customer.request_signer)


def test_holds_no_longer_than_its_license(sale: Sale) -> None:
    end = START + DAY + timedelta(minutes=3)
    short = to_lease(sale, expires_at=end)
    lease = longer(sale, {4: int(end.timestamp()) + 1}, short)
    assert refusal(lambda: unlock(sale, lease)) is Reason.NOT_LEASED
    start = int((START + DAY).timestamp())
    lease = longer(sale, {4: start + 86401}, to_lease(sale))
    assert refusal(lambda: unlock(sale, lease)) is Reason.NOT_LEASED


def test_another_key_signs_no_lease(sale: Sale, other_key: nnguard.SigningKey) -> None:
    for signer in (other_key, POD.request_signer, sale.vendor):
        lease = lease_of(sale, signer=signer)
        with pytest.raises(nnguard.errors.WrongKeyError, match="the lease is signed with key"):
            unlock(sale, lease)


def test_a_license_that_names_no_leaser_is_not_leased(sale: Sale) -> None:
    lease = lease_of(sale, sale.license())
    assert refusal(lambda: unlock(sale, lease)) is Reason.NOT_LEASED


def test_the_license_in_it_is_checked_first(
    sale: Sale, other_key: nnguard.SigningKey, key: nnguard.SigningKey
) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError, match="the license is signed with key"):
        unlock(sale, lease_of(sale, to_lease(sale, signer=other_key)))
    license_ = to_lease(sale, expires_at=START + timedelta(hours=1))
    lease = longer(sale, {}, to_lease(sale))
    expired = Lease._sign(
        {**nnguard._crypto.cbor.parse_cbor(lease._envelope.payload), "license": license_.encoded},  # type: ignore[attr-defined]
        sale.customer.request_signer,
    )
    assert refusal(lambda: unlock(sale, expired)) is Reason.EXPIRED
    revoked = nnguard.licensing.RevocationList.make([lease.license.terms.id], key, issued_at=START)
    policy = Policy(now=START + DAY, revocations=revoked)
    assert refusal(lambda: unlock(sale, lease, license_policy=policy)) is Reason.REVOKED


def test_another_number_of_leases_is_another_license(sale: Sale) -> None:
    license_ = to_lease(sale)
    changed = license_.encoded.replace(b"\x66leases\x02", b"\x66leases\x09")
    assert changed != license_.encoded
    lease = lease_of(sale, License.parse(changed))
    assert lease.license.terms.leases == 9
    assert refusal(lambda: unlock(sale, lease)) is Reason.MALFORMED


def test_of_another_trial(sale: Sale, key: nnguard.SigningKey) -> None:
    other = sales.sell(key, sign_trial=True, seed=1)
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        unlock(other, lease_of(sale))
    assert caught.value.reason is Reason.OTHER_STREAM


def test_every_change_is_noticed(sale: Sale) -> None:
    lease = lease_of(sale)
    for changed in sales.flips(lease.encoded, 97):
        with pytest.raises((nnguard.errors.LicenseError, nnguard.errors.WrongKeyError)):
            nnguard.licensing.check(
                Lease.parse(changed), trust=sale.trust, license_policy=Policy(now=START + DAY)
            )


@pytest.mark.parametrize(
    "claims", [{4: 0}, {"more": 1}, {"to": b"1"}, {7: b"1"}, {"key": 1}, {"license": b"1"}]
)
def test_other_claims_are_malformed(sale: Sale, claims: dict[Any, Any]) -> None:
    with pytest.raises(nnguard.errors.ArgumentError):
        longer(sale, claims, to_lease(sale))


def test_shows_no_key(sale: Sale) -> None:
    lease = lease_of(sale)
    assert lease.to_json()["license"]["leases"] == 2
    assert sale.locked.content_key.secret.hex() not in f"{lease!r} {lease.to_json()}"
