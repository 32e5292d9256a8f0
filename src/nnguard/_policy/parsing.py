"""Parsing a trust policy: members to keys, root and rules (SPEC 12.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nnguard._base.mappings import FrozenMapping
from nnguard._base.texts import shown
from nnguard._crypto.keys import PublicKey
from nnguard._policy.document import PolicyKey, Root, Rule
from nnguard._policy.finding import Level
from nnguard._policy.reading import Node
from nnguard._policy.scope import Scope
from nnguard.errors import KeyFormatError

__all__ = ["parse_members"]


def parse_members(node: Node) -> dict[str, Any]:
    """Return the fields of a `TrustPolicy`.

    Raises:
        PolicyError: A member is missing, unknown, or not what it should be; the error names it.
    """
    found = node.members(["version", "keys", "rules"], ["expires", "root", "$schema"])
    if "$schema" in found:  # of the editor, and not of the policy
        found["$schema"].text()
    keys = {name: _key(name, entry) for name, entry in found["keys"].entries().items()}
    _check_different(keys, found["keys"])
    return {
        "version": found["version"].number(1),
        "keys": FrozenMapping(keys),
        "rules": _rules(found["rules"], keys),
        "expires": found["expires"].time() if "expires" in found else None,
        "root": _root(found["root"], keys) if "root" in found else None,
    }


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
        for part in (key.key.id, *(part.der for part in key.key.parts)):
            if part in owners:
                raise node.error(
                    f"{shown(owners[part])} and {shown(name)} are the same key, or share a half"
                )
            owners[part] = name


def _named(node: Node, keys: Mapping[str, PolicyKey]) -> tuple[PolicyKey, ...]:
    """Return the keys that an array names, each once."""
    found: dict[str, PolicyKey] = {}
    for item in node.items():
        name = item.text()
        if name not in keys:
            raise item.error(f"there is no key {shown(name)!r}")
        if name in found:
            raise item.error(f"{shown(name)!r} stands there twice")
        found[name] = keys[name]
    return tuple(found.values())


def _threshold(node: Node, keys: tuple[PolicyKey, ...]) -> int:
    threshold = node.number(1)
    if threshold > len(keys):
        number = "1 key" if len(keys) == 1 else f"{len(keys)} keys"
        raise node.error(f"{threshold} signatures of {number} can never be")
    return threshold


def _root(node: Node, all_keys: Mapping[str, PolicyKey]) -> Root:
    found = node.members(["keys", "threshold"])
    keys = _named(found["keys"], all_keys)
    for key in keys:
        if key.revoked or key.not_after is not None:
            raise found["keys"].error(
                f"{shown(key.name)} is revoked or expires",
                "a root key holds until the next version of the policy replaces it",
            )
    return Root(keys, _threshold(found["threshold"], keys))


def _rules(node: Node, keys: Mapping[str, PolicyKey]) -> tuple[Rule, ...]:
    rules, seen = [], set()
    for item in node.items():
        rule = _rule(item, keys)
        for scope in rule.scopes:
            if scope in seen:
                raise item.error(f"scope {shown(scope.text)!r} stands there twice")
            seen.add(scope)
        rules.append(rule)
    return tuple(rules)


def _rule(node: Node, all_keys: Mapping[str, PolicyKey]) -> Rule:
    found = node.members(
        ["scopes", "keys", "threshold", "level"],
        ["min_version", "min_release", "post_quantum", "latest"],
    )
    keys = _named(found["keys"], all_keys)
    latest = found["latest"].members(["max_age"]) if "latest" in found else {}
    return Rule(
        scopes=tuple(_scope(item) for item in found["scopes"].items()),
        keys=keys,
        threshold=_threshold(found["threshold"], keys),
        level=found["level"].choice(Level),
        min_version=_version(found["min_version"]) if "min_version" in found else "",
        min_release=found["min_release"].number(0) if "min_release" in found else None,
        post_quantum=found["post_quantum"].flag() if "post_quantum" in found else False,
        max_age=latest["max_age"].age() if latest else None,
    )


def _scope(node: Node) -> Scope:
    text = node.text()
    if "/" not in text:
        raise node.error(
            f"{shown(text)!r} is not ISSUER/NAME", "such as acme.ai/resnet* or acme.ai/*"
        )
    return Scope(text)


def _version(node: Node) -> str:
    from packaging.version import InvalidVersion, Version  # only who asks waits for it

    try:
        return str(Version(node.text()))
    except (InvalidVersion, ValueError):
        raise node.error("expected a version, such as 1.2 (PEP 440)") from None
