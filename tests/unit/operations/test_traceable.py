"""Traceable locks: each license opens a copy of its own, exactly the one that the vendor signed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import nnguard
import stock
import traceable
from nnguard._crypto.keys import AlgorithmName
from nnguard._hiding import embed
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.opening import open_files
from nnguard._models.stream_set import StreamSet
from nnguard._operations.copies import caster_of
from nnguard._records.hashed import hash_files
from nnguard._records.kinds import RecordKind
from nnguard._records.signature import SignatureRecord
from nnguard._tracing import choosing
from nnguard.errors import (
    ArgumentError,
    LicenseError,
    LockError,
    NnguardError,
    UnlockError,
    VerificationError,
    WrongKeyError,
)
from nnguard.licensing import Issuer, Lease, License, Terms, issue

CLAIMS: Mapping[str, Any] = {
    "issuer": "acme.ai",
    "name": "net",
    "version": "1.0",
    "metadata": {"a": "b"},
    "release": 3,
}
VENDOR = nnguard.SigningKey.generate()
ADA = nnguard.Identity.generate()
EVE = nnguard.Identity.generate(post_quantum=True)


@dataclass(frozen=True)
class Shop:
    """A release that was locked to be traceable."""

    release: nnguard.Stream
    locked: nnguard.Locked
    vendor: nnguard.SigningKey

    def license(
        self, to: nnguard.Identity = ADA, key: nnguard.ContentKey | None = None, tier: str = ""
    ) -> License:
        key = self.locked.content_key if key is None else key
        terms = Terms(customer="Ada", tier=tier)
        return issue(self.locked.trial, key, to=to.recipient, signer=self.vendor, terms=terms)

    def unlock(
        self, license_: License | Lease, to: nnguard.Identity = ADA, **options: Any
    ) -> nnguard.Stream:
        return nnguard.unlock(self.locked.trial, license_, to, self.vendor.public_key, **options)

    def changed(self, license_: License, **changes: Any) -> License:
        """The license with other secrets, signature, or terms, signed by the vendor."""
        secrets = license_.unwrap(ADA)
        secrets = secrets._replace(**changes.pop("secrets", {}))
        given = {"signature": license_.signature, **changes}
        terms = given.pop("terms", license_.terms)
        return License.make(terms, secrets, ADA.recipient, self.vendor, **given)


@pytest.fixture(autouse=True)
def _few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fingerprint too short to be found, and quick to make."""
    monkeypatch.setattr(choosing, "_MOST_ENTRIES", 1000)


@functools.cache
def shop(*, dependent: bool = True, signed: bool = True) -> Shop:
    model = traceable.release_of(dependent=dependent)
    release = nnguard.sign(model, VENDOR, **CLAIMS) if signed else model
    locked = nnguard.lock(
        release,
        trial=traceable.trial_of(dependent=dependent),
        traceable=True,
        signer=VENDOR if signed else None,
    )
    return Shop(release, locked, VENDOR)


@functools.cache
def sold() -> tuple[License, License, nnguard.Stream]:
    """Two licenses of one shop, and the copy of the first."""
    one, two = shop().license(), shop().license()
    return one, two, shop().unlock(one)


def refuses(license_: License, sale: Shop | None = None, match: str | None = None) -> None:
    with pytest.raises(UnlockError, match=match):
        (sale or shop()).unlock(license_)


# What licensees get


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])
def test_each_license_opens_the_copy_that_it_names(*, dependent: bool, signed: bool) -> None:
    sale = shop(dependent=dependent, signed=signed)
    copies = []
    for customer in (ADA, EVE):
        license_ = sale.license(customer)
        copy = sale.unlock(license_, customer)
        assert hash_files(copy)[""].digest.hex() == license_.terms.opens
        assert bytes(copy) == bytes(sale.unlock(license_, customer))
        assert bool(license_.signature) is signed
        copies.append(bytes(copy))
        if signed:
            report = nnguard.verify(copy, VENDOR.public_key)
            assert report.claims == nnguard.verify(sale.release, VENDOR.public_key).claims
            assert not report.nested
        else:
            with pytest.raises(nnguard.errors.NoRecordError):
                nnguard.verify(copy, VENDOR.public_key)
    assert len({*copies, bytes(sale.release), bytes(sale.locked.trial)}) == 4


def test_copy_is_stripped_to_release_and_fingerprint() -> None:
    license_, _, copy = sold()
    sale = shop()
    bare = nnguard.strip(copy, VENDOR.public_key)
    release = traceable.release_of(dependent=True)
    changed = [at for at, unit in enumerate(bare) if unit.read() != release[at].read()]
    masked = {"first.weight", "conv.weight", "sparse.weight"}
    assert {release[at].name for at in changed} == masked
    opened = open_files(hash_files(sale.locked.trial), sale.locked.content_key)
    caster = caster_of(opened, sale.locked.content_key)
    assert bytes(caster.release()) == bytes(release)
    assert caster.fingerprint(license_.terms.id).size == caster.biases.size


def test_license_says_how_large_it_is() -> None:
    license_, _, _ = sold()
    size = shop().locked.license_key_size
    assert len(license_.unwrap(ADA).license_key) == size
    assert size < len(license_.encoded) < size + 1000


@pytest.mark.parametrize("algorithm", get_args(AlgorithmName))
def test_signed_by_keys_of_every_algorithm(algorithm: AlgorithmName) -> None:
    vendor = nnguard.SigningKey.generate(algorithm)
    release = nnguard.sign(traceable.release_of(dependent=True), vendor, **CLAIMS)
    locked = nnguard.lock(release, trial=traceable.trial_of(), traceable=True, signer=vendor)
    sale = Shop(release, locked, vendor)
    license_ = sale.license()
    copy = sale.unlock(License.from_text(str(license_)))
    report = nnguard.verify(copy, vendor.public_key)
    assert report.algorithm == algorithm
    assert report.claims.name == "net"
    assert SignatureRecord.parse(license_.signature).claims == report.claims
    flipped = bytes([license_.signature[-1] ^ 1])
    refuses(sale.changed(license_, signature=license_.signature[:-1] + flipped), sale)


def test_release_of_another_signer_gives_copies_of_the_license_s() -> None:
    """Whoever issues signs the copies, and a customer needs no other key."""
    partner = nnguard.SigningKey.generate()
    release = nnguard.sign(traceable.release_of(dependent=False), partner, **CLAIMS)
    locked = nnguard.lock(release, trial=traceable.trial_of(), traceable=True)
    sale = Shop(release, locked, VENDOR)
    copy = sale.unlock(sale.license())
    assert nnguard.verify(copy, VENDOR.public_key).claims.name == "net"


def test_watermark_on_a_copy() -> None:
    license_, other, copy = sold()
    marked = shop().unlock(license_, watermark=True)
    report = nnguard.verify(marked, VENDOR.public_key)
    assert report.licensed_to is not None
    assert report.licensed_to.id == license_.terms.id
    stolen = embed(copy, other.encoded, kind=RecordKind.LICENSE)
    with pytest.raises(VerificationError):
        nnguard.verify(stolen, VENDOR.public_key)


def test_lease_of_a_traceable_license() -> None:
    relay = ADA
    license_ = sold()[0]
    terms = replace(
        license_.terms, leases=2, leaser=relay.request_signer.public_key, order="", server=""
    )
    held = shop().changed(license_, terms=terms)
    lease = Lease.make(
        held,
        held.unwrap(relay),
        EVE.recipient,
        relay.request_signer,
        id="07" * 16,
        lasts=timedelta(minutes=5),
    )
    again = Lease.from_text(str(lease))
    assert bytes(shop().unlock(again, EVE)) == bytes(sold()[2])
    bare = Unwrapped(held.unwrap(relay).content_key)
    without = Lease.make(
        held, bare, EVE.recipient, relay.request_signer, id="07" * 16, lasts=timedelta(minutes=5)
    )
    with pytest.raises(UnlockError, match="not made for that"):
        shop().unlock(without, EVE)


def test_evaluate_scores_a_copy_nobody_gets() -> None:
    seen: list[dict[str, Any]] = []

    def evaluate(arrays: Mapping[str, Any]) -> float:
        seen.append({name: np.array(array) for name, array in arrays.items()})
        return float("first.weight" in arrays)

    release = traceable.release_of(dependent=True)
    locked = nnguard.lock(release, trial=traceable.trial_of(), traceable=True, evaluate=evaluate)
    assert locked.scores is not None
    assert (locked.scores.release, locked.scores.trial, locked.scores.unlocked) == (1.0, 0.0, 1.0)
    first, _, last = (each.get("first.weight") for each in seen)
    assert first is not None
    assert last is not None
    moved = np.abs(first - last)
    assert 0 < np.count_nonzero(moved) < 0.6 * moved.size
    assert moved.max() < 1e-3


# Tiers


def test_tiers_below_open_as_ever() -> None:
    medium, small = traceable.trial_of(), traceable.trial_of(seed=2, rows=1000)
    top, low = nnguard.lock_tiers(
        traceable.release_of(dependent=True),
        [nnguard.Tier("gold", trial=medium), nnguard.Tier("silver", trial=small)],
        traceable=True,
    )
    assert low.content_key == top.content_key.below(2)
    assert (top.license_key_size > 0, low.license_key_size) == (True, 0)
    sale = Shop(
        traceable.release_of(dependent=True), replace(low, content_key=top.content_key), VENDOR
    )
    silver, gold = sale.license(tier="silver"), sale.license(tier="gold")
    assert not silver.unwrap(ADA).license_key
    assert silver.unwrap(ADA).content_key == low.content_key
    assert gold.unwrap(ADA).content_key == top.content_key.below()
    assert gold.terms.lock == silver.terms.lock == low.content_key.id.hex()
    assert bytes(sale.unlock(silver)) == bytes(top.trial)
    copies = [bytes(sale.unlock(each)) for each in (gold, sale.license())]
    assert len({*copies, bytes(sale.release)}) == 3
    own = sale.license(key=low.content_key)
    assert own.terms.tier == "silver"
    assert bytes(sale.unlock(own)) == bytes(top.trial)
    lower = sale.license(key=top.content_key.below(), tier="silver")
    assert bytes(sale.unlock(lower)) == bytes(top.trial)
    with pytest.raises(WrongKeyError, match="makes no copies"):
        sale.license(key=top.content_key.below(), tier="gold")


def test_what_any_tier_gives_away_has_no_masks() -> None:
    """The network of the lowest tier is the one that everybody has."""
    release = traceable.release_of(dependent=False)
    shared = {
        **traceable.network(3, rows=1000, outlier=1),
        "conv.weight": traceable.network()["conv.weight"],
    }
    small = nnguard.Stream.from_bytes(stock.encode(shared, qp=traceable.QP, dependent=False))
    medium = traceable.trial_of()
    tiers = [nnguard.Tier("gold", trial=medium), nnguard.Tier("silver", trial=small)]
    top, _ = nnguard.lock_tiers(release, tiers, traceable=True)
    opened = open_files(hash_files(top.trial), top.content_key)
    assert opened.masks is not None
    names = [release[part.unit].name for part in opened.masks.tensors]
    assert names == ["first.weight", "sparse.weight"]


def test_at_most_seven_tiers() -> None:
    tiers = [nnguard.Tier(str(number), trial=traceable.trial_of()) for number in range(8)]
    with pytest.raises(ArgumentError, match="1 to 7 tiers"):
        nnguard.lock_tiers(traceable.release_of(dependent=True), tiers, traceable=True)


def test_a_scrambled_tier_below() -> None:
    top, low = nnguard.lock_tiers(
        traceable.release_of(dependent=True),
        [nnguard.Tier("gold", trial=traceable.trial_of()), nnguard.Tier("silver", scramble=0.1)],
        traceable=True,
    )
    sale = Shop(
        traceable.release_of(dependent=True), replace(low, content_key=top.content_key), VENDOR
    )
    license_ = sale.license()
    assert hash_files(sale.unlock(license_))[""].digest.hex() == license_.terms.opens


# Who cannot make copies


def test_key_of_licensees_makes_no_licenses() -> None:
    theirs = sold()[0].unwrap(ADA).content_key
    assert theirs == shop().locked.content_key.below()
    with pytest.raises(WrongKeyError, match="makes no copies"):
        shop().license(key=theirs)


def test_key_above_the_vendor_s_makes_no_licenses() -> None:
    """It opens the lock, two steps down; what it makes of the masks would be noise."""
    above = nnguard.ContentKey.generate()
    locked = nnguard.lock(
        traceable.release_of(dependent=False),
        trial=traceable.trial_of(),
        traceable=True,
        content_key=above.below(),
    )
    sale = Shop(traceable.release_of(dependent=False), locked, VENDOR)
    assert sale.license().terms.opens
    with pytest.raises(WrongKeyError):
        sale.license(key=above)


def test_what_the_trial_opens_without_a_license_key_is_no_release() -> None:
    theirs = sold()[0].unwrap(ADA).content_key
    opened = open_files(hash_files(shop().locked.trial), theirs).files[""].stream
    release = nnguard.decompress(traceable.release_of(dependent=True))
    masked = nnguard.decompress(opened)
    one, two = (np.asarray(each["first.weight"]).reshape(-1) for each in (release, masked))
    usual = np.abs(one) < 1  # outliers are in the clear
    assert abs(np.corrcoef(one[usual], two[usual])[0, 1]) < 0.2


# What unlocks nothing


def test_license_key_of_another_license() -> None:
    one, two, _ = sold()
    other = two.unwrap(ADA).license_key
    refuses(shop().changed(one, secrets={"license_key": other}), match="not what the license says")
    both = {"secrets": {"license_key": other}, "signature": two.signature}
    refuses(shop().changed(one, **both), match="not what the license says")


def test_license_key_that_is_missing_cut_or_extended() -> None:
    one = sold()[0]
    key = one.unwrap(ADA).license_key
    refuses(shop().changed(one, secrets={"license_key": b""}), match="not made for that")
    for wrong in (key[:-1], key + b"\0", key[:1], key * 2):
        refuses(shop().changed(one, secrets={"license_key": wrong}), match="keys for another lock")


@pytest.mark.parametrize("at", [0, 0.3, 0.7, 0.99])
def test_license_key_with_a_flipped_bit(at: float) -> None:
    one = sold()[0]
    key = bytearray(one.unwrap(ADA).license_key)
    key[int(at * len(key))] ^= 4
    refuses(shop().changed(one, secrets={"license_key": bytes(key)}))


def test_nothing_is_left_where_a_copy_is_refused(tmp_path: Path) -> None:
    one = sold()[0]
    wrong = shop().changed(one, secrets={"license_key": bytes(shop().locked.license_key_size)})
    with pytest.raises(UnlockError):
        shop().unlock(wrong, state=tmp_path / "state.json", spool=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["state.json.lock"])


def test_signature_that_is_missing_changed_or_another() -> None:
    one, two, _ = sold()
    record = one.signature
    middle = len(record) // 2
    for wrong in (
        b"",
        two.signature,
        record[:-1],
        record + b"\0",
        record[:middle] + bytes([record[middle] ^ 1]) + record[middle + 1 :],
        bytes(len(record)),
        b"\0",
    ):
        refuses(shop().changed(one, signature=wrong))
    refuses(shop().changed(one, signature=bytes(200_000)), match="has no room for")


def test_license_of_another_lock() -> None:
    """Of the same release and the same trial."""
    sale = shop()
    again = nnguard.lock(sale.release, trial=traceable.trial_of(dependent=True), traceable=True)
    other = Shop(sale.release, again, VENDOR)
    license_ = other.license()
    with pytest.raises(LicenseError, match="another trial"):
        sale.unlock(license_)
    secrets = license_.unwrap(ADA)
    mixed = sale.changed(sold()[0], secrets={"license_key": secrets.license_key})
    refuses(mixed)
    with pytest.raises(WrongKeyError):
        sale.unlock(sale.changed(sold()[0], secrets={"content_key": secrets.content_key}))


def test_license_of_a_plain_lock_for_a_traceable_trial() -> None:
    one = sold()[0]
    opened = open_files(hash_files(shop().locked.trial), one.unwrap(ADA).content_key)
    terms = replace(one.terms, opens=opened.files[""].digest.hex())
    plain = shop().changed(one, terms=terms, signature=b"", secrets={"license_key": b""})
    refuses(plain, match="not made for that")


def test_license_key_of_a_plain_lock_is_not_used() -> None:
    release = shop().release
    locked = nnguard.lock(release, trial=traceable.trial_of(dependent=True))
    sale = Shop(release, locked, VENDOR)
    with_more = sale.changed(sale.license(), secrets={"license_key": b"more"}, signature=b"more")
    assert bytes(sale.unlock(with_more)) == bytes(release)


def test_trial_with_a_flipped_bit() -> None:
    data = bytes(shop().locked.trial)
    for at in (100, len(data) // 2, len(data) - 20):
        changed = data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :]
        with pytest.raises(NnguardError):
            nnguard.unlock(nnguard.Stream.from_bytes(changed), sold()[0], ADA, VENDOR.public_key)


# What cannot be traceable


def test_folders_and_scrambling_are_refused() -> None:
    release, trial = traceable.release_of(dependent=True), traceable.trial_of()
    folder = StreamSet.of({"a.nnc": release})
    with pytest.raises(ArgumentError, match="not for a folder"):
        nnguard.lock(folder, trial=trial, traceable=True)
    for options in ({}, {"scramble": 0.1}, {"soft": nnguard.Soft()}):
        with pytest.raises(ArgumentError, match="another network"):
            nnguard.lock(release, traceable=True, **options)


def test_two_signatures_are_refused() -> None:
    twice = nnguard.sign(shop().release, nnguard.SigningKey.generate())
    with pytest.raises(ArgumentError, match="more in it than one signature"):
        nnguard.lock(twice, trial=traceable.trial_of(), traceable=True)


def test_a_release_with_an_attachment_is_refused() -> None:
    attached = nnguard.attach(traceable.release_of(dependent=True), b"model card")
    with pytest.raises(ArgumentError, match="more in it than one signature"):
        nnguard.lock(attached, trial=traceable.trial_of(), traceable=True)


def test_too_small_a_release_is_refused(model: nnguard.Stream) -> None:
    with pytest.raises(LockError, match="too little room for fingerprints"):
        nnguard.lock(model, trial=traceable.trial_of(), traceable=True)


def test_products_are_refused(tmp_path: Path) -> None:
    with (
        nnguard.licensing.Ledger(tmp_path / "issuer.db") as ledger,
        pytest.raises(ArgumentError, match="orders cannot make it"),
    ):
        Issuer(ledger, VENDOR, identity=EVE).add_product(
            shop().locked.trial, shop().locked.content_key
        )
