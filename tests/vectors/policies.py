"""Vectors of trust policies that allow a release, and what those are made of."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import cbor2

import nnguard
from nnguard._crypto.armor import write_armor
from policies import put
from vectors.selling import NOW
from vectors.toolbox import KEYS, Made, vector

DOMAIN = b"nnguard policy v1\0"
ARMOR = "NNGUARD POLICY"
RELEASE = {"iss": "vendor.example", "sub": "small", "version": "1.2", "release": 7}
POLICY: dict[str, Any] = {
    "version": 1,
    "expires": "2027-01-01",
    "root": {"keys": ["root"], "threshold": 1},
    "keys": {
        "acme": {"pem": KEYS["vendor"].public_key.pem.decode()},
        "auditor": {"pem": KEYS["partner"].public_key.pem.decode()},
        "root": {"pem": KEYS["other"].public_key.pem.decode()},
    },
    "rules": [
        {"scopes": ["vendor.example/*"], "keys": ["acme"], "threshold": 1, "level": "strict"},
    ],
}
"""The usual policy: the vendor signs what is the vendor's."""


def policy(path: str = "", value: Any = None, **more: Any) -> dict[str, Any]:
    """The usual policy, changed.

    Args:
        path: Of a member, or of an element, `rules.0.level`.
        value: What it becomes; without one, it goes.
        more: Other members by their paths, `__` in place of the dots.
    """
    found = copy.deepcopy(POLICY)
    changes = {path: value} if path else {}
    for name, new in (
        changes | {key.replace("__", "."): each for key, each in more.items()}
    ).items():
        put(found, name, new)
    return found


def rule(**members: Any) -> dict[str, Any]:
    """A rule of the usual policy, changed."""
    return {**POLICY["rules"][0], **members}


def judged(
    text: str | dict[str, Any],
    *,
    release: dict[str, Any] = RELEASE,
    signers: Sequence[str] = ("vendor",),
    now: int = NOW,
    pinned: str = "",
    **details: Any,
) -> Made:
    """A policy, and the release that it is to judge.

    Args:
        text: The policy; JSON values are written as they are.
        release: What the release claims.
        signers: Names of the keys whose signatures count, the outermost first.
        now: The time.
        pinned: The policy that is remembered.
        details: What the answer says besides.
    """
    text = text if isinstance(text, str) else json.dumps(text, indent=1)
    kids = [KEYS[name].public_key.id.hex() for name in signers]
    given = {"release": release, "kids": kids, "now": now}
    texts = [("policy", text), *([("pinned", pinned)] if pinned else [])]
    return Made(details=tuple({**given, **details}.items()), texts=tuple(texts))


def allowed(text: str | dict[str, Any], *, rule: int = 0, **options: Any) -> Made:
    """A policy that allows the release, by a rule of this number."""
    return judged(text, **{"rule": rule, "warnings": [], **options})


def signed(found: dict[str, Any], *signers: str, domain: bytes = DOMAIN, **changes: Any) -> str:
    """A signed policy in armor, made by hand, right but for what is changed."""
    payload = changes.get("payload", json.dumps(found, separators=(",", ":")).encode())
    body = cbor2.dumps(changes.get("header", {3: 50}), canonical=True)
    signatures = []
    for key in sorted((KEYS[name] for name in signers), key=lambda key: key.public_key.id):
        header = cbor2.dumps({1: -19, 4: key.public_key.id}, canonical=True)
        signature = key.sign(cbor2.dumps(["Signature", body, header, domain, payload]))
        signatures.append([header, {}, changes.get("signature", signature)])
    signatures = changes.get("arrange", list)(signatures)
    message = cbor2.CBORTag(changes.get("tag", 98), [body, {}, payload, signatures])
    return write_armor(ARMOR, cbor2.dumps(message))


def digest_of(text: str) -> str:
    """SHA-256 of the payload of the policy that a file is."""
    return hashlib.sha256(nnguard.TrustPolicy.parse(text).payload).hexdigest()


def next_version(root: str = "root", **more: Any) -> dict[str, Any]:
    """The second version of the usual policy, whose root may be another key of it."""
    return policy("version", 2, root__keys=[root], **more)


FIRST = signed(POLICY, "other")
SECOND = signed(next_version(), "other")


@vector("12.3", "ok", operation="judge")
def policy_plain() -> Made:
    """A policy that is not signed."""
    return allowed(POLICY)


@vector("12.1", "ok", operation="judge")
def policy_with_all_members() -> Made:
    """Every member that there is, but for a statement."""
    full = rule(min_version="1.2", min_release=7, post_quantum=False)
    found = policy("rules.0", full)
    found["keys"]["acme"] |= {"not_after": "2026-12-31T23:59:59+01:00", "revoked": False}
    return allowed(found)


@vector("12.2", "ok", operation="judge")
def policy_scope_with_stars() -> Made:
    """Stars stand for nothing, for a slash, and for more."""
    scopes = ["vendor.example/x*", "*.*/*org/*m*ll*"]
    return allowed(policy("rules.0.scopes", scopes), release={**RELEASE, "sub": "org/small"})


@vector("12.2", "ok", operation="judge")
def policy_scope_of_nothing() -> Made:
    """The release states neither issuer nor name."""
    return allowed(policy("rules.0.scopes", ["/"]), release={})


@vector("12.2", "ok", operation="judge")
def policy_scope_of_odd_characters() -> Made:
    """What other patterns would take for wildcards stands for itself."""
    return allowed(policy("rules.0.scopes", ["a?[b]/x.y"]), release={"iss": "a?[b]", "sub": "x.y"})


@vector("12.3", "ok", operation="judge")
def policy_first_rule_decides() -> Made:
    """Two rules are about the release; only the first has its key."""
    second = rule(scopes=["*/*"], keys=["auditor"])
    return allowed(policy("rules", [*POLICY["rules"], second]))


@vector("12.3", "ok", operation="judge")
def policy_second_rule() -> Made:
    """The first rule is about other releases."""
    first = rule(scopes=["vendor.example/large"], keys=["auditor"])
    return allowed(policy("rules", [first, *POLICY["rules"]]), rule=1)


@vector("12.3", "ok", operation="judge")
def policy_two_of_three() -> Made:
    """Two keys signed, as many as have to."""
    keys = {"scopes": ["*/*"], "keys": ["acme", "auditor", "root"], "threshold": 2}
    return allowed(policy("rules", [rule(**keys)]), signers=["partner", "vendor"])


@vector("12.3", "ok", operation="judge")
def policy_last_second_of_key() -> Made:
    """The key holds until now."""
    return allowed(policy("keys.acme.not_after", "2026-11-01T12:00:00Z"))


@vector("12.3", "ok", operation="judge")
def policy_versions_compare_as_numbers() -> Made:
    """Version 1.10 is not below 1.9."""
    found = policy("rules.0", rule(min_version="1.9"))
    return allowed(found, release={**RELEASE, "version": "1.10"})


@vector("12.3", "ok", operation="judge")
def policy_permissive() -> Made:
    """Policy and key have expired, and the release is old; the level only warns."""
    old = rule(level="permissive", min_version="2", min_release=8)
    found = policy("rules.0", old, expires="2026-01-01", keys__acme__not_after="2026-01-01")
    warnings = ["policy-expired", "key-expired", "version", "release"]
    return allowed(found, warnings=warnings)


@vector("12.3", "ok", operation="judge")
def policy_audit() -> Made:
    """A key of another rule signed, and one is too few; the level only warns."""
    rules = [rule(level="audit"), rule(scopes=["*/*"], keys=["auditor"])]
    return allowed(policy("rules", rules), signers=["partner"], warnings=["other-key", "threshold"])


@vector("12.4", "ok", operation="judge")
def policy_signed() -> Made:
    """A signed policy."""
    return allowed(FIRST, digest=digest_of(FIRST))


@vector("12.4", "ok", operation="judge")
def policy_signed_in_other_words() -> Made:
    """The payload has white space, and members in another order."""
    members = json.dumps(dict(reversed(POLICY.items())), indent=3).encode()
    text = signed(POLICY, "other", payload=members)
    return allowed(text, digest=digest_of(text))


@vector("12.4", "ok", operation="judge")
def policy_signed_by_more() -> Made:
    """A key that is not a root key signed, too."""
    return allowed(signed(POLICY, "other", "vendor"))


@vector("12.4", "ok", operation="judge")
def policy_two_versions() -> Made:
    """A new version, behind the one before; the root stays."""
    return allowed(FIRST + SECOND, digest=digest_of(SECOND))


@vector("12.4", "ok", operation="judge")
def policy_new_root() -> Made:
    """A new version with another root key; the old one and the new one signed."""
    return allowed(FIRST + signed(next_version("auditor"), "other", "partner"))


@vector("12.5", "ok", operation="judge")
def policy_pinned() -> Made:
    """The policy that is remembered."""
    return allowed(FIRST, pinned=FIRST)


@vector("12.5", "ok", operation="judge")
def policy_follows_the_pinned_one() -> Made:
    """The next version alone."""
    return allowed(SECOND, pinned=FIRST)


@vector("12.5", "ok", operation="judge")
def policy_with_the_pinned_one_before_it() -> Made:
    """Two versions, of which the second is remembered, and the third."""
    third = signed(policy("version", 3), "other")
    return allowed(FIRST + SECOND + third, pinned=SECOND)


@vector("12.3", "ok", operation="judge")
def policy_in_its_last_second() -> Made:
    """The policy expires a second later."""
    return allowed(policy("expires", "2026-11-01T12:00:01Z"), now=NOW)
