"""Latest statements: a deployment that is kept from newer releases notices."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
import samples
from nnguard._crypto import cose
from nnguard._policy.state import State
from nnguard.errors import ArgumentError, PolicyError, PolicyReason, WrongKeyError
from policies import policy

CLAIMS = {"issuer": "acme.ai", "name": "net"}
DAY = timedelta(days=1)
NOW = datetime.now(timezone.utc)


@pytest.fixture(scope="module")
def releases(key: nnguard.SigningKey) -> dict[int, nnguard.Stream]:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    return {number: nnguard.sign(model, key, release=number, **CLAIMS) for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def trust(key: nnguard.SigningKey) -> nnguard.PublicKey:
    return key.public_key


def state_that(
    release: nnguard.Stream,
    key: nnguard.SigningKey,
    *,
    made: datetime = NOW,
    ends: datetime = NOW + 30 * DAY,
) -> nnguard.LatestStatement:
    """State that this release is the newest."""
    report = nnguard.verify(release, key.public_key)
    return nnguard.LatestStatement.make(
        report.claims, report.digest, key, issued_at=made, expires_at=ends
    )


def stale(model: nnguard.Stream, trust: Any = None, **options: Any) -> str:
    """Return why a release is refused."""
    with pytest.raises(PolicyError) as caught:
        nnguard.verify(model, trust, **options)
    assert caught.value.reason is PolicyReason.STALE
    assert "newest statement" in caught.value.hint
    return str(caught.value)


# The statement


def test_statement_says_what_the_release_claims(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, tmp_path: Path
) -> None:
    made = state_that(releases[2], key)
    made.save(tmp_path / "net.latest")
    read = nnguard.LatestStatement.load(tmp_path / "net.latest")
    assert read == made
    assert (read.claims.issuer, read.claims.name, read.claims.release) == ("acme.ai", "net", 2)
    assert read.digest == nnguard.verify(releases[2], key.public_key).digest
    assert read.key_id == key.public_key.id.hex()
    assert read.to_json()["release"] == 2
    assert repr(read) == "<nnguard.LatestStatement acme.ai/net, release 2>"


def test_statements_that_would_never_hold(
    release: nnguard.Stream, releases: dict[int, nnguard.Stream], key: nnguard.SigningKey
) -> None:
    with pytest.raises(ArgumentError, match="the release has no number"):
        state_that(release, key)
    with pytest.raises(ArgumentError, match="never holds"):
        state_that(releases[1], key, ends=NOW)


def test_every_flipped_bit_is_refused(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, trust: nnguard.PublicKey
) -> None:
    encoded = state_that(releases[2], key).encoded
    for bit in range(8 * len(encoded)):
        changed = bytearray(encoded)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((PolicyError, WrongKeyError)):
            nnguard.LatestStatement.parse(bytes(changed)).authenticate([trust])


@pytest.mark.parametrize("text", ["", "-----BEGIN NNGUARD LATEST STATEMENT-----"])
def test_other_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(PolicyError, match="file: not a latest statement") as caught:
        nnguard.LatestStatement.load(tmp_path / "file")
    assert caught.value.reason is PolicyReason.MALFORMED


def test_license_is_not_a_statement(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey
) -> None:
    revoked = nnguard.licensing.RevocationList.make([], key)
    with pytest.raises(PolicyError, match="not a latest statement"):
        nnguard.LatestStatement.parse(revoked.encoded)


@pytest.mark.parametrize("claims", [[], {}, 7, None, "text", {4: [], "digest": b""}])
def test_signed_message_of_something_else(claims: Any, key: nnguard.SigningKey) -> None:
    """A trusted key signed it in this domain, and it is not a statement."""
    encoded = cose.sign(key, {}, cose.encode_cbor(claims), b"nnguard latest statement v1\0")
    with pytest.raises(PolicyError, match="not a latest statement"):
        nnguard.LatestStatement.parse(encoded)


# Verifying with one


def test_newest_release(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, trust: nnguard.PublicKey
) -> None:
    statement = state_that(releases[2], key)
    assert nnguard.verify(releases[2], trust, latest=statement).claims.release == 2
    assert nnguard.verify(releases[3], trust, latest=statement).claims.release == 3
    assert "this is release 1, and release 2 is out" in stale(releases[1], trust, latest=statement)


def test_freeze(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, trust: nnguard.PublicKey
) -> None:
    old = state_that(releases[1], key, made=NOW - 30 * DAY, ends=NOW - DAY)
    assert "the latest statement held until" in stale(releases[1], trust, latest=old)


def test_statement_of_tomorrow(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, trust: nnguard.PublicKey
) -> None:
    early = state_that(releases[1], key, made=NOW + DAY)
    assert "in the future" in stale(releases[1], trust, latest=early)


def test_statement_about_another_model(
    releases: dict[int, nnguard.Stream],
    model: nnguard.Stream,
    key: nnguard.SigningKey,
    trust: nnguard.PublicKey,
) -> None:
    other = nnguard.sign(model, key, issuer="acme.ai", name="other", release=1)
    about = stale(releases[1], trust, latest=state_that(other, key))
    assert about == "the latest statement is about acme.ai/other, not about acme.ai/net"


def test_other_build_with_the_same_number(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, trust: nnguard.PublicKey
) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream(seed=1))
    other = nnguard.sign(model, key, release=2, **CLAIMS)
    assert "not the release 2" in stale(other, trust, latest=state_that(releases[2], key))


def test_release_without_a_number(
    model: nnguard.Stream,
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    trust: nnguard.PublicKey,
) -> None:
    signed = nnguard.sign(model, key, **CLAIMS)
    assert "release without a number" in stale(signed, trust, latest=state_that(releases[1], key))


def test_countersigned_since(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    """The statement is about what the first vendor signed, whoever signed on top of it."""
    both = nnguard.sign(releases[2], other_key, countersign=key.public_key)
    everybody = [key.public_key, other_key.public_key]
    assert nnguard.verify(both, everybody, latest=state_that(releases[2], key))


def test_key_that_is_not_trusted(
    releases: dict[int, nnguard.Stream], trust: nnguard.PublicKey, other_key: nnguard.SigningKey
) -> None:
    report = nnguard.verify(releases[3], trust)
    forged = nnguard.LatestStatement.make(
        report.claims, report.digest, other_key, expires_at=NOW + DAY
    )
    with pytest.raises(WrongKeyError, match="the latest statement is signed with key"):
        nnguard.verify(releases[3], trust, latest=forged)


def test_trial_of_the_newest_release(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, trust: nnguard.PublicKey
) -> None:
    statement, customer = state_that(releases[2], key), nnguard.Identity.generate()

    def trial_of(number: int) -> nnguard.Locked:
        return nnguard.lock(releases[number], signer=key, soft=nnguard.Soft(fraction=0.01))

    for number in (1, 2):
        locked = trial_of(number)
        license_ = nnguard.licensing.issue(
            locked.trial, locked.content_key, to=customer.recipient, signer=key
        )
        if number == 2:
            nnguard.verify(locked.trial, trust, latest=statement, allow_trial=True)
            assert nnguard.unlock(locked.trial, license_, customer, trust, latest=statement)
        else:
            assert stale(locked.trial, trust, latest=statement, allow_trial=True)
            with pytest.raises(PolicyError, match="release 2 is out"):
                nnguard.unlock(locked.trial, license_, customer, trust, latest=statement)


# With a state and a policy


def test_older_statement_is_not_taken_again(
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    trust: nnguard.PublicKey,
    tmp_path: Path,
) -> None:
    """Both hold still: whoever withholds the newer one from now on does not get far."""
    older = state_that(releases[1], key, made=NOW - 2 * DAY)
    newer = state_that(releases[2], key, made=NOW - DAY)
    options: dict[str, Any] = {"state": tmp_path / "state"}
    nnguard.verify(releases[2], trust, latest=newer, **options)
    assert "was accepted before" in stale(releases[2], trust, latest=older, **options)
    with State(tmp_path / "state") as state:
        (kept,) = state.memory.latest.values()
    assert kept == newer.claims.issued_at


def test_policy_that_asks_for_a_fresh_statement(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    keys = {"acme": key.public_key, "other": other_key.public_key}
    weekly = policy(keys, {"keys": ["acme"], "latest": {"max_age": "7d"}})
    old = state_that(releases[1], key, made=NOW - 8 * DAY)
    assert "there is none" in stale(releases[1], policy=weekly)
    assert "more than 7d" in stale(releases[1], policy=weekly, latest=old)
    assert nnguard.verify(releases[1], policy=weekly, latest=state_that(releases[1], key))
    lenient = policy(keys, {"level": "permissive", "latest": {"max_age": "7d"}})
    assert nnguard.verify(releases[1], policy=lenient, latest=old).warnings


def test_release_that_is_newer_than_the_statement(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, tmp_path: Path
) -> None:
    """It is told, and keeps nothing from being remembered."""
    old, state = state_that(releases[1], key), tmp_path / "state"
    for more in ({}, {"state": state}):
        report = nnguard.verify(releases[2], key.public_key, latest=old, **more)
        found = {warning.reason: warning.message for warning in report.warnings}
        said = found[PolicyReason.RELEASE]
        assert said == "this is release 2, and the latest statement names release 1"
    with pytest.raises(PolicyError, match="was accepted before"):
        nnguard.verify(releases[1], key.public_key, state=state)
    assert not nnguard.verify(releases[1], key.public_key, latest=old).warnings


def test_statement_by_a_key_of_another_rule(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    keys = {"acme": key.public_key, "other": other_key.public_key}
    rules = {"keys": ["acme"], "scopes": ["acme.ai/*"]}, {"keys": ["other"], "scopes": ["b/*"]}
    report = nnguard.verify(releases[1], key.public_key)
    stated = nnguard.LatestStatement.make(
        report.claims, report.digest, other_key, expires_at=NOW + DAY
    )
    with pytest.raises(PolicyError, match="the latest statement is signed") as caught:
        nnguard.verify(releases[1], policy=policy(keys, *rules), latest=stated)
    assert caught.value.reason is PolicyReason.OTHER_KEY
