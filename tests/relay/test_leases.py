"""What the file of leases counts, and for how long."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import nnguard._relay.leases as leases_module
from nnguard._relay.clock import Clock
from nnguard._relay.leases import CLOCKS_DRIFT, Leases
from nnguard.errors import ActivationError, LedgerError
from nnguard.licensing import ActivationReason as Reason

LENGTH = 300 * CLOCKS_DRIFT


@dataclass
class Hand:
    """A clock that a test turns."""

    seconds: float = 1000.0

    def read(self) -> float:
        return self.seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def leases(tmp_path: Path, hand: Hand) -> Leases:
    made = Leases(tmp_path / "leases", "ab" * 8, 300, Clock("boot 1", hand.read))
    made.open(first=True)
    return made


def reason(call: object, *words: object) -> Reason:
    with pytest.raises(ActivationError) as caught:
        call(*words)  # type: ignore[operator]
    return caught.value.reason


def test_no_more_than_there_are(leases: Leases) -> None:
    leases.take("a", "pem", 2)
    leases.take("b", "pem", 2)
    assert reason(leases.take, "c", "pem", 2) is Reason.NO_SEATS
    leases.give_back("a")
    leases.take("c", "pem", 2)
    assert leases.count() == 2


def test_asked_again_it_is_the_same_lease(leases: Leases, hand: Hand) -> None:
    leases.take("a", "pem", 1)
    hand.seconds += 200
    leases.take("a", "pem", 1)
    hand.seconds += LENGTH - 1
    assert leases.count() == 1
    hand.seconds += 1
    assert leases.count() == 0


def test_renewed_as_long_as_it_is_out(leases: Leases, hand: Hand) -> None:
    leases.take("a", "pem", 1)
    hand.seconds += LENGTH - 1
    leases.renew("a", "pem", 1)
    hand.seconds += LENGTH - 1
    assert leases.count() == 1
    hand.seconds += 1
    assert reason(leases.renew, "a", "pem", 1) is Reason.RELEASED
    assert reason(leases.renew, "b", "pem", 1) is Reason.RELEASED


def test_another_key_gets_nowhere(leases: Leases) -> None:
    leases.take("a", "pem", 2)
    assert reason(leases.take, "a", "other", 2) is Reason.OTHER_KEY
    assert reason(leases.renew, "a", "other", 2) is Reason.OTHER_KEY


def test_a_license_for_fewer_lets_one_go_after_the_other(leases: Leases, hand: Hand) -> None:
    for name in "abc":
        leases.take(name, "pem", 3)
    hand.seconds += 100
    assert reason(leases.renew, "a", "pem", 2) is Reason.NO_SEATS
    hand.seconds += LENGTH - 100
    for name in "ab":
        leases.take(name, "pem", 2)
    assert reason(leases.take, "c", "pem", 2) is Reason.NO_SEATS


def test_a_shorter_lease_does_not_end_a_longer_one(leases: Leases, hand: Hand) -> None:
    leases.take("a", "pem", 1)
    replace(leases, lasts=10).renew("a", "pem", 1)
    hand.seconds += LENGTH - 1
    assert leases.count() == 1


def test_after_a_reboot_all_count_from_now(leases: Leases, hand: Hand) -> None:
    leases.take("a", "pem", 1)
    hand.seconds += 250
    again = Hand(5.0)
    rebooted = replace(leases, clock=Clock("boot 2", again.read))
    for _ in range(3):  # whoever asks in vain changes nothing
        again.seconds += 100
        assert reason(rebooted.take, "b", "pem", 1) is Reason.NO_SEATS
    again.seconds += LENGTH - 201
    assert rebooted.count() == 1
    again.seconds += 1
    rebooted.take("b", "pem", 1)


def test_after_a_reboot_it_can_be_renewed(leases: Leases) -> None:
    leases.take("a", "pem", 1)
    rebooted = replace(leases, clock=Clock("boot 2", Hand(5.0).read))
    rebooted.renew("a", "pem", 1)


def test_a_new_file_waits_for_leases_that_nobody_knows_of(leases: Leases, hand: Hand) -> None:
    leases.path.unlink()
    assert reason(leases.take, "a", "pem", 1) is Reason.NO_SEATS
    hand.seconds += 200
    again = Hand(5.0)
    rebooted = replace(leases, clock=Clock("boot 2", again.read))
    assert reason(rebooted.take, "a", "pem", 1) is Reason.NO_SEATS
    again.seconds += LENGTH - 1
    assert reason(rebooted.take, "a", "pem", 1) is Reason.NO_SEATS
    again.seconds += 1
    rebooted.take("a", "pem", 1)


def test_the_first_time_comes_once(leases: Leases) -> None:
    with pytest.raises(FileExistsError, match="exists already: this is not the first time"):
        leases.open(first=True)
    leases.open()


def test_threads_and_files_race(leases: Leases) -> None:
    """Twenty ask at once, each with a connection of its own."""
    got = []

    def ask(name: str) -> None:
        try:
            leases.take(name, "pem", 5)
        except ActivationError:
            return
        got.append(name)

    threads = [threading.Thread(target=ask, args=(f"{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == leases.count() == 5


def test_a_thread_leaves_the_lock_of_another_alone(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POSIX takes a file's locks from a process that closes it, whoever of its threads has them."""
    monkeypatch.setattr(leases_module, "_WAIT", 0)
    code = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
    with leases._transaction():
        with pytest.raises(LedgerError, match="locked"):
            leases.count()
        other = subprocess.run(
            [sys.executable, "-c", code, leases.path], capture_output=True, text=True, check=False
        )
    assert "database is locked" in other.stderr


def test_the_file_is_its_owners_and_tells_no_secret(leases: Leases) -> None:
    leases.take("secret-of-a-pod", "pem", 1)
    assert leases.path.stat().st_mode & 0o777 == 0o600
    assert b"secret-of-a-pod" not in leases.path.read_bytes()


def test_other_files_are_left_alone(leases: Leases, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds leases of another key"):
        replace(leases, leaser="cd" * 8).count()
    other = tmp_path / "ledger"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE licenses (id)")
    database.close()
    before = other.read_bytes()
    with pytest.raises(LedgerError, match="is not a leases file"):
        replace(leases, path=other).count()
    assert other.read_bytes() == before
    (tmp_path / "text").write_text("not a database, and long enough to be seen as one " * 99)
    with pytest.raises(LedgerError, match="file is not a database"):
        replace(leases, path=tmp_path / "text").count()
    with pytest.raises(IsADirectoryError):
        replace(leases, path=tmp_path).count()


def test_this_machine_has_a_clock() -> None:
    one, other = Clock(), Clock()
    assert one.id == other.id
    assert one.seconds() <= other.seconds()
