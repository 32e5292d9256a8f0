"""Rows of the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from nnguard._base.times import now
from nnguard._selling.audit import START, AuditEntry
from nnguard._selling.tables import AUDIT, AUDIT_HEAD
from nnguard.errors import LedgerError

__all__ = ["AuditRows"]

_PAGE = 1000


class AuditRows:
    """The audit log, which only grows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, notes: list[tuple[str, str, str, Mapping[str, Any]]]) -> None:
        """Append what was done: actor, action, subject, details.

        The newest entry is locked from here on, so that nothing comes between: do this last.
        """
        head = select(AUDIT_HEAD.c.number, AUDIT_HEAD.c.hash).with_for_update()
        number, previous = self._connection.execute(head).one()
        entries = []
        for actor, action, subject, details in notes:
            number += 1
            entry = AuditEntry(number, now(), actor, action, subject, dict(details), previous, "")
            previous = entry.computed_hash()
            columns = {column.name: getattr(entry, column.name) for column in AUDIT.c}
            entries.append(columns | {"hash": previous})
        self._connection.execute(insert(AUDIT), entries)
        self._connection.execute(update(AUDIT_HEAD).values(number=number, hash=previous))

    def page(
        self, *, after: int, limit: int, subject: str = "", newest: bool = False
    ) -> list[AuditEntry]:
        """Return entries after a number; with `newest`, the newest first, those before it."""
        number = AUDIT.c.number
        query = select(AUDIT).order_by(number.desc() if newest else number).limit(limit)
        if subject:
            query = query.where(AUDIT.c.subject == subject)
        if newest and after:
            query = query.where(number < after)
        elif not newest:
            query = query.where(number > after)
        return [_to_entry(row) for row in self._connection.execute(query).mappings()]

    def newest(self) -> AuditEntry | None:
        """Return the newest entry, or None."""
        return next(iter(self.page(after=0, limit=1, newest=True)), None)

    def check(self, expect: str | None) -> AuditEntry | None:
        """Check all entries; see `Ledger.check_audit`.

        The head is read after the entries, so others may go on writing: what it names is there.
        """
        first = self._connection.execute(select(func.min(AUDIT.c.number))).scalar()
        if first not in (None, 1):
            raise _broken(f"its first entry has number {first}")
        last: AuditEntry | None = None
        seen = expect is None
        while True:
            newer = 0
            for entry in self._after(last):
                _check_next(last, entry)
                seen = seen or entry.hash == expect
                last, newer = entry, newer + 1
            head = self._connection.execute(select(AUDIT_HEAD.c.number, AUDIT_HEAD.c.hash)).one()
            number, newest = (0, START) if last is None else (last.number, last.hash)
            if tuple(head) == (number, newest):
                break
            if not newer or head.number <= number:
                raise _broken("its last entries are missing")
        if not seen:
            raise _broken(f"it has no entry with the hash {expect}")
        return last

    def _after(self, entry: AuditEntry | None) -> Iterator[AuditEntry]:
        after = 0 if entry is None else entry.number
        while page := self.page(after=after, limit=_PAGE):
            yield from page
            after = page[-1].number


def _check_next(last: AuditEntry | None, entry: AuditEntry) -> None:
    """Make sure that an entry follows another, or is the first."""
    number, previous = (0, START) if last is None else (last.number, last.hash)
    if entry.number != number + 1:
        raise _broken(f"entry {number + 1} is missing")
    if entry.previous != previous or entry.hash != entry.computed_hash():
        raise _broken(f"entry {entry.number} was changed")


def _to_entry(row: RowMapping) -> AuditEntry:
    entry = AuditEntry(**row)
    if not isinstance(entry.details, dict):
        raise LedgerError(f"entry {entry.number} of the audit log is malformed")
    return entry


def _broken(what: str) -> LedgerError:
    return LedgerError(
        f"the audit log was tampered with: {what}",
        hint="compare it with a backup, and see who may write to the database",
    )
