"""Rows of licenses, and of the content keys that they are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from nnguard._base.times import seconds_of, time_of
from nnguard._selling.entry import TIMES, LedgerEntry
from nnguard._selling.tables import ACTIVATIONS, CONTENT_KEYS, LICENSES
from nnguard.errors import LedgerError

__all__ = ["ContentKeyRows", "LicenseRows"]


class LicenseRows:
    """Licenses that were issued."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, entry: LedgerEntry) -> None:
        """Insert an entry; a LedgerError where its id is taken."""
        values = {each.name: getattr(entry, each.name) for each in fields(entry)}
        seconds = {name: seconds_of(values[name]) for name in TIMES if values[name] is not None}
        try:
            with self._connection.begin_nested():
                self._connection.execute(insert(LICENSES).values(values | seconds))
        except IntegrityError:
            raise LedgerError(f"license {entry.license_id} is in the ledger already") from None

    def find(self, digits: str) -> LedgerEntry:
        """Return the entry with this id; otherwise the only one whose id begins so."""
        column = LICENSES.c.license_id
        for condition in (column == digits, column.startswith(digits)):
            rows = self._ask(select(LICENSES).where(condition).limit(2))
            if len(rows) > 1:
                hint = "give more of it"
                raise LedgerError(f"more than one license begins with {digits}", hint=hint)
            if rows:
                return _to_entry(rows[0])
        raise LedgerError(f"no license {digits} is in the ledger")

    def entries(
        self,
        *,
        customer: str = "",
        product: str = "",
        revoked: bool | None = None,
        search: str = "",
        order: str = "",
        seat: str = "",
        after: str = "",
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        """Return entries in the order of issue; empty text and None ask for all."""
        place = LICENSES.c.issued_at, LICENSES.c.number
        query = select(LICENSES).order_by(*place).limit(limit)
        if customer:
            query = query.where(LICENSES.c.customer == customer)
        if product:
            query = query.where(LICENSES.c.product == product)
        if revoked is not None:
            never = LICENSES.c.revoked_at.is_(None)
            query = query.where(~never if revoked else never)
        if search:
            columns = LICENSES.c.customer, LICENSES.c.product, LICENSES.c.license_id
            query = query.where(or_(*(at.icontains(search, autoescape=True) for at in columns)))
        for column, wanted in ((ACTIVATIONS.c.order_id, order), (ACTIVATIONS.c.seat_id, seat)):
            if wanted:
                ids = select(ACTIVATIONS.c.license_id).where(column == wanted)
                query = query.where(LICENSES.c.license_id.in_(ids))
        if after:
            last = select(*place).where(LICENSES.c.license_id == after)
            row = self._connection.execute(last).one_or_none()
            if row is None:
                raise LedgerError(f"no license {after} is in the ledger")
            query = query.where(tuple_(*place) > tuple_(*row))
        return [_to_entry(row) for row in self._ask(query)]

    def revoke(self, license_id: str, seconds: int, reason: str) -> bool:
        """Note when and why a license was revoked; False where that was noted before."""
        query = update(LICENSES).where(LICENSES.c.license_id == license_id)
        query = query.where(LICENSES.c.revoked_at.is_(None))
        done = self._connection.execute(query.values(revoked_at=seconds, reason=reason))
        return bool(done.rowcount)

    def revoked_ids(self) -> list[str]:
        """Return ids in the order of revocation."""
        query = select(LICENSES.c.license_id).where(LICENSES.c.revoked_at.is_not(None))
        query = query.order_by(LICENSES.c.revoked_at, LICENSES.c.number)
        return list(self._connection.execute(query).scalars())

    def _ask(self, query: Select[Any]) -> Sequence[RowMapping]:
        return self._connection.execute(query).mappings().all()


class ContentKeyRows:
    """Content keys, wrapped."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep(self, content_key_id: str, product: str, wrapped: bytes) -> None:
        """Insert a content key, or replace the one of this id."""
        column = CONTENT_KEYS.c.content_key_id
        values = {"product": product, "wrapped": wrapped}
        replace = update(CONTENT_KEYS).where(column == content_key_id)
        if self._connection.execute(replace.values(values)).rowcount:
            return
        new = insert(CONTENT_KEYS).values({column.name: content_key_id, **values})
        try:
            with self._connection.begin_nested():
                self._connection.execute(new)
        except IntegrityError:  # another process has kept it meanwhile
            self._connection.execute(replace.values(values))

    def wrapped(self, content_key_id: str) -> bytes | None:
        """Return a content key as it was kept, or None."""
        query = select(CONTENT_KEYS.c.wrapped)
        query = query.where(CONTENT_KEYS.c.content_key_id == content_key_id)
        found = self._connection.execute(query).scalar_one_or_none()
        return None if found is None else bytes(found)


def _to_entry(row: RowMapping) -> LedgerEntry:
    values = {name: value for name, value in row.items() if name != "number"}
    try:
        times = {name: time_of(values[name]) for name in TIMES if values[name] is not None}
        return LedgerEntry(**values | times)
    except (TypeError, ValueError):
        raise LedgerError(f"row {row['number']} of the ledger is malformed") from None
