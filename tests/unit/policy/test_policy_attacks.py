"""Attacks on trust policies, each with the reason for which it fails (docs/THREATS.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cbor2
import pytest

import nnguard
from nnguard._crypto.armor import read_armor, write_armor
from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.cose import parse_signed, sign_by_all
from nnguard._crypto.pem import pem_blocks
from nnguard._operations import authority
from nnguard._policy.finding import Level
from nnguard.errors import PolicyError, PolicyReason, WrongKeyError
from policies import document, policy

ROOTS = {name: nnguard.SigningKey.generate() for name in ("root-a", "root-b", "root-c")}
THIEF = nnguard.SigningKey.generate()
AUDITOR = nnguard.SigningKey.generate()
HYBRID = nnguard.SigningKey.generate("ml-dsa-65")
ARMOR = "NNGUARD POLICY"


def refused(release: nnguard.Stream, found: Any, **options: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        nnguard.verify(release, policy=found, **options)
    assert str(caught.value)
    return caught.value.reason.value


@pytest.fixture(scope="module")
def keys(key: nnguard.SigningKey) -> dict[str, nnguard.PublicKey]:
    return {"acme": key.public_key} | {name: root.public_key for name, root in ROOTS.items()}


@pytest.fixture(scope="module")
def version(keys: dict[str, nnguard.PublicKey]) -> Callable[..., nnguard.TrustPolicy]:
    """Makes a version of a policy, with two of the three root keys, not signed yet."""

    def make(number: int = 1, **members: Any) -> nnguard.TrustPolicy:
        root = {"keys": ["root-a", "root-b"], "threshold": 2}
        rule = {"keys": ["acme"]}
        return policy(keys, rule, **{"version": number, "root": root, **members})

    return make


@pytest.fixture(scope="module")
def first(version: Callable[..., nnguard.TrustPolicy]) -> nnguard.TrustPolicy:
    return version().sign(ROOTS["root-a"], ROOTS["root-b"])


# Who signed the release


def test_a_key_of_another_scope(
    release: nnguard.Stream, key: nnguard.SigningKey, model: nnguard.Stream
) -> None:
    found = policy(
        {"acme": key.public_key, "beta": AUDITOR.public_key},
        {"scopes": ["acme.ai/*"], "keys": ["acme"]},
        {"scopes": ["beta.ai/*"], "keys": ["beta"]},
    )
    forged = nnguard.sign(model, AUDITOR, issuer="acme.ai", name="small")
    assert refused(forged, found) == "other-key"
    wrapped = nnguard.sign(release, AUDITOR, issuer="acme.ai", name="small", version="1.0")
    assert refused(wrapped, found) == "other-key"
    own = nnguard.sign(model, AUDITOR, issuer="beta.ai", name="small")
    assert nnguard.verify(own, policy=found).claims.issuer == "beta.ai"


@pytest.mark.parametrize(
    ("issuer", "name"),
    [("acme.ai/x", ""), ("acme.ai/", "x"), ("", "acme.ai/x"), ("acme.ai.evil", "x"), ("*", "*")],
)
def test_claims_that_look_like_a_scope(
    model: nnguard.Stream, key: nnguard.SigningKey, issuer: str, name: str
) -> None:
    found = policy({"acme": key.public_key}, {"scopes": ["acme.ai/*"]})
    assert refused(nnguard.sign(model, key, issuer=issuer, name=name), found) == "no-scope"


def test_one_key_signs_twice_for_a_threshold(
    release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    twice = nnguard.sign(release, key, countersign=key.public_key)
    found = policy({"acme": key.public_key, "auditor": AUDITOR.public_key}, {"threshold": 2})
    assert refused(twice, found) == "threshold"
    both = nnguard.sign(release, AUDITOR, countersign=key.public_key)
    report = nnguard.verify(both, policy=found)
    assert [each.key_id for each in report.signatures] == [
        AUDITOR.public_key.id.hex(),
        key.public_key.id.hex(),
    ]


def test_one_key_under_two_names(key: nnguard.SigningKey) -> None:
    with pytest.raises(PolicyError, match="same key"):
        policy({"acme": key.public_key, "again": key.public_key})


def test_a_key_and_the_hybrid_that_it_is_half_of() -> None:
    half = nnguard.PublicKey.from_pem(pem_blocks(HYBRID.public_key.pem)[0])
    assert half.algorithm == "ed25519"
    with pytest.raises(PolicyError, match="share a half"):
        policy({"hybrid": HYBRID.public_key, "half": half})


def test_signatures_of_another_release_do_not_count(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    found = policy({"acme": key.public_key, "auditor": AUDITOR.public_key}, {"threshold": 2})
    base = nnguard.sign(model, key, issuer="acme.ai", name="small", version="1.0")
    newer = nnguard.sign(base, AUDITOR, issuer="acme.ai", name="small", version="1.1")
    assert refused(newer, found) == "threshold"


def test_a_signature_that_the_policy_does_not_allow_is_not_right_below(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    inner = nnguard.sign(model, AUDITOR, issuer="acme.ai", name="base")
    outer = nnguard.sign(inner, key, issuer="acme.ai", name="small")
    found = policy(
        {"acme": key.public_key, "beta": AUDITOR.public_key},
        {"scopes": ["acme.ai/*"], "keys": ["acme"]},
        {"scopes": ["beta.ai/*"], "keys": ["beta"]},
    )
    report = nnguard.verify(outer, policy=found)
    assert [nested.verified for nested in report.nested] == [False]
    assert len(report.signatures) == 1
    assert nnguard.verify(outer, [key.public_key, AUDITOR.public_key]).nested[0].verified


@pytest.mark.parametrize("since", [True, "2020-01-01", "2999-01-01"])
def test_a_revoked_key_signs_with_an_old_date(
    model: nnguard.Stream, key: nnguard.SigningKey, since: Any
) -> None:
    found = document({"acme": key.public_key})
    found["keys"]["acme"]["revoked"] = since
    old = nnguard.sign(model, key, issuer="acme.ai", name="small", issued_at="2019-01-01")
    assert refused(old, nnguard.TrustPolicy.parse(json.dumps(found))) == "key-revoked"


def test_a_countersignature_takes_the_place_of_a_revoked_one(
    release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    again = nnguard.sign(release, AUDITOR, countersign=key.public_key)
    found = document({"acme": key.public_key, "new": AUDITOR.public_key})
    found["keys"]["acme"]["revoked"] = True
    report = nnguard.verify(again, policy=nnguard.TrustPolicy.parse(json.dumps(found)))
    assert len(report.signatures) == 1  # the old one is not right any more
    found["rules"][0]["threshold"] = 2
    assert refused(again, nnguard.TrustPolicy.parse(json.dumps(found))) == "threshold"


def test_an_expired_key_signs_with_an_old_date(
    model: nnguard.Stream, key: nnguard.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = document({"acme": key.public_key})
    found["keys"]["acme"]["not_after"] = "2027-01-01"
    parsed = nnguard.TrustPolicy.parse(json.dumps(found))
    old = nnguard.sign(model, key, issuer="acme.ai", name="small", issued_at="2019-01-01")
    monkeypatch.setattr(authority, "now", lambda: datetime(2027, 1, 1, tzinfo=timezone.utc))
    assert nnguard.verify(old, policy=parsed)
    after = datetime(2027, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    monkeypatch.setattr(authority, "now", lambda: after)
    assert refused(old, parsed) == "key-expired"


def test_a_signature_without_its_post_quantum_half(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    found = policy({"acme": key.public_key, "hybrid": HYBRID.public_key}, {"post_quantum": True})
    classic = nnguard.sign(model, key, issuer="acme.ai", name="small")
    assert refused(classic, found) == "post-quantum"
    assert nnguard.verify(nnguard.sign(model, HYBRID, name="small"), policy=found)


def test_root_keys_sign_no_releases(model: nnguard.Stream, first: nnguard.TrustPolicy) -> None:
    with pytest.raises(WrongKeyError):
        nnguard.verify(nnguard.sign(model, ROOTS["root-a"], name="small"), policy=first)


# Which policy


def test_too_few_root_signatures(
    release: nnguard.Stream, version: Callable[..., nnguard.TrustPolicy]
) -> None:
    assert refused(release, version().sign(ROOTS["root-a"])) == "policy-signatures"


def test_root_signatures_by_one_key_twice(
    release: nnguard.Stream, version: Callable[..., nnguard.TrustPolicy]
) -> None:
    once = version().sign(ROOTS["root-a"])
    assert once.sign(ROOTS["root-a"]).message == once.message
    body, unprotected, payload, signatures = cbor2.loads(bytes(once.message)).value
    twice = cbor2.CBORTag(98, [body, unprotected, payload, signatures * 2])
    forged = write_armor(ARMOR, encode_cbor(twice))
    with pytest.raises(PolicyError) as caught:
        nnguard.TrustPolicy.parse(forged)
    assert caught.value.reason is PolicyReason.MALFORMED


def test_every_byte_of_a_signed_policy_counts(first: nnguard.TrustPolicy) -> None:
    encoded = read_armor(ARMOR, str(first))
    for at in range(len(encoded)):
        changed = bytearray(encoded)
        changed[at] ^= 1
        with pytest.raises(PolicyError):
            nnguard.TrustPolicy.parse(write_armor(ARMOR, bytes(changed))).authenticate()


def test_a_policy_of_the_thief_s_own_root(
    release: nnguard.Stream,
    key: nnguard.SigningKey,
    first: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    assert nnguard.verify(release, policy=first, state=tmp_path / "state")
    root = {"keys": ["thief"], "threshold": 1}
    keys = {"acme": key.public_key, "thief": THIEF.public_key}
    for number in (1, 2):
        own = policy(keys, version=number, root=root).sign(THIEF)
        reason = "policy-version" if number == 1 else "policy-signatures"
        assert refused(release, own, state=tmp_path / "state") == reason


def test_an_unsigned_policy_where_a_signed_one_is_known(
    release: nnguard.Stream,
    key: nnguard.SigningKey,
    first: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    assert nnguard.verify(release, policy=first, state=tmp_path / "state")
    plain = policy({"acme": key.public_key}, {"level": "audit"})
    assert refused(release, plain, state=tmp_path / "state") == "unsigned"
    with pytest.raises(PolicyError, match="only trusted keys") as caught:
        nnguard.verify(release, key.public_key, state=tmp_path / "state")
    assert caught.value.reason.value == "unsigned"


@pytest.fixture
def second(
    version: Callable[..., nnguard.TrustPolicy], first: nnguard.TrustPolicy
) -> nnguard.TrustPolicy:
    """The second version, whose root is another pair of keys."""
    root = {"keys": ["root-b", "root-c"], "threshold": 2}
    return version(2, root=root).sign(*ROOTS.values(), after=first)


def test_root_keys_rotate(
    release: nnguard.Stream,
    first: nnguard.TrustPolicy,
    second: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    for each in (first, second, second):
        assert nnguard.verify(release, policy=each, state=tmp_path / "state")


@pytest.mark.parametrize("missing", ["root-a", "root-c"])
def test_a_version_needs_old_and_new_root(
    release: nnguard.Stream,
    version: Callable[..., nnguard.TrustPolicy],
    first: nnguard.TrustPolicy,
    missing: str,
) -> None:
    root = {"keys": ["root-b", "root-c"], "threshold": 2}
    signers = [root for name, root in ROOTS.items() if name != missing]
    found = version(2, root=root).sign(*signers, after=first)
    assert refused(release, found) == "policy-signatures"


def test_an_old_policy_again(
    release: nnguard.Stream,
    first: nnguard.TrustPolicy,
    second: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    assert nnguard.verify(release, policy=second, state=tmp_path / "state")
    assert refused(release, first, state=tmp_path / "state") == "policy-version"


def test_an_old_policy_after_the_new_one_refused_the_release(
    release: nnguard.Stream,
    version: Callable[..., nnguard.TrustPolicy],
    first: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    assert nnguard.verify(release, policy=first, state=tmp_path / "state")
    members = version(2).to_json()
    members["keys"]["acme"]["revoked"] = True
    revoking = nnguard.TrustPolicy.parse(json.dumps(members))
    revoking = revoking.sign(ROOTS["root-a"], ROOTS["root-b"], after=first)
    assert refused(release, revoking, state=tmp_path / "state") == "key-revoked"
    assert refused(release, first, state=tmp_path / "state") == "policy-version"


def test_a_skipped_version(
    release: nnguard.Stream,
    version: Callable[..., nnguard.TrustPolicy],
    first: nnguard.TrustPolicy,
    second: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    roots = ROOTS["root-b"], ROOTS["root-c"], ROOTS["root-a"]
    third = version(3).sign(*roots, after=second)
    assert nnguard.verify(release, policy=first, state=tmp_path / "state")
    text = str(third)
    last = text[text.rindex("-----BEGIN") :]
    alone = nnguard.TrustPolicy.parse(last)
    assert refused(release, alone, state=tmp_path / "state") == "policy-version"
    gap = nnguard.TrustPolicy.parse(str(first) + last)
    assert refused(release, gap) == "policy-version"
    assert nnguard.verify(release, policy=third, state=tmp_path / "state")


def test_another_policy_of_the_same_version(
    release: nnguard.Stream,
    version: Callable[..., nnguard.TrustPolicy],
    first: nnguard.TrustPolicy,
    tmp_path: Path,
) -> None:
    assert nnguard.verify(release, policy=first, state=tmp_path / "state")
    other = version(expires="2999-01-01").sign(ROOTS["root-a"], ROOTS["root-b"])
    assert refused(release, other, state=tmp_path / "state") == "policy-version"


def test_a_signature_over_something_else_by_a_root_key(first: nnguard.TrustPolicy) -> None:
    signers = [ROOTS["root-a"], ROOTS["root-b"]]
    other = sign_by_all(signers, {3: 50}, first.payload, b"nnguard license v1\0", open=True)
    assert parse_signed(other, open=True).payload == first.payload
    with pytest.raises(PolicyError) as caught:
        nnguard.TrustPolicy.parse(write_armor(ARMOR, other)).authenticate()
    assert caught.value.reason is PolicyReason.POLICY_SIGNATURES


def test_a_signed_policy_that_was_changed_in_memory(
    release: nnguard.Stream, first: nnguard.TrustPolicy
) -> None:
    lenient = replace(first.rules[0], level=Level.AUDIT)
    assert refused(release, replace(first, rules=(lenient,))) == "malformed"


def test_an_expired_policy(
    release: nnguard.Stream, version: Callable[..., nnguard.TrustPolicy]
) -> None:
    old = version(expires="2020-01-01").sign(ROOTS["root-a"], ROOTS["root-b"])
    assert refused(release, old) == "policy-expired"
