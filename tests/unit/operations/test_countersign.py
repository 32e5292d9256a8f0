"""Several vendors sign one release: whose signatures count together, and whose do not."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nnguard
import samples
from nnguard._hiding import plan_record
from nnguard._records.kinds import RecordKind
from nnguard.errors import (
    ArgumentError,
    ClaimsError,
    LimitError,
    NoRecordError,
    VerificationError,
    WrongKeyError,
)

CLAIMS = {"issuer": "acme.ai", "name": "small", "version": "1.0", "release": 7}


ALL_CLAIMS = {"metadata": {"git": "4f2a91c"}, **CLAIMS}
VENDOR, AUDITOR, STRANGER = (nnguard.SigningKey.generate() for _ in range(3))
TRUST = [VENDOR.public_key, AUDITOR.public_key]
BOTH = [(AUDITOR, True), (VENDOR, True)]
"""Both signatures, the outermost first, and that they count."""


@pytest.fixture(scope="module")
def first() -> nnguard.Stream:
    """A release that the vendor signed."""
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    return nnguard.sign(model, VENDOR, **ALL_CLAIMS)


@pytest.fixture(scope="module")
def both(first: nnguard.Stream) -> nnguard.Stream:
    """The same, countersigned."""
    return nnguard.sign(first, AUDITOR, countersign=VENDOR.public_key, issued_at="2031-01-01")


def signers(
    report: nnguard.Report, others: Sequence[nnguard.SigningKey] = ()
) -> list[tuple[nnguard.SigningKey, bool]]:
    """Who signed, the last one first, and whether that counts."""
    keys = {key.public_key.id.hex(): key for key in (VENDOR, AUDITOR, STRANGER, *others)}
    return [(keys[signature.key_id], signature.counts) for signature in report.signatures]


# Release numbers


@pytest.mark.parametrize("number", [0, 7, 2**63 - 1])
def test_release_number_is_signed(model: nnguard.Stream, number: int) -> None:
    signed = nnguard.sign(model, VENDOR, release=number)
    report = nnguard.verify(signed, VENDOR.public_key, expect=nnguard.Expect(release=number))
    assert report.claims.release == number
    assert report.claims.to_json()["release"] == number


@pytest.mark.parametrize("number", [-1, 2**63])
def test_release_number_out_of_range(model: nnguard.Stream, number: int) -> None:
    with pytest.raises(ArgumentError, match="is not from 0 to"):
        nnguard.sign(model, VENDOR, release=number)
    with pytest.raises(ArgumentError, match="is not from 0 to"):
        nnguard.Expect(release=number)


@pytest.mark.parametrize("number", [True, 1.0, "7"])
def test_release_number_of_another_type(model: nnguard.Stream, number: int) -> None:
    with pytest.raises(TypeError, match="release: expected an integer"):
        nnguard.sign(model, VENDOR, release=number)


def test_lower_release_than_expected(first: nnguard.Stream) -> None:
    with pytest.raises(ClaimsError, match="the release number is 7, expected 8 or higher"):
        nnguard.verify(first, VENDOR.public_key, expect=nnguard.Expect(release=8))
    unnumbered = nnguard.sign(first, VENDOR)
    with pytest.raises(ClaimsError, match="is not stated"):
        nnguard.verify(unnumbered, VENDOR.public_key, expect=nnguard.Expect(release=0))


def test_trial_has_the_number_of_its_release(first: nnguard.Stream) -> None:
    trial = nnguard.lock(first, signer=VENDOR, soft=nnguard.Soft(fraction=0.002)).trial
    assert nnguard.verify(trial, VENDOR.public_key, allow_trial=True).claims.release == 7


# Countersignatures


def test_countersignature_repeats_the_claims(first: nnguard.Stream, both: nnguard.Stream) -> None:
    report = nnguard.verify(both, TRUST)
    assert signers(report) == BOTH
    assert [each.algorithm for each in report.signatures] == ["ed25519", "ed25519"]
    outer, inner = (signature.claims for signature in report.signatures)
    assert outer.issued_at != inner.issued_at
    assert outer.same_release(inner)
    assert outer.metadata == {"git": "4f2a91c"}
    assert bytes(nnguard.strip(both, TRUST)) == bytes(first)


def test_key_that_is_not_trusted_does_not_sign_for_anybody(both: nnguard.Stream) -> None:
    assert signers(nnguard.verify(both, AUDITOR.public_key)) == [(AUDITOR, True)]
    with pytest.raises(WrongKeyError):
        nnguard.verify(both, VENDOR.public_key)


@pytest.mark.parametrize("claim", ["issuer", "name", "version", "release", "metadata"])
def test_other_claims_do_not_count(
    first: nnguard.Stream,
    claim: str,
) -> None:
    other = {"release": 8, "metadata": {"git": "0"}}.get(claim, "other")
    claims = {**ALL_CLAIMS, claim: other}
    report = nnguard.verify(nnguard.sign(first, AUDITOR, **claims), TRUST)
    assert signers(report) == [(AUDITOR, True), (VENDOR, False)]


def test_what_lies_between_is_not_skipped(first: nnguard.Stream) -> None:
    """Whoever signs last could otherwise move weights by what is written into them."""
    with_file = nnguard.sign(nnguard.attach(first, b"card"), AUDITOR, **ALL_CLAIMS)
    with_strange = nnguard.sign(nnguard.sign(first, STRANGER, **ALL_CLAIMS), AUDITOR, **ALL_CLAIMS)
    for model in (with_file, with_strange):
        expected = [(AUDITOR, True), (VENDOR, False)]
        assert signers(nnguard.verify(model, TRUST)) == expected
    everybody = [*TRUST, STRANGER.public_key]
    assert [by.counts for by in nnguard.verify(with_strange, everybody).signatures] == [True] * 3


def test_signature_that_was_wrong_below_does_not_count(first: nnguard.Stream) -> None:
    """An auditor signs, with the vendor's claims, what was changed since the vendor signed."""
    data = bytearray(bytes(first))
    data[-3] ^= 1
    with pytest.raises(nnguard.NnguardError):
        nnguard.verify(bytes(data), TRUST)
    signed = nnguard.sign(bytes(data), AUDITOR, **ALL_CLAIMS)
    assert signers(nnguard.verify(signed, TRUST)) == [(AUDITOR, True)]
    with pytest.raises((VerificationError, NoRecordError, nnguard.errors.FormatError)):
        nnguard.sign(bytes(data), AUDITOR, countersign=VENDOR.public_key)


def test_refused_countersignatures(
    model: nnguard.Stream,
    first: nnguard.Stream,
) -> None:
    with pytest.raises(ArgumentError, match="the claims are those of the signature"):
        nnguard.sign(first, AUDITOR, countersign=VENDOR.public_key, name="mine")
    with pytest.raises(ArgumentError, match="the claims are those of the signature"):
        nnguard.sign(first, AUDITOR, countersign=VENDOR.public_key, release=0)
    with pytest.raises(WrongKeyError):
        nnguard.sign(first, AUDITOR, countersign=STRANGER.public_key)
    with pytest.raises(NoRecordError):
        nnguard.sign(model, AUDITOR, countersign=VENDOR.public_key)
    with pytest.raises(TypeError, match="trust"):
        nnguard.sign(first, AUDITOR, countersign=True)


# What is below, or on top


def test_trial_is_countersigned(first: nnguard.Stream) -> None:
    trial = nnguard.lock(first, signer=VENDOR, soft=nnguard.Soft(fraction=0.002)).trial
    both = nnguard.sign(trial, AUDITOR, countersign=VENDOR.public_key)
    report = nnguard.verify(both, TRUST, allow_trial=True)
    assert signers(report) == BOTH
    assert report.locked
    with pytest.raises(nnguard.errors.LockedTrialError):
        nnguard.verify(both, TRUST)


def test_watermark_on_a_countersigned_release(both: nnguard.Stream) -> None:
    locked = nnguard.lock(both, signer=VENDOR, soft=nnguard.Soft(fraction=0.002))
    customer = nnguard.Identity.generate()
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=VENDOR
    )
    copy = nnguard.unlock(locked.trial, license_, customer, TRUST, watermark=True)
    report = nnguard.verify(copy, TRUST)
    assert report.licensed_to == license_.terms
    assert signers(report) == BOTH
    with pytest.raises(ArgumentError, match="licensee's copy"):
        nnguard.sign(copy, AUDITOR, countersign=TRUST)
    on_top = nnguard.verify(nnguard.sign(copy, AUDITOR, **CLAIMS), TRUST)
    assert [by.counts for by in on_top.signatures] == [True, False, False]


def test_as_many_countersignatures_as_layers(model: nnguard.Stream) -> None:
    """Of 255 layers the lowest is said to be number 230: a step is halved 30 times at most."""
    keys = [nnguard.SigningKey.generate() for _ in range(26)]
    everybody = [key.public_key for key in keys]
    plan = plan_record(model, RecordKind.ATTACHMENT, 4)
    deep = replace(plan, header=replace(plan.header, layer=230)).embed(b"card")
    signed = nnguard.sign(deep, keys[0], **CLAIMS)
    for key in keys[1:25]:
        signed = nnguard.sign(signed, key, countersign=everybody)
    with pytest.raises(LimitError, match="255 records"):
        nnguard.sign(signed, keys[25], countersign=everybody)
    expected = [(key, True) for key in reversed(keys[:25])]
    assert signers(nnguard.verify(signed, everybody), keys) == expected


# Sets


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two builds of one model."""
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        sources = {
            f"model-0000{at}-of-00002": {
                f"layer{at}": rng.normal(0, 0.1, (60, 100)).astype(np.float32)
            }
            for at in (1, 2)
        }
        streams = {
            f"{name}.nnc": nnguard.compress(arrays, nnguard.Settings(qp=-20))
            for name, arrays in sources.items()
        }
        nnguard.StreamSet.of(streams).save(tmp_path / f"build{seed}")
        (tmp_path / f"build{seed}" / "config.json").write_text("{}")
    return tmp_path


def test_countersigned_set(shards: Path) -> None:
    nnguard.sign(shards / "build0", VENDOR, **CLAIMS).save(shards / "first")
    (shards / "first" / "added.md").write_text("not signed by the vendor")
    nnguard.sign(shards / "first", AUDITOR, countersign=VENDOR.public_key).save(shards / "both")
    report = nnguard.verify(shards / "both", TRUST)
    assert signers(report) == BOTH
    assert report.signatures[0].digest == report.digest
    assert all(by.claims.shard is None for by in report.signatures)
    assert not (shards / "both" / "added.md").exists()


def test_set_mixed_of_two_builds_has_no_first_signature(shards: Path) -> None:
    """Each shard has a right signature of the vendor, with the same claims, but of two sets."""
    for build in ("build0", "build1"):
        nnguard.sign(shards / build, VENDOR, **CLAIMS).save(shards / f"first-{build}")
    mixed = shards / "mixed"
    shutil.copytree(shards / "first-build0", mixed)
    shutil.copy(shards / "first-build1" / "model-00002-of-00002.nnc", mixed)
    with pytest.raises(VerificationError):
        nnguard.sign(mixed, AUDITOR, countersign=VENDOR.public_key)
    nnguard.sign(mixed, AUDITOR, **CLAIMS).save(shards / "signed")
    assert signers(nnguard.verify(shards / "signed", TRUST)) == [(AUDITOR, True)]


def test_one_shard_with_other_claims_below(shards: Path) -> None:
    """The file beside the shards was changed between the two signatures."""
    nnguard.sign(shards / "build0", VENDOR, **CLAIMS).save(shards / "first")
    (shards / "first" / "added.md").write_text("new")
    nnguard.sign(shards / "first", AUDITOR, **CLAIMS).save(shards / "both")
    assert signers(nnguard.verify(shards / "both", TRUST)) == [(AUDITOR, True)]
