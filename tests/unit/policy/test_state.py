"""A state file: what it remembers, what it refuses, and what comes of damage to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnguard
import samples
from nnguard._base.locks import locked
from nnguard._policy import state as module
from nnguard._policy.state import Memory, PinnedPolicy, State
from nnguard.errors import LockedTrialError, PolicyError, PolicyReason
from policies import document, policy

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
KEY, OTHER = "00" * 8, "11" * 8
NET = "acme.ai/net"
LAST = 2**63 - 1

KEYS = st.tuples(st.text(max_size=20), st.binary(min_size=8, max_size=8).map(bytes.hex))
TIMES = st.datetimes(datetime(1970, 1, 1), timezones=st.just(timezone.utc)).map(
    lambda time: time.replace(microsecond=0)
)
MEMORIES = st.builds(
    Memory,
    newest=st.none() | TIMES,
    releases=st.dictionaries(KEYS, st.integers(0, LAST)),
    latest=st.dictionaries(KEYS, TIMES),
    policy=st.none() | st.builds(PinnedPolicy, st.integers(0, LAST), st.text(), st.text()),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(scope="module")
def releases(key: nnguard.SigningKey) -> dict[int, nnguard.Stream]:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    claims = {"issuer": "acme.ai", "name": "net"}
    return {n: nnguard.sign(model, key, release=n, **claims) for n in (1, 2, 3, LAST)}


def remember(file: Path, *found: tuple[str, str, int], at: datetime = NOW) -> None:
    with State(file) as state:
        for scope, key_id, number in found:
            assert state.against_release(scope, key_id, number) is None
        state.commit(at)


def remembered(file: Path) -> dict[tuple[str, str], int]:
    with State(file) as state:
        return dict(state.memory.releases)


def refusal(model: Any, trust: Any = None, **options: Any) -> PolicyReason:
    with pytest.raises(PolicyError) as caught:
        nnguard.verify(model, trust, **options)
    return caught.value.reason


# The file


@given(MEMORIES)
def test_what_is_read_is_what_was_written(memory: Memory) -> None:
    assert Memory.parse(memory.encode()) == memory


def test_every_flipped_bit_is_refused(file: Path) -> None:
    remember(file, (NET, KEY, 7))
    data = file.read_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(PolicyError, match="state file"), State(file):
            pass


def test_every_shorter_file_is_refused(file: Path) -> None:
    remember(file, (NET, KEY, 7))
    data = file.read_bytes()
    for size in range(len(data)):
        file.write_bytes(data[:size])
        with pytest.raises(PolicyError, match="was damaged or edited") as caught, State(file):
            pass
        assert caught.value.reason is PolicyReason.STATE
        assert "put a copy back" in caught.value.hint


def test_later_format(file: Path) -> None:
    remember(file, (NET, KEY, 7))
    file.write_bytes(file.read_bytes().replace(b"nnguard state 1", b"nnguard state 2"))
    with pytest.raises(PolicyError, match="is of a later version of nnguard"), State(file):
        pass


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", "7", '{"format": "nnguard state 1"}', "[" * 100_000, "\0"]
)
def test_other_files(file: Path, text: str) -> None:
    """They are named for what they are, and nothing is made beside them."""
    file.write_text(text)
    with pytest.raises(PolicyError, match="is not a state file"), State(file):
        pass
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("text", ["", "{", '{\n "format": "nnguard state 1",\n "newest": 1}'])
def test_damaged_files(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(PolicyError, match="was damaged or edited"), State(file):
        pass


def test_gigabyte(file: Path) -> None:
    remember(file)
    os.truncate(file, 1 << 30)
    with pytest.raises(PolicyError, match="is too large for a state file"), State(file):
        pass


def test_state_that_would_not_be_read_again_is_not_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(file, (NET, KEY, 7))
    monkeypatch.setattr(module, "_LARGEST", 400)
    with pytest.raises(PolicyError, match="would be too large"):
        remember(file, ("acme.ai/" + "x" * 300, KEY, 7))
    with pytest.raises(PolicyError, match="more than 4096 characters"):
        remember(file, ("x" * 4097, KEY, 7))
    assert remembered(file) == {(NET, KEY): 7}


def test_one_key_does_not_fill_it_for_others(file: Path) -> None:
    names = [f"{at:04}{chr(1) * 2000}" for at in range(30)]  # six characters each, in JSON
    for name in names:
        with contextlib.suppress(PolicyError):
            remember(file, (name, KEY, 1))
    assert 20 < len(remembered(file)) < 23
    remember(file, (NET, OTHER, 1))
    remember(file, (names[0], KEY, 2))
    with State(file) as state:
        assert state.against_latest(names[-1], KEY, NOW) is None
        with pytest.raises(PolicyError, match=KEY):
            state.commit(NOW)


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(IsADirectoryError), State(tmp_path / "state"):
        pass


def test_pipe_does_not_hang(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(OSError, match="not a regular file"), State(file):
        pass


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), State(tmp_path / "nowhere" / "state"):
        pass


def test_links(file: Path, tmp_path: Path) -> None:
    """A second name would have a lock of its own."""
    remember(file)
    (tmp_path / "symbolic").symlink_to(file)
    with pytest.raises(PolicyError, match="is a symbolic link"), State(tmp_path / "symbolic"):
        pass
    os.link(file, tmp_path / "hard")
    with pytest.raises(PolicyError, match="has a second name"), State(file):
        pass
    (tmp_path / "new.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"), State(tmp_path / "new"):
        pass
    assert not (tmp_path / "victim").exists()


def test_permissions(file: Path) -> None:
    old = os.umask(0)
    try:
        remember(file)
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in file.parent.iterdir()] == [0o600, 0o600]
    file.chmod(0o666)
    with pytest.raises(PolicyError, match="anybody may write the state file"), State(file):
        pass


def test_nothing_can_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the error names the file, and it is as it was."""
    remember(file, (NET, KEY, 7))
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", ".state.0123")

    monkeypatch.setattr(module, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        remember(file, (NET, KEY, 8))
    assert caught.value.filename == str(file)
    assert file.read_bytes() == before


def test_what_a_killed_process_left_is_removed(file: Path) -> None:
    remember(file)
    left, others = file.with_name(".state.0123456789abcdef"), file.with_name(".state.txt")
    left.touch()
    others.touch()
    remember(file, (NET, KEY, 1))
    assert not left.exists()
    assert others.exists()


def test_file_without_a_name(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    assert refusal(release, key.public_key, state="") is PolicyReason.STATE
    with pytest.raises(TypeError, match="state: expected a path, not int"):
        nnguard.verify(release, key.public_key, state=7)


# What is remembered


def test_only_what_is_committed_is_remembered(file: Path) -> None:
    with State(file) as state:
        assert state.is_new
        assert state.against_release(NET, KEY, 7) is None
    assert not file.exists()
    remember(file, (NET, KEY, 7))
    with pytest.raises(ZeroDivisionError), State(file) as state:
        1 / (state.against_release(NET, KEY, 9) is not None)
    assert remembered(file) == {(NET, KEY): 7}


@pytest.mark.parametrize("number", [6, 0, None])
def test_lower_number(file: Path, number: int | None) -> None:
    remember(file, (NET, KEY, 7))
    with State(file) as state:
        finding = state.against_release(NET, KEY, number)
        assert finding is not None
        assert finding.reason is PolicyReason.ROLLBACK
        assert "release 7 of key" in finding.message
        state.commit(NOW)
    assert remembered(file) == {(NET, KEY): 7}


def test_number_of_a_key_does_not_push_that_of_another(file: Path) -> None:
    """Fast-forward: whoever steals a key can spoil its numbers, and no others."""
    remember(file, (NET, KEY, 7), (NET, OTHER, LAST))
    remember(file, (NET, KEY, 8), ("acme.ai/other", OTHER, 1))
    assert remembered(file) == {
        (NET, KEY): 8,
        (NET, OTHER): LAST,
        ("acme.ai/other", OTHER): 1,
    }


def test_clock(file: Path) -> None:
    remember(file)
    with State(file) as state:
        assert state.against_clock(NOW - timedelta(minutes=5)) is None
        finding = state.against_clock(NOW - timedelta(minutes=5, seconds=1))
        assert finding is not None
        assert finding.reason is PolicyReason.CLOCK_SET_BACK
        state.commit(NOW - timedelta(days=1))
        assert state.memory.newest == NOW


def test_nothing_is_written_where_nothing_is_new(file: Path) -> None:
    remember(file, (NET, KEY, 7))
    before = file.stat().st_ino
    remember(file, (NET, KEY, 7), at=NOW + timedelta(seconds=59))
    assert file.stat().st_ino == before
    remember(file, (NET, KEY, 7), at=NOW + timedelta(seconds=60))
    assert file.stat().st_ino != before


# Verifying


def test_rollback(file: Path, releases: dict[int, nnguard.Stream], key: nnguard.SigningKey) -> None:
    first = nnguard.verify(releases[1], key.public_key, state=file)
    (warning,) = first.warnings
    assert "is new: it knows of no release yet" in warning.message
    assert nnguard.verify(releases[3], key.public_key, state=file).warnings == ()
    assert nnguard.verify(releases[3], key.public_key, state=file).warnings == ()
    assert refusal(releases[2], key.public_key, state=file) is PolicyReason.ROLLBACK
    assert nnguard.verify(releases[2], key.public_key).claims.release == 2


def test_lost_state_is_told(
    file: Path, releases: dict[int, nnguard.Stream], key: nnguard.SigningKey
) -> None:
    nnguard.verify(releases[3], key.public_key, state=file)
    file.unlink()
    (warning,) = nnguard.verify(releases[1], key.public_key, state=file).warnings
    assert warning.reason is PolicyReason.STATE


def test_release_without_a_number_is_told(
    file: Path, release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    nnguard.verify(release, key.public_key, state=file)
    (warning,) = nnguard.verify(release, key.public_key, state=file).warnings
    assert "has no number" in warning.message


def test_stripping(
    file: Path, releases: dict[int, nnguard.Stream], key: nnguard.SigningKey
) -> None:
    trust = key.public_key
    nnguard.strip(releases[2], trust, state=file)
    for options in ({"state": file}, {"latest": latest_of(releases[2], key)}):
        with pytest.raises(PolicyError):
            nnguard.strip(releases[1], trust, **options)
    assert remembered(file) == {(NET, trust.id.hex()): 2}


def latest_of(release: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.LatestStatement:
    found = nnguard.verify(release, key.public_key)
    return nnguard.LatestStatement.make(found.claims, found.digest, key, expires_at="2100-01-01")


def test_what_is_refused_is_not_remembered(
    file: Path, releases: dict[int, nnguard.Stream], key: nnguard.SigningKey
) -> None:
    """CVE-2025-2888: a state that is written before every check has passed."""
    trust = key.public_key
    nnguard.verify(releases[1], trust, state=file)
    before = file.read_bytes()
    changed = bytearray(bytes(releases[3]))
    changed[len(changed) // 2] ^= 1
    with pytest.raises(nnguard.NnguardError):
        nnguard.verify(bytes(changed), trust, state=file)
    with pytest.raises(nnguard.errors.ClaimsError):
        nnguard.verify(releases[3], trust, state=file, expect=nnguard.Expect(name="other"))
    trial = nnguard.lock(releases[3], signer=key, soft=nnguard.Soft(fraction=0.01)).trial
    with pytest.raises(LockedTrialError):
        nnguard.verify(trial, trust, state=file)
    elsewhere = policy({"acme": trust}, {"scopes": ["other/*"]})
    assert refusal(releases[3], policy=elsewhere, state=file) is PolicyReason.NO_SCOPE
    assert file.read_bytes() == before


def test_a_name_forges_no_line_of_a_log(
    file: Path, key: nnguard.SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    name = "net\nWARNING all is well \x1b[31m"
    newer, older = (nnguard.sign(model, key, name=name, release=n) for n in (2, 1))
    lenient = policy({"acme": key.public_key}, {"level": "audit"})
    nnguard.verify(newer, policy=lenient, state=file)
    (warning,) = nnguard.verify(older, policy=lenient, state=file).warnings
    assert name in warning.message
    assert r"net\nWARNING all is well \x1b[31m is release 1" in caplog.text
    assert not any("\n" in message or "\x1b" in message for message in caplog.messages)


def test_damaged_state_is_noticed_before_the_model_is_hashed(
    file: Path, tmp_path: Path, key: nnguard.SigningKey
) -> None:
    file.write_text("{}")
    model, hashed = nnguard.Stream.from_bytes(samples.small_stream()), []
    with pytest.raises(PolicyError, match="damaged"):
        nnguard.verify(model, key.public_key, state=file, progress=hashed.append)
    assert hashed == []


@pytest.mark.parametrize("level", ["permissive", "audit"])
def test_rollback_is_only_warned_of(
    level: str, file: Path, releases: dict[int, nnguard.Stream], key: nnguard.SigningKey
) -> None:
    lenient = policy({"acme": key.public_key}, {"level": level})
    nnguard.verify(releases[3], policy=lenient, state=file)
    (warning,) = nnguard.verify(releases[1], policy=lenient, state=file).warnings
    assert warning.reason is PolicyReason.ROLLBACK
    assert {*remembered(file).values()} == {3}


def test_stolen_key_does_not_stop_the_vendor(
    file: Path,
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    """Fast-forward, and back: once the stolen key is revoked, its number counts for nothing."""
    model = nnguard.Stream.from_bytes(samples.small_stream())
    claims = {"issuer": "acme.ai", "name": "net"}
    both = policy({"acme": key.public_key, "stolen": other_key.public_key})
    nnguard.verify(releases[1], policy=both, state=file)
    pushed = nnguard.sign(model, other_key, release=LAST, **claims)
    nnguard.verify(pushed, policy=both, state=file)
    nnguard.verify(releases[2], policy=both, state=file)
    signed_by_both = nnguard.sign(releases[3], other_key, countersign=key.public_key)
    assert refusal(signed_by_both, policy=both, state=file) is PolicyReason.ROLLBACK
    nnguard.verify(releases[3], policy=both, state=file)
    fresh = nnguard.SigningKey.generate()
    keys = {"acme": key.public_key, "stolen": other_key.public_key, "fresh": fresh.public_key}
    replaced = document(keys)
    replaced["keys"]["stolen"]["revoked"] = True
    revoking = nnguard.TrustPolicy.parse(json.dumps(replaced))
    assert refusal(pushed, policy=revoking, state=file) is PolicyReason.KEY_REVOKED
    again = nnguard.sign(releases[3], fresh, countersign=key.public_key)
    assert len(nnguard.verify(again, policy=revoking, state=file).counted) == 2


def test_rotation_needs_a_floor(
    file: Path,
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    """What the old key signed before is as high as that key ever was: the policy excludes it."""
    model = nnguard.Stream.from_bytes(samples.small_stream())
    keys = {"old": key.public_key, "new": other_key.public_key}
    nnguard.verify(releases[3], policy=policy(keys), state=file)
    newer = nnguard.sign(model, other_key, issuer="acme.ai", name="net", release=4)
    nnguard.verify(newer, policy=policy(keys), state=file)
    assert nnguard.verify(releases[3], policy=policy(keys), state=file)
    floor = policy(keys, {"min_release": 4})
    assert refusal(releases[3], policy=floor, state=file) is PolicyReason.RELEASE
    assert nnguard.verify(newer, policy=floor, state=file)


def test_unlocking(
    file: Path,
    releases: dict[int, nnguard.Stream],
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    customer, trust = nnguard.Identity.generate(), key.public_key

    def sell(number: int) -> tuple[nnguard.Stream, nnguard.licensing.License]:
        locked_ = nnguard.lock(releases[number], signer=key, soft=nnguard.Soft(fraction=0.01))
        license_ = nnguard.licensing.issue(
            locked_.trial, locked_.content_key, to=customer.recipient, signer=key
        )
        return locked_.trial, license_

    trial, license_ = sell(2)
    nnguard.unlock(trial, license_, customer, trust, state=file)
    assert {*remembered(file).values()} == {2}
    older, old_license = sell(1)
    with pytest.raises(PolicyError) as caught:
        nnguard.unlock(older, old_license, customer, trust, state=file)
    assert caught.value.reason is PolicyReason.ROLLBACK
    newer, new_license = sell(3)
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.unlock(newer, new_license, nnguard.Identity.generate(), trust, state=file)
    lock = nnguard.lock(releases[3], signer=other_key, soft=nnguard.Soft(fraction=0.01))
    reseller = nnguard.licensing.issue(
        lock.trial, lock.content_key, to=customer.recipient, signer=other_key
    )
    everybody = [trust, other_key.public_key]
    with pytest.raises(nnguard.errors.UnlockError, match="a watermark needs a signature"):
        nnguard.unlock(lock.trial, reseller, customer, everybody, state=file, watermark=True)
    assert {*remembered(file).values()} == {2}


# Several processes


def test_lock_is_waited_for(file: Path) -> None:
    lock = file.with_name("state.lock")
    with locked(lock, 1):
        with pytest.raises(TimeoutError, match="another process holds"), locked(lock, 0.05):
            pass
        waiting = threading.Thread(target=remember, args=(file, (NET, KEY, 1)))
        waiting.start()
        assert not file.exists()
    waiting.join()
    assert remembered(file) == {(NET, KEY): 1}


_COUNTING = """
import sys
from nnguard._base.times import now
from nnguard._policy.state import State
path, scope, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
for _ in range(rounds):
    with State(path) as state:
        number = state.memory.releases.get(("common", "00" * 8), 0) + 1
        assert state.against_release("common", "00" * 8, number) is None
        assert state.against_release(scope, "00" * 8, number) is None
        state.commit(now())
"""


def test_two_processes_lose_nothing_of_each_other(file: Path) -> None:
    """Each counts one number on, many times: none is counted twice."""
    rounds = 200
    command = [sys.executable, "-c", _COUNTING, str(file)]
    running = [subprocess.Popen([*command, scope, str(rounds)]) for scope in ("one", "other")]
    assert [process.wait() for process in running] == [0, 0]
    found = remembered(file)
    assert found["common", KEY] == 2 * rounds
    assert max(found["one", KEY], found["other", KEY]) == 2 * rounds
