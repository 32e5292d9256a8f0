"""What a policy says of a release, with the warnings of each level."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nnguard
from nnguard.errors import ArgumentError, PolicyError, PolicyReason, WrongKeyError
from policies import document, policy

LONG_AGO = "2020-01-01"


def parsed(found: dict[str, Any]) -> nnguard.TrustPolicy:
    return nnguard.TrustPolicy.parse(json.dumps(found))


def refusal(release: nnguard.Stream, found: nnguard.TrustPolicy) -> PolicyReason:
    with pytest.raises(PolicyError) as caught:
        nnguard.verify(release, policy=found)
    return caught.value.reason


def test_allowed(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    report = nnguard.verify(release, policy=policy({"acme": key.public_key}))
    assert report.claims.name == "small"
    assert report.warnings == ()


def test_scope(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    others = policy({"acme": key.public_key}, {"scopes": ["acme.ai/large", "acme.com/*"]})
    assert refusal(release, others) is PolicyReason.NO_SCOPE


def test_the_first_rule_decides(
    release: nnguard.Stream, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    keys = {"acme": key.public_key, "other": other_key.public_key}
    rules = {"scopes": ["acme.ai/*"], "keys": ["other"]}, {"scopes": ["*/*"], "keys": ["acme"]}
    assert refusal(release, policy(keys, *rules)) is PolicyReason.OTHER_KEY
    assert nnguard.verify(release, policy=policy(keys, *reversed(rules)))


def test_no_key_of_the_policy(release: nnguard.Stream, other_key: nnguard.SigningKey) -> None:
    for level in ("strict", "permissive", "audit"):
        found = policy({"other": other_key.public_key}, {"level": level})
        with pytest.raises(WrongKeyError):
            nnguard.verify(release, policy=found)


@pytest.mark.parametrize(
    ("reason", "of_key", "of_rule", "permissive"),
    [
        ("key-revoked", {"revoked": True}, {}, False),
        ("key-revoked", {"revoked": "2999-01-01"}, {}, False),
        ("key-expired", {"not_after": LONG_AGO}, {}, True),
        ("version", {}, {"min_version": "1.0.1"}, True),
        ("release", {}, {"min_release": 1}, True),
        ("post-quantum", {}, {"post_quantum": True}, False),
        ("other-key", {}, {"keys": ["other"]}, False),
        ("threshold", {}, {"threshold": 2}, False),
    ],
)
def test_levels(
    release: nnguard.Stream,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
    reason: str,
    of_key: dict[str, Any],
    of_rule: dict[str, Any],
    permissive: bool,
) -> None:
    def make(level: str) -> nnguard.TrustPolicy:
        keys = {"acme": key.public_key, "other": other_key.public_key}
        elsewhere = {"scopes": ["elsewhere/*"]}
        found = document(keys, {"level": level, **of_rule}, elsewhere)
        found["keys"]["acme"].update(of_key)
        return parsed(found)

    assert refusal(release, make("strict")).value == reason
    if permissive:
        warnings = nnguard.verify(release, policy=make("permissive")).warnings
        assert [each.reason.value for each in warnings] == [reason]
    else:
        assert refusal(release, make("permissive")).value == reason
    warnings = nnguard.verify(release, policy=make("audit")).warnings
    assert warnings[0].reason.value == reason


def test_expired_policy(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    keys = {"acme": key.public_key}
    expired = policy(keys, expires=LONG_AGO)
    assert refusal(release, expired) is PolicyReason.POLICY_EXPIRED
    lenient = policy(keys, {"level": "permissive"}, expires=LONG_AGO)
    (warning,) = nnguard.verify(release, policy=lenient).warnings
    assert warning.reason is PolicyReason.POLICY_EXPIRED
    assert nnguard.verify(release, policy=policy(keys, expires="2999-01-01")).warnings == ()


def test_trust_or_policy(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    with pytest.raises(ArgumentError):
        nnguard.verify(release)
    with pytest.raises(ArgumentError):
        nnguard.verify(release, key.public_key, policy=policy({"acme": key.public_key}))
