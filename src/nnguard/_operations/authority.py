"""Whom a verb believes: keys that are trusted, or a policy that says which of them for what."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from nnguard._base.arguments import loaded
from nnguard._base.times import now
from nnguard._crypto.keys import PublicKey
from nnguard._crypto.trust import Trust, load_trust
from nnguard._licensing.license import License
from nnguard._operations.report import Report
from nnguard._policy.document import TrustPolicy
from nnguard._policy.evaluation import check_key, evaluate
from nnguard.errors import ArgumentError, PolicyError, PolicyReason

__all__ = ["Authority", "PolicyLike", "authority_of"]

PolicyLike = TrustPolicy | str | os.PathLike[str]
"""What functions take for a trust policy: a `TrustPolicy` or the path of one."""


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
        ruling = evaluate(self.policy, report.counted, now())
        return replace(report, warnings=ruling.warnings)

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
    return Authority(tuple(dict.fromkeys(k.key for rule in found.rules for k in rule.keys)), found)
