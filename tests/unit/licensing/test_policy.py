"""Whether a license holds here and now, and the error that says why not."""

from __future__ import annotations

import pickle
import random
import string
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._licensing.unwrapped import Unwrapped
from sales import DAY, START, WEEK, Sale, flips, sell

License = nnguard.licensing.License
Reason = nnguard.licensing.Refusal


@pytest.fixture(scope="module")
def sale(key: nnguard.SigningKey) -> Sale:
    return sell(key, sign_trial=False)


# The license itself


def test_no_bit_of_a_license_can_be_changed(sale: Sale) -> None:
    license_ = sale.license(
        customer="Ada",
        expires_at=START + WEEK,
        grace=DAY,
        features=["x"],
        metadata={"a": "b"},
        device=nnguard.licensing.Device.of_values([("host", "a")]),
    )
    for changed in flips(license_.encoded, 1):
        with pytest.raises((nnguard.errors.LicenseError, nnguard.errors.WrongKeyError)):
            nnguard.licensing.License.parse(changed).authenticate(sale.trust)
    for changed in flips(license_.encoded, 19):
        with pytest.raises((nnguard.errors.LicenseError, nnguard.errors.WrongKeyError)):
            sale.unlock(nnguard.licensing.License.parse(changed))


def test_license_cannot_be_cut_or_made_longer(sale: Sale) -> None:
    encoded = sale.license().encoded
    for changed in [encoded[:size] for size in range(len(encoded))] + [encoded + b"\0"]:
        with pytest.raises(nnguard.errors.LicenseError) as caught:
            nnguard.licensing.License.parse(changed)
        assert caught.value.reason is Reason.MALFORMED


def read(text: str, sale: Sale) -> None:
    nnguard.licensing.License.from_text(text).authenticate(sale.trust)


def test_no_character_of_a_license_can_be_changed(sale: Sale) -> None:
    text = str(sale.license())
    rng = random.Random(0)
    for at, character in enumerate(text):
        if character == "\n":
            continue
        for other in (rng.choice(string.ascii_letters + string.digits + "+/="), "?", ">"):
            if other == character:
                continue
            with pytest.raises((nnguard.errors.LicenseError, nnguard.errors.WrongKeyError)):
                read(text[:at] + other + text[at + 1 :], sale)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dear Ada, the license is attached.",
        "-----BEGIN NNGUARD LICENSE-----\n-----END NNGUARD LICENSE-----\n",
        "-----BEGIN NNGUARD LICENSE-----\naGVsbG8=\n-----END NNGUARD LICENSE-----\n",
        "-----BEGIN NNGUARD LICENSE-----\naGVsbG8=\n",
    ],
)
def test_text_that_is_no_license(tmp_path: Path, sale: Sale, text: str) -> None:
    path = tmp_path / "ada.license"
    path.write_text(text)
    with pytest.raises(nnguard.errors.LicenseError, match=str(path)) as caught:
        nnguard.unlock(sale.locked.trial, path, sale.customer, sale.trust)
    assert caught.value.reason is Reason.MALFORMED


def test_revocation_list_is_no_license(sale: Sale) -> None:
    revoked = nnguard.licensing.RevocationList.make([], sale.vendor, issued_at=START)
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        nnguard.licensing.License.from_text(str(revoked))
    assert caught.value.reason is Reason.MALFORMED
    with pytest.raises(nnguard.errors.LicenseError):
        nnguard.licensing.License.parse(revoked.encoded)
    with pytest.raises(nnguard.errors.LicenseError):
        nnguard.licensing.RevocationList.parse(sale.license().encoded)


# Time


def test_expired(sale: Sale) -> None:
    license_ = sale.license(expires_at=START + WEEK)
    assert sale.refusal(license_, now=START + WEEK) is Reason.EXPIRED
    last = nnguard.licensing.Policy(now=START + WEEK - timedelta(seconds=1))
    assert bytes(sale.unlock(license_, license_policy=last)) == bytes(sale.release)


def test_in_grace_is_permitted_and_said(sale: Sale) -> None:
    license_ = sale.license(expires_at=START + WEEK, grace=2 * DAY)
    for days, in_grace in ((6, False), (7, True), (8, True)):
        policy = nnguard.licensing.Policy(now=START + days * DAY)
        status = nnguard.licensing.check(license_, sale.trust, license_policy=policy)
        assert status.in_grace is in_grace
        assert bytes(sale.unlock(license_, license_policy=policy)) == bytes(sale.release)


def test_after_grace(sale: Sale) -> None:
    license_ = sale.license(expires_at=START + WEEK, grace=2 * DAY)
    assert sale.refusal(license_, now=START + 9 * DAY) is Reason.EXPIRED


def test_not_yet_valid(sale: Sale) -> None:
    license_ = sale.license(not_before=START + WEEK)
    assert sale.refusal(license_) is Reason.NOT_YET_VALID
    assert sale.unlock(license_, license_policy=nnguard.licensing.Policy(now=START + WEEK))


def test_license_without_end_holds_for_ever(sale: Sale) -> None:
    policy = nnguard.licensing.Policy(now=datetime(9999, 1, 1, tzinfo=timezone.utc))
    assert sale.unlock(sale.license(), license_policy=policy)


def test_time_zones_do_not_matter(sale: Sale) -> None:
    tokyo = timezone(timedelta(hours=9))
    license_ = sale.license(expires_at=datetime(2026, 3, 8, 9, tzinfo=tokyo))
    assert license_.terms.expires_at == START + WEEK
    assert sale.refusal(license_, now=datetime(2026, 3, 8, 9, tzinfo=tokyo)) is Reason.EXPIRED
    with pytest.raises(ValueError, match="time zone"):
        sale.unlock(license_, license_policy=nnguard.licensing.Policy(now=datetime(2026, 3, 2)))


def test_clock_set_back_behind_the_license(sale: Sale) -> None:
    assert sale.refusal(sale.license(), now=START - DAY) is Reason.CLOCK_SET_BACK


def test_clocks_that_differ_by_little_are_not_set_back(sale: Sale) -> None:
    """A clock may be five minutes behind the vendor's, but the license has to hold already."""
    license_ = sale.license(not_before=START - DAY)
    little = nnguard.licensing.Policy(now=START - timedelta(minutes=5))
    assert sale.unlock(license_, license_policy=little)
    much = START - timedelta(minutes=5, seconds=1)
    assert sale.refusal(license_, now=much) is Reason.CLOCK_SET_BACK


FIRST = datetime(1, 1, 1, tzinfo=timezone.utc)
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)


def test_times_at_the_ends_of_the_calendar(sale: Sale, tmp_path: Path) -> None:
    old = sale.license(issued_at=FIRST, expires_at=LAST)
    listed = nnguard.licensing.RevocationList.make([], sale.vendor, issued_at=FIRST)
    options = {"revocations": listed, "max_age": timedelta.max, "state": tmp_path / "newest"}
    for now in (FIRST, START, LAST - DAY):
        assert sale.unlock(old, license_policy=nnguard.licensing.Policy(now=now, **options))
    assert sale.refusal(old, now=FIRST, **options) is Reason.CLOCK_SET_BACK
    assert sale.refusal(old, now=LAST) is Reason.EXPIRED
    new = sale.license(issued_at=LAST)
    for now in (FIRST, START):
        assert sale.refusal(new, now=now) is Reason.CLOCK_SET_BACK
    assert sale.unlock(new, license_policy=nnguard.licensing.Policy(now=LAST))


def test_clock_set_back_behind_the_revocation_list(sale: Sale) -> None:
    later = nnguard.licensing.RevocationList.make([], sale.vendor, issued_at=START + WEEK)
    assert sale.refusal(sale.license(), revocations=later) is Reason.CLOCK_SET_BACK


def test_clock_set_back_behind_the_state_file(sale: Sale, tmp_path: Path) -> None:
    license_, state = sale.license(expires_at=START + WEEK), tmp_path / "newest"
    assert sale.unlock(
        license_, license_policy=nnguard.licensing.Policy(now=START + 3 * DAY, state=state)
    )
    reason = sale.refusal(license_, now=START + 2 * DAY, state=state)
    assert reason is Reason.CLOCK_SET_BACK
    assert sale.refusal(license_, now=START + 8 * DAY, state=state) is Reason.EXPIRED


def test_state_file_keeps_the_newest_time(sale: Sale, tmp_path: Path) -> None:
    license_, state = sale.license(), tmp_path / "newest"
    for minutes in (0, 60, 56):
        now = START + timedelta(minutes=minutes)
        sale.unlock(license_, license_policy=nnguard.licensing.Policy(now=now, state=state))
    back = START + timedelta(minutes=54)
    assert sale.refusal(license_, now=back, state=state) is Reason.CLOCK_SET_BACK


@pytest.mark.parametrize("days", [8, 40])
def test_time_is_remembered_when_the_license_does_not_hold(
    sale: Sale, tmp_path: Path, days: int
) -> None:
    license_, state = sale.license(expires_at=START + WEEK), tmp_path / "newest"
    assert sale.refusal(license_, now=START + days * DAY, state=state) is Reason.EXPIRED
    assert sale.refusal(license_, now=START + DAY, state=state) is Reason.CLOCK_SET_BACK


def test_time_is_remembered_whatever_else_is_refused(sale: Sale, tmp_path: Path) -> None:
    license_ = sale.license(not_before=START + WEEK, device=device_of("a", "b"))
    revoked = nnguard.licensing.RevocationList.make(
        [license_.terms.id], sale.vendor, issued_at=START
    )
    cases = [
        (Reason.REVOKED, START + DAY, {"revocations": revoked}),
        (Reason.STALE_REVOCATIONS, START + DAY, {"max_age": DAY}),
        (Reason.NOT_YET_VALID, START + DAY, {}),
        (Reason.OTHER_DEVICE, START + WEEK, {"device": device_of("c")}),
    ]
    for number, (reason, now, options) in enumerate(cases):
        state = tmp_path / f"{number}"
        assert sale.refusal(license_, now=now, state=state, **options) is reason
        before = now - timedelta(seconds=301)
        assert sale.refusal(license_, now=before, state=state) is Reason.CLOCK_SET_BACK


def test_time_is_not_remembered_for_a_license_that_nobody_signed(
    sale: Sale, other_key: nnguard.SigningKey, tmp_path: Path
) -> None:
    policy = nnguard.licensing.Policy(now=START + DAY, state=tmp_path / "newest")
    with pytest.raises(nnguard.errors.WrongKeyError):
        sale.unlock(sale.license(signer=other_key), license_policy=policy)
    assert not (tmp_path / "newest").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b"null", b'{"newest": true}', b'{"newest": 1e9}', b"[" * 60_000],
)
def test_damaged_state_file(sale: Sale, tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "newest"
    state.write_bytes(content)
    assert sale.refusal(sale.license(), state=state) is Reason.CLOCK_SET_BACK
    assert state.read_bytes() == content


# Devices


def device_of(*values: str) -> nnguard.licensing.Device:
    return nnguard.licensing.Device.of_values(("card", value) for value in values)


def test_wrong_device(sale: Sale) -> None:
    license_ = sale.license(device=device_of("a", "b", "c", "d"), device_matches=3)
    for values in (("a", "b", "x", "y"), ("a", "b"), ("e",), ()):
        assert sale.refusal(license_, device=device_of(*values)) is Reason.OTHER_DEVICE


def test_device_with_enough_traits(sale: Sale) -> None:
    license_ = sale.license(device=device_of("a", "b", "c", "d"), device_matches=3)
    for values in (("a", "b", "c"), ("d", "x", "b", "y", "c", "z"), ("a", "b", "c", "d")):
        policy = nnguard.licensing.Policy(now=START + DAY, device=device_of(*values))
        assert bytes(sale.unlock(license_, license_policy=policy)) == bytes(sale.release)


def test_one_trait_counts_once(sale: Sale) -> None:
    license_ = sale.license(device=device_of("a", "b", "c", "d"), device_matches=3)
    copied = nnguard.licensing.Device(device_of("a", "b").fingerprint * 4)
    assert sale.refusal(license_, device=copied) is Reason.OTHER_DEVICE


def test_this_machine_is_looked_at_unless_another_is_given(sale: Sale) -> None:
    elsewhere = sale.license(device=device_of("a", "b"))
    assert sale.refusal(elsewhere) is Reason.OTHER_DEVICE
    here = sale.license(device=nnguard.licensing.Device.this())
    assert bytes(sale.unlock(here)) == bytes(sale.release)


# Revocation


def test_revoked(sale: Sale) -> None:
    license_, other = sale.license(), sale.license()
    revoked = nnguard.licensing.RevocationList.make(
        [license_.terms.id], sale.vendor, issued_at=START
    )
    assert sale.refusal(license_, revocations=revoked) is Reason.REVOKED
    policy = nnguard.licensing.Policy(now=START + DAY, revocations=revoked)
    assert bytes(sale.unlock(other, license_policy=policy)) == bytes(sale.release)


def test_stale_revocation_list(sale: Sale) -> None:
    license_ = sale.license()
    revoked = nnguard.licensing.RevocationList.make([], sale.vendor, issued_at=START)
    options = {"revocations": revoked, "max_age": WEEK}
    late = START + WEEK + timedelta(seconds=1)
    assert sale.refusal(license_, now=late, **options) is Reason.STALE_REVOCATIONS
    assert sale.unlock(
        license_, license_policy=nnguard.licensing.Policy(now=START + WEEK, **options)
    )


def test_no_revocation_list_where_one_is_required(sale: Sale) -> None:
    license_ = sale.license()
    assert sale.refusal(license_, max_age=WEEK) is Reason.STALE_REVOCATIONS
    policy = nnguard.licensing.Policy(now=START, max_age=WEEK)
    with pytest.raises(nnguard.errors.LicenseError, match="required: there is none"):
        nnguard.licensing.check(license_, sale.trust, license_policy=policy)


def test_status_as_json(sale: Sale) -> None:
    license_ = sale.license(expires_at=START + DAY, grace=DAY)
    now = START + DAY + timedelta(hours=1)
    status = nnguard.licensing.check(
        license_, sale.trust, license_policy=nnguard.licensing.Policy(now=now)
    )
    assert status.to_json() == {
        "license": license_.terms.to_json(),
        "checked_at": now.isoformat(),
        "in_grace": True,
        "warnings": list(status.warnings),
    }


def test_revocation_list_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    revoked = nnguard.licensing.RevocationList.make([], other_key, issued_at=START)
    with pytest.raises(nnguard.errors.WrongKeyError, match="revocation list"):
        sale.unlock(
            sale.license(),
            license_policy=nnguard.licensing.Policy(now=START + DAY, revocations=revoked),
        )


def test_list_of_another_trusted_vendor_is_of_no_use(
    sale: Sale, other_key: nnguard.SigningKey
) -> None:
    """Neither does a fresh list replace the vendor's own, nor can another vendor revoke."""
    license_ = sale.license()
    trust = [*sale.trust, other_key.public_key]
    for revoked in ([], [license_.terms.id]):
        foreign = nnguard.licensing.RevocationList.make(revoked, other_key, issued_at=START)
        policy = nnguard.licensing.Policy(now=START + DAY, revocations=foreign, max_age=WEEK)
        with pytest.raises(nnguard.errors.WrongKeyError, match="revocation list") as caught:
            nnguard.licensing.check(license_, trust, license_policy=policy)
        assert f"with key {other_key.public_key.id.hex()}" in str(caught.value)
        assert f"the license with key {sale.vendor.public_key.id.hex()}" in str(caught.value)


def test_no_bit_of_a_revocation_list_can_be_changed(sale: Sale) -> None:
    revoked = nnguard.licensing.RevocationList.make(
        ["00" * 16, "ff" * 16], sale.vendor, issued_at=START
    )
    revoked.authenticate(sale.trust)
    for changed in flips(revoked.encoded, 1):
        with pytest.raises((nnguard.errors.LicenseError, nnguard.errors.WrongKeyError)):
            nnguard.licensing.RevocationList.parse(changed).authenticate(sale.trust)


def test_forged_revocation_list(sale: Sale, tmp_path: Path) -> None:
    """A customer takes a license off the list."""
    license_ = sale.license()
    revoked = nnguard.licensing.RevocationList.make(
        [license_.terms.id], sale.vendor, issued_at=START
    )
    (listed,) = revoked.hashes
    forged = nnguard.licensing.RevocationList.parse(revoked.encoded.replace(listed, bytes(32)))
    assert not forged.revokes(license_.terms.id)
    forged.save(tmp_path / "acme.revoked")
    reason = sale.refusal(license_, revocations=tmp_path / "acme.revoked")
    assert reason is Reason.MALFORMED


# Licenses that are given back, and those that only warn


def test_license_that_was_given_back(sale: Sale, tmp_path: Path) -> None:
    state = tmp_path / "state"
    license_ = sale.license()
    sale.unlock(license_, license_policy=nnguard.licensing.Policy(now=START + DAY, state=state))
    receipt = nnguard.licensing.release(license_, sale.customer, state)
    assert receipt.license_id == license_.terms.id
    assert sale.refusal(license_, state=state) is Reason.RELEASED
    sale.unlock(
        sale.license(), license_policy=nnguard.licensing.Policy(now=START + DAY, state=state)
    )


def test_only_its_customer_gives_a_license_back(sale: Sale, tmp_path: Path) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError, match="made out to key"):
        nnguard.licensing.release(sale.license(), nnguard.Identity.generate(), tmp_path / "state")
    assert not any(tmp_path.iterdir())


def warning(sale: Sale, **policy: Any) -> str:
    """Check a license of a week, which warns only, and return what it warns of."""
    license_ = warn_only(sale.license(expires_at=START + WEEK, grace=DAY), sale)
    status = nnguard.licensing.check(
        license_, sale.trust, license_policy=nnguard.licensing.Policy(**policy)
    )
    return "; ".join(status.warnings)


def warn_only(license_: License, sale: Sale) -> License:
    terms = replace(license_.terms, warn_only=True)
    return License.make(
        terms, Unwrapped(sale.locked.content_key), sale.customer.recipient, sale.vendor
    )


def test_license_that_only_warns(
    sale: Sale, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert warning(sale, now=START + DAY) == ""
    assert "grace period only, until 2026-03-09" in warning(sale, now=START + WEEK)
    assert caplog.messages[0].startswith("the license expired at 2026-03-08")
    assert "its seller lets it go on" in warning(sale, now=START + WEEK + DAY)
    state = tmp_path / "state"
    assert warning(sale, now=START + DAY, state=state) == ""
    assert "it was 2026-03-02" in warning(sale, now="1970-01-01", state=state)
    assert "expired" in warning(sale, now=START + 9 * WEEK, state=state)
    back = warning(sale, now=START + DAY, state=state)
    assert "it was 2026-05-03" in back
    assert "the license expired" in back  # by the newest time that is known


def test_license_that_only_warns_of_being_revoked(sale: Sale, tmp_path: Path) -> None:
    license_ = warn_only(sale.license(), sale)
    listed = nnguard.licensing.RevocationList.make(
        [license_.terms.id], sale.vendor, issued_at=START
    )
    policy = nnguard.licensing.Policy(now=START + DAY, revocations=listed)
    assert bytes(sale.unlock(license_, license_policy=policy)) == bytes(sale.release)
    status = nnguard.licensing.check(license_, sale.trust, license_policy=policy)
    assert status.warnings == (
        f"license {license_.terms.id} was revoked; its seller lets it go on",
    )
    late = START + 2 * DAY
    assert sale.refusal(license_, now=late, revocations=listed, max_age=DAY) is (
        Reason.STALE_REVOCATIONS  # which the deployment asks for, and not the seller
    )
    nnguard.licensing.release(license_, sale.customer, tmp_path / "state")
    assert sale.refusal(license_, state=tmp_path / "state") is Reason.RELEASED


def test_grace_is_warned_of(sale: Sale, caplog: pytest.LogCaptureFixture) -> None:
    license_ = sale.license(expires_at=START + WEEK, grace=DAY)
    sale.unlock(license_, license_policy=nnguard.licensing.Policy(now=START + WEEK))
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "it holds for its grace period only" in warning


def test_every_reason_is_raised_somewhere() -> None:
    """A new reason needs a test."""
    tests = Path(__file__).parents[1].rglob("test_*.py")
    text = "".join(path.read_text() for path in tests)
    assert [each.name for each in Reason if f"is Reason.{each.name}" not in text] == []


def test_forged_license_is_forged_before_it_is_expired(sale: Sale) -> None:
    """What a license says is believed only once it has been authenticated."""
    license_ = sale.license(expires_at=START + WEEK, customer="Ada")
    forged = nnguard.licensing.License.parse(license_.encoded.replace(b"Ada", b"Eve"))
    assert forged.terms.customer == "Eve"
    assert sale.refusal(forged, now=START + 2 * WEEK) is Reason.MALFORMED


def test_policy_as_people_write_it(tmp_path: Path, sale: Sale) -> None:
    device = nnguard.licensing.Device.of_values([("host", "a"), ("disk", "b")])
    device.save(tmp_path / "ada.device")
    license_ = sale.license(device=device, expires_at="2026-04-01")
    license_.save(tmp_path / "ada.license")
    sale.vendor.public_key.save(tmp_path / "vendor.pub")
    policy = nnguard.licensing.Policy(now="2026-03-31T23:59:59Z", device=tmp_path / "ada.device")
    status = nnguard.licensing.check(
        str(tmp_path / "ada.license"), tmp_path / "vendor.pub", license_policy=policy
    )
    assert status.terms == license_.terms
    assert status.checked_at == datetime(2026, 3, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert pickle.loads(pickle.dumps(status)) == status


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"now": datetime(2026, 3, 2)}, "now: .* has no time zone"),
        ({"now": "yesterday"}, "now: 'yesterday' is not a date or time"),
        ({"max_age": -DAY}, "max_age: an age is not negative"),
    ],
)
def test_policy_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(nnguard.errors.ArgumentError, match=message):
        nnguard.licensing.Policy(**options)


@pytest.mark.parametrize("argument", ["license", "revocations", "device"])
def test_an_argument_of_another_type_is_named(argument: str, sale: Sale) -> None:
    device = nnguard.licensing.Device.of_values([("host", "a")])
    options = {} if argument == "license" else {argument: 7}
    policy = nnguard.licensing.Policy(now=START, **options)
    license_ = 7 if argument == "license" else sale.license(device=device)
    with pytest.raises(TypeError, match=f"^{argument}: expected a path or a .*, not int$"):
        nnguard.licensing.check(license_, sale.trust, license_policy=policy)


def test_policy_of_another_type_is_named(sale: Sale) -> None:
    with pytest.raises(TypeError, match=r"^license_policy: expected a Policy, not dict$"):
        nnguard.licensing.check(sale.license(), sale.trust, license_policy={"now": START})
