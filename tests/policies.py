"""Policies that tests are made of."""

from __future__ import annotations

import json
from typing import Any

import nnguard

ALLOWED = {"threshold": 1, "level": "strict"}


def document(
    keys: dict[str, nnguard.PublicKey], *rules: dict[str, Any], **members: Any
) -> dict[str, Any]:
    """Return a policy as JSON values; without rules, each key may sign everything."""
    usual = {"scopes": ["*/*"], "keys": [*keys]}
    return {
        "version": 1,
        "keys": {name: {"pem": key.pem.decode()} for name, key in keys.items()},
        "rules": [{**usual, **ALLOWED, **rule} for rule in rules or ({},)],
        **members,
    }


def policy(
    keys: dict[str, nnguard.PublicKey], *rules: dict[str, Any], **members: Any
) -> nnguard.TrustPolicy:
    """Return a policy; see `document`."""
    return nnguard.TrustPolicy.parse(json.dumps(document(keys, *rules, **members)))


def put(document: Any, path: str, value: Any) -> None:
    """Change or add the member at a path such as `rules.0.level`; with None, take it away."""
    *folders, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in folders:
        document = document[part]
    if value is None:
        del document[last]
    else:
        document[last] = value
