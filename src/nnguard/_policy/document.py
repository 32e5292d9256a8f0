"""What a trust policy is made of: keys, root, rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nnguard._base.texts import shown
from nnguard._base.times import UNITS
from nnguard._crypto.keys import PublicKey
from nnguard._policy.finding import Finding, Level
from nnguard._policy.scope import Scope
from nnguard.errors import PolicyReason

__all__ = ["Age", "PolicyKey", "Root", "Rule", "revoked", "text_of"]


@dataclass(frozen=True, slots=True)
class Age:
    """A length of time, as it was written.

    Attributes:
        text: A whole number and a unit, such as `7d`.
    """

    text: str

    @property
    def length(self) -> timedelta:
        """The length."""
        return int(self.text[:-1]) * UNITS[self.text[-1]]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """A key of a policy.

    Attributes:
        name: What the policy calls it.
        key: The key.
        not_after: When it ceases to count.
        revoked: It does not count; True, or since when, which is for people to read: whoever stole
            a key signs with it whatever date they like.
    """

    name: str
    key: PublicKey
    not_after: datetime | None = None
    revoked: datetime | bool = False

    @property
    def id(self) -> str:
        """Identifier of the key, in hexadecimal."""
        return self.key.id.hex()

    def to_json(self) -> dict[str, Any]:
        """Return the member of the policy."""
        found: dict[str, Any] = {"pem": self.key.pem.decode()}
        if self.not_after is not None:
            found["not_after"] = text_of(self.not_after)
        if self.revoked:
            found["revoked"] = True if self.revoked is True else text_of(self.revoked)
        return found


@dataclass(frozen=True, slots=True)
class Root:
    """Keys that sign policies.

    Attributes:
        keys: The keys.
        threshold: How many of them have to sign.
    """

    keys: tuple[PolicyKey, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of the releases in some scopes.

    Attributes:
        scopes: Which releases the rule is about.
        keys: Those that may sign them.
        threshold: How many of these keys have to sign.
        level: What happens to releases that do not meet the rule.
        min_version: Least version (PEP 440); empty for none.
        min_release: Least release number.
        post_quantum: Only signatures of keys with a post-quantum half count.
        max_age: How old a statement may be that says which release is the latest; None if there
            need be none.
    """

    scopes: tuple[Scope, ...]
    keys: tuple[PolicyKey, ...]
    threshold: int
    level: Level
    min_version: str = ""
    min_release: int | None = None
    post_quantum: bool = False
    max_age: Age | None = None

    def key(self, key_id: str) -> PolicyKey | None:
        """Return the key of this identifier, if the rule has it."""
        return next((key for key in self.keys if key.id == key_id), None)

    def against(self, key: PolicyKey, what: str, time: datetime) -> Finding | None:
        """Say why what a key signed does not count here, if it does not.

        Args:
            key: One of the rule's.
            what: What it signed, for the message.
            time: The time.
        """
        signed = f"{what} is signed with key {shown(key.name)} ({key.id}), which"
        if key.revoked:
            return revoked(key, what)
        if self.post_quantum and not key.key.post_quantum:
            hint = "its vendor signs it again, with a hybrid key"
            return Finding(PolicyReason.POST_QUANTUM, f"{signed} is not post-quantum", hint)
        if key.not_after is not None and time > key.not_after:
            message = f"{signed} held until {key.not_after.isoformat()}"
            hint = "its vendor signs it again, with a newer key"
            return Finding(PolicyReason.KEY_EXPIRED, message, hint)
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the member of the policy."""
        found: dict[str, Any] = {
            "scopes": [scope.text for scope in self.scopes],
            "keys": [key.name for key in self.keys],
            "threshold": self.threshold,
            "level": self.level.value,
        }
        if self.min_version:
            found["min_version"] = self.min_version
        if self.min_release is not None:
            found["min_release"] = self.min_release
        if self.post_quantum:
            found["post_quantum"] = True
        if self.max_age is not None:
            found["latest"] = {"max_age": self.max_age.text}
        return found


def revoked(key: PolicyKey, what: str) -> Finding:
    """Return what is to be said of something that a revoked key signed."""
    return Finding(
        PolicyReason.KEY_REVOKED,
        f"{what} is signed with key {shown(key.name)} ({key.id}), which is revoked",
        "get it again from its vendor, signed with another key",
    )


def text_of(time: datetime) -> str:
    """Return a time as a policy has it."""
    return time.isoformat().replace("+00:00", "Z")
