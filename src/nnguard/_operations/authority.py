"""Whom a verb believes: keys that are trusted, or a policy that says which of them for what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from nnguard._base.arguments import loaded
from nnguard._base.mappings import FrozenMapping
from nnguard._base.times import now
from nnguard._crypto.keys import PublicKey
from nnguard._crypto.trust import Trust, load_trust
from nnguard._licensing.license import License
from nnguard._operations.report import Report
from nnguard._policy.evaluation import allows, check_key, evaluate
from nnguard._policy.policy import PolicyLike, TrustPolicy
from nnguard.errors import ArgumentError, PolicyError, PolicyReason

__all__ = ["Authority", "authority_of"]


@dataclass(frozen=True, slots=True)
class Authority:
    """Whom a verb believes.

    Attributes:
        keys: Those that signatures are verified with.
        policy: What verified releases are judged by; None where every key counts for everything.
    """

    keys: tuple[PublicKey, ...]
    policy: TrustPolicy | None = None

    def judge(self, report: Report) -> Report:
        """Judge a release that was verified with these keys; return the report with warnings.

        Raises:
            PolicyError: The policy does not allow it.
        """
        if self.policy is None:
            return report
        time = now()
        warnings = evaluate(self.policy, report.signatures, time).warnings
        if report.license_key_id:
            key_id, claims = report.license_key_id, report.claims
            warnings += check_key(self.policy, key_id, "the watermark", claims, time)
        return replace(_with_what_counts(report, self.policy, time), warnings=warnings)

    def judge_licensed(self, report: Report, license: License) -> None:  # noqa: A002
        """Judge a trial, or what it opens to, and the key that signed the license for it.

        Raises:
            PolicyError: The policy does not allow the model, or not that this key signs for it.
        """
        self.judge(report)
        if self.policy is not None:
            check_key(self.policy, license.key_id, "the license", report.claims, now())

    def refuse_unsigned(self) -> None:
        """Refuse a model that nobody signed where a policy judges by what is signed."""
        if self.policy is not None:
            raise PolicyError(
                "neither the trial nor what it opens to is signed, so no rule is about it",
                reason=PolicyReason.NO_SCOPE,
                hint="its vendor signs the trial",
            )


def authority_of(trust: Trust | None, policy: PolicyLike | None) -> Authority:
    """Return whom a caller believes, who gave one of the two.

    Raises:
        ArgumentError: There are both, or neither.
        KeyFormatError: A trusted key cannot be read.
        PolicyError: The policy is malformed.
    """
    if (trust is None) == (policy is None):
        raise ArgumentError("give either trusted keys or a trust policy")
    if trust is not None:
        return Authority(load_trust(trust))
    found = loaded(policy, TrustPolicy, "policy")
    found.authenticate()
    return Authority(tuple(dict.fromkeys(k.key for rule in found.rules for k in rule.keys)), found)


def _with_what_counts(report: Report, policy: TrustPolicy, time: datetime) -> Report:
    """Return a report in which signatures below the outermost are right only by the policy, too."""
    outermost, *others = report.signatures
    below = [each for each in others if allows(policy, each, time)]
    by = {(each.key_id, each.digest) for each in below}
    nested = [
        replace(each, verified=each.verified and (each.key_id, each.digest) in by)
        for each in report.nested
    ]
    shards = {name: _with_what_counts(shard, policy, time) for name, shard in report.shards.items()}
    return replace(
        report,
        signatures=(outermost, *below),
        nested=tuple(nested),
        shards=FrozenMapping(shards),
    )
