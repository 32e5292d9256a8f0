"""A policy's text: what is read, what is refused, and where the error says that it is wrong."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnguard
from nnguard._policy.writing import write_toml
from nnguard.errors import ArgumentError, PolicyError, PolicyReason
from policies import document, put

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = {name: nnguard.SigningKey.generate().public_key for name in ("acme", "root")}
SCHEMA = json.loads(resources.files("nnguard._policy").joinpath("schema.json").read_text())
FULL = document(
    KEYS,
    {"keys": ["acme"], "scopes": ["acme.ai/*", "acme.com/res*net"], "min_version": "1.2"},
    {"keys": ["acme"], "level": "audit", "min_release": 7, "latest": {"max_age": "7d"}},
    root={"keys": ["root"], "threshold": 1},
    expires="2030-01-01",
)
FULL["keys"]["acme"] |= {"not_after": "2029-12-31T12:00:00+01:00", "revoked": "2028-01-01"}


def parsed(found: Any) -> nnguard.TrustPolicy:
    return nnguard.TrustPolicy.parse(json.dumps(found))


def changed(path: str, value: Any = None) -> Any:
    """Return the policy with one member changed, added, or taken away where the value is None."""
    found = copy.deepcopy(FULL)
    put(found, path, value)
    return found


WRONG: list[tuple[str, Any, str]] = [
    ("version", 0, "version: expected a whole number, 1 or more"),
    ("version", 1 << 63, "version: expected a whole number"),
    ("version", 1.0, "version: expected a whole number"),
    ("version", True, "version: expected a whole number"),
    ("version", None, "version is missing"),
    ("expires", "tomorrow", "expires: expected a date or a time"),
    ("expires", "2030-02-30", "expires: expected a date or a time"),
    ("expires", "2030-01-01T00:00:00", "expires: expected a date or a time"),
    ("expires", 1893456000, "expires: expected a date or a time"),
    ("rules", [], "rules: expected an array that is not empty"),
    ("rules", {}, "rules: expected an array"),
    ("keys", [], "keys: expected an object"),
    ("keys.acme", {}, "keys.acme: pem is missing"),
    ("keys.acme.pem", "acme", "keys.acme.pem: no public key in PEM"),
    ("keys.acme.revoked", 1, "keys.acme.revoked: expected a date"),
    ("keys.acme.expires", "2030-01-01", "keys.acme.expires: unknown member"),
    ("keys.root.revoked", True, "root.keys: root is revoked or expires"),
    ("keys.root.not_after", "2030-01-01", "root.keys: root is revoked or expires"),
    ("root.threshold", 2, "root.threshold: 2 signatures of 1 key can never be"),
    ("root.keys", ["nobody"], r"root.keys\[0\]: there is no key 'nobody'"),
    ("rules.0.keys", ["acme", "acme"], r"rules\[0\].keys\[1\]: 'acme' stands there twice"),
    ("rules.0.keys", [], r"rules\[0\].keys: expected an array that is not empty"),
    ("rules.0.keys", [7], r"rules\[0\].keys\[0\]: expected text"),
    ("rules.0.threshold", 2, r"rules\[0\].threshold: 2 signatures of 1 key can never be"),
    ("rules.0.threshold", None, r"rules\[0\]: threshold is missing"),
    ("rules.0.level", "skip", r"rules\[0\].level: expected one of strict, permissive, audit"),
    ("rules.0.level", None, r"rules\[0\]: level is missing"),
    ("rules.0.scopes", ["acme.ai"], r"rules\[0\].scopes\[0\]: 'acme.ai' is not ISSUER/NAME"),
    ("rules.0.scopes", ["\ud800/*"], "not a trust policy, .*: text that UTF-8 cannot hold"),
    ("keys.\ud800", {}, "not a trust policy, .*: text that UTF-8 cannot hold"),
    ("rules.0.scopes", ["*/*"], r"rules\[1\]: scope '\*/\*' stands there twice"),
    ("rules.0.min_version", "one", r"rules\[0\].min_version: expected a version"),
    ("rules.1.min_release", -1, r"rules\[1\].min_release: expected a whole number, 0 or more"),
    ("rules.0.post_quantum", "yes", r"rules\[0\].post_quantum: expected true or false"),
    ("rules.1.latest", {}, r"rules\[1\].latest: max_age is missing"),
    ("rules.1.latest.max_age", 7, r"rules\[1\].latest.max_age: expected a length of time"),
    ("rules.1.latest.max_age", "0d", r"rules\[1\].latest.max_age: expected a length of time"),
]


def test_what_is_read() -> None:
    policy = parsed(FULL)
    first, second = policy.rules
    assert policy.expires is not None
    assert policy.expires.isoformat() == "2030-01-01T00:00:00+00:00"
    assert policy.keys["acme"].not_after is not None
    assert policy.keys["acme"].not_after.isoformat() == "2029-12-31T11:00:00+00:00"
    assert [scope.text for scope in first.scopes] == ["acme.ai/*", "acme.com/res*net"]
    assert second.min_release == 7
    assert second.max_age is not None
    assert second.max_age.length == timedelta(days=7)
    assert policy.root is not None
    assert policy.root.keys == (policy.keys["root"],)


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_what_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^{message}") as caught:
        parsed(changed(path, value))
    assert caught.value.reason is PolicyReason.MALFORMED


def test_names_are_text_as_well() -> None:
    for place in ("keys.\ud800", "\ud800"):
        with pytest.raises(PolicyError, match="UTF-8 cannot hold"):
            parsed(changed(place, FULL["keys"]["root"]))


@pytest.mark.parametrize("part", ["a", '"a"', '"\\""', "'a'", "a \t"])
@pytest.mark.parametrize("where", ["{} = 1", "[{}]", "[[{}]]", "a = {{ {} = 1 }}"])
def test_keys_of_many_dots_are_not_parsed(part: str, where: str) -> None:
    """At 64 KiB they would cost 20 seconds and 4 GB."""
    text = where.format(".".join([part] * 30_000))
    with pytest.raises(PolicyError, match="more than 16 dots"):
        nnguard.TrustPolicy.parse(text)


def test_a_typo_is_answered_by_the_name() -> None:
    with pytest.raises(PolicyError) as caught:
        parsed(changed("rules.0.thresholds", 1))
    assert str(caught.value) == "rules[0].thresholds: unknown member"
    assert caught.value.hint == "did you mean threshold?"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 1, "version": 2}',
        '{"version": NaN}',
        '{"version": 1' + "0" * 5000 + "}",
        '{"version":' + "[" * 100_000,
        "version = 1\nversion = 2\n",
        "version = ",
        "\ufeff{}",
        b"\xff{}",
        "-----BEGIN NNGUARD POLICY-----",
        "-----BEGIN NNGUARD POLICY-----\nAAAA\n-----END NNGUARD POLICY-----\n",
        "# -----BEGIN NNGUARD POLICY-----\nversion = 1\n",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_policy(text: str | bytes) -> None:
    with pytest.raises(PolicyError) as caught:
        nnguard.TrustPolicy.parse(text)
    assert caught.value.reason is PolicyReason.MALFORMED


def test_a_private_key_is_not_shown() -> None:
    secret = nnguard.SigningKey.generate().pem().decode()
    with pytest.raises(PolicyError) as caught:
        parsed(changed("keys.acme.pem", secret))
    assert secret.splitlines()[1] not in str(caught.value) + caught.value.hint


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "policy").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(PolicyError, match="too many for a trust policy"):
        nnguard.TrustPolicy.load(tmp_path / "policy")


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"policy\.json: version is missing"):
        nnguard.TrustPolicy.load(tmp_path / "policy.json")


def test_toml_has_times_of_its_own() -> None:
    text = (
        write_toml(FULL)
        .replace('"2030-01-01"', "2030-01-01")
        .replace('"2029-12-31T12:00:00+01:00"', "2029-12-31T12:00:00+01:00")
    )
    assert nnguard.TrustPolicy.parse(text) == parsed(FULL)
    local = text.replace("12:00:00+01:00", "12:00:00")
    with pytest.raises(PolicyError, match=r"keys\.acme\.not_after: expected a date or a time"):
        nnguard.TrustPolicy.parse(local)


def test_written_and_read_again(tmp_path: Path) -> None:
    policy = parsed(FULL)
    assert parsed(policy.to_json()) == policy
    for name in ("policy.json", "policy.toml"):
        policy.save(tmp_path / name)
        assert nnguard.TrustPolicy.load(tmp_path / name) == policy
    assert (tmp_path / "policy.toml").read_text().startswith("version = 1\n")


@given(TEXTS, TEXTS, TEXTS, st.integers(1, 99_999), st.sampled_from("hdw"))
def test_any_text_is_written_and_read_again(
    issuer: str, name: str, key: str, age: int, unit: str
) -> None:
    rule = {"scopes": [f"{issuer}/{name}"], "latest": {"max_age": f"{age}{unit}"}}
    policy = parsed(document({key: KEYS["acme"]}, rule))
    assert parsed(policy.to_json()) == policy
    assert nnguard.TrustPolicy.parse(write_toml(policy.to_json())) == policy


# The published schema says the same


def test_the_name_of_the_schema_is_for_editors() -> None:
    named = {"$schema": "https://acme.ai/schema.json", **FULL}
    assert parsed(named) == parsed(FULL)
    assert "$schema" not in parsed(named).to_json()
    _validator().validate(named)
    with pytest.raises(PolicyError, match=r"^\$schema: expected text"):
        parsed({**FULL, "$schema": 1})


def test_lengths_of_time_are_written_as_they_were() -> None:
    for text in ("7d", "168h", "1w"):
        policy = parsed(changed("rules.1.latest.max_age", text))
        assert policy.to_json()["rules"][1]["latest"] == {"max_age": text}


def test_the_schema_accepts_what_is_read() -> None:
    validator = _validator()
    validator.validate(FULL)
    validator.validate(parsed(FULL).to_json())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (path, value)
        for path, value, message in WRONG
        if not re.search("can never be|no key|twice|is revoked|UTF-8|a version", message)
        and value not in ("2030-02-30", 1.0)  # a schema knows no calendar, and takes 1.0 for 1
    ],
)
def test_the_schema_refuses_what_is_refused(path: str, value: Any) -> None:
    assert not _validator().is_valid(changed(path, value))


def _validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


# Making one


def test_new_names_what_cannot_be() -> None:
    with pytest.raises(PolicyError, match="is not ISSUER/NAME"):
        nnguard.TrustPolicy.new(["acme.ai"], {"acme": KEYS["acme"]})
    with pytest.raises(ArgumentError, match="two keys have the name 'acme'"):
        nnguard.TrustPolicy.new(["*/*"], {"acme": KEYS["acme"]}, root={"acme": KEYS["root"]})
    with pytest.raises(TypeError, match="keys: expected a path or a PublicKey, not int"):
        nnguard.TrustPolicy.new(["*/*"], {"acme": 7})  # type: ignore[dict-item]


def test_what_was_changed_since_it_was_signed_is_not_signed_again() -> None:
    key = nnguard.SigningKey.generate()
    found = document({"acme": key.public_key}, root={"keys": ["acme"], "threshold": 1})
    signed = parsed(found).sign(key)
    changed = replace(signed, version=2)
    with pytest.raises(ArgumentError, match="says something else"):
        changed.sign(key)
    assert replace(changed, message=None).sign(key, after=signed).version == 2


def test_only_root_keys_sign() -> None:
    policy = parsed(FULL)
    with pytest.raises(ArgumentError, match="is not a root key"):
        policy.sign(nnguard.SigningKey.generate())
    plain = nnguard.TrustPolicy.new(["*/*"], {"acme": KEYS["acme"]})
    with pytest.raises(ArgumentError, match="without a root"):
        plain.sign(nnguard.SigningKey.generate())
    with pytest.raises(ArgumentError, match="does not come after version 1, which is not signed"):
        policy.sign(nnguard.SigningKey.generate(), after=policy)
