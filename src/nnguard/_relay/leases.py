"""Which leases are out: a file that relays on one machine share.

A lease counts until its machine has surely stopped, and no clock that somebody can set has a say
in when that is. Each step is a transaction that is on the disk before anybody hears of it.

Law: of the leases that `take` and `renew` returned for, and that are not over on the machine that
has them, there are never more than the `most` of that call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nnguard._base.files import check_regular, open_file
from nnguard._relay.clock import Clock
from nnguard.errors import ActivationError, ActivationReason, LedgerError

__all__ = ["CLOCKS_DRIFT", "Leases"]

CLOCKS_DRIFT = 1.01
"""The relay counts a lease for so many times its length: clocks of machines run differently."""

_MAKING = threading.Lock()
"""Held while a file is made: until it was closed again, no thread takes it for one that exists."""

_WAIT = 5.0
"""Seconds to wait for another relay that has the file."""

_FORMAT = 1
_SCHEMA = (
    "CREATE TABLE clock (id TEXT NOT NULL, leaser TEXT NOT NULL, closed_until REAL)",
    "CREATE TABLE leases (id BLOB PRIMARY KEY, recipient TEXT NOT NULL, lasts REAL NOT NULL, "
    "ends REAL NOT NULL) WITHOUT ROWID",
    f"PRAGMA user_version = {_FORMAT}",
)


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases that are out.

    Attributes:
        path: File that remembers them.
        leaser: Identifier of the key that signs them, in hexadecimal; a file is one leaser's.
        lasts: Seconds that a lease holds.
        clock: Whatever the wall clock does, this one goes on.
    """

    path: Path
    leaser: str
    lasts: float
    clock: Clock = field(default_factory=Clock)

    def open(self, *, first: bool = False) -> None:
        """Make the file, if it is not there.

        Leases may be out that a file which was lost knew of. So for the length of a lease nothing
        is handed out of a new one.

        Args:
            first: There never was a relay: nothing is out. The file must not be there.

        Raises:
            FileExistsError: It is there.
            LedgerError: The file cannot be used.
        """
        if first:
            if self.path.exists():
                raise FileExistsError(f"{self.path} exists already: this is not the first time")
            with self._transaction() as database:
                database.execute("UPDATE clock SET closed_until = NULL")
            return
        with self._transaction():
            pass

    def take(self, lease_id: str, recipient: str, most: int) -> None:
        """Hand out a lease, or renew the one that this machine has.

        Args:
            lease_id: A secret of the machine's; with it, it renews the lease and gives it back.
            recipient: Its public key, as PEM.
            most: How many leases may be out.

        Raises:
            ActivationError: They are; or the lease is another key's.
            LedgerError: The file cannot be used.
        """
        with self._transaction() as database:
            if _is_out(database, lease_id, recipient):
                self._extend(database, lease_id, most)
                return
            (closed_until,) = database.execute("SELECT closed_until FROM clock").fetchone()
            if closed_until is not None:
                left = closed_until - self.clock.seconds()
                raise ActivationError(
                    "the leases file is new: the relay waits until leases that it may have lost "
                    f"track of have ended: {max(left, 1):.0f} seconds",
                    reason=ActivationReason.NO_SEATS,
                    hint="ask again then; keep the leases file when the relay is started anew",
                )
            if _count(database) >= most:
                raise ActivationError(
                    f"all {most} leases are out",
                    reason=ActivationReason.NO_SEATS,
                    hint="one is free when its machine gives it back, or has been gone for "
                    f"{self.lasts:.0f} seconds",
                )
            database.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?)",
                (_hash(lease_id), recipient, self.lasts, self._end()),
            )

    def renew(self, lease_id: str, recipient: str, most: int) -> None:
        """Let a lease that is out hold for once more.

        Raises:
            ActivationError: It is not out any more, or is another key's; or more are out than may
                be, since there is a license for fewer.
            LedgerError: The file cannot be used.
        """
        with self._transaction() as database:
            if not _is_out(database, lease_id, recipient):
                raise ActivationError(
                    "there is no such lease, or it has ended",
                    reason=ActivationReason.RELEASED,
                    hint="ask for a new one",
                )
            self._extend(database, lease_id, most)

    def give_back(self, lease_id: str) -> None:
        """End a lease now; its machine has stopped using it. One that is not out is passed over."""
        with self._transaction() as database:
            database.execute("DELETE FROM leases WHERE id = ?", (_hash(lease_id),))

    def count(self) -> int:
        """Return how many leases are out."""
        with self._transaction() as database:
            return _count(database)

    def _extend(self, database: sqlite3.Connection, lease_id: str, most: int) -> None:
        if _count(database) > most:
            raise ActivationError(
                f"more leases are out than the {most} of the license",
                reason=ActivationReason.NO_SEATS,
            )
        database.execute(
            "UPDATE leases SET lasts = ?, ends = max(ends, ?) WHERE id = ?",
            (self.lasts, self._end(), _hash(lease_id)),
        )

    def _end(self) -> float:
        return self.clock.seconds() + self.lasts * CLOCKS_DRIFT

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Have the file to oneself, with the leases that are out by now; all of it, or nothing."""
        self._make()
        database = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = EXTRA")  # not even its journal comes back
            database.execute("BEGIN IMMEDIATE")
            with database:
                self._prepare(database)
                try:
                    yield database
                except ActivationError:  # what it is about stays as it is, but the clock went on
                    database.commit()
                    raise
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path}: {error}",
                hint="a relay makes a new file when this one is moved away, and hands out nothing "
                "for the length of a lease",
            ) from None
        finally:
            database.close()

    def _make(self) -> None:
        """Make the file, for its owner's eyes.

        One that exists is not opened: on closing it, POSIX takes all locks on it from the process,
        those of other threads that count leases, too.
        """
        with _MAKING:
            if self.path.exists():
                check_regular(self.path.stat(), self.path)
            else:
                os.close(open_file(self.path, os.O_CREAT))

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Make the tables where there are none, and forget what has ended."""
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        now = self.clock.seconds()  # read while nobody else writes
        length = self.lasts * CLOCKS_DRIFT
        if version == tables == 0:
            for statement in _SCHEMA:
                database.execute(statement)
            database.execute(
                "INSERT INTO clock VALUES (?, ?, ?)", (self.clock.id, self.leaser, now + length)
            )
        elif version != _FORMAT:
            raise LedgerError(f"{self.path} is not a leases file, or a later version wrote it")
        clock, leaser, closed_until = database.execute("SELECT * FROM clock").fetchone()
        if leaser != self.leaser:
            raise LedgerError(
                f"{self.path} holds leases of another key, {leaser}", hint="name another file"
            )
        if clock != self.clock.id:  # the machine was started anew, or is another one
            if closed_until is not None:
                closed_until = now + length
            database.execute("UPDATE clock SET id = ?", (self.clock.id,))
            database.execute(
                "UPDATE leases SET ends = ? + max(lasts * ?, ?)", (now, CLOCKS_DRIFT, length)
            )
        if closed_until is not None and closed_until <= now:
            closed_until = None
        database.execute("UPDATE clock SET closed_until = ?", (closed_until,))
        database.execute("DELETE FROM leases WHERE ends <= ?", (now,))


def _is_out(database: sqlite3.Connection, lease_id: str, recipient: str) -> bool:
    """Tell whether a lease is out.

    Raises:
        ActivationError: It is, and is made out to another key.
    """
    found = database.execute(
        "SELECT recipient FROM leases WHERE id = ?", (_hash(lease_id),)
    ).fetchone()
    if found is not None and found[0] != recipient:
        raise ActivationError(
            "this lease is made out to another key", reason=ActivationReason.OTHER_KEY
        )
    return found is not None


def _count(database: sqlite3.Connection) -> int:
    (count,) = database.execute("SELECT count(*) FROM leases").fetchone()
    return int(count)


def _hash(lease_id: str) -> bytes:
    """Whoever reads the file shall not give back leases of others."""
    return hashlib.sha256(b"nnguard lease v1\0" + lease_id.encode()).digest()
