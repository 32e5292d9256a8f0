"""The tables of a ledger, and what is asked of them. Needs SQLAlchemy.

The tables are made with the first row: a ledger in which nothing was ever written is not there, and
reads as an empty one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    Select,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from nnguard._base.times import seconds_of, time_of
from nnguard._selling.database import Database
from nnguard._selling.entry import LONGEST_ID, TIMES, LedgerEntry
from nnguard.errors import LedgerError

__all__ = ["Store"]

_VERSION = 1

_TABLES = MetaData()
_SCHEMA = Table(
    "nnguard_ledger", _TABLES, Column("version", Integer, primary_key=True, autoincrement=False)
)
_LICENSES = Table(
    "nnguard_licenses",
    _TABLES,
    Column("number", Integer, primary_key=True),
    Column("license_id", String(LONGEST_ID), nullable=False, unique=True),
    Column("product", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("recipient", String(LONGEST_ID), nullable=False),
    Column("tier", Text, nullable=False),
    Column("stream", String(LONGEST_ID), nullable=False),
    Column("content_key_id", String(LONGEST_ID), nullable=False),
    Column("issued_at", BigInteger, nullable=False),  # times: seconds since 1970
    Column("not_before", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("armored", Text, nullable=False),
    Column("revoked_at", BigInteger),
    Column("reason", Text, nullable=False),
)
_CONTENT_KEYS = Table(
    "nnguard_content_keys",
    _TABLES,
    Column("content_key_id", String(LONGEST_ID), primary_key=True),
    Column("product", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)


class Store:
    """The rows of a ledger; arguments have been checked.

    Raises:
        LedgerError: The database cannot be opened, or holds a ledger of another version.
        ImportError: The database's driver is not installed.
        OSError: The file cannot be opened.
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        self._database = Database(url_or_path)
        try:
            self._made = self._look()
        except BaseException:
            self.close()
            raise

    def add(self, entry: LedgerEntry) -> None:
        """Insert an entry; a LedgerError where its id is taken."""
        values = {each.name: getattr(entry, each.name) for each in fields(entry)}
        seconds = {name: seconds_of(values[name]) for name in TIMES if values[name] is not None}
        with self._writing() as connection:
            try:
                connection.execute(insert(_LICENSES).values(values | seconds))
            except IntegrityError:
                raise LedgerError(f"license {entry.license_id} is in the ledger already") from None

    def find(self, digits: str) -> LedgerEntry:
        """Return the entry with this id; otherwise the only one whose id begins so."""
        column = _LICENSES.c.license_id
        for condition in (column == digits, column.startswith(digits)):
            rows = self._ask(select(_LICENSES).where(condition).limit(2))
            if len(rows) > 1:
                hint = "give more of it"
                raise LedgerError(f"more than one license begins with {digits}", hint=hint)
            if rows:
                return _to_entry(rows[0])
        raise LedgerError(f"no license {digits} is in the ledger")

    def entries(self, customer: str, product: str, revoked: bool | None) -> list[LedgerEntry]:
        """Return entries in the order of issue; empty text and None ask for all."""
        query = select(_LICENSES).order_by(_LICENSES.c.issued_at, _LICENSES.c.number)
        if customer:
            query = query.where(_LICENSES.c.customer == customer)
        if product:
            query = query.where(_LICENSES.c.product == product)
        if revoked is not None:
            never = _LICENSES.c.revoked_at.is_(None)
            query = query.where(~never if revoked else never)
        return [_to_entry(row) for row in self._ask(query)]

    def revoke(self, digits: str, seconds: int, reason: str) -> LedgerEntry:
        """Note when and why a license was revoked, unless that was noted before."""
        found = self.find(digits).license_id
        query = update(_LICENSES).where(_LICENSES.c.license_id == found)
        query = query.where(_LICENSES.c.revoked_at.is_(None))
        with self._writing() as connection:
            connection.execute(query.values(revoked_at=seconds, reason=reason))
        return self.find(found)

    def revoked_ids(self) -> list[str]:
        """Return ids in the order of revocation."""
        query = select(_LICENSES.c.license_id).where(_LICENSES.c.revoked_at.is_not(None))
        query = query.order_by(_LICENSES.c.revoked_at, _LICENSES.c.number)
        return [row["license_id"] for row in self._ask(query)]

    def keep_content_key(self, content_key_id: str, product: str, wrapped: bytes) -> None:
        """Insert a content key, or replace the one of this id."""
        column = _CONTENT_KEYS.c.content_key_id
        values = {"product": product, "wrapped": wrapped}
        replace = update(_CONTENT_KEYS).where(column == content_key_id)
        with self._writing() as connection:
            if connection.execute(replace.values(values)).rowcount:
                return
            new = insert(_CONTENT_KEYS).values({column.name: content_key_id, **values})
            try:
                with connection.begin_nested():
                    connection.execute(new)
            except IntegrityError:  # another process has kept it meanwhile
                connection.execute(replace.values(values))

    def wrapped_content_key(self, content_key_id: str) -> bytes | None:
        """Return a content key as it was kept, or None."""
        query = select(_CONTENT_KEYS.c.wrapped)
        rows = self._ask(query.where(_CONTENT_KEYS.c.content_key_id == content_key_id))
        return bytes(rows[0]["wrapped"]) if rows else None

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def __str__(self) -> str:
        """Return where it is, without a password."""
        return str(self._database)

    def _ask(self, query: Select[Any]) -> Sequence[RowMapping]:
        """Return rows; none where the tables were not made yet."""
        self._made = self._made or self._look()
        if not self._made:
            return []
        with self._database.transaction() as connection:
            return connection.execute(query).mappings().all()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give a connection whose changes are there together, with tables to change."""
        if not self._made:
            try:
                self._make()
            except LedgerError:  # another process makes them too, and was first
                self._make()
            self._made = True
        with self._database.transaction(writes=True) as connection:
            yield connection

    def _look(self) -> bool:
        """Tell whether the tables are there, which needs no right to write."""
        if not self._database.exists():
            return False
        with self._database.transaction() as connection:
            return _is_made(connection)

    def _make(self) -> None:
        with self._database.transaction(writes=True) as connection:
            if not _is_made(connection):
                _TABLES.create_all(connection)
                connection.execute(insert(_SCHEMA).values(version=_VERSION))


def _is_made(connection: Connection) -> bool:
    """Tell whether the tables are there, and make sure that they have the version we know."""
    if not inspect(connection).has_table(_SCHEMA.name):
        return False
    match connection.execute(select(_SCHEMA.c.version).limit(2)).scalars().all():
        case [int() as version]:
            pass
        case _:
            raise LedgerError("the ledger does not say which version it has")
    if version != _VERSION:
        raise LedgerError(
            f"the ledger has version {version}, this nnguard knows version {_VERSION}",
            hint="another version of nnguard wrote it: use that one, or a newer",
        )
    return True


def _to_entry(row: RowMapping) -> LedgerEntry:
    values = {name: value for name, value in row.items() if name != "number"}
    try:
        times = {name: time_of(values[name]) for name in TIMES if values[name] is not None}
        return LedgerEntry(**values | times)
    except (TypeError, ValueError):
        raise LedgerError(f"row {row['number']} of the ledger is malformed") from None
