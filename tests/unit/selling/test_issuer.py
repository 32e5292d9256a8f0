"""The issuer hands out licenses, remembers them, and takes them back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import nnguard
import samples

pytest.importorskip("sqlalchemy")

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
CUSTOMER = nnguard.Identity.generate()


@pytest.fixture(scope="module")
def release(key: nnguard.SigningKey) -> nnguard.Stream:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=9000))
    return nnguard.sign(model, key, issuer="acme.ai", name="small")


@pytest.fixture(scope="module")
def tiers(release: nnguard.Stream, key: nnguard.SigningKey) -> list[nnguard.Locked]:
    names = ("professional", "standard")
    return nnguard.lock_tiers(
        release,
        [nnguard.Tier(name, soft=nnguard.Soft(fraction=0.001)) for name in names],
        signer=key,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[nnguard.licensing.Ledger]:
    with nnguard.licensing.Ledger(tmp_path / "licenses.db") as opened:
        yield opened


@pytest.fixture
def identity() -> nnguard.Identity:
    return nnguard.Identity.generate()


@pytest.fixture
def issuer(
    ledger: nnguard.licensing.Ledger, key: nnguard.SigningKey, identity: nnguard.Identity
) -> nnguard.licensing.Issuer:
    return nnguard.licensing.Issuer(ledger, key, identity)


def test_license_of_the_issuer_unlocks_and_is_written_down(
    issuer: nnguard.licensing.Issuer,
    ledger: nnguard.licensing.Ledger,
    tiers: list[nnguard.Locked],
    release: nnguard.Stream,
    key: nnguard.SigningKey,
) -> None:
    trial = tiers[-1].trial
    license_ = issuer.issue(
        trial,
        tiers[0].content_key,
        to=CUSTOMER.recipient,
        terms=nnguard.licensing.Terms(customer="Ada", issued_at=START, expires_at=START + DAY),
    )
    checks = nnguard.licensing.Policy(now=START)
    full = nnguard.unlock(trial, license_, CUSTOMER, key.public_key, license_policy=checks)
    assert bytes(full) == bytes(release)
    (entry,) = ledger.entries()
    terms = license_.terms
    assert (entry.license_id, entry.customer, entry.product) == (terms.id, "Ada", "small")
    assert (entry.tier, entry.recipient) == ("professional", CUSTOMER.recipient.id.hex())
    assert (entry.issued_at, entry.not_before, entry.expires_at) == (START, START, START + DAY)
    assert (entry.stream, entry.content_key_id) == (terms.stream, terms.lock)
    assert nnguard.licensing.License.from_text(entry.armored).encoded == license_.encoded


def test_license_and_its_entry_are_written_together(
    issuer: nnguard.licensing.Issuer,
    ledger: nnguard.licensing.Ledger,
    tiers: list[nnguard.Locked],
    tmp_path: Path,
) -> None:
    options = {"to": CUSTOMER.recipient, "output": tmp_path / "ada.license"}
    license_ = issuer.issue(tiers[-1].trial, tiers[0].content_key, **options)
    assert (tmp_path / "ada.license").read_text() == ledger.get(license_.terms.id).armored
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError):
        issuer.issue(tiers[-1].trial, tiers[0].content_key, **options)
    assert len(ledger.entries()) == 1
    ledger.close()
    with pytest.raises(ValueError, match="closed"):
        issuer.issue(
            tiers[-1].trial, tiers[0].content_key, **options | {"output": tmp_path / "eve.license"}
        )
    assert {path.name for path in tmp_path.iterdir()} == before


def test_content_key_is_given_once(
    issuer: nnguard.licensing.Issuer,
    tiers: list[nnguard.Locked],
    release: nnguard.Stream,
    key: nnguard.SigningKey,
) -> None:
    trial = tiers[-1].trial
    issuer.issue(trial, tiers[0].content_key, to=CUSTOMER.recipient)
    for tier, expected in (("professional", release), ("standard", tiers[0].trial)):
        license_ = issuer.issue(
            trial, to=CUSTOMER.recipient, terms=nnguard.licensing.Terms(tier=tier)
        )
        full = nnguard.unlock(trial, license_, CUSTOMER, key.public_key, tier=tier)
        assert bytes(full) == bytes(expected)


def test_key_of_a_lower_tier_does_not_displace_that_of_a_higher(
    issuer: nnguard.licensing.Issuer, tiers: list[nnguard.Locked]
) -> None:
    trial = tiers[-1].trial
    issuer.issue(trial, tiers[0].content_key, to=CUSTOMER.recipient)
    issuer.issue(trial, tiers[1].content_key, to=CUSTOMER.recipient)
    license_ = issuer.issue(
        trial, to=CUSTOMER.recipient, terms=nnguard.licensing.Terms(tier="professional")
    )
    assert license_.terms.tier == "professional"


def test_key_of_a_higher_tier_takes_the_place_of_a_lower(
    issuer: nnguard.licensing.Issuer, tiers: list[nnguard.Locked]
) -> None:
    trial = tiers[-1].trial
    issuer.issue(trial, tiers[1].content_key, to=CUSTOMER.recipient)
    issuer.issue(trial, tiers[0].content_key, to=CUSTOMER.recipient)
    license_ = issuer.issue(
        trial, to=CUSTOMER.recipient, terms=nnguard.licensing.Terms(tier="professional")
    )
    assert license_.terms.tier == "professional"


def test_another_issuer_with_the_same_identity_goes_on(
    issuer: nnguard.licensing.Issuer,
    ledger: nnguard.licensing.Ledger,
    tiers: list[nnguard.Locked],
    identity: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    issuer.issue(tiers[0].trial, tiers[0].content_key, to=CUSTOMER.recipient)
    again = nnguard.licensing.Issuer(ledger, key, identity)
    license_ = again.issue(tiers[0].trial, to=CUSTOMER.recipient)
    assert license_.key_id == key.public_key.id.hex()
    assert len(ledger.entries()) == 2


def test_ledger_is_of_no_use_without_the_identity(
    issuer: nnguard.licensing.Issuer,
    ledger: nnguard.licensing.Ledger,
    tiers: list[nnguard.Locked],
    key: nnguard.SigningKey,
) -> None:
    issuer.issue(tiers[0].trial, tiers[0].content_key, to=CUSTOMER.recipient)
    for other in (None, nnguard.Identity.generate()):
        with pytest.raises(nnguard.errors.WrongKeyError, match="wrapped to another key"):
            nnguard.licensing.Issuer(ledger, key, other).issue(
                tiers[0].trial, to=CUSTOMER.recipient
            )
    assert len(ledger.entries()) == 1


def test_issuer_without_identity_keeps_no_content_keys(
    ledger: nnguard.licensing.Ledger, tiers: list[nnguard.Locked], key: nnguard.SigningKey
) -> None:
    issuer = nnguard.licensing.Issuer(ledger, key)
    issuer.issue(tiers[0].trial, tiers[0].content_key, to=CUSTOMER.recipient)
    assert ledger.wrapped_content_key(tiers[0].content_key.id.hex()) is None
    with pytest.raises(nnguard.errors.KeyFormatError, match="no content key"):
        issuer.issue(tiers[0].trial, to=CUSTOMER.recipient)


def test_what_is_not_issued_is_not_written_down(
    issuer: nnguard.licensing.Issuer,
    ledger: nnguard.licensing.Ledger,
    tiers: list[nnguard.Locked],
    release: nnguard.Stream,
) -> None:
    trial, content_key = tiers[-1].trial, tiers[0].content_key
    stranger = nnguard.ContentKey.generate()
    with pytest.raises(nnguard.errors.WrongKeyError):
        issuer.issue(trial, stranger, to=CUSTOMER.recipient)
    with pytest.raises(nnguard.errors.UnlockError):
        issuer.issue(
            trial, content_key, to=CUSTOMER.recipient, terms=nnguard.licensing.Terms(tier="none")
        )
    with pytest.raises(nnguard.errors.NoRecordError):
        issuer.issue(release, content_key, to=CUSTOMER.recipient)
    with pytest.raises(ValueError, match="time zone"):
        issuer.issue(
            trial,
            content_key,
            to=CUSTOMER.recipient,
            terms=nnguard.licensing.Terms(expires_at=datetime(2026, 1, 1)),
        )
    assert ledger.entries() == []
    assert ledger.wrapped_content_key(tiers[-1].content_key.id.hex()) is None


def test_refused_license_leaves_no_ledger(
    tiers: list[nnguard.Locked], key: nnguard.SigningKey, tmp_path: Path
) -> None:
    path = tmp_path / "new.db"
    options = {"to": CUSTOMER.recipient, "output": tmp_path / "ada.license"}
    with nnguard.licensing.Ledger(path) as ledger:
        issuer = nnguard.licensing.Issuer(ledger, key)
        with pytest.raises(nnguard.errors.WrongKeyError):
            issuer.issue(tiers[-1].trial, nnguard.ContentKey.generate(), **options)
        assert list(tmp_path.iterdir()) == []
        issuer.issue(tiers[-1].trial, tiers[0].content_key, **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ada.license", "new.db"]


def test_keys_may_be_paths(
    tiers: list[nnguard.Locked],
    key: nnguard.SigningKey,
    identity: nnguard.Identity,
    tmp_path: Path,
) -> None:
    key.save(tmp_path / "vendor.key")
    identity.save(tmp_path / "own.key")
    CUSTOMER.recipient.save(tmp_path / "ada.pub")
    tiers[0].content_key.save(tmp_path / "content.key")
    with nnguard.licensing.Ledger(tmp_path / "new.db") as ledger:
        issuer = nnguard.licensing.Issuer(
            ledger, tmp_path / "vendor.key", str(tmp_path / "own.key")
        )
        trial, to = tiers[-1].trial, tmp_path / "ada.pub"
        first = issuer.issue(trial, tmp_path / "content.key", to=to)
        second = issuer.issue(trial, to=to)
        assert first.unwrap(CUSTOMER) == second.unwrap(CUSTOMER)
        with pytest.raises(TypeError, match="identity: expected a path or an Identity, not int"):
            nnguard.licensing.Issuer(ledger, key, 7)


def test_revoked_license_is_on_the_list_and_no_longer_unlocks(
    issuer: nnguard.licensing.Issuer,
    ledger: nnguard.licensing.Ledger,
    tiers: list[nnguard.Locked],
    key: nnguard.SigningKey,
) -> None:
    trial = tiers[-1].trial
    revoked, kept = (
        issuer.issue(
            trial,
            tiers[0].content_key,
            to=CUSTOMER.recipient,
            terms=nnguard.licensing.Terms(issued_at=START),
        )
        for _ in range(2)
    )
    assert issuer.revocation_list(at=START).hashes == frozenset()
    (entry,) = issuer.revoke([revoked.terms.id[:12]], reason="refund", at=START + DAY)
    assert (entry.license_id, entry.reason) == (revoked.terms.id, "refund")
    assert ledger.get(revoked.terms.id).revoked_at == START + DAY
    listed = issuer.revocation_list(issuer="acme.ai", at=START + DAY)
    checks = nnguard.licensing.Policy(now=START + DAY, revocations=listed, max_age=DAY)
    assert nnguard.unlock(trial, kept, CUSTOMER, key.public_key, license_policy=checks)
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        nnguard.unlock(trial, revoked, CUSTOMER, key.public_key, license_policy=checks)
    assert caught.value.reason is nnguard.licensing.Refusal.REVOKED


def test_nothing_is_revoked_where_one_is_unknown(
    issuer: nnguard.licensing.Issuer, ledger: nnguard.licensing.Ledger, tiers: list[nnguard.Locked]
) -> None:
    license_ = issuer.issue(tiers[0].trial, tiers[0].content_key, to=CUSTOMER.recipient)
    with pytest.raises(nnguard.errors.LedgerError):
        issuer.revoke([license_.terms.id, "ff" * 16])
    assert ledger.revoked_ids() == []
    assert issuer.revocation_list().hashes == frozenset()


def test_trial_may_be_a_path(
    issuer: nnguard.licensing.Issuer, tiers: list[nnguard.Locked], tmp_path: Path
) -> None:
    tiers[0].trial.save(tmp_path / "trial.nnc")
    CUSTOMER.recipient.save(tmp_path / "ada.pub")
    license_ = issuer.issue(tmp_path / "trial.nnc", tiers[0].content_key, to=tmp_path / "ada.pub")
    assert license_.terms.recipient == CUSTOMER.recipient.id.hex()
