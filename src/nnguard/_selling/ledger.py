"""The ledger of an issuer: who got which license, and when.

    with Ledger("licenses.db") as ledger:
        ledger.add(entry)
        ledger.revoke(entry.license_id, at="2027-03-01", reason="refunded")

An SQLite file by default, any database that SQLAlchemy reaches by its URL. The ledger keeps text
and bytes as they are given: it makes no license, checks none, and sees content keys only wrapped.
What a process adds is there whole or not at all, whoever else writes meanwhile. The file, or the
tables, are made with the first entry.

Law: `ledger.get(entry.license_id) == entry` for whatever was added, in every database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from nnguard._base.times import TimeLike, now, to_utc
from nnguard._selling.audit import AuditEntry
from nnguard._selling.entry import (
    LONGEST_ID,
    SHORTEST_ID,
    LedgerEntry,
    LicenseState,
    check_id,
    check_storable,
)
from nnguard._selling.order import Order, OrderState, Seat
from nnguard._selling.outbox import Event
from nnguard._selling.product import Product
from nnguard._selling.steps import note_issued, revoke_all, there
from nnguard._selling.tokens import Token, Verifier, check_role, id_of, make_secret
from nnguard.errors import ArgumentError, LedgerError

if TYPE_CHECKING:
    from nnguard._selling.store import Store, Transaction

__all__ = ["Ledger"]

_LONGEST_KEY = 255


class Ledger:
    """A ledger in a database; a context manager that closes it.

    Threads may share a ledger; each process opens its own. It needs SQLAlchemy.

    Args:
        url_or_path: A text with `://` is a SQLAlchemy URL, all else the path of an SQLite file. A
            new file can be read by its owner only. `postgresql://` means `postgresql+psycopg://`.

    Raises:
        LedgerError: The database cannot be opened, or holds a ledger of another version.
        ImportError: SQLAlchemy, or the database's driver, is not installed.
        OSError: The file cannot be opened, or there is no folder for it.

    Examples:
        >>> with licensing.Ledger("licenses.db") as ledger:
        ...     [entry.customer for entry in ledger.entries(product="digits")]
        ['Ada']
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        self._store = _store_class()(url_or_path)
        self._verifier = Verifier()

    @classmethod
    def upgrade(cls, url_or_path: str | os.PathLike[str]) -> bool:
        """Bring the tables of an older nnguard up to date; return whether they were older.

        An older nnguard can no longer open the ledger then. Nothing is lost, and all of it happens
        in one transaction, where the database has such for tables (SQLite and PostgreSQL have).

        Raises:
            LedgerError: The database cannot be opened, or holds a ledger of a newer version.
        """
        return _store_class().upgrade(url_or_path)

    def add(self, entry: LedgerEntry, *, actor: str = "desk") -> None:
        """Write down a license.

        Args:
            entry: The license.
            actor: Who does it, for the audit log.

        Raises:
            LedgerError: One with the same id is there already.
        """
        with self._store.writing() as rows:
            rows.licenses.add(entry)
            note_issued(rows, entry, actor)

    def get(self, license_id: str) -> LedgerEntry:
        """Return the entry of a license.

        Args:
            license_id: The whole id, or its first digits, 8 or more, if no other begins with them.

        Raises:
            LedgerError: There is no such license, or more than one.
        """
        digits = _digits(license_id)
        found = self._store.read(lambda rows: rows.licenses.find(digits), None)
        return there(found, f"license {digits}")

    def entries(
        self, *, customer: str = "", product: str = "", revoked: bool | None = None
    ) -> list[LedgerEntry]:
        """Return entries in the order of issue.

        Args:
            customer: Only this customer's; the exact name.
            product: Only this product's; the exact name.
            revoked: Only those that are revoked (True), or are not (False).
        """
        check_storable(customer, "customer")
        check_storable(product, "product")
        return self._store.read(
            lambda rows: rows.licenses.entries(customer=customer, product=product, revoked=revoked),
            [],
        )

    def licenses(
        self,
        *,
        search: str = "",
        order: str = "",
        seat: str = "",
        state: LicenseState | None = None,
        limit: int = 100,
        after: str = "",
    ) -> list[LedgerEntry]:
        """Return licenses, the newest first.

        Args:
            search: Only those with this in customer, product or id.
            order: Only those of the order of this id.
            seat: Only those of the seat of this id.
            state: Only those that are so now: "valid", "expired" (periods of grace do not count) or
                "revoked".
            limit: At most so many.
            after: Go on after the license of this id.
        """
        texts = {"search": search, "order": order, "seat": seat, "after": after}
        for name, text in texts.items():
            check_storable(text, name)
        return self._store.read(
            lambda rows: rows.licenses.search(**texts, state=state, at=now(), limit=limit), []
        )

    def revoke(
        self, license_id: str, *, at: TimeLike, reason: str = "", actor: str = "desk"
    ) -> LedgerEntry:
        """Note that a license is revoked, and return its entry.

        A license that is revoked already keeps its first time and reason, as the entry says.

        Args:
            license_id: As in `get`.
            at: When.
            reason: Why.
            actor: Who does it, for the audit log.

        Raises:
            LedgerError: There is no such license, or more than one.
        """
        when = to_utc(at, "at")
        check_storable(reason, "reason")
        found = self.get(license_id).license_id
        with self._store.writing() as rows:
            revoke_all(rows, [found], when, reason, actor)
            return rows.licenses.find(found)

    def revoked_ids(self) -> list[str]:
        """Return the ids of all revoked licenses, in the order of revocation."""
        return self._store.read(lambda rows: rows.licenses.revoked_ids(), [])

    def count_revoked(self) -> int:
        """Return how many licenses are revoked."""
        return self._store.read(lambda rows: rows.licenses.count_revoked(), 0)

    def keep_content_key(
        self, content_key_id: str, product: str, wrapped: bytes, *, actor: str = "desk"
    ) -> None:
        """Keep a content key, which the caller has wrapped to the vendor's own key.

        Keeping the same id again replaces what was kept.
        """
        check_id(content_key_id, "content_key_id")
        check_storable(product, "product")
        with self._store.writing() as rows:
            rows.content_keys.keep(content_key_id, product, bytes(wrapped))
            rows.note(actor, "content-key.kept", content_key_id, product=product)

    def wrapped_content_key(self, content_key_id: str) -> bytes | None:
        """Return what `keep_content_key` kept, or None."""
        check_id(content_key_id, "content_key_id")
        return self._store.read(lambda rows: rows.content_keys.wrapped(content_key_id), None)

    def product_of_others(self, recipient: str) -> str | None:
        """Return the name of a product whose content key is wrapped to another key, or None."""
        check_id(recipient, "recipient")
        return self._store.read(lambda rows: rows.products.of_others(recipient), None)

    def products(self) -> list[Product]:
        """Return all products, by name."""
        return self._store.read(lambda rows: rows.products.all(), [])

    def product(self, name: str) -> Product:
        """Return a product; a LedgerError where there is none of this name."""
        check_storable(name, "product")
        found = self._store.read(lambda rows: rows.products.find(name), None)
        return there(found, f"product {name!r}", "nnguard product add adds one")

    def order(self, order_id: str) -> Order:
        """Return an order; a LedgerError where there is none."""
        check_storable(order_id, "order_id")
        return there(
            self._store.read(lambda rows: rows.orders.find(order_id), None), f"order {order_id}"
        )

    def order_with(self, reference: str) -> Order | None:
        """Return the order that has a shop's own number, or None."""
        check_storable(reference, "reference")
        return self._store.read(lambda rows: rows.orders.of_reference(reference), None)

    def orders(
        self,
        *,
        search: str = "",
        product: str = "",
        state: OrderState | None = None,
        limit: int = 100,
        after: str = "",
    ) -> list[Order]:
        """Return orders, the newest first.

        Args:
            search: Only those with this in customer, reference or id.
            product: Only those of this product.
            state: Only those that are so now.
            limit: At most so many.
            after: Go on after the order of this id.
        """
        texts = {"search": search, "product": product, "after": after}
        for name, text in texts.items():
            check_storable(text, name)
        return self._store.read(
            lambda rows: rows.orders.search(**texts, state=state, at=now(), limit=limit), []
        )

    def seats(self, order_id: str) -> list[Seat]:
        """Return all seats that were ever taken of an order, the newest last."""
        check_storable(order_id, "order_id")
        return self._store.read(lambda rows: rows.seats.of_order(order_id), [])

    def seat(self, seat_id: str) -> Seat:
        """Return a seat; a LedgerError where there is none."""
        check_storable(seat_id, "seat_id")
        return there(
            self._store.read(lambda rows: rows.seats.find(seat_id), None), f"seat {seat_id}"
        )

    def seat_of(self, license_id: str) -> Seat | None:
        """Return the seat that a license is of; None where it is of none."""
        check_storable(license_id, "license_id")
        return self._store.read(lambda rows: rows.seats.of_license(license_id), None)

    def activations(self, since: date, until: date, *, product: str = "") -> dict[date, int]:
        """Return how many seats were taken on each day (UTC) on which any was.

        Args:
            since: The first day.
            until: The last day.
            product: Only those of this product.
        """
        check_storable(product, "product")
        first, last = (to_utc(day.isoformat()) for day in (since, until))
        end = last + timedelta(days=1)
        return self._store.read(lambda rows: rows.seats.activations(first, end, product), {})

    def audit(
        self, *, after: int = 0, limit: int = 100, subject: str = "", newest: bool = False
    ) -> list[AuditEntry]:
        """Return entries of the audit log.

        Args:
            after: Go on after the entry of this number.
            limit: At most so many.
            subject: Only those about the order, seat, license and so on of this id.
            newest: The newest first; `after` goes on downwards then.
        """
        check_storable(subject, "subject")
        return self._store.read(
            lambda rows: rows.audit.page(after=after, limit=limit, subject=subject, newest=newest),
            [],
        )

    def audit_head(self) -> AuditEntry | None:
        """Return the newest entry of the audit log, or None; nothing is checked."""
        return self._store.read(lambda rows: rows.audit.newest(), None)

    def check_audit(self, expect: str | None = None) -> AuditEntry | None:
        """Check the whole audit log, and return its newest entry, None where there is none.

        Args:
            expect: Hash of an entry that was noted elsewhere: it has to be in the log.

        Raises:
            LedgerError: An entry was changed, removed, added or moved.
        """
        if expect is not None and not re.fullmatch("[0-9a-f]{64}", expect):
            raise ArgumentError("expect: not the hash of an entry: 64 hexadecimal digits")
        head = self._store.read(lambda rows: rows.audit.check(expect), None)
        if head is None and expect is not None:
            raise LedgerError("the audit log is empty", hint="it had the entry that is expected")
        return head

    def new_token(self, role: str, name: str, *, actor: str = "desk") -> tuple[Token, str]:
        """Make an API token; return it and its text, which is shown this once."""
        check_storable(name, "name")
        if not name:
            raise ArgumentError("name: a token needs one, for the audit log")
        checked = check_role(role)
        token_id, text, kept = make_secret()
        token = Token(token_id, checked, name, now())
        with self._store.writing() as rows:
            rows.tokens.add(token, kept)
            rows.note(actor, "token.made", token.id, role=checked, name=name)
        return token, text

    def tokens(self) -> list[Token]:
        """Return all API tokens, revoked ones as well."""
        return self._store.read(lambda rows: rows.tokens.all(), [])

    def token(self, token_id: str) -> Token:
        """Return an API token; a LedgerError where there is none."""
        return there(self._find_token(token_id), f"token {token_id}")[0]

    def check_token(self, text: str) -> Token | None:
        """Return the API token of this text; None where there is none, or it was revoked."""
        token_id = id_of(text)
        found = None if token_id is None else self._find_token(token_id)
        if found is None or found[0].revoked_at is not None:
            return None
        return found[0] if self._verifier.fits(text, found[1]) else None

    def revoke_token(self, token_id: str, *, actor: str = "desk") -> Token:
        """Let an API token hold no longer."""
        self.token(token_id)
        with self._store.writing() as rows:
            if rows.tokens.revoke(token_id, now()):
                rows.note(actor, "token.revoked", token_id)
        return self.token(token_id)

    def take_events(
        self,
        limit: int = 100,
        *,
        at: datetime | None = None,
        hold: timedelta = timedelta(minutes=1),
    ) -> list[Event]:
        """Return events that are due, the oldest first; nobody else gets them for a while.

        Args:
            limit: At most so many.
            at: Now, if None.
            hold: After so long they are due again, unless they are told of meanwhile.
        """
        with self._store.writing() as rows:
            return rows.events.take(limit, at or now(), hold)

    def backlog(self) -> int:
        """Return how many events somebody has yet to hear of."""
        return self._store.read(lambda rows: rows.events.backlog(), 0)

    def event_delivered(self, event_id: str, *, at: datetime | None = None) -> None:
        """Note that everybody has heard of an event."""
        with self._store.writing() as rows:
            rows.events.delivered(event_id, at or now())

    def event_failed(
        self, event_id: str, *, retry_at: datetime, delivered_to: tuple[str, ...] = ()
    ) -> None:
        """Note when to tell of an event again, and who has heard of it already."""
        with self._store.writing() as rows:
            rows.events.failed(event_id, retry_at, delivered_to)

    def once(
        self,
        key: str,
        request_hash: str,
        make: Callable[[], str],
        *,
        keep: timedelta = timedelta(days=1),
        at: datetime | None = None,
    ) -> str:
        """Do something once, and return what it made, the second time, too.

        All that `make` writes into this ledger is there together with the key, or not at all.

        Args:
            key: Names what is done; whoever comes with the same key at the same time waits.
            request_hash: Of what was asked for; may be empty.
            make: Does it. What it raises undoes all, and the key may be used again.
            keep: How long it is remembered.
            at: Now, if None.

        Raises:
            LedgerError: Something else was asked for under this key.
        """
        if not 0 < len(check_storable(key, "key")) <= _LONGEST_KEY:
            raise ArgumentError(f"key: 1 to {_LONGEST_KEY} characters")
        if len(check_storable(request_hash, "request_hash")) > LONGEST_ID:
            raise ArgumentError(f"request_hash: {LONGEST_ID} characters at most")
        when = at or now()
        with self._store.writing() as rows:
            answer = rows.once.reserve(key, request_hash, when, when + keep)
            if answer is None:
                answer = check_storable(make(), "answer")
                rows.once.settle(key, answer)
        return answer

    def document(self, name: str) -> tuple[str, datetime] | None:
        """Return a signed file that instances share, and when it was kept, or None."""
        return self._store.read(lambda rows: rows.documents.get(name), None)

    def keep_document(self, name: str, text: str, *, at: datetime | None = None) -> None:
        """Keep a signed file that instances share, such as the revocation list."""
        with self._store.writing() as rows:
            rows.documents.keep(name, text, at or now())

    def tidy(self, *, at: datetime | None = None) -> None:
        """Forget events that are older than a month, and keys of `once` that are over."""
        with self._store.writing() as rows:
            rows.events.forget(at or now())
            rows.once.forget(at or now())

    def writing(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction; all that this thread writes meanwhile is a part of it."""
        return self._store.writing()

    def _find_token(self, token_id: str) -> tuple[Token, str] | None:
        check_storable(token_id, "token_id")
        return self._store.read(lambda rows: rows.tokens.get(token_id), None)

    def close(self) -> None:
        """Give the connections back; the ledger can no longer be used."""
        self._store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<nnguard.licensing.Ledger {self._store}>"


def _store_class() -> type[Store]:
    """Return the class behind ledgers, now that SQLAlchemy is needed."""
    try:
        from nnguard._selling.store import Store
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sqlalchemy":
            raise
        message = 'the ledger needs SQLAlchemy: pip install "nnguard[ledger]"'
        raise ImportError(message, name=error.name) from None
    return Store


def _digits(license_id: str) -> str:
    digits = check_storable(license_id, "license_id").lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_ID},{LONGEST_ID}}}", digits):
        hint = f"give a license's id, or its first {SHORTEST_ID} or more hexadecimal digits"
        raise LedgerError(f"not a license id: {license_id[:LONGEST_ID]!r}", hint=hint)
    return digits
