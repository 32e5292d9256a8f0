"""What does not unlock, and the error that says why. Each refusal has a test of its own."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import nnguard
import samples
from nnguard._licensing.license import License
from nnguard._records.digest import model_digest

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
Reason = nnguard.Refusal


@dataclass
class Sale:
    """A release, its trial, and a customer."""

    vendor: nnguard.SigningKey
    customer: nnguard.Identity
    release: nnguard.Stream
    locked: nnguard.Locked

    @property
    def trust(self) -> list[nnguard.PublicKey]:
        return [self.vendor.public_key]

    def license(self, **options: object) -> nnguard.License:
        given = {"to": self.customer.recipient, "signer": self.vendor, "issued_at": START}
        return nnguard.issue_license(
            self.locked.stream, self.locked.content_key, **{**given, **options}
        )

    def unlock(self, license_: nnguard.License, **options: object) -> nnguard.Stream:
        """Unlock a day after the license was issued, unless `checks` say otherwise."""
        checks = nnguard.Checks(now=START + DAY)
        return nnguard.unlock(
            self.locked.stream,
            license_,
            self.customer,
            self.trust,
            **{"checks": checks, **options},
        )

    def refusal(self, license_: nnguard.License, **checks: object) -> nnguard.Refusal:
        """Return why the license does not unlock a day after it was issued, or at `now`."""
        with pytest.raises(nnguard.LicenseError) as caught:
            self.unlock(license_, checks=nnguard.Checks(**{"now": START + DAY, **checks}))
        return caught.value.reason


def sell(vendor: nnguard.SigningKey, *, sign_trial: bool, seed: int = 0) -> Sale:
    model = nnguard.Stream.from_bytes(samples.small_stream(seed=seed))
    release = nnguard.sign(model, vendor, issuer="acme.ai", name="small")
    locked = nnguard.lock(release, fraction=0.005, signer=vendor if sign_trial else None)
    return Sale(vendor, nnguard.Identity.generate(), release, locked)


@pytest.fixture(scope="module")
def sale(key: nnguard.SigningKey) -> Sale:
    return sell(key, sign_trial=False)


@pytest.fixture(scope="module")
def signed_sale(key: nnguard.SigningKey) -> Sale:
    return sell(key, sign_trial=True)


@pytest.fixture(scope="module")
def other_sale(key: nnguard.SigningKey) -> Sale:
    """Another release of the same vendor."""
    return sell(key, sign_trial=False, seed=1)


def test_what_is_refused_below_unlocks_otherwise(sale: Sale, signed_sale: Sale) -> None:
    for each in (sale, signed_sale):
        assert bytes(each.unlock(each.license())) == bytes(each.release)


# Keys


def test_license_of_another_customer(sale: Sale) -> None:
    stranger = nnguard.Identity.generate()
    license_ = sale.license()
    with pytest.raises(nnguard.WrongKeyError, match=license_.terms.recipient):
        nnguard.unlock(sale.locked.stream, license_, stranger, sale.trust)


def test_license_of_another_customer_with_other_kind_of_key(sale: Sale) -> None:
    stranger = nnguard.Identity.generate(post_quantum=True)
    with pytest.raises(nnguard.WrongKeyError, match="made out to"):
        nnguard.unlock(sale.locked.stream, sale.license(), stranger, sale.trust)


def test_content_key_that_is_wrapped_to_somebody_else(sale: Sale) -> None:
    """A license that names one customer, with a content key that only another can read."""
    terms = sale.license().terms
    stranger = nnguard.Identity.generate().recipient
    license_ = License.make(terms, sale.locked.content_key, stranger, sale.vendor)
    with pytest.raises(nnguard.WrongKeyError):
        sale.unlock(license_)


def test_license_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    license_ = sale.license(signer=other_key)
    with pytest.raises(nnguard.WrongKeyError, match=other_key.public_key.id.hex()):
        sale.unlock(license_)


def test_license_that_names_a_key_which_did_not_sign_it(
    sale: Sale, other_key: nnguard.SigningKey
) -> None:
    class Liar:
        public_key = sale.vendor.public_key

        def sign(self, data: bytes) -> bytes:
            return other_key.sign(data)

    with pytest.raises(ValueError, match="does not verify"):
        sale.license(signer=Liar())
    license_ = sale.license(signer=other_key)
    encoded = license_.encoded.replace(other_key.public_key.id, sale.vendor.public_key.id)
    assert sale.refusal(nnguard.License.parse(encoded)) is Reason.MALFORMED


def test_trial_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    """The license is by a trusted vendor, the signature on the trial is not."""
    locked = nnguard.lock(sale.release, fraction=0.005, signer=other_key)
    theirs = replace(sale, locked=locked)
    terms = theirs.license(signer=other_key).terms
    license_ = License.make(terms, locked.content_key, sale.customer.recipient, sale.vendor)
    with pytest.raises(nnguard.WrongKeyError, match="not among the 1 trusted"):
        theirs.unlock(license_)


def test_release_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    """The license is by a trusted vendor, the release in the trial is not."""
    model = nnguard.Stream.from_bytes(samples.small_stream())
    stolen = nnguard.sign(model, other_key)
    theirs = replace(sale, release=stolen, locked=nnguard.lock(stolen, fraction=0.005))
    with pytest.raises(nnguard.WrongKeyError, match="not among the 1 trusted"):
        theirs.unlock(theirs.license())


def test_content_key_of_another_release(sale: Sale, other_sale: Sale) -> None:
    with pytest.raises(nnguard.WrongKeyError, match="content key"):
        nnguard.issue_license(
            sale.locked.stream,
            other_sale.locked.content_key,
            to=sale.customer.recipient,
            signer=sale.vendor,
        )
    terms = sale.license().terms
    wrong = other_sale.locked.content_key
    license_ = License.make(terms, wrong, sale.customer.recipient, sale.vendor)
    with pytest.raises(nnguard.WrongKeyError, match="content key"):
        sale.unlock(license_)


# Streams


def test_license_of_another_stream(sale: Sale, other_sale: Sale) -> None:
    license_ = other_sale.license(to=sale.customer.recipient)
    assert sale.refusal(license_) is Reason.OTHER_STREAM


def test_license_of_the_same_release_locked_again(sale: Sale) -> None:
    again = replace(sale, locked=nnguard.lock(sale.release, fraction=0.005))
    assert again.refusal(sale.license()) is Reason.OTHER_STREAM


def test_license_of_the_signed_trial_for_the_trial_without_signature(signed_sale: Sale) -> None:
    bare = nnguard.strip(signed_sale.locked.stream, signed_sale.trust)
    with pytest.raises(nnguard.VerificationError, match="changed since the license was issued"):
        nnguard.unlock(bare, signed_sale.license(), signed_sale.customer, signed_sale.trust)


def test_stream_that_is_not_locked(sale: Sale, model: nnguard.Stream) -> None:
    for stream in (model, sale.release):
        with pytest.raises(nnguard.LicenseError) as caught:
            nnguard.unlock(stream, sale.license(), sale.customer, sale.trust)
        assert caught.value.reason is Reason.OTHER_STREAM
        with pytest.raises(nnguard.NoRecordError):
            nnguard.issue_license(
                stream,
                sale.locked.content_key,
                to=sale.customer.recipient,
                signer=sale.vendor,
            )


def test_license_that_names_a_stream_which_is_not_locked(sale: Sale, model: nnguard.Stream) -> None:
    for stream in (model, sale.release):
        digest = model_digest(stream.sha256_of_units()).hex()
        terms = replace(sale.license().terms, stream=digest)
        key, recipient = sale.locked.content_key, sale.customer.recipient
        license_ = License.make(terms, key, recipient, sale.vendor)
        with pytest.raises(nnguard.NoRecordError):
            nnguard.unlock(stream, license_, sale.customer, sale.trust)


def test_license_that_promises_something_else(sale: Sale) -> None:
    terms = replace(sale.license().terms, opens="00" * 32)
    key, recipient = sale.locked.content_key, sale.customer.recipient
    license_ = License.make(terms, key, recipient, sale.vendor)
    with pytest.raises(nnguard.UnlockError, match="not what the license says"):
        sale.unlock(license_)


def flips(data: bytes, step: int) -> list[bytes]:
    """Return the data with one bit flipped, for every `step`-th bit."""
    changed = []
    for bit in range(0, 8 * len(data), step):
        other = bytearray(data)
        other[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(other))
    return changed


def unlock(data: bytes, sold: Sale, license_: nnguard.License, out: Path) -> None:
    """Unlock a trial to a file."""
    trial = nnguard.Stream.from_bytes(data)
    nnguard.unlock(trial, license_, sold.customer, sold.trust).save(out)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_changed_trial(sale: Sale, signed_sale: Sale, tmp_path: Path, *, signed: bool) -> None:
    """No flipped bit gets through, and none leaves a file."""
    sold = signed_sale if signed else sale
    trial, license_ = sold.locked.stream, sold.license()
    for changed in flips(bytes(trial), 29):
        with pytest.raises(nnguard.NnguardError):
            unlock(changed, sold, license_, tmp_path / "full.nnc")
    assert list(tmp_path.iterdir()) == []
    unlock(bytes(trial), sold, license_, tmp_path / "full.nnc")
    assert (tmp_path / "full.nnc").read_bytes() == bytes(sold.release)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_trial_that_was_cut_or_made_longer(
    sale: Sale, signed_sale: Sale, tmp_path: Path, *, signed: bool
) -> None:
    sold = signed_sale if signed else sale
    license_, data = sold.license(), bytes(sold.locked.stream)
    units = samples.split(data)
    others = [data[:-1], data[: len(data) // 2], data + b"\0", data + units[-1], b""]
    others += [b"".join([*units[:at], *units[at + 1 :]]) for at in range(len(units))]
    for other in others:
        with pytest.raises(nnguard.NnguardError):
            unlock(other, sold, license_, tmp_path / "full.nnc")
    assert list(tmp_path.iterdir()) == []


def test_trial_that_was_trained_further(sale: Sale) -> None:
    """A weight that the lock left alone was changed: the license is of the trial as it was sold."""
    units = samples.split(bytes(sale.locked.stream))
    bias = [unit.name for unit in sale.locked.stream].index("conv.bias")
    units[bias] = units[bias][:-2] + bytes([units[bias][-2] ^ 1]) + units[bias][-1:]
    trial = nnguard.Stream.from_bytes(b"".join(units))
    with pytest.raises(nnguard.VerificationError, match="changed since the license was issued"):
        nnguard.unlock(trial, sale.license(), sale.customer, sale.trust)


# The license itself


def test_no_bit_of_a_license_can_be_changed(sale: Sale) -> None:
    license_ = sale.license(
        customer="Ada",
        expires=START + WEEK,
        grace=DAY,
        features=["x"],
        metadata={"a": "b"},
        device=nnguard.Device.of_values([("host", "a")]),
    )
    for changed in flips(license_.encoded, 1):
        with pytest.raises((nnguard.LicenseError, nnguard.WrongKeyError)):
            nnguard.License.parse(changed).authenticate(sale.trust)
    for changed in flips(license_.encoded, 19):
        with pytest.raises((nnguard.LicenseError, nnguard.WrongKeyError)):
            sale.unlock(nnguard.License.parse(changed))


def test_license_cannot_be_cut_or_made_longer(sale: Sale) -> None:
    encoded = sale.license().encoded
    for changed in [encoded[:size] for size in range(len(encoded))] + [encoded + b"\0"]:
        with pytest.raises(nnguard.LicenseError) as caught:
            nnguard.License.parse(changed)
        assert caught.value.reason is Reason.MALFORMED


def read(text: str, sale: Sale) -> None:
    nnguard.License.from_text(text).authenticate(sale.trust)


def test_no_character_of_a_license_can_be_changed(sale: Sale) -> None:
    text = str(sale.license())
    rng = random.Random(0)
    for at, character in enumerate(text):
        if character == "\n":
            continue
        for other in (rng.choice(string.ascii_letters + string.digits + "+/="), "?", ">"):
            if other == character:
                continue
            with pytest.raises((nnguard.LicenseError, nnguard.WrongKeyError)):
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
    with pytest.raises(nnguard.LicenseError, match=str(path)) as caught:
        nnguard.unlock(sale.locked.stream, path, sale.customer, sale.trust)
    assert caught.value.reason is Reason.MALFORMED


def test_revocation_list_is_no_license(sale: Sale) -> None:
    revoked = nnguard.RevocationList.make([], sale.vendor, issued_at=START)
    with pytest.raises(nnguard.LicenseError) as caught:
        nnguard.License.from_text(str(revoked))
    assert caught.value.reason is Reason.MALFORMED
    with pytest.raises(nnguard.LicenseError):
        nnguard.License.parse(revoked.encoded)
    with pytest.raises(nnguard.LicenseError):
        nnguard.RevocationList.parse(sale.license().encoded)


# Time


def test_expired(sale: Sale) -> None:
    license_ = sale.license(expires=START + WEEK)
    assert sale.refusal(license_, now=START + WEEK) is Reason.EXPIRED
    last = nnguard.Checks(now=START + WEEK - timedelta(seconds=1))
    assert bytes(sale.unlock(license_, checks=last)) == bytes(sale.release)


def test_in_grace_is_permitted_and_said(sale: Sale) -> None:
    license_ = sale.license(expires=START + WEEK, grace=2 * DAY)
    for days, in_grace in ((6, False), (7, True), (8, True)):
        checks = nnguard.Checks(now=START + days * DAY)
        status = nnguard.check_license(license_, sale.trust, checks=checks)
        assert status.in_grace is in_grace
        assert bytes(sale.unlock(license_, checks=checks)) == bytes(sale.release)


def test_after_grace(sale: Sale) -> None:
    license_ = sale.license(expires=START + WEEK, grace=2 * DAY)
    assert sale.refusal(license_, now=START + 9 * DAY) is Reason.EXPIRED


def test_not_yet_valid(sale: Sale) -> None:
    license_ = sale.license(not_before=START + WEEK)
    assert sale.refusal(license_) is Reason.NOT_YET_VALID
    assert sale.unlock(license_, checks=nnguard.Checks(now=START + WEEK))


def test_license_without_end_holds_for_ever(sale: Sale) -> None:
    checks = nnguard.Checks(now=datetime(9999, 1, 1, tzinfo=timezone.utc))
    assert sale.unlock(sale.license(), checks=checks)


def test_time_zones_do_not_matter(sale: Sale) -> None:
    tokyo = timezone(timedelta(hours=9))
    license_ = sale.license(expires=datetime(2026, 3, 8, 9, tzinfo=tokyo))
    assert license_.terms.expires_at == START + WEEK
    assert sale.refusal(license_, now=datetime(2026, 3, 8, 9, tzinfo=tokyo)) is Reason.EXPIRED
    with pytest.raises(ValueError, match="time zone"):
        sale.unlock(license_, checks=nnguard.Checks(now=datetime(2026, 3, 2)))


def test_clock_set_back_behind_the_license(sale: Sale) -> None:
    assert sale.refusal(sale.license(), now=START - DAY) is Reason.CLOCK_SET_BACK


def test_clocks_that_differ_by_little_are_not_set_back(sale: Sale) -> None:
    """A clock may be five minutes behind the vendor's, but the license has to hold already."""
    license_ = sale.license(not_before=START - DAY)
    little = nnguard.Checks(now=START - timedelta(minutes=5))
    assert sale.unlock(license_, checks=little)
    much = START - timedelta(minutes=5, seconds=1)
    assert sale.refusal(license_, now=much) is Reason.CLOCK_SET_BACK


FIRST = datetime(1, 1, 1, tzinfo=timezone.utc)
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)


def test_times_at_the_ends_of_the_calendar(sale: Sale, tmp_path: Path) -> None:
    old = sale.license(issued_at=FIRST, expires=LAST)
    listed = nnguard.RevocationList.make([], sale.vendor, issued_at=FIRST)
    options = {"revocations": listed, "max_age": timedelta.max, "state": tmp_path / "newest"}
    for now in (FIRST, START, LAST - DAY):
        assert sale.unlock(old, checks=nnguard.Checks(now=now, **options))
    assert sale.refusal(old, now=FIRST, **options) is Reason.CLOCK_SET_BACK
    assert sale.refusal(old, now=LAST) is Reason.EXPIRED
    new = sale.license(issued_at=LAST)
    for now in (FIRST, START):
        assert sale.refusal(new, now=now) is Reason.CLOCK_SET_BACK
    assert sale.unlock(new, checks=nnguard.Checks(now=LAST))


def test_clock_set_back_behind_the_revocation_list(sale: Sale) -> None:
    later = nnguard.RevocationList.make([], sale.vendor, issued_at=START + WEEK)
    assert sale.refusal(sale.license(), revocations=later) is Reason.CLOCK_SET_BACK


def test_clock_set_back_behind_the_state_file(sale: Sale, tmp_path: Path) -> None:
    license_, state = sale.license(expires=START + WEEK), tmp_path / "newest"
    assert sale.unlock(license_, checks=nnguard.Checks(now=START + 3 * DAY, state=state))
    reason = sale.refusal(license_, now=START + 2 * DAY, state=state)
    assert reason is Reason.CLOCK_SET_BACK
    assert sale.refusal(license_, now=START + 8 * DAY, state=state) is Reason.EXPIRED


def test_state_file_keeps_the_newest_time(sale: Sale, tmp_path: Path) -> None:
    license_, state = sale.license(), tmp_path / "newest"
    for minutes in (0, 60, 56):
        now = START + timedelta(minutes=minutes)
        sale.unlock(license_, checks=nnguard.Checks(now=now, state=state))
    back = START + timedelta(minutes=54)
    assert sale.refusal(license_, now=back, state=state) is Reason.CLOCK_SET_BACK


@pytest.mark.parametrize("days", [8, 40])
def test_time_is_remembered_when_the_license_does_not_hold(
    sale: Sale, tmp_path: Path, days: int
) -> None:
    license_, state = sale.license(expires=START + WEEK), tmp_path / "newest"
    assert sale.refusal(license_, now=START + days * DAY, state=state) is Reason.EXPIRED
    assert sale.refusal(license_, now=START + DAY, state=state) is Reason.CLOCK_SET_BACK


def test_time_is_remembered_whatever_else_is_refused(sale: Sale, tmp_path: Path) -> None:
    license_ = sale.license(not_before=START + WEEK, device=device_of("a", "b"))
    revoked = nnguard.RevocationList.make([license_.terms.id], sale.vendor, issued_at=START)
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
    checks = nnguard.Checks(now=START + DAY, state=tmp_path / "newest")
    with pytest.raises(nnguard.WrongKeyError):
        sale.unlock(sale.license(signer=other_key), checks=checks)
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


def device_of(*values: str) -> nnguard.Device:
    return nnguard.Device.of_values(("card", value) for value in values)


def test_wrong_device(sale: Sale) -> None:
    license_ = sale.license(device=device_of("a", "b", "c", "d"), device_traits=3)
    for values in (("a", "b", "x", "y"), ("a", "b"), ("e",), ()):
        assert sale.refusal(license_, device=device_of(*values)) is Reason.OTHER_DEVICE


def test_device_with_enough_traits(sale: Sale) -> None:
    license_ = sale.license(device=device_of("a", "b", "c", "d"), device_traits=3)
    for values in (("a", "b", "c"), ("d", "x", "b", "y", "c", "z"), ("a", "b", "c", "d")):
        checks = nnguard.Checks(now=START + DAY, device=device_of(*values))
        assert bytes(sale.unlock(license_, checks=checks)) == bytes(sale.release)


def test_one_trait_counts_once(sale: Sale) -> None:
    license_ = sale.license(device=device_of("a", "b", "c", "d"), device_traits=3)
    copied = nnguard.Device(device_of("a", "b").traits * 4)
    assert sale.refusal(license_, device=copied) is Reason.OTHER_DEVICE


def test_this_machine_is_looked_at_unless_another_is_given(sale: Sale) -> None:
    elsewhere = sale.license(device=device_of("a", "b"))
    assert sale.refusal(elsewhere) is Reason.OTHER_DEVICE
    here = sale.license(device=nnguard.Device.this())
    assert bytes(sale.unlock(here)) == bytes(sale.release)


# Revocation


def test_revoked(sale: Sale) -> None:
    license_, other = sale.license(), sale.license()
    revoked = nnguard.RevocationList.make([license_.terms.id], sale.vendor, issued_at=START)
    assert sale.refusal(license_, revocations=revoked) is Reason.REVOKED
    checks = nnguard.Checks(now=START + DAY, revocations=revoked)
    assert bytes(sale.unlock(other, checks=checks)) == bytes(sale.release)


def test_stale_revocation_list(sale: Sale) -> None:
    license_ = sale.license()
    revoked = nnguard.RevocationList.make([], sale.vendor, issued_at=START)
    options = {"revocations": revoked, "max_age": WEEK}
    late = START + WEEK + timedelta(seconds=1)
    assert sale.refusal(license_, now=late, **options) is Reason.STALE_REVOCATIONS
    assert sale.unlock(license_, checks=nnguard.Checks(now=START + WEEK, **options))


def test_no_revocation_list_where_one_is_required(sale: Sale) -> None:
    license_ = sale.license()
    assert sale.refusal(license_, max_age=WEEK) is Reason.STALE_REVOCATIONS
    checks = nnguard.Checks(now=START, max_age=WEEK)
    with pytest.raises(nnguard.LicenseError, match="required: there is no list"):
        nnguard.check_license(license_, sale.trust, checks=checks)


def test_status_as_json(sale: Sale) -> None:
    license_ = sale.license(expires=START + DAY, grace=DAY)
    now = START + DAY + timedelta(hours=1)
    status = nnguard.check_license(license_, sale.trust, checks=nnguard.Checks(now=now))
    assert status.to_json() == {
        "license": license_.terms.to_json(),
        "checked_at": now.isoformat(),
        "in_grace": True,
    }


def test_revocation_list_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    revoked = nnguard.RevocationList.make([], other_key, issued_at=START)
    with pytest.raises(nnguard.WrongKeyError, match="revocation list"):
        sale.unlock(sale.license(), checks=nnguard.Checks(now=START + DAY, revocations=revoked))


def test_list_of_another_trusted_vendor_is_of_no_use(
    sale: Sale, other_key: nnguard.SigningKey
) -> None:
    """Neither does a fresh list replace the vendor's own, nor can another vendor revoke."""
    license_ = sale.license()
    trust = [*sale.trust, other_key.public_key]
    for revoked in ([], [license_.terms.id]):
        foreign = nnguard.RevocationList.make(revoked, other_key, issued_at=START)
        checks = nnguard.Checks(now=START + DAY, revocations=foreign, max_age=WEEK)
        with pytest.raises(nnguard.WrongKeyError, match="revocation list") as caught:
            nnguard.check_license(license_, trust, checks=checks)
        assert f"with key {other_key.public_key.id.hex()}" in str(caught.value)
        assert f"not with {sale.vendor.public_key.id.hex()}" in str(caught.value)


def test_no_bit_of_a_revocation_list_can_be_changed(sale: Sale) -> None:
    revoked = nnguard.RevocationList.make(["00" * 16, "ff" * 16], sale.vendor, issued_at=START)
    revoked.authenticate(sale.trust)
    for changed in flips(revoked.encoded, 1):
        with pytest.raises((nnguard.LicenseError, nnguard.WrongKeyError)):
            nnguard.RevocationList.parse(changed).authenticate(sale.trust)


def test_forged_revocation_list(sale: Sale, tmp_path: Path) -> None:
    """A customer takes himself off the list."""
    license_ = sale.license()
    revoked = nnguard.RevocationList.make([license_.terms.id], sale.vendor, issued_at=START)
    (listed,) = revoked.hashes
    forged = nnguard.RevocationList.parse(revoked.encoded.replace(listed, bytes(32)))
    assert not forged.revokes(license_.terms.id)
    forged.save(tmp_path / "acme.revoked")
    reason = sale.refusal(license_, revocations=tmp_path / "acme.revoked")
    assert reason is Reason.MALFORMED


# Tiers


def test_wrong_tier(sale: Sale) -> None:
    license_ = sale.license()
    assert license_.terms.tier == "full"
    with pytest.raises(nnguard.LicenseError, match="professional") as caught:
        sale.unlock(license_, tier="professional")
    assert caught.value.reason is Reason.OTHER_TIER
    assert bytes(sale.unlock(license_, tier="full")) == bytes(sale.release)


def test_every_reason_is_raised_somewhere_above() -> None:
    """A new reason needs a test."""
    text = Path(__file__).read_text()
    assert [each.name for each in Reason if f"is Reason.{each.name}" not in text] == []


def test_forged_license_is_forged_before_it_is_expired(sale: Sale) -> None:
    """What a license says is believed only once it has been authenticated."""
    license_ = sale.license(expires=START + WEEK, customer="Ada")
    forged = nnguard.License.parse(license_.encoded.replace(b"Ada", b"Eve"))
    assert forged.terms.customer == "Eve"
    assert sale.refusal(forged, now=START + 2 * WEEK) is Reason.MALFORMED
