"""What a trust policy, a state file or a latest statement does not allow does not pass a gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nnguard
import samples
from nnguard._operations import gate as gate_module
from nnguard._operations.authority import authority_of
from nnguard._operations.destination import MANIFEST, Destination
from nnguard._operations.gate import Gate
from nnguard.errors import PolicyError, PolicyReason
from policies import policy

NOW = datetime.now(timezone.utc)
RULE = {"scopes": ["acme.ai/*"], "keys": ["vendor"]}


@pytest.fixture(scope="module")
def releases(key: nnguard.SigningKey) -> dict[int, nnguard.Stream]:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    return {
        number: nnguard.sign(model, key, issuer="acme.ai", name="net", release=number)
        for number in (1, 2, 3)
    }


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def refusal(source: Any, room: Path, **options: Any) -> PolicyReason:
    """Return why something is refused; nothing is there that was not there before."""
    before = number_in(room)
    with pytest.raises(PolicyError) as caught:
        nnguard.gate(source, room / "net", overwrite=True, **options)
    assert number_in(room) == before
    assert [path.name for path in room.iterdir()] == ["net"] * (before is not None)
    return caught.value.reason


def number_in(room: Path) -> int | None:
    """Return the number of the release that has passed."""
    if not (room / "net").exists():
        return None
    number = json.loads((room / "net" / MANIFEST).read_text())["report"]["claims"]["release"]
    assert isinstance(number, int)
    return number


def test_the_policy_says_who(
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
    room: Path,
) -> None:
    keys = {"vendor": key.public_key, "other": other_key.public_key}
    elsewhere = policy(keys, {**RULE, "scopes": ["other.ai/*"]})
    assert refusal(releases[1], room, policy=elsewhere) is PolicyReason.NO_SCOPE
    both = policy(keys, {**RULE, "keys": ["vendor", "other"], "threshold": 2})
    assert refusal(releases[1], room, policy=both) is PolicyReason.THRESHOLD
    nnguard.gate(releases[1], room / "net", policy=policy(keys, RULE))
    assert number_in(room) == 1


def test_an_older_release_is_refused(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, room: Path
) -> None:
    options = {"policy": policy({"vendor": key.public_key}, RULE), "state": room.parent / "state"}
    nnguard.gate(releases[2], room / "net", **options)
    assert refusal(releases[1], room, **options) is PolicyReason.ROLLBACK
    nnguard.gate(releases[3], room / "net", overwrite=True, **options)
    assert number_in(room) == 3


def test_what_is_refused_is_not_remembered(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, room: Path
) -> None:
    state = room.parent / "state"
    nnguard.gate(releases[1], room / "net", [key.public_key], state=state)
    changed = bytearray(bytes(releases[3]))
    changed[-1] ^= 1
    with pytest.raises(nnguard.NnguardError):
        nnguard.gate(bytes(changed), room / "net", [key.public_key], state=state, overwrite=True)
    nnguard.gate(releases[2], room / "net", [key.public_key], state=state, overwrite=True)
    assert number_in(room) == 2


def test_another_release_is_the_latest(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, room: Path
) -> None:
    newest = nnguard.verify(releases[2], [key.public_key])
    statement = nnguard.LatestStatement.make(
        newest.claims, newest.digest, key, expires_at=NOW + timedelta(days=1)
    )
    options = {"trust": [key.public_key], "latest": statement}
    assert refusal(releases[1], room, **options) is PolicyReason.STALE
    nnguard.gate(releases[2], room / "net", **options)


def test_a_policy_that_changes(
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    room: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = room.parent / "policy.json"
    keys = {"vendor": key.public_key}
    file.write_text(json.dumps(policy(keys, RULE).to_json()))
    gate = Gate(
        source=releases[2],
        destination=Destination(room / "net"),
        authority=partial(authority_of, None, file),
    )

    def deeds() -> Iterator[object]:
        yield None
        revoked = policy(keys, RULE).to_json()
        revoked["keys"]["vendor"]["revoked"] = True
        yield file.write_text(json.dumps(revoked))
        pytest.fail("what a revoked key signed has passed")

    deed: Callable[[], object] = deeds().__next__
    monkeypatch.setattr(gate_module.time, "sleep", lambda _: deed())
    report = gate.let_pass(overwrite=False)
    with pytest.raises(PolicyError) as caught:
        gate.watch(60, report)
    assert caught.value.reason is PolicyReason.KEY_REVOKED
    assert number_in(room) == 2


def test_a_trial_under_a_policy(
    releases: dict[int, nnguard.Stream], key: nnguard.SigningKey, room: Path
) -> None:
    customer = nnguard.Identity.generate()
    locked = nnguard.lock(releases[2], signer=key, soft=nnguard.Soft(fraction=0.002))
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    sale: dict[str, Any] = {"license": license_, "identity": customer}
    state = room.parent / "state"
    for name, reason in (("other.ai/*", PolicyReason.NO_SCOPE), ("acme.ai/*", None)):
        options = {"policy": policy({"vendor": key.public_key}, {**RULE, "scopes": [name]})}
        if reason is not None:
            assert refusal(locked.trial, room, **sale, **options) is reason
        else:
            nnguard.gate(locked.trial, room / "net", **sale, **options, state=state)
    assert number_in(room) == 2
