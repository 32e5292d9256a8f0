"""Judging a release by a policy: who signed it, and is that enough?

The checks are those of SPEC 12.3, in that order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from nnguard._base.texts import shown
from nnguard._policy.document import PolicyKey, Rule
from nnguard._policy.finding import Finding
from nnguard._policy.policy import TrustPolicy
from nnguard._records.claims import Claims
from nnguard._records.signature import Signature
from nnguard.errors import PolicyError, PolicyReason

__all__ = ["Ruling", "allows", "check_key", "check_key_of_any", "evaluate", "expired"]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a policy says of a release that it allows.

    Attributes:
        rule: The rule that decided.
        warnings: What speaks against the release, and was not enforced.
    """

    rule: Rule
    warnings: tuple[Finding, ...]


def evaluate(policy: TrustPolicy, signatures: Sequence[Signature], time: datetime) -> Ruling:
    """Judge a release by its signatures.

    Args:
        policy: The policy.
        signatures: Those that were verified, by keys of the policy, the outermost first.
        time: The time.

    Raises:
        PolicyError: The policy does not allow the release.
    """
    claims = signatures[0].claims
    rule = policy.rule_for(claims.issuer, claims.name)  # step 1
    return Ruling(rule, rule.level.weigh(_findings(policy, rule, signatures, time)))


def check_key(
    policy: TrustPolicy, key_id: str, what: str, claims: Claims, time: datetime
) -> tuple[Finding, ...]:
    """Make sure that a key may sign what goes with a release, such as a license.

    Args:
        policy: The policy.
        key_id: The key, which signed it.
        what: What it signed, for the message.
        claims: Those of the release.
        time: The time.

    Returns:
        What speaks against it, and was not enforced.

    Raises:
        PolicyError: It may not.
    """
    rule = policy.rule_for(claims.issuer, claims.name)
    finding = _of_key(rule, key_id, what, claims, time)
    return rule.level.weigh([] if finding is None else [finding])


def check_key_of_any(policy: TrustPolicy, key_id: str, what: str, time: datetime) -> None:
    """Make sure that a key may sign for some release, where it is not known for which.

    Args:
        policy: The policy, which has the key in one of its rules.
        key_id: The key, which signed it.
        what: What it signed, for the message.
        time: The time.

    Raises:
        PolicyError: No rule lets it; for the reason of the first that has the key.
    """
    refusals = []
    for rule in policy.rules:
        key = rule.key(key_id)
        if key is not None:
            found = [*expired(policy, time), rule.against(key, what, time)]
            refusals.append([each for each in found if each and rule.level.refuses(each.reason)])
    if all(refusals):
        raise refusals[0][0].error()


def allows(policy: TrustPolicy, signature: Signature, time: datetime) -> bool:
    """Tell whether a nested signature is by a key that may sign what that signature names."""
    try:
        rule = policy.rule_for(signature.claims.issuer, signature.claims.name)
    except PolicyError:
        return False
    finding = _of_key(rule, signature.key_id, "it", signature.claims, time)
    return finding is None or not rule.level.refuses(finding.reason)


def _of_key(rule: Rule, key_id: str, what: str, claims: Claims, time: datetime) -> Finding | None:
    """Say what speaks against a key that signed something for a release."""
    key = rule.key(key_id)
    return _other_key(rule, key_id, what, claims) if key is None else rule.against(key, what, time)


def _other_key(rule: Rule, key_id: str, what: str, claims: Claims) -> Finding:
    return Finding(
        PolicyReason.OTHER_KEY,
        f"{what} is signed with key {key_id}, which may not sign {shown(claims.name) or 'it'}",
        f"those that may are {_names(rule.keys)}",
    )


def _findings(
    policy: TrustPolicy, rule: Rule, signatures: Sequence[Signature], time: datetime
) -> Iterator[Finding]:
    yield from expired(policy, time)  # step 2
    yield from _of_keys(rule, signatures, time)  # steps 3 to 5
    yield from _of_claims(rule, signatures[0].claims)  # steps 6 and 7


def expired(policy: TrustPolicy, time: datetime) -> Iterator[Finding]:
    """Say that a policy has expired, if it has."""
    if policy.expires is not None and time >= policy.expires:
        yield Finding(
            PolicyReason.POLICY_EXPIRED,
            f"the trust policy held until {policy.expires.isoformat()}",
            "get its next version",
        )


def _of_keys(rule: Rule, signatures: Sequence[Signature], time: datetime) -> Iterator[Finding]:
    """Judge the key of the outermost signature, then count the keys of all that count."""
    claims, first = signatures[0].claims, rule.key(signatures[0].key_id)
    if first is None:
        yield _other_key(rule, signatures[0].key_id, "the release", claims)
    agreeing = [each.key_id for each in signatures if each.counts]
    signers = [key for key in rule.keys if key.id in agreeing]
    against = {key: rule.against(key, "the release", time) for key in signers}
    expired = [key for key in signers if _is_expired(against[key])]
    if first is not None and (finding := against[first]) is not None:
        yield finding
    counted = [key for key in signers if against[key] is None]
    if len(counted) + len(expired) < rule.threshold:
        yield _too_few(rule, counted)
    elif len(counted) < rule.threshold:
        yield from (found for key in expired if key != first and (found := against[key]))


def _is_expired(finding: Finding | None) -> bool:
    return finding is not None and finding.reason is PolicyReason.KEY_EXPIRED


def _too_few(rule: Rule, counted: Sequence[PolicyKey]) -> Finding:
    found = f"{len(counted)} ({_names(counted)})" if counted else "none"
    return Finding(
        PolicyReason.THRESHOLD,
        f"signatures of {rule.threshold} keys are required, and {found} counts",
        f"the keys are {_names(rule.keys)}; another signs it with nnguard sign --countersign",
    )


def _of_claims(rule: Rule, claims: Claims) -> Iterator[Finding]:
    if rule.min_version and not _reaches(claims.version, rule.min_version):
        yield Finding(
            PolicyReason.VERSION,
            f"the version is {shown(claims.version) or 'not stated'}, "
            f"and {rule.min_version} is the least",
            "get a newer release",
        )
    release = claims.release
    if rule.min_release is not None and (release is None or release < rule.min_release):
        yield Finding(
            PolicyReason.RELEASE,
            f"the release number is {'not stated' if release is None else release}, "
            f"and {rule.min_release} is the least",
            "get a newer release",
        )


def _reaches(version: str, least: str) -> bool:
    from packaging.version import Version  # only who asks waits for it

    try:
        return Version(version) >= Version(least)
    except ValueError:  # not a version, or of more digits than Python reads
        return False


def _names(keys: Sequence[PolicyKey]) -> str:
    return shown(", ".join(key.name for key in keys))
