"""A trust policy: scopes of releases, and whose signatures count there.

    policy = nnguard.TrustPolicy.load("acme.policy.toml")
    nnguard.verify("release.nnc", policy=policy)

Law: `TrustPolicy.parse(json.dumps(policy.to_json())) == policy` (SPEC 12.1).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nnguard._base.arguments import loaded
from nnguard._base.files import read_file
from nnguard._base.mappings import FrozenMapping
from nnguard._crypto.keys import PublicKey
from nnguard._policy.finding import Finding, Level
from nnguard._policy.reading import Node, malformed, read_text
from nnguard._policy.scope import Scope
from nnguard.errors import KeyFormatError, LimitError, PolicyError, PolicyReason

__all__ = ["PolicyKey", "Root", "Rule", "TrustPolicy"]

PublicKeyLike = PublicKey | str | os.PathLike[str]
"""What functions take for a public key: a `PublicKey`, or the path of one."""

_LARGEST = 1 << 20
"""Bytes of a policy, at most."""


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
            found["not_after"] = _text_of(self.not_after)
        if self.revoked:
            found["revoked"] = True if self.revoked is True else _text_of(self.revoked)
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
    max_age: timedelta | None = None

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
        signed = f"{what} is signed with key {key.name} ({key.id}), which"
        if key.revoked:
            return _revoked(key, what)
        if self.post_quantum and not getattr(key.key, "post_quantum", False):
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
            found["latest"] = {"max_age": f"{self.max_age // timedelta(hours=1)}h"}
        return found


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
        return _policy(Node({"version": 1, "keys": members, "rules": [rule]}))

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
        return _policy(read_text(text))

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
                raise _revoked(key, what).error()

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON values, as `parse` reads them."""
        found: dict[str, Any] = {"version": self.version}
        if self.expires is not None:
            found["expires"] = _text_of(self.expires)
        if self.root is not None:
            names = [key.name for key in self.root.keys]
            found["root"] = {"keys": names, "threshold": self.root.threshold}
        found["keys"] = {name: key.to_json() for name, key in self.keys.items()}
        found["rules"] = [rule.to_json() for rule in self.rules]
        return found


def _policy(node: Node) -> TrustPolicy:
    found = node.members(["version", "keys", "rules"], ["expires", "root"])
    keys = {name: _key(name, entry) for name, entry in found["keys"].entries().items()}
    _check_different(keys, found["keys"])
    return TrustPolicy(
        version=found["version"].number(1),
        keys=FrozenMapping(keys),
        rules=_rules(found["rules"], keys),
        expires=found["expires"].time() if "expires" in found else None,
        root=_root(found["root"], keys) if "root" in found else None,
    )


def _key(name: str, node: Node) -> PolicyKey:
    found = node.members(["pem"], ["not_after", "revoked"])
    try:
        key = PublicKey.from_pem(found["pem"].text().encode())
    except KeyFormatError as error:
        raise found["pem"].error(str(error), error.hint) from None
    revoked: datetime | bool = False
    if "revoked" in found:
        flag = isinstance(found["revoked"].value, bool)
        revoked = found["revoked"].flag() if flag else found["revoked"].time()
    not_after = found["not_after"].time() if "not_after" in found else None
    return PolicyKey(name, key, not_after, revoked)


def _check_different(keys: Mapping[str, PolicyKey], node: Node) -> None:
    """Make sure that no key, nor half of one, has two names: it would count twice."""
    owners: dict[bytes, str] = {}
    for name, key in keys.items():
        for part in {key.key.id}:
            if part in owners:
                raise node.error(f"{owners[part]} and {name} are the same key")
            owners[part] = name


def _named(node: Node, keys: Mapping[str, PolicyKey]) -> tuple[PolicyKey, ...]:
    """Return the keys that an array names, each once."""
    found: dict[str, PolicyKey] = {}
    for item in node.items():
        name = item.text()
        if name not in keys:
            raise item.error(f"there is no key {name!r}")
        if name in found:
            raise item.error(f"{name!r} stands there twice")
        found[name] = keys[name]
    return tuple(found.values())


def _threshold(node: Node, keys: tuple[PolicyKey, ...]) -> int:
    threshold = node.number(1)
    if threshold > len(keys):
        raise node.error(f"{threshold} signatures of {len(keys)} keys can never be")
    return threshold


def _root(node: Node, all_keys: Mapping[str, PolicyKey]) -> Root:
    found = node.members(["keys", "threshold"])
    keys = _named(found["keys"], all_keys)
    for key in keys:
        if key.revoked or key.not_after is not None:
            raise found["keys"].error(
                f"{key.name} is revoked or expires",
                "a root key holds until the next version of the policy replaces it",
            )
    return Root(keys, _threshold(found["threshold"], keys))


def _rules(node: Node, keys: Mapping[str, PolicyKey]) -> tuple[Rule, ...]:
    rules, seen = [], set()
    for item in node.items():
        rule = _rule(item, keys)
        for scope in rule.scopes:
            if scope in seen:
                raise item.error(f"scope {scope.text!r} stands there twice")
            seen.add(scope)
        rules.append(rule)
    return tuple(rules)


def _rule(node: Node, all_keys: Mapping[str, PolicyKey]) -> Rule:
    found = node.members(
        ["scopes", "keys", "threshold", "level"],
        ["min_version", "min_release", "post_quantum", "latest"],
    )
    keys = _named(found["keys"], all_keys)
    max_age = None
    if "latest" in found:
        max_age = found["latest"].members(["max_age"])["max_age"].age()
    return Rule(
        scopes=tuple(_scope(item) for item in found["scopes"].items()),
        keys=keys,
        threshold=_threshold(found["threshold"], keys),
        level=found["level"].choice(Level),
        min_version=_version(found["min_version"]) if "min_version" in found else "",
        min_release=found["min_release"].number(0) if "min_release" in found else None,
        post_quantum=found["post_quantum"].flag() if "post_quantum" in found else False,
        max_age=max_age,
    )


def _scope(node: Node) -> Scope:
    text = node.text()
    if "/" not in text:
        raise node.error(f"{text!r} is not ISSUER/NAME", "such as acme.ai/resnet* or acme.ai/*")
    return Scope(text)


def _version(node: Node) -> str:
    from packaging.version import InvalidVersion, Version  # only who asks waits for it

    try:
        return str(Version(node.text()))
    except (InvalidVersion, ValueError):
        raise node.error("expected a version, such as 1.2 (PEP 440)") from None


def _revoked(key: PolicyKey, what: str) -> Finding:
    return Finding(
        PolicyReason.KEY_REVOKED,
        f"{what} is signed with key {key.name} ({key.id}), which is revoked",
        "get it again from its vendor, signed with another key",
    )


def _text_of(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
