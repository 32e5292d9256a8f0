"""Vectors of trust policies that are refused, or that refuse a release: each in one way."""

from __future__ import annotations

import json
from typing import Any

import cbor2

from nnguard._crypto.armor import write_armor
from vectors.policies import (
    ARMOR,
    FIRST,
    POLICY,
    RELEASE,
    SECOND,
    judged,
    next_version,
    policy,
    rule,
    signed,
)
from vectors.selling import NOW
from vectors.toolbox import KEYS, Made, vector


def refused(section: str, reason: str, **options: Any) -> Any:
    """Register a vector of this reason."""
    return vector(section, f"PolicyError: {reason}", operation="judge", **options)


# 12.1


@refused("12.1", "malformed", message="stands there twice")
def policy_member_twice() -> Made:
    """An object has a name twice."""
    return judged(json.dumps(POLICY).replace('"version": 1', '"version": 2, "version": 1'))


@refused("12.1", "malformed", message="rules[0].min_releases: unknown member")
def policy_unknown_member() -> Made:
    """A member that there is not."""
    return judged(policy("rules.0.min_releases", 1))


@refused("12.1", "malformed", message="level is missing")
def policy_without_level() -> Made:
    """A rule has no level."""
    return judged(policy("rules.0.level"))


@refused("12.1", "malformed", message="expected a whole number")
def policy_version_with_point() -> Made:
    """A number with a point."""
    return judged(json.dumps(POLICY).replace('"version": 1', '"version": 1.0'))


@refused("12.1", "malformed", message="expected a whole number")
def policy_version_too_large() -> Made:
    """A number of 2^63."""
    return judged(policy("version", 1 << 63))


@refused("12.1", "malformed", message="can never be")
def policy_threshold_too_high() -> Made:
    """A threshold above the number of keys."""
    return judged(policy("rules.0.threshold", 2))


@refused("12.1", "malformed", message="stands there twice")
def policy_key_named_twice() -> Made:
    """A rule names a key twice."""
    return judged(policy("rules.0.keys", ["acme", "acme"]))


@refused("12.1", "malformed", message="the same key")
def policy_key_of_two_names() -> Made:
    """Two names for one key."""
    return judged(policy("keys.again", POLICY["keys"]["acme"]))


@refused("12.1", "malformed", message="is revoked or expires")
def policy_root_key_revoked() -> Made:
    """A root key that is revoked."""
    return judged(policy("keys.root.revoked", True))


@refused("12.1", "malformed", message="is not ISSUER/NAME")
def policy_scope_without_slash() -> Made:
    """A scope of an issuer only."""
    return judged(policy("rules.0.scopes", ["vendor.example"]))


@refused("12.1", "malformed", message="stands there twice")
def policy_scope_twice() -> Made:
    """Two rules with the same scope."""
    return judged(policy("rules", [*POLICY["rules"], rule(keys=["auditor"])]))


@refused("12.1", "malformed", message="expected a date or a time")
def policy_time_without_zone() -> Made:
    """A time without an offset."""
    return judged(policy("expires", "2027-01-01T00:00:00"))


@refused("12.1", "malformed", message="expected a date or a time")
def policy_time_on_no_day() -> Made:
    """A time on a day that there is not."""
    return judged(policy("expires", "2027-02-29"))


@refused("12.1", "malformed", message="expected a length of time")
def policy_age_of_nothing() -> Made:
    """An age of zero."""
    return judged(policy("rules.0.latest", {"max_age": "0h"}))


# 12.2


@refused("12.2", "no-scope")
def policy_other_issuer() -> Made:
    """The issuer ends like the one of the scope."""
    return judged(POLICY, release={**RELEASE, "iss": "evil.vendor.example"})


@refused("12.2", "no-scope")
def policy_issuer_with_slash() -> Made:
    """The issuer begins like the one of the scope, up to a slash."""
    return judged(POLICY, release={**RELEASE, "iss": "vendor.example/small", "sub": ""})


@refused("12.2", "no-scope")
def policy_name_like_issuer() -> Made:
    """The name has what the issuer should have."""
    return judged(POLICY, release={"sub": "vendor.example/small"})


@refused("12.2", "no-scope")
def policy_other_case() -> Made:
    """The issuer is in capitals."""
    return judged(POLICY, release={**RELEASE, "iss": "VENDOR.EXAMPLE"})


@refused("12.2", "no-scope")
def policy_ends_overlap() -> Made:
    """What stands before the star and behind it would share a character."""
    return judged(policy("rules.0.scopes", ["vendor.example/sma*all"]))


# 12.3


@refused("12.3", "policy-expired")
def policy_expired() -> Made:
    """The policy expires now."""
    return judged(policy("expires", "2026-11-01T12:00:00Z"))


@refused("12.3", "other-key")
def policy_key_of_another_rule() -> Made:
    """The release is signed by a key of another rule."""
    found = policy("rules", [*POLICY["rules"], rule(scopes=["*/*"], keys=["auditor"])])
    return judged(found, signers=["partner"])


@refused("12.3", "other-key")
def policy_key_of_another_rule_on_top() -> Made:
    """A key of another rule signed on top of the vendor's signature."""
    found = policy("rules", [*POLICY["rules"], rule(scopes=["*/*"], keys=["auditor"])])
    return judged(found, signers=["partner", "vendor"])


@refused("12.3", "key-revoked")
def policy_key_revoked() -> Made:
    """The key is revoked."""
    return judged(policy("keys.acme.revoked", True))


@refused("12.3", "key-revoked")
def policy_key_revoked_later() -> Made:
    """The key is revoked with a time that is yet to come."""
    return judged(policy("keys.acme.revoked", "2027-01-01"))


@refused("12.3", "key-revoked")
def policy_key_revoked_permissive() -> Made:
    """The key is revoked; the level warns of other things only."""
    return judged(policy("keys.acme.revoked", True, rules__0__level="permissive"))


@refused("12.3", "key-expired")
def policy_key_expired() -> Made:
    """The key held until a second ago."""
    return judged(policy("keys.acme.not_after", "2026-11-01T12:00:00Z"), now=NOW + 1)


@refused("12.3", "post-quantum")
def policy_key_not_post_quantum() -> Made:
    """The rule wants a hybrid key."""
    return judged(policy("rules.0.post_quantum", True))


@refused("12.3", "threshold")
def policy_too_few() -> Made:
    """Two keys have to sign, and one did."""
    return judged(policy("rules.0", rule(keys=["acme", "auditor"], threshold=2)))


@refused("12.3", "threshold")
def policy_one_key_twice() -> Made:
    """Two keys have to sign, and one did, twice."""
    found = policy("rules.0", rule(keys=["acme", "auditor"], threshold=2))
    return judged(found, signers=["vendor", "vendor"])


@refused("12.3", "threshold")
def policy_too_few_not_revoked() -> Made:
    """Two keys have to sign; of those that did, the inner one is revoked."""
    two = rule(keys=["acme", "auditor"], threshold=2)
    found = policy("rules.0", two, keys__auditor__revoked=True)
    return judged(found, signers=["vendor", "partner"])


@refused("12.3", "key-expired")
def policy_too_few_not_expired() -> Made:
    """Two keys have to sign; of those that did, the inner one has expired."""
    two = rule(keys=["acme", "auditor"], threshold=2)
    found = policy("rules.0", two, keys__auditor__not_after="2026-01-01")
    return judged(found, signers=["vendor", "partner"])


@refused("12.3", "version")
def policy_version_too_low() -> Made:
    """The version is below the least one."""
    return judged(policy("rules.0.min_version", "1.10"))


@refused("12.3", "version")
def policy_version_not_one() -> Made:
    """The version is not one that can be compared."""
    found = policy("rules.0.min_version", "1.0")
    return judged(found, release={**RELEASE, "version": "latest"})


@refused("12.3", "release")
def policy_release_too_low() -> Made:
    """The release number is below the least one."""
    return judged(policy("rules.0.min_release", 8))


@refused("12.3", "release")
def policy_release_without_number() -> Made:
    """The release has no number."""
    without = {name: value for name, value in RELEASE.items() if name != "release"}
    return judged(policy("rules.0.min_release", 0), release=without)


# 12.4


@refused("12.4", "policy-signatures")
def policy_signed_by_others() -> Made:
    """A key that is not a root key signed."""
    return judged(signed(POLICY, "vendor"))


@refused("12.4", "policy-signatures")
def policy_signature_wrong() -> Made:
    """The root key's signature is wrong."""
    return judged(signed(POLICY, "other", signature=bytes(64)))


@refused("12.4", "policy-signatures")
def policy_signed_for_something_else() -> Made:
    """The root key signed a license that reads like a policy."""
    return judged(signed(POLICY, "other", domain=b"nnguard license v1\0"))


@refused("12.4", "policy-signatures")
def policy_of_two_root_keys() -> Made:
    """Two root keys have to sign, and one did."""
    root = {"keys": ["root", "auditor"], "threshold": 2}
    return judged(signed(policy("root", root), "other"))


@refused("12.4", "malformed")
def policy_signature_twice() -> Made:
    """The signature of the root key stands there twice."""
    return judged(signed(POLICY, "other", arrange=lambda each: each * 2))


@refused("12.4", "malformed")
def policy_signatures_out_of_order() -> Made:
    """Signatures are not sorted by the identifiers of their keys."""
    return judged(signed(POLICY, "other", "vendor", arrange=lambda each: each[::-1]))


@refused("12.4", "malformed")
def policy_in_sign1() -> Made:
    """A COSE_Sign1 in place of the COSE_Sign."""

    key, payload = KEYS["other"], json.dumps(POLICY).encode()
    header = cbor2.dumps({1: -19, 3: 50, 4: key.public_key.id}, canonical=True)
    signature = key.sign(cbor2.dumps(["Signature1", header, b"nnguard policy v1\0", payload]))
    message = cbor2.CBORTag(18, [header, {}, payload, signature])
    return judged(write_armor(ARMOR, cbor2.dumps(message)))


@refused("12.4", "malformed")
def policy_of_no_content_type() -> Made:
    """The protected header says nothing of JSON."""
    return judged(signed(POLICY, "other", header={}))


@refused("12.4", "malformed", message="has a root")
def policy_signed_without_root() -> Made:
    """A signed policy that names no root."""
    return judged(signed(policy("root"), "other"))


@refused("12.4", "malformed")
def policy_signed_toml() -> Made:
    """The payload is TOML."""
    return judged(signed(POLICY, "other", payload=b"version = 1\n"))


@refused("12.4", "policy-version")
def policy_version_skipped() -> Made:
    """The third version behind the first."""
    return judged(FIRST + signed(policy("version", 3), "other"))


@refused("12.4", "policy-version")
def policy_version_again() -> Made:
    """The same version twice."""
    return judged(FIRST + FIRST)


@refused("12.4", "policy-signatures")
def policy_new_root_alone() -> Made:
    """A new root, that of the version before did not sign."""
    return judged(FIRST + signed(next_version("auditor"), "partner"))


@refused("12.4", "policy-signatures")
def policy_old_root_alone() -> Made:
    """A new root, which did not sign."""
    return judged(FIRST + signed(next_version("auditor"), "other"))


# 12.5


@refused("12.5", "unsigned")
def policy_unsigned_after_signed() -> Made:
    """A signed policy is remembered, and this one is not signed."""
    return judged(policy("version", 2), pinned=FIRST)


@refused("12.5", "policy-version")
def policy_older_than_pinned() -> Made:
    """A newer version is remembered."""
    return judged(FIRST, pinned=SECOND)


@refused("12.5", "policy-version")
def policy_other_than_pinned() -> Made:
    """Another policy of this version is remembered."""
    return judged(signed(policy("expires", "2028-01-01"), "other"), pinned=FIRST)


@refused("12.5", "policy-version")
def policy_beyond_pinned() -> Made:
    """The third version, and the first one is remembered."""
    return judged(signed(policy("version", 3), "other"), pinned=FIRST)


@refused("12.5", "policy-version")
def policy_of_another_past() -> Made:
    """The version that is remembered has another one in its place."""
    other = signed(policy("expires", "2028-01-01"), "other")
    return judged(other + SECOND, pinned=FIRST)


@refused("12.5", "policy-signatures")
def policy_of_another_root_than_pinned() -> Made:
    """The next version, signed by its own root only."""
    return judged(signed(next_version("auditor"), "partner"), pinned=FIRST)


@refused("12.5", "policy-version", message="older")
def policy_older_at_level_audit() -> Made:
    """A newer version is remembered; the level of the older one would only warn."""
    lenient = signed(policy("rules.0.level", "audit"), "other")
    return judged(lenient, pinned=SECOND)
