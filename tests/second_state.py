"""The second reader, continued: state and latest statements, from `docs/SPEC.md`, 13, alone.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from second_licensing import Refused, authenticate, is_time, read_signed, unarmor
from second_policies import PolicyRefused
from second_reader import Outcome, well_formed_claims
from second_signatures import VendorKey

__all__ = ["Release", "remember"]


@dataclass
class Release:
    """A release that passed sections 7 and 12: what it claims, who signed, and which digests."""

    claims: dict[str, Any]
    kids: list[str]
    digests: list[str]


@dataclass
class State:
    """13.1: what a file holds."""

    newest: int | None = None
    releases: dict[tuple[str, str], int] = field(default_factory=dict)
    latest: dict[tuple[str, str], int] = field(default_factory=dict)
    policy: list[Any] | None = None

    def text(self) -> str:
        members: dict[str, Any] = {
            "format": "nnguard state 1",
            "newest": self.newest,
            "releases": [[*key, value] for key, value in sorted(self.releases.items())],
            "latest": [[*key, value] for key, value in sorted(self.latest.items())],
            "policy": self.policy,
        }
        members["sha256"] = hashlib.sha256(json.dumps(members).encode()).hexdigest()
        return json.dumps(members, indent=1) + "\n"


def read(text: str) -> State:
    try:
        found = json.loads(text)
        state = State(
            found["newest"],
            {(scope, kid): value for scope, kid, value in found["releases"]},
            {(scope, kid): value for scope, kid, value in found["latest"]},
            found["policy"],
        )
        same = state.text() == text and are_right(state)
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise PolicyRefused("state")
    return state


def are_right(state: State) -> bool:
    keys = [*state.releases, *state.latest]
    times = [*state.latest.values()] + ([] if state.newest is None else [state.newest])
    version, digest, signed = state.policy or [1, "", ""]
    return (
        all(type(s) is str and re.fullmatch("[0-9a-f]{16}", kid) for s, kid in keys)
        and all(type(n) is int and 0 <= n < 1 << 63 for n in [*state.releases.values(), version])
        and all(type(time) is int and is_time(time) for time in times)
        and type(digest) is type(signed) is str
    )


def remember(
    release: Release,
    now: int,
    state: str | None,
    statement: str | None,
    trust: list[VendorKey],
    max_age: int | None = None,
) -> str:
    """13: the state file afterwards.

    Raises:
        Outcome: The release is refused.
    """
    stated = None if statement is None else read_statement(statement, trust)
    memory = State() if state is None else read(state)
    if memory.policy is not None:
        raise PolicyRefused("unsigned")
    if stated is not None:
        if stated[0] not in release.kids:
            raise Outcome("WrongKeyError", stated[0])
        check_statement(stated[1], release, now, max_age)
    if memory.newest is not None and now < memory.newest - 300:
        raise PolicyRefused("clock-set-back")
    scope = f"{release.claims.get('iss', '')}/{release.claims.get('sub', '')}"
    number = release.claims.get("release")
    for kid in release.kids:
        highest = memory.releases.get((scope, kid))
        if highest is not None and (number is None or number < highest):
            raise PolicyRefused("rollback")
        if number is not None:
            memory.releases[scope, kid] = number
    if stated is not None:
        kid, claims = stated
        if claims[6] < memory.latest.get((scope, kid), claims[6]):
            raise PolicyRefused("stale")
        memory.latest[scope, kid] = claims[6]
    memory.newest = now if memory.newest is None else max(now, memory.newest)
    return memory.text()


def read_statement(text: str, trust: list[VendorKey]) -> tuple[str, dict[Any, Any]]:
    """13.2, steps 1 and 2: the kid, and what is stated."""
    try:
        if len(text) > 65536:
            raise Refused("malformed")
        message, claims = read_signed(unarmor("NNGUARD LATEST STATEMENT", text))
        others = {label: value for label, value in claims.items() if label not in (4, "digest")}
        expires, digest = claims.get(4), claims.get("digest")
        whole = {6, "release"} <= others.keys() <= {1, 2, 6, "version", "release"}
        whole = whole and well_formed_claims(others) and type(expires) is int and is_time(expires)
        if not whole or expires <= claims[6] or type(digest) is not bytes or len(digest) != 32:
            raise Refused("malformed")
        authenticate(message, b"nnguard latest statement v1", trust)
    except Refused:
        raise PolicyRefused("malformed") from None
    return message.kids[0].hex(), claims


def check_statement(
    stated: dict[Any, Any], release: Release, now: int, max_age: int | None
) -> None:
    """13.2, steps 3 to 5."""
    about = [(stated.get(1, ""), stated.get(2, ""))]
    if (release.claims.get("iss", ""), release.claims.get("sub", "")) not in about:
        raise PolicyRefused("stale")
    if stated[6] > now + 300 or now >= stated[4]:
        raise PolicyRefused("stale")
    if max_age is not None and now - stated[6] > max_age:
        raise PolicyRefused("stale")
    number = release.claims.get("release")
    if number is None or number < stated["release"]:
        raise PolicyRefused("stale")
    if number == stated["release"] and stated["digest"].hex() not in release.digests:
        raise PolicyRefused("stale")
