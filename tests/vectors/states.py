"""Vectors of state files and latest statements."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import cbor2

from nnguard._crypto.armor import write_armor
from vectors.selling import NOW
from vectors.toolbox import KEYS, Made, signed_message, vector

DAY = 86400
DIGEST = hashlib.sha256(b"release 7").digest()
RELEASE = {"iss": "vendor.example", "sub": "small", "version": "1.2", "release": 7}
SCOPE = "vendor.example/small"
ARMOR = "NNGUARD LATEST STATEMENT"
VENDOR, PARTNER = (KEYS[name].public_key.id.hex() for name in ("vendor", "partner"))

remembers = functools.partial(vector, "13.1", operation="remember")
states = functools.partial(vector, "13.2", operation="remember")


def state(**members: Any) -> str:
    """A state file that remembers number 6 of the vendor's key."""
    found = {
        "format": "nnguard state 1",
        "newest": NOW - DAY,
        "releases": [[SCOPE, VENDOR, 6]],
        "latest": [],
        "policy": None,
        **members,
    }
    found["sha256"] = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return json.dumps(found, indent=1) + "\n"


def after(**members: Any) -> str:
    """SHA-256 of the file that there is in the end."""
    right = {"newest": NOW, "releases": [[SCOPE, VENDOR, 7]], **members}
    return hashlib.sha256(state(**right).encode()).hexdigest()


def statement(
    key: str = "vendor", domain: bytes = b"nnguard latest statement v1\0", **changes: Any
) -> str:
    """A statement, right but for what is changed; None leaves a claim out."""
    claims: dict[Any, Any] = {
        1: "vendor.example",
        2: "small",
        4: NOW + DAY,
        6: NOW - DAY,
        "version": "1.2",
        "release": 7,
        "digest": DIGEST,
    }
    labels = {"iss": 1, "sub": 2, "exp": 4, "iat": 6}
    claims |= {labels.get(name, name): value for name, value in changes.items()}
    claims = {label: value for label, value in claims.items() if value is not None}
    payload = cbor2.dumps(claims, canonical=True)
    return write_armor(ARMOR, signed_message(KEYS[key], {}, payload, domain))


def made(
    file: str = "", stated: str = "", *, release: dict[str, Any] | None = None, **more: Any
) -> Made:
    """A release that passed all else, what is remembered before, and what is stated."""
    given = {
        "release": RELEASE if release is None else release,
        "kids": [VENDOR],
        "digests": [DIGEST.hex()],
        "now": NOW,
        "trust": ["vendor", "partner"],
    }
    texts = [("state", file)] * bool(file) + [("statement", stated)] * bool(stated)
    return Made(details=tuple({**given, **more}.items()), texts=tuple(texts))


@remembers("ok")
def state_new() -> Made:
    """There is no file yet."""
    return made(state_sha256=after())


@remembers("ok")
def state_next() -> Made:
    """Number 7 after 6."""
    return made(state(), state_sha256=after())


@remembers("ok")
def state_of_other_key() -> Made:
    """Another key's number is higher by far, and does not matter."""
    other = [SCOPE, PARTNER, 2**63 - 1]
    numbers = sorted([other, [SCOPE, VENDOR, 7]])
    before = state(releases=sorted([other, [SCOPE, VENDOR, 6]]))
    return made(before, state_sha256=after(releases=numbers))


@remembers("ok")
def state_of_two_signers() -> Made:
    """Both keys whose signatures count are remembered."""
    numbers = sorted([[SCOPE, VENDOR, 7], [SCOPE, PARTNER, 7]])
    return made(state(), kids=[PARTNER, VENDOR], state_sha256=after(releases=numbers))


@remembers("ok")
def state_of_another_release() -> Made:
    """The name has its own numbers; it is not in ASCII."""
    name = "vendor.example/größer"
    numbers = sorted([[SCOPE, VENDOR, 6], [name, VENDOR, 1]])
    release = {**RELEASE, "sub": "größer", "release": 1}
    return made(state(), release=release, state_sha256=after(releases=numbers))


@remembers("PolicyError: unsigned")
def state_with_policy() -> Made:
    """A policy is remembered, and the reader has trusted keys only."""
    return made(state(policy=[3, "00" * 32, "text"]))


@remembers("ok")
def state_of_slow_clock() -> Made:
    """The clock is five minutes behind; the newest time stays."""
    return made(state(newest=NOW + 300), state_sha256=after(newest=NOW + 300))


@remembers("PolicyError: rollback")
def state_rollback() -> Made:
    """Number 7 after 8."""
    return made(state(releases=[[SCOPE, VENDOR, 8]]))


@remembers("PolicyError: rollback")
def state_rollback_of_one_signer() -> Made:
    """The second of two keys has signed number 8."""
    return made(state(releases=[[SCOPE, VENDOR, 8]]), kids=[PARTNER, VENDOR])


@remembers("PolicyError: rollback")
def state_without_number() -> Made:
    """A release without a number, after one that had one."""
    return made(state(), release={"iss": "vendor.example", "sub": "small"})


@remembers("PolicyError: clock-set-back")
def state_of_later() -> Made:
    """The clock is five minutes and a second behind."""
    return made(state(newest=NOW + 301))


@remembers("PolicyError: state")
def state_changed() -> Made:
    """A number was changed."""
    return made(state().replace("   6\n", "   5\n"))


@remembers("PolicyError: state")
def state_cut_short() -> Made:
    """The last line feed is missing."""
    return made(state()[:-1])


@remembers("PolicyError: state")
def state_of_later_format() -> Made:
    """Format 2."""
    return made(state(format="nnguard state 2"))


@remembers("PolicyError: state")
def state_with_more() -> Made:
    """One member too many, and the checksum of all."""
    return made(state(more=1))


@remembers("PolicyError: state")
def state_unsorted() -> Made:
    """Right numbers in another order."""
    return made(state(releases=sorted([[SCOPE, VENDOR, 6], [SCOPE, PARTNER, 1]], reverse=True)))


@remembers("PolicyError: state")
def state_with_fraction() -> Made:
    """6.0 in the place of 6."""
    return made(state(releases=[[SCOPE, VENDOR, 6.0]]))


@remembers("PolicyError: state")
def state_with_short_kid() -> Made:
    """A kid of 7 bytes."""
    return made(state(releases=[[SCOPE, VENDOR[:-2], 6]]))


LATEST = {"latest": [[SCOPE, VENDOR, NOW - DAY]]}


@states("ok")
def latest() -> Made:
    """This is the newest release."""
    return made(state(), statement(), state_sha256=after(**LATEST))


@states("ok")
def latest_of_older_release() -> Made:
    """The release is newer than the statement knows."""
    return made(state(), statement(release=6), digests=["00" * 32], state_sha256=after(**LATEST))


@states("ok")
def latest_again() -> Made:
    """The same statement as before, at the last second of its time, as old as it may be."""
    stated = statement(exp=NOW + 1)
    return made(state(**LATEST), stated, max_age=DAY, state_sha256=after(**LATEST))


@states("ok")
def latest_without_texts() -> Made:
    """A release without issuer, name and version; the statement has none either."""
    numbers = sorted([["/", VENDOR, 7], [SCOPE, VENDOR, 6]])
    stated = statement(iss=None, sub=None, version=None)
    digest = after(releases=numbers, latest=[["/", VENDOR, NOW - DAY]])
    return made(state(), stated, release={"release": 7}, state_sha256=digest)


@states("PolicyError: stale")
def latest_of_newer_release() -> Made:
    """Release 8 is out."""
    return made("", statement(release=8))


@states("PolicyError: stale")
def latest_expired() -> Made:
    """It held until now."""
    return made("", statement(exp=NOW))


@states("PolicyError: stale")
def latest_too_old() -> Made:
    """A second older than the deployment allows."""
    return made("", statement(), max_age=DAY - 1)


@states("PolicyError: stale")
def latest_of_tomorrow() -> Made:
    """Made five minutes and a second from now."""
    return made("", statement(iat=NOW + 301))


@states("PolicyError: stale")
def latest_of_another_name() -> Made:
    """About another model."""
    return made("", statement(sub="large"))


@states("PolicyError: stale")
def latest_of_another_build() -> Made:
    """The number is right, and the digest another."""
    return made("", statement(), digests=["00" * 32])


@states("PolicyError: stale")
def latest_replayed() -> Made:
    """A newer statement is remembered."""
    return made(state(latest=[[SCOPE, VENDOR, NOW - 5]]), statement())


@states("WrongKeyError: another key")
def latest_by_another_vendor() -> Made:
    """A key that is trusted, and did not sign the release."""
    return made("", statement("partner"))


@states("WrongKeyError: key not trusted")
def latest_by_a_stranger() -> Made:
    """A key that is not trusted."""
    return made("", statement("other"))


@states("PolicyError: malformed")
def latest_in_another_domain() -> Made:
    """Signed as a license."""
    return made("", statement(domain=b"nnguard license v1\0"))


@states("PolicyError: malformed")
def latest_without_number() -> Made:
    """No release number."""
    return made("", statement(release=None))


@states("PolicyError: malformed")
def latest_that_never_holds() -> Made:
    """It expires when it is made."""
    return made("", statement(exp=NOW - DAY))


@states("PolicyError: malformed")
def latest_with_short_digest() -> Made:
    """31 bytes."""
    return made("", statement(digest=DIGEST[1:]))


@states("PolicyError: malformed")
def latest_with_more() -> Made:
    """A claim that is not known."""
    return made("", statement(more=1))
