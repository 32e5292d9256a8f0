"""Rows of licenses, and of the content keys that they are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from nnguard._base.times import seconds_of, time_of
from nnguard._selling.entry import TIMES, LedgerEntry, LicenseState
from nnguard._selling.steps import there
from nnguard._selling.tables import ACTIVATIONS, CONTENT_KEYS, LICENSES
from nnguard.errors import LedgerError, LedgerReason

__all__ = ["ContentKeyRows", "LicenseRows"]


_ENTRIES = select(LICENSES, ACTIVATIONS.c.order_id, ACTIVATIONS.c.seat_id).join(
    ACTIVATIONS, ACTIVATIONS.c.license_id == LICENSES.c.license_id, isouter=True
)

_PLACE = LICENSES.c.issued_at, LICENSES.c.number
_NEVER = LICENSES.c.revoked_at.is_(None)


class LicenseRows:
    """Licenses that were issued."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, entry: LedgerEntry) -> None:
        """Insert an entry; a LedgerError where its id is taken, which ends the transaction."""
        names = {each.name for each in fields(entry)} & set(LICENSES.c.keys())
        values = {name: getattr(entry, name) for name in names}
        seconds = {name: seconds_of(values[name]) for name in TIMES if values[name] is not None}
        try:
            self._connection.execute(insert(LICENSES).values(values | seconds))
        except IntegrityError:
            raise LedgerError(
                f"license {entry.license_id} is in the ledger already", reason=LedgerReason.CONFLICT
            ) from None

    def find(self, digits: str) -> LedgerEntry:
        """Return the entry with this id; otherwise the only one whose id begins so."""
        column = LICENSES.c.license_id
        after_all = digits + "g"  # after each id that begins so, by every collation; by the index
        for condition in (column == digits, column.between(digits, after_all)):
            rows = self._ask(_ENTRIES.where(condition).limit(2))
            if len(rows) > 1:
                message = f"more than one license begins with {digits}"
                raise LedgerError(message, reason=LedgerReason.CONFLICT, hint="give more of it")
            if rows:
                return _to_entry(rows[0])
        return there(None, f"license {digits}")

    def entries(
        self,
        *,
        customer: str = "",
        product: str = "",
        seat: str = "",
        revoked: bool | None = None,
    ) -> list[LedgerEntry]:
        """Return entries in the order of issue; empty text and None ask for all."""
        query = _ENTRIES.order_by(*_PLACE)
        columns = (LICENSES.c.customer, customer), (LICENSES.c.product, product)
        for column, wanted in (*columns, (ACTIVATIONS.c.seat_id, seat)):
            if wanted:
                query = query.where(column == wanted)
        if revoked is not None:
            query = query.where(~_NEVER if revoked else _NEVER)
        return [_to_entry(row) for row in self._ask(query)]

    def search(
        self,
        *,
        search: str,
        order: str,
        seat: str,
        state: LicenseState | None,
        at: datetime,
        limit: int,
        after: str,
    ) -> list[LedgerEntry]:
        """Return entries, the newest first; empty text and None ask for all."""
        query = _ENTRIES.order_by(*(column.desc() for column in _PLACE)).limit(limit)
        if search:
            columns = LICENSES.c.customer, LICENSES.c.product, LICENSES.c.license_id
            query = query.where(or_(*(each.icontains(search, autoescape=True) for each in columns)))
        for column, wanted in ((ACTIVATIONS.c.order_id, order), (ACTIVATIONS.c.seat_id, seat)):
            if wanted:
                query = query.where(column == wanted)
        if state is not None:
            end, now = LICENSES.c.expires_at, seconds_of(at)
            wanted_state = {"revoked": ~_NEVER, "expired": _NEVER & (end <= now)}
            query = query.where(wanted_state.get(state, _NEVER & (end.is_(None) | (end > now))))
        if after:
            last = select(*_PLACE).where(LICENSES.c.license_id == after)
            row = there(self._connection.execute(last).one_or_none(), f"license {after}")
            query = query.where(tuple_(*_PLACE) < tuple_(*row))
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

    def count_revoked(self) -> int:
        """Return how many licenses are revoked."""
        query = select(func.count()).where(LICENSES.c.revoked_at.is_not(None))
        return self._connection.execute(query).scalar_one()

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
    values |= {name: values[name] or "" for name in ("order_id", "seat_id")}
    try:
        times = {name: time_of(values[name]) for name in TIMES if values[name] is not None}
        return LedgerEntry(**values | times)
    except (TypeError, ValueError):
        raise LedgerError(f"row {row['number']} of the ledger is malformed") from None
