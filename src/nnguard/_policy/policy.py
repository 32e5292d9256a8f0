"""A trust policy: whose signatures a deployment accepts, on which releases.

    policy = nnguard.TrustPolicy.load("acme.policy")
    nnguard.verify("release.nnc", policy=policy)

Law: `TrustPolicy.parse(json.dumps(policy.to_json())) == policy` (SPEC 12.1).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nnguard._base.arguments import loaded
from nnguard._base.files import read_file
from nnguard._crypto.keys import PublicKey
from nnguard._policy.document import PolicyKey, Root, Rule, revoked, text_of
from nnguard._policy.parsing import parse_members
from nnguard._policy.reading import Node, malformed, read_text
from nnguard.errors import LimitError, PolicyError, PolicyReason

__all__ = ["PolicyLike", "TrustPolicy"]

PublicKeyLike = PublicKey | str | os.PathLike[str]
"""What functions take for a public key: a `PublicKey`, or the path of one."""

_LARGEST = 1 << 20
"""Bytes of a policy's file, at most."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whose signatures a deployment accepts, on which releases, and how many of them.

    Attributes:
        version: Counts the versions of the policy, from 1.
        keys: Keys by name.
        rules: What is asked of releases; the first one with a scope that matches decides.
        expires: When the policy ceases to hold.
        root: Keys that sign the policy, and the next version of it.

    Examples:
        >>> policy = nnguard.TrustPolicy.new(["acme.ai/*"], {"acme": "vendor.pub"})
        >>> nnguard.verify("release.nnc", policy=policy).claims.name
        'digits'
    """

    version: int
    keys: Mapping[str, PolicyKey]
    rules: tuple[Rule, ...]
    expires: datetime | None = None
    root: Root | None = None

    @classmethod
    def new(
        cls,
        scopes: Iterable[str],
        keys: Mapping[str, PublicKeyLike],
        *,
        threshold: int = 1,
        level: str = "strict",
    ) -> TrustPolicy:
        """Make a policy of one rule, version 1.

        Args:
            scopes: Releases that the rule is about, such as `acme.ai/resnet*`.
            keys: Public keys that may sign them, or paths of these, by name.
            threshold: How many of the keys have to sign.
            level: `strict`, `permissive` or `audit`.

        Raises:
            PolicyError: There can be no such policy.
            KeyFormatError: A key cannot be read.
        """
        found = {name: loaded(key, PublicKey, "keys").pem.decode() for name, key in keys.items()}
        rule = {"scopes": [*scopes], "keys": [*keys], "threshold": threshold, "level": level}
        members = {name: {"pem": pem} for name, pem in found.items()}
        return cls(**parse_members(Node({"version": 1, "keys": members, "rules": [rule]})))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrustPolicy:
        """Read a policy from a file, JSON or TOML.

        Raises:
            PolicyError: It is malformed.
            OSError: It cannot be read.
        """
        try:
            return cls.parse(read_file(path, _LARGEST))
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}", reason=error.reason, hint=error.hint) from None
        except LimitError as error:
            raise malformed(f"{error}, too many for a trust policy") from None

    @classmethod
    def parse(cls, text: str | bytes) -> TrustPolicy:
        """Read a policy, JSON or TOML.

        Raises:
            PolicyError: It is malformed.
        """
        try:
            text = text if isinstance(text, str) else text.decode()
        except UnicodeDecodeError:
            raise malformed("not a trust policy: not UTF-8") from None
        return cls(**parse_members(read_text(text)))

    def rule_for(self, issuer: str, name: str) -> Rule:
        """Return the rule that decides about a release.

        Raises:
            PolicyError: There is none.
        """
        for rule in self.rules:
            if any(scope.matches(issuer, name) for scope in rule.scopes):
                return rule
        raise PolicyError(
            f"no rule of the trust policy is about {name or 'a release without a name'} of "
            f"{issuer or 'an issuer who is not stated'}",
            reason=PolicyReason.NO_SCOPE,
            hint="if you trust it, add its scope to a rule",
        )

    def check_not_revoked(self, key_id: str, what: str) -> None:
        """Refuse what a revoked key signed, whatever release it is about.

        Raises:
            PolicyError: The key is revoked.
        """
        for key in self.keys.values():
            if key.id == key_id and key.revoked:
                raise revoked(key, what).error()

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON values, as `parse` reads them."""
        found: dict[str, Any] = {"version": self.version}
        if self.expires is not None:
            found["expires"] = text_of(self.expires)
        if self.root is not None:
            names = [key.name for key in self.root.keys]
            found["root"] = {"keys": names, "threshold": self.root.threshold}
        found["keys"] = {name: key.to_json() for name, key in self.keys.items()}
        found["rules"] = [rule.to_json() for rule in self.rules]
        return found


PolicyLike = TrustPolicy | str | os.PathLike[str]
"""What functions take for a trust policy: a `TrustPolicy`, or the path of one."""
