"""Errors show as much of a text, which may be anybody's, as fits into a line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import nnguard
from nnguard._base.strict_json import parse_json
from nnguard._base.texts import shown
from nnguard._oms.statement import check_name
from policies import document, policy

KEY = nnguard.SigningKey.generate()
LONG = "x" * 60_000
MOST = 500


def test_shown() -> None:
    assert shown("short") == "short"
    assert shown(LONG) == "x" * 100 + "..."


def parse(path: str, value: object) -> Callable[[], object]:
    members = document({"acme": KEY.public_key})
    members["rules"][0][path] = value
    return lambda: nnguard.TrustPolicy.parse(json.dumps(members))


CASES: dict[str, Callable[[], object]] = {
    "a member that stands twice": lambda: parse_json(f'{{"{LONG}":1,"{LONG}":2}}'.encode()),
    "a name in a bundle": lambda: check_name(f"../{LONG}"),
    "a member of a policy": parse(LONG, 1),
    "a key that is not there": parse("keys", [LONG]),
    "a scope without a slash": parse("scopes", [LONG]),
    "a policy in TOML": lambda: nnguard.TrustPolicy.parse(f'"{LONG}" = 1\n"{LONG}" = 2'),
    "a release in no scope": lambda: policy({"acme": KEY.public_key}, {"scopes": ["a/*"]}).rule_for(
        LONG, LONG
    ),
    "a name that is not expected": lambda: nnguard.Expect(name="a").check(
        nnguard.Claims(name=LONG)
    ),
    "a key in a token": lambda: nnguard.sign("model.nnc", f"pkcs11:{'x' * 60_000}=1"),
}


@pytest.mark.parametrize("what", CASES)
def test_errors_are_not_as_long_as_what_they_are_about(what: str) -> None:
    with pytest.raises((nnguard.errors.NnguardError, ValueError)) as caught:
        CASES[what]()
    assert len(f"{caught.value}{getattr(caught.value, 'hint', '')}") < MOST
