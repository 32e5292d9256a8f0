"""Rows of what a license server needs: tokens, events, answers to repeat, shared files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from nnguard._selling.outbox import Event
from nnguard._selling.tables import DOCUMENTS, ONCE, OUTBOX, TOKENS
from nnguard._selling.tokens import Token
from nnguard.errors import LedgerError, LedgerReason

__all__ = ["DocumentRows", "EventRows", "OnceRows", "TokenRows"]

_MONTH = timedelta(days=30)


class TokenRows:
    """API tokens, by hash."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, token: Token, kept: str) -> None:
        """Insert a token and the hash of its text."""
        new = insert(TOKENS).values(id=token.id, role=token.role, name=token.name, hash=kept)
        self._connection.execute(new.values(created_at=token.created_at))

    def all(self) -> list[Token]:
        """Return all, the newest last."""
        rows = self._connection.execute(select(TOKENS).order_by(TOKENS.c.number)).mappings()
        return [_to_token(row) for row in rows]

    def get(self, token_id: str) -> tuple[Token, str] | None:
        """Return a token and its hash, or None."""
        query = select(TOKENS).where(TOKENS.c.id == token_id)
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else (_to_token(row), row["hash"])

    def revoke(self, token_id: str, at: datetime) -> bool:
        """Note when a token was revoked; False where that was noted before."""
        query = update(TOKENS).where(TOKENS.c.id == token_id, TOKENS.c.revoked_at.is_(None))
        return bool(self._connection.execute(query.values(revoked_at=at)).rowcount)


class EventRows:
    """Events that are to be told of."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, kind: str, at: datetime, data: Mapping[str, Any]) -> None:
        """Insert an event, which is due at once."""
        new = insert(OUTBOX).values(id=secrets.token_hex(16), kind=kind, at=at, data=dict(data))
        self._connection.execute(new.values(attempts=0, delivered_to=[], due_at=at))

    def take(self, limit: int, at: datetime, hold: timedelta) -> list[Event]:
        """Return events that are due, and let nobody else have them for a while."""
        query = select(OUTBOX).where(OUTBOX.c.due_at <= at)
        query = (
            query.order_by(OUTBOX.c.due_at, OUTBOX.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = self._connection.execute(query).mappings().all()
        taken = update(OUTBOX).where(OUTBOX.c.number.in_([row["number"] for row in rows]))
        changes = {"attempts": OUTBOX.c.attempts + 1, "due_at": at + hold}
        self._connection.execute(taken.values(changes))
        return [
            Event(
                row["id"],
                row["kind"],
                row["at"],
                row["data"],
                row["attempts"] + 1,
                tuple(row["delivered_to"]),
            )
            for row in rows
        ]

    def delivered(self, event_id: str, at: datetime) -> None:
        """Note that everybody has heard of it."""
        query = update(OUTBOX).where(OUTBOX.c.id == event_id)
        self._connection.execute(query.values(due_at=None, delivered_at=at))

    def failed(self, event_id: str, retry_at: datetime, delivered_to: tuple[str, ...]) -> None:
        """Note when it is due again."""
        query = update(OUTBOX).where(OUTBOX.c.id == event_id)
        self._connection.execute(query.values(due_at=retry_at, delivered_to=delivered_to))

    def backlog(self) -> int:
        """Return how many somebody has yet to hear of."""
        query = select(func.count()).where(OUTBOX.c.due_at.is_not(None))
        return self._connection.execute(query).scalar_one()

    def forget(self, at: datetime) -> None:
        """Delete what is older than a month, also where there was nobody to hear of it."""
        self._connection.execute(delete(OUTBOX).where(OUTBOX.c.at < at - _MONTH))


class OnceRows:
    """Answers that are given again where the same is asked for again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reserve(self, key: str, request_hash: str, now: datetime, until: datetime) -> str | None:
        """Insert a key, and wait for others with the same; return the answer that there is.

        Raises:
            LedgerError: The key stands for another request.
        """
        self._connection.execute(delete(ONCE).where(ONCE.c.key == key, ONCE.c.until <= now))
        new = insert(ONCE).values(key=key, request_hash=request_hash, answer="", until=until)
        try:
            with self._connection.begin_nested():
                self._connection.execute(new)
        except IntegrityError:
            query = select(ONCE.c.request_hash, ONCE.c.answer).where(ONCE.c.key == key)
            found, answer = self._connection.execute(query).one()
            if found != request_hash:
                raise LedgerError(
                    "this idempotency key stands for another request",
                    reason=LedgerReason.CONFLICT,
                    hint="use a new key for each request",
                ) from None
            return str(answer)
        return None

    def settle(self, key: str, answer: str) -> None:
        """Note what the answer is."""
        query = update(ONCE).where(ONCE.c.key == key)
        self._connection.execute(query.values(answer=answer))

    def forget(self, at: datetime) -> None:
        """Delete keys that are over."""
        self._connection.execute(delete(ONCE).where(ONCE.c.until <= at))


class DocumentRows:
    """Signed files that instances of a server share."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> tuple[str, datetime] | None:
        """Return a file, and when it was kept, or None."""
        query = select(DOCUMENTS.c.text, DOCUMENTS.c.kept_at).where(DOCUMENTS.c.name == name)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else (row[0], row[1])

    def keep(self, name: str, text: str, at: datetime) -> None:
        """Insert a file, or replace it."""
        replace = update(DOCUMENTS).where(DOCUMENTS.c.name == name)
        replace = replace.values(text=text, kept_at=at)
        if self._connection.execute(replace).rowcount:
            return
        try:
            with self._connection.begin_nested():
                new = insert(DOCUMENTS).values(name=name, text=text, kept_at=at)
                self._connection.execute(new)
        except IntegrityError:  # another process has kept one meanwhile
            self._connection.execute(replace)


def _to_token(row: RowMapping) -> Token:
    names = ("id", "role", "name", "created_at", "revoked_at")
    return Token(**{name: row[name] for name in names})
