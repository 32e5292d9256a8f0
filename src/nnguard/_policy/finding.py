"""What a policy finds against a release, and which of it refuses the release."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nnguard._base.texts import visible
from nnguard.errors import PolicyError, PolicyReason

__all__ = ["Finding", "Level"]

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
        warnings = []
        for finding in findings:
            if self.refuses(finding.reason):
                raise finding.error()
            _LOG.warning("%s (%s)", visible(finding.message), self.value)
            warnings.append(finding)
        return tuple(warnings)
