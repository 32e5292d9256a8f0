"""The second reader, continued: trust policies, written from `docs/SPEC.md`, 12, alone.

Nothing of nnguard is used here. Of versions (PEP 440), it compares those of numbers and points.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm

from second_licensing import unarmor
from second_reader import Outcome
from second_signatures import Message, VendorKey, read_message

__all__ = ["PolicyRefused", "Ruling", "judge"]

AAD = b"nnguard policy v1\0"
BEGIN = "-----BEGIN NNGUARD POLICY-----"
HARD = {
    "permissive": {"other-key", "key-revoked", "post-quantum", "threshold"},
    "audit": set[str](),
}
"""What other levels than strict refuse from step 2 of 12.3 on."""


class PolicyRefused(Outcome):
    """A PolicyError, with its reason."""

    def __init__(self, reason: str) -> None:
        super().__init__("PolicyError", reason)
        self.reason = reason


@dataclass
class Key:
    """A key of a policy."""

    key: VendorKey
    not_after: datetime | None
    revoked: bool


@dataclass
class Policy:
    """A policy that is well formed; `message` is what it was signed as."""

    members: dict[str, Any]
    keys: dict[str, Key]
    payload: bytes
    message: Message | None = None
    older: list[Policy] = field(default_factory=list)

    @property
    def version(self) -> int:
        return int(self.members["version"])


@dataclass
class Ruling:
    """Which rule decided, and what it warns of; `digest` of a signed policy."""

    rule: int
    warnings: list[str]
    digest: str


# 12.1


def bad() -> NoReturn:
    raise PolicyRefused("malformed")


def need(condition: object) -> None:
    if not condition:
        bad()


def members_of(value: Any, required: str, optional: str = "") -> dict[str, Any]:
    need(type(value) is dict)
    need(set(required.split()) <= set(value) <= {*required.split(), *optional.split()})
    return dict(value)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)


def number(value: Any, least: int = 1) -> int:
    need(type(value) is int and least <= value < 1 << 63)
    return int(value)


def text(value: Any) -> str:
    need(type(value) is str and not re.search("[\ud800-\udfff]", value))
    return str(value)


def time(value: Any) -> datetime:
    form = r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(?:Z|([+-])(\d\d):(\d\d)))?"
    found = re.fullmatch(form, text(value), re.ASCII)
    if found is None:
        bad()
    day, clock, sign, hours, minutes = found.groups()
    try:
        date.fromisoformat(day)
        at = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}").replace(tzinfo=timezone.utc)
        if sign:
            need(int(hours) < 24 and int(minutes) < 60)
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            at = at - offset if sign == "+" else at + offset
    except (ValueError, OverflowError):
        bad()
    return at


def names(value: Any, keys: dict[str, Key]) -> list[str]:
    need(type(value) is list and value and all(type(name) is str for name in value))
    need(len(set(value)) == len(value) and set(value) <= set(keys))
    return list(value)


def key(value: Any) -> Key:
    found = members_of(value, "pem", "not_after revoked")
    try:
        vendor = VendorKey(text(found["pem"]))
    except (ValueError, KeyError, StopIteration, UnsupportedAlgorithm):
        bad()
    need(vendor.parts)
    revoked = found.get("revoked", False)
    if type(revoked) is not bool:
        time(revoked)
    not_after = time(found["not_after"]) if "not_after" in found else None
    return Key(vendor, not_after, revoked is not False)


def check_rule(value: Any, keys: dict[str, Key]) -> list[str]:
    """Check a rule; return its scopes."""
    required = "scopes keys threshold level"
    found = members_of(value, required, "min_version min_release post_quantum latest")
    need(number(found["threshold"]) <= len(names(found["keys"], keys)))
    need(found["level"] in ("strict", "permissive", "audit"))
    need(type(found["scopes"]) is list and found["scopes"])
    need(all("/" in text(scope) for scope in found["scopes"]))
    if "min_version" in found:
        need(numbers(text(found["min_version"])))
    if "min_release" in found:
        number(found["min_release"], 0)
    need(type(found.get("post_quantum", False)) is bool)
    if "latest" in found:
        age = members_of(found["latest"], "max_age")["max_age"]
        need(re.fullmatch("[1-9][0-9]{0,4}[hdw]", text(age)))
    return list(found["scopes"])


def read_json(payload: bytes) -> Policy:
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=once, parse_constant=text)
    except (ValueError, RecursionError):
        bad()
    found = members_of(value, "version keys rules", "expires root $schema")
    text(found.get("$schema", ""))
    number(found["version"])
    need(type(found["keys"]) is dict)
    keys = {text(name): key(each) for name, each in found["keys"].items()}
    singles = [der for each in keys.values() for der in each.key.ders]
    need(len(set(singles)) == len(singles))
    need(len({each.key.kid for each in keys.values()}) == len(keys))
    if "expires" in found:
        time(found["expires"])
    if "root" in found:
        root = members_of(found["root"], "keys threshold")
        holders = names(root["keys"], keys)
        need(number(root["threshold"]) <= len(holders))
        raw = [found["keys"][name] for name in holders]
        need(all("not_after" not in each and each.get("revoked", False) is False for each in raw))
    need(type(found["rules"]) is list and found["rules"])
    scopes = [scope for rule in found["rules"] for scope in check_rule(rule, keys)]
    need(len(set(scopes)) == len(scopes))
    return Policy(found, keys, payload)


# 12.4


def read(file: bytes) -> Policy:
    need(len(file) <= 1 << 20)
    try:
        armored = file.decode("utf-8")
    except ValueError:
        bad()
    if BEGIN not in armored:
        return read_json(file)
    found: list[Policy] = []
    for block in armored.split(BEGIN)[1:]:
        try:
            message = read_message(unarmor("NNGUARD POLICY", BEGIN + block), several=True)
        except (ValueError, Outcome):
            bad()
        need(message.rest == {3: 50})
        policy = read_json(message.payload)
        need("root" in policy.members)
        policy.message = message
        found.append(policy)
    found[-1].older = found[:-1]
    return found[-1]


def check_by_root(policy: Policy, of: Policy) -> None:
    root = of.members["root"]
    assert policy.message is not None
    right = [name for name in root["keys"] if policy.message.is_by(of.keys[name].key, AAD)]
    if len(right) < root["threshold"]:
        raise PolicyRefused("policy-signatures")


def check_step(policy: Policy, before: Policy) -> None:
    if policy.version != before.version + 1:
        raise PolicyRefused("policy-version")
    check_by_root(policy, before)


def check_signed(policy: Policy) -> None:
    before = None
    for each in [*policy.older, policy]:
        if each.message is not None:
            check_by_root(each, each)
        if before is not None:
            check_step(each, before)
        before = each


# 12.5


def check_after(policy: Policy, pinned: Policy) -> None:
    if policy.message is None:
        raise PolicyRefused("unsigned")
    versions = [*policy.older, policy]
    if versions[0].version > pinned.version:
        check_step(versions[0], pinned)
    elif (pinned.version, pinned.payload) not in [(v.version, v.payload) for v in versions]:
        raise PolicyRefused("policy-version")


# 12.2 and 12.3


def fits(pattern: str, value: str) -> bool:
    parts = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(parts, value, re.DOTALL) is not None


def is_in(scope: str, release: dict[str, Any]) -> bool:
    issuer, _, name = scope.partition("/")
    return fits(issuer, release.get("iss", "")) and fits(name, release.get("sub", ""))


def numbers(version: str) -> list[int]:
    if not re.fullmatch(r"\d+(\.\d+)*", version, re.ASCII):
        return []
    found = [int(part) for part in version.split(".")]
    while len(found) > 1 and not found[-1]:
        found.pop()
    return found


def step_4(key: Key, rule: dict[str, Any], now: datetime) -> str:
    """Return what is wrong with a key; nothing where it counts."""
    if key.revoked:
        return "key-revoked"
    if rule.get("post_quantum") and len(key.key.parts) < 2:
        return "post-quantum"
    return "key-expired" if key.not_after is not None and now > key.not_after else ""


def faults(
    policy: Policy, rule: dict[str, Any], release: dict[str, Any], kids: list[bytes], now: datetime
) -> Iterator[str]:
    """Yield the reasons of the steps that fail, from 2 on."""
    if "expires" in policy.members and now >= time(policy.members["expires"]):
        yield "policy-expired"
    mine = {policy.keys[name].key.kid: policy.keys[name] for name in rule["keys"]}
    if kids[0] not in mine:
        yield "other-key"
    elif fault := step_4(mine[kids[0]], rule, now):
        yield fault
    found = [step_4(mine[kid], rule, now) for kid in dict.fromkeys(kids) if kid in mine]
    if found.count("") + found.count("key-expired") < rule["threshold"]:
        yield "threshold"
    elif found.count("") < rule["threshold"]:
        late = found[1:] if kids[0] in mine else found  # the first was told above
        yield from (fault for fault in late if fault == "key-expired")
    if "min_version" in rule:
        version = numbers(release.get("version", ""))
        if not version or version < numbers(rule["min_version"]):
            yield "version"
    if "min_release" in rule and release.get("release", -1) < rule["min_release"]:
        yield "release"


def judge(
    file: bytes, release: dict[str, Any], kids: list[bytes], now: int, pinned: bytes | None = None
) -> Ruling:
    """Judge a release whose signatures that count are by these keys, the outermost first."""
    policy = read(file)
    check_signed(policy)
    if pinned is not None:
        check_after(policy, read(pinned))
    rules = enumerate(policy.members["rules"])
    at = next((n for n, rule in rules if any(is_in(s, release) for s in rule["scopes"])), None)
    if at is None:
        raise PolicyRefused("no-scope")
    rule = policy.members["rules"][at]
    warnings = []
    for fault in faults(policy, rule, release, kids, datetime.fromtimestamp(now, timezone.utc)):
        if rule["level"] == "strict" or fault in HARD[rule["level"]]:
            raise PolicyRefused(fault)
        warnings.append(fault)
    digest = hashlib.sha256(policy.payload).hexdigest() if policy.message else ""
    return Ruling(at, warnings, digest)
