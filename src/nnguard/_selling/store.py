"""The store behind a ledger: its transactions, and the version of its tables. Needs SQLAlchemy.

The tables are made with the first row: a ledger in which nothing was ever written is not there, and
reads as an empty one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, inspect, select

from nnguard._selling.database import Database
from nnguard._selling.rows.audit import AuditRows
from nnguard._selling.rows.licenses import ContentKeyRows, LicenseRows
from nnguard._selling.rows.orders import OrderRows, ProductRows, SeatRows
from nnguard._selling.rows.server import DocumentRows, EventRows, OnceRows, TokenRows
from nnguard._selling.tables import SCHEMA
from nnguard.errors import LedgerError

__all__ = ["Store", "Transaction"]

_VERSION = 2

_Answer = TypeVar("_Answer")


class Transaction:
    """Rows to read and to write, all together or not at all."""

    def __init__(self, connection: Connection) -> None:
        self.licenses = LicenseRows(connection)
        self.content_keys = ContentKeyRows(connection)
        self.products = ProductRows(connection)
        self.orders = OrderRows(connection)
        self.seats = SeatRows(connection)
        self.audit = AuditRows(connection)
        self.tokens = TokenRows(connection)
        self.events = EventRows(connection)
        self.once = OnceRows(connection)
        self.documents = DocumentRows(connection)
        self._notes: list[tuple[str, str, str, Mapping[str, Any]]] = []

    def note(self, actor: str, action: str, subject: str, **details: Any) -> None:
        """Write something into the audit log, when all else is done."""
        self._notes.append((actor, action, subject, details))

    def finish(self) -> None:
        """Write into the audit log what was noted."""
        if self._notes:
            self.audit.append(self._notes)


class Store:
    """The rows of a ledger; arguments have been checked.

    Raises:
        LedgerError: The database cannot be opened, or holds a ledger of another version.
        ImportError: The database's driver is not installed.
        OSError: The file cannot be opened.
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        self._database = Database(url_or_path)
        self._current = threading.local()
        try:
            self._made = self._look()
        except BaseException:
            self.close()
            raise

    @classmethod
    def upgrade(cls, url_or_path: str | os.PathLike[str]) -> bool:
        """Bring older tables up to date; return whether there were any."""
        database = Database(url_or_path)
        try:
            if not database.exists():
                return False
            with database.transaction(writes=True) as connection:
                older = (_version_of(connection) or _VERSION) < _VERSION
                if older:
                    _migrate(connection)
                    transaction = Transaction(connection)
                    transaction.note("upgrade", "ledger.upgraded", str(_VERSION))
                    transaction.finish()
                return older
        finally:
            database.close()

    def read(self, ask: Callable[[Transaction], _Answer], otherwise: _Answer) -> _Answer:
        """Return what a question finds; something else where the tables were not made yet."""
        joined = getattr(self._current, "transaction", None)
        if joined is not None:
            return ask(joined)
        self._made = self._made or self._look()
        if not self._made:
            return otherwise
        with self._database.transaction() as connection:
            return ask(Transaction(connection))

    @contextlib.contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Give a transaction, with tables to change; inside of another of this thread, that one."""
        joined = getattr(self._current, "transaction", None)
        if joined is not None:
            yield joined
            return
        if not self._made:
            try:
                self._make()
            except LedgerError:  # another process makes them too, and was first
                self._make()
            self._made = True
        with self._database.transaction(writes=True) as connection:
            self._current.transaction = transaction = Transaction(connection)
            try:
                yield transaction
                transaction.finish()
            finally:
                self._current.transaction = None

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def __str__(self) -> str:
        """Return where it is, without a password."""
        return str(self._database)

    def _look(self) -> bool:
        """Tell whether the tables are there, which needs no right to write."""
        if not self._database.exists():
            return False
        with self._database.transaction() as connection:
            return _is_made(connection)

    def _make(self) -> None:
        with self._database.transaction(writes=True) as connection:
            if not _is_made(connection):
                _migrate(connection)


def _migrate(connection: Connection) -> None:
    """Run migrations; only who makes or changes tables has to wait for Alembic to be loaded."""
    try:
        from nnguard._selling.migrations import migrate
    except ModuleNotFoundError as error:
        message = 'making a ledger needs Alembic: pip install "nnguard[ledger]"'
        raise ImportError(message, name=error.name) from None
    migrate(connection)


def _is_made(connection: Connection) -> bool:
    """Tell whether the tables are there, and make sure that they have the version we know."""
    version = _version_of(connection)
    if version is None or version == _VERSION:
        return version is not None
    if version < _VERSION:
        raise LedgerError(
            f"the ledger has version {version} of the tables, this nnguard needs {_VERSION}",
            hint="nnguard ledger upgrade brings it up to date; make a backup first",
        )
    raise LedgerError(
        f"the ledger has version {version}, this nnguard knows version {_VERSION}",
        hint="another version of nnguard wrote it: use that one, or a newer",
    )


def _version_of(connection: Connection) -> int | None:
    """Return the version of the tables; None where there are none."""
    if not inspect(connection).has_table(SCHEMA.name):
        return None
    match connection.execute(select(SCHEMA.c.version).limit(2)).scalars().all():
        case [int() as version]:
            return version
    raise LedgerError("the ledger does not say which version it has")
