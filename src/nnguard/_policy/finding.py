"""What a policy finds against a release, and which of it refuses the release."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nnguard._base.texts import visible
from nnguard.errors import PolicyError, PolicyReason

__all__ = ["Finding", "Level", "tell"]

_LOG = logging.getLogger("nnguard")

_OF_TIME = {
    PolicyReason.POLICY_EXPIRED,
    PolicyReason.KEY_EXPIRED,
    PolicyReason.VERSION,
    PolicyReason.RELEASE,
    PolicyReason.STALE,
    PolicyReason.ROLLBACK,
    PolicyReason.CLOCK_SET_BACK,
}
"""What speaks of how old a release is, not of who made it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a policy finds against a release.

    Attributes:
        reason: What kind of thing it is.
        message: What is wrong.
        hint: What to do about it.
    """

    reason: PolicyReason
    message: str
    hint: str = ""

    def error(self) -> PolicyError:
        """Return the error that refuses the release for this."""
        return PolicyError(self.message, reason=self.reason, hint=self.hint)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {"reason": self.reason.value, "message": self.message}


class Level(enum.Enum):
    """How strictly a rule is enforced."""

    STRICT = "strict"
    PERMISSIVE = "permissive"
    AUDIT = "audit"

    def refuses(self, reason: PolicyReason) -> bool:
        """Tell whether a release is refused for this, rather than accepted with a warning."""
        if self is Level.PERMISSIVE:
            return reason not in _OF_TIME
        return self is Level.STRICT

    def weigh(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Refuse a release for the first finding that is enforced; log the others, return them.

        Raises:
            PolicyError: The release is refused.
        """
        warnings: list[Finding] = []
        for finding in findings:
            if self.refuses(finding.reason):
                raise finding.error()
            warnings += tell([finding], f" ({self.value})")
        return tuple(warnings)


def tell(findings: Iterable[Finding], why: str = "") -> tuple[Finding, ...]:
    """Log findings that refuse nothing, and return them.

    Args:
        findings: What was found.
        why: Added to what is logged.
    """
    told = tuple(findings)
    for finding in told:
        _LOG.warning("%s%s", visible(finding.message), why)
    return told
