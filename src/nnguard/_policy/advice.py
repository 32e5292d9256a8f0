"""What is likely a mistake in a policy that is well formed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from nnguard._policy.document import Rule
from nnguard._policy.policy import TrustPolicy

__all__ = ["advise"]

_SOON = timedelta(days=30)


def advise(policy: TrustPolicy, time: datetime) -> Iterator[str]:
    """Say what people may not have meant, or will be surprised by.

    Args:
        policy: The policy.
        time: The time.
    """
    if policy.expires is not None and policy.expires - time < _SOON:
        holds = "held" if policy.expires <= time else "holds"
        yield f"the policy {holds} until {policy.expires.isoformat()}: sign its next version"
    for number, rule in enumerate(policy.rules):
        yield from (f"rules[{number}]: {said}" for said in _of_rule(rule, time))
        for later, other in enumerate(policy.rules[number + 1 :], number + 1):
            for scope in other.scopes:
                if any(mine.covers(scope) for mine in rule.scopes):
                    yield f"rules[{later}]: rules[{number}] decides about {scope} before it"
    if policy.root is not None and policy.message is None:
        yield "root: nobody has signed the policy yet, so that its root keys count for nothing"
    used = {key for rule in policy.rules for key in rule.keys}
    roots = set() if policy.root is None else {*policy.root.keys}
    for key in policy.keys.values():
        if key not in used | roots and not key.revoked:
            yield f"keys.{key.name} is in no rule"
        if key in used & roots:
            yield f"keys.{key.name} signs releases and policies: root keys are best kept offline"


def _of_rule(rule: Rule, time: datetime) -> Iterator[str]:
    counting = [key for key in rule.keys if rule.against(key, "", time) is None]
    if len(counting) < rule.threshold:
        names = ", ".join(key.name for key in counting) or "none"
        yield f"nothing can meet it: threshold {rule.threshold}, keys that still count: {names}"
    ending = [key for key in counting if key.not_after and key.not_after - time < _SOON]
    for key in ending:
        assert key.not_after is not None
        yield f"key {key.name} holds until {key.not_after.isoformat()}"
