"""Whom a verb believes: keys that are trusted, or a policy that says which of them for what.

A release is remembered in the state file when nothing else can fail any more, and not before. Steps
are those of SPEC 12.3 and, with a state file or a latest statement, 13.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from nnguard._base.arguments import check_type, loaded, wrong_type
from nnguard._base.mappings import FrozenMapping
from nnguard._base.times import now
from nnguard._crypto.keys import PublicKey
from nnguard._crypto.trust import Trust, load_trust
from nnguard._licensing.license import License
from nnguard._operations.expect import Expect
from nnguard._operations.report import AppliedRule, Report
from nnguard._policy.document import Rule
from nnguard._policy.evaluation import allows, check_key, check_key_of_any, evaluate
from nnguard._policy.finding import Finding, Level, tell
from nnguard._policy.latest import LatestStatement
from nnguard._policy.policy import PolicyLike, TrustPolicy
from nnguard._policy.state import State
from nnguard.errors import (
    ArgumentError,
    LockedTrialError,
    PolicyError,
    PolicyReason,
    WrongKeyError,
)

__all__ = ["Authority", "LatestLike", "PathLike", "authority_of"]

_LOG = logging.getLogger("nnguard")

PathLike = str | os.PathLike[str]

LatestLike = LatestStatement | PathLike
"""What functions take for a latest statement: a `LatestStatement` or the path of one."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Whom a verb believes.

    Attributes:
        keys: Those that signatures are verified with.
        policy: What verified releases are judged by; None where every key counts for everything.
        state: State file, which remembers what was accepted.
        latest: Says which release is the newest.
    """

    keys: tuple[PublicKey, ...]
    policy: TrustPolicy | None = None
    state: PathLike | None = None
    latest: LatestStatement | None = None

    def accept(
        self,
        report: Report,
        expect: Expect | None = None,
        *,
        allow_trial: bool,
        remember: bool = False,
    ) -> Report:
        """Refuse what a vendor signed, but is not what was asked for; judge the rest, as `judge`.

        Raises:
            ClaimsError: It is not what the caller expects.
            LockedTrialError: It is a trial, and not allowed.
        """
        if expect is not None:
            check_type(expect, Expect, "expect")
            expect.check(report.claims)
        if report.locked and not allow_trial:
            raise LockedTrialError
        report = self.judge(report, remember=remember)
        _LOG.info("verified %r, signed with key %s", report.claims.name, report.key_id)
        return report

    def judge(self, report: Report, *, remember: bool = False) -> Report:
        """Judge a release that was verified with these keys; return the report with warnings.

        Args:
            report: The release.
            remember: It has passed all other checks: the state file remembers it, unless there are
                warnings, under the lock that it is judged under.

        Raises:
            PolicyError: The policy, the state or the latest statement does not allow it.
            WrongKeyError: The latest statement is signed by another key.
            OSError: The state file cannot be written.
        """
        time = now()
        rule, warnings = None, report.warnings[:0]
        if self.policy is not None:
            ruling = evaluate(self.policy, report.counted, time)  # steps 1 to 7
            rule, warnings = ruling.rule, ruling.warnings
            if report.license_key_id:  # step 8
                key_id, claims = report.license_key_id, report.claims
                warnings += check_key(self.policy, key_id, "the watermark", claims, time)
            report = _with_what_counts(report, self.policy, time)
            report = replace(report, policy=_applied(self.policy, ruling.rule))
        level = Level.STRICT if rule is None else rule.level
        warnings += level.weigh(self._against_latest(report, rule, time))  # step 9, and 13.2
        told = [*self._of_policy(), *self._of_latest(report)]
        if self.state is not None:
            with State(self.state) as state:
                _pin(state, self.policy)  # others may have seen a newer one in the meantime
                warnings += level.weigh(self._against_state(state, report, rule, time))
                if remember:
                    told += _of_state(state, report)
                if remember and not warnings:  # what was only warned of is not remembered
                    state.commit(time)
        return replace(report, warnings=warnings + tell(told))

    def _of_policy(self) -> Iterator[Finding]:
        """Say that root keys are named, and have signed nothing (12.4)."""
        if self.policy is not None and self.policy.root is not None and not self.policy.message:
            message = "the trust policy is not signed, so that its root keys count for nothing"
            hint = "sign it with nnguard policy sign, or take its root out"
            yield Finding(PolicyReason.UNSIGNED, message, hint)

    def _of_latest(self, report: Report) -> Iterator[Finding]:
        """Say that a release is newer than the statement on the newest one (13.2, step 5)."""
        newest = None if self.latest is None else self.latest.claims.release
        release = report.claims.release
        if newest is not None and release is not None and release > newest:
            message = f"this is release {release}, and the latest statement names release {newest}"
            yield Finding(PolicyReason.RELEASE, message, "get the vendor's newest statement")

    def _against_latest(
        self, report: Report, rule: Rule | None, time: datetime
    ) -> Iterator[Finding]:
        """Judge by the latest statement, whose key has to be one that may sign the release."""
        max_age = None if rule is None else rule.max_age
        statement = self.latest
        if statement is None:
            if max_age is not None:
                yield Finding(
                    PolicyReason.STALE,
                    f"a statement not older than {max_age} is required on which "
                    "release is the latest, and there is none",
                    "get the vendor's newest statement",
                )
            return
        statement.authenticate(self.keys)
        if self.policy is not None:
            yield from check_key(
                self.policy, statement.key_id, "the latest statement", report.claims, time
            )
        elif statement.key_id not in {each.key_id for each in report.counted}:
            raise WrongKeyError(
                f"the latest statement is signed with key {statement.key_id}, the release with "
                + " and ".join(each.key_id for each in report.counted),
                hint="a statement counts for releases of the key that signed it; a trust policy "
                "allows others",
            )
        digests = None if report.locked else [each.digest for each in report.counted]
        yield from statement.against(report.claims, digests, time, max_age)

    def _against_state(
        self, state: State, report: Report, rule: Rule | None, time: datetime
    ) -> Iterator[Finding]:
        """Compare a release and the latest statement with what was accepted before (13.1)."""
        claims = report.claims
        scope = f"{claims.issuer}/{claims.name}"
        if finding := state.against_clock(time):  # step 1
            yield finding
        for key_id in _signers(report, rule, time):  # step 2
            if finding := state.against_release(scope, key_id, claims.release):
                yield finding
        if self.latest is not None:  # step 3
            issued_at = self.latest.claims.issued_at
            assert issued_at is not None
            if finding := state.against_latest(scope, self.latest.key_id, issued_at):
                yield finding

    def refuse_revoked(self, license: License) -> None:  # noqa: A002
        """Refuse a license by a key that the policy revokes, before it opens anything.

        Raises:
            PolicyError: The key is revoked.
        """
        if self.policy is not None:
            self.policy.check_not_revoked(license.key_id, "the license")

    def refuse_useless(self, license: License) -> None:  # noqa: A002
        """Refuse a license by a key that may not sign for any release, by the policy.

        Raises:
            PolicyError: It may not.
        """
        if self.policy is not None:
            self.refuse_revoked(license)
            check_key_of_any(self.policy, license.key_id, "the license", now())

    def judge_licensed(self, report: Report, license: License) -> None:  # noqa: A002
        """Judge a trial, or what it opens to, and the key that signed the license for it.

        Raises:
            PolicyError: The policy does not allow the model, or not that this key signs for it.
        """
        self.judge(report)
        if self.policy is not None:
            check_key(self.policy, license.key_id, "the license", report.claims, now())

    def refuse_unsigned(self) -> None:
        """Refuse a model that nobody signed where it is judged by what is signed."""
        if (self.policy, self.state, self.latest) != (None, None, None):
            raise PolicyError(
                "neither the trial nor what it opens to is signed, so no rule is about it",
                reason=PolicyReason.NO_SCOPE,
                hint="its vendor signs the trial",
            )


def authority_of(
    trust: Trust | None,
    policy: PolicyLike | None = None,
    state: PathLike | None = None,
    latest: LatestLike | None = None,
) -> Authority:
    """Return whom a caller believes, who gave trusted keys or a policy.

    Raises:
        ArgumentError: There are both, or neither.
        KeyFormatError: A trusted key cannot be read.
        PolicyError: The policy, the state file or the latest statement is malformed.
        OSError: One of them cannot be read, or nothing can be written beside the state file.
    """
    if (trust is None) == (policy is None):
        raise ArgumentError("give either trusted keys or a trust policy")
    found = None if policy is None else loaded(policy, TrustPolicy, "policy")
    statement = None if latest is None else loaded(latest, LatestStatement, "latest")
    if found is not None:
        found.authenticate()
    if state is not None:
        if not isinstance(state, (str, os.PathLike)):
            raise wrong_type("state", "a path", state)
        with State(state) as opened:  # now, rather than after a large model was hashed
            _pin(opened, found)
    if trust is not None:
        return Authority(load_trust(trust), None, state, statement)
    assert found is not None
    keys = tuple(dict.fromkeys(key.key for rule in found.rules for key in rule.keys))
    return Authority(keys, found, state, statement)


def _pin(state: State, policy: TrustPolicy | None) -> None:
    """Hold a policy against the one that the state file remembers, whatever the policy's levels."""
    if policy is not None:
        state.pin(policy)
    elif (pinned := state.memory.policy) is not None:
        raise PolicyError(
            f"the state file {state.path} is for version {pinned.version} of a trust policy, "
            "and there are only trusted keys",
            reason=PolicyReason.UNSIGNED,
            hint="give the policy, or another state file",
        )


def _applied(policy: TrustPolicy, rule: Rule) -> AppliedRule:
    scopes = tuple(scope.text for scope in rule.scopes)
    return AppliedRule(policy.version, policy.digest, scopes, rule.level.value)


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


def _signers(report: Report, rule: Rule | None, time: datetime) -> list[str]:
    """Return the keys whose signatures count for the release."""
    found = [signature.key_id for signature in report.counted]
    if rule is None:
        return found
    keys = [key for key in rule.keys if key.id in found]
    return [key.id for key in keys if rule.against(key, "the release", time) is None]


def _of_state(state: State, report: Report) -> Iterator[Finding]:
    """Say that a state file is new, or will not know a release."""
    if state.is_new:
        message = f"the state file {state.path} is new: it knows of no release yet"
        yield Finding(PolicyReason.STATE, message, "if there was one, see where it went")
    if report.claims.release is None:
        message = "the release has no number, so that an older one would not be noticed"
        yield Finding(PolicyReason.RELEASE, message, "its vendor signs it with --release")
