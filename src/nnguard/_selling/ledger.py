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
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from nnguard._base.times import TimeLike, seconds_of, to_utc
from nnguard._selling.audit import AuditEntry
from nnguard._selling.entry import LONGEST_ID, SHORTEST_ID, LedgerEntry, check_id, check_storable
from nnguard._selling.order import Order, OrderState, Seat
from nnguard._selling.outbox import Event
from nnguard._selling.product import Product
from nnguard._selling.tokens import Token
from nnguard.errors import LedgerError

if TYPE_CHECKING:
    from nnguard._selling.store import Store

__all__ = ["Ledger"]


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
        self._store = _open(url_or_path)

    def add(self, entry: LedgerEntry) -> None:
        """Write down a license.

        Raises:
            LedgerError: One with the same id is there already.
        """
        self._store.add(entry)

    def get(self, license_id: str) -> LedgerEntry:
        """Return the entry of a license.

        Args:
            license_id: The whole id, or its first digits, 8 or more, if no other begins with them.

        Raises:
            LedgerError: There is no such license, or more than one.
        """
        return self._store.find(_digits(license_id))

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
        return self._store.entries(customer, product, revoked)

    def revoke(self, license_id: str, *, at: TimeLike, reason: str = "") -> LedgerEntry:
        """Note that a license is revoked, and return its entry.

        A license that is revoked already keeps its first time and reason, as the entry says.

        Args:
            license_id: As in `get`.
            at: When.
            reason: Why.

        Raises:
            LedgerError: There is no such license, or more than one.
        """
        seconds = seconds_of(to_utc(at, "at"))
        return self._store.revoke(_digits(license_id), seconds, check_storable(reason, "reason"))

    def revoked_ids(self) -> list[str]:
        """Return the ids of all revoked licenses, in the order of revocation."""
        return self._store.revoked_ids()

    def keep_content_key(self, content_key_id: str, product: str, wrapped: bytes) -> None:
        """Keep a content key, which the caller has wrapped to the vendor's own key.

        Keeping the same id again replaces what was kept.
        """
        check_id(content_key_id, "content_key_id")
        check_storable(product, "product")
        self._store.keep_content_key(content_key_id, product, bytes(wrapped))

    def wrapped_content_key(self, content_key_id: str) -> bytes | None:
        """Return what `keep_content_key` kept, or None."""
        return self._store.wrapped_content_key(check_id(content_key_id, "content_key_id"))

    @classmethod
    def upgrade(cls, url_or_path: str | os.PathLike[str]) -> bool:
        """Bring the tables of an older nnguard up to date; return whether they were older."""
        raise NotImplementedError

    def products(self) -> list[Product]:
        """Return all products, by name."""
        raise NotImplementedError

    def product(self, name: str) -> Product:
        """Return a product; a LedgerError where there is none of this name."""
        raise NotImplementedError

    def order(self, order_id: str) -> Order:
        """Return an order; a LedgerError where there is none."""
        raise NotImplementedError

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
        raise NotImplementedError

    def seats(self, order_id: str) -> list[Seat]:
        """Return all seats that were ever taken of an order, the newest last."""
        raise NotImplementedError

    def seat(self, seat_id: str) -> Seat:
        """Return a seat; a LedgerError where there is none."""
        raise NotImplementedError

    def activations(self, since: TimeLike) -> dict[date, int]:
        """Return how many seats were taken on each day (UTC) on which any was."""
        raise NotImplementedError

    def audit(self, *, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        """Return entries of the audit log: those after a number, at most so many."""
        raise NotImplementedError

    def check_audit(self, expect: str | None = None) -> AuditEntry | None:
        """Check the whole audit log, and return its newest entry, None where there is none.

        Args:
            expect: Hash of an entry that was noted elsewhere: it has to be in the log.

        Raises:
            LedgerError: An entry was changed, removed, added or moved.
        """
        raise NotImplementedError

    def new_token(self, role: str, name: str, *, actor: str = "desk") -> tuple[Token, str]:
        """Make an API token; return it and its text, which is shown this once."""
        raise NotImplementedError

    def tokens(self) -> list[Token]:
        """Return all API tokens, revoked ones as well."""
        raise NotImplementedError

    def token(self, token_id: str) -> Token:
        """Return an API token; a LedgerError where there is none."""
        raise NotImplementedError

    def check_token(self, text: str) -> Token | None:
        """Return the API token of this text; None where there is none, or it was revoked."""
        raise NotImplementedError

    def revoke_token(self, token_id: str, *, actor: str = "desk") -> Token:
        """Let an API token hold no longer."""
        raise NotImplementedError

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
        raise NotImplementedError

    def event_delivered(self, event_id: str, *, at: datetime | None = None) -> None:
        """Note that everybody has heard of an event."""
        raise NotImplementedError

    def event_failed(
        self, event_id: str, *, retry_at: datetime, delivered_to: tuple[str, ...] = ()
    ) -> None:
        """Note when to tell of an event again, and who has heard of it already."""
        raise NotImplementedError

    def once(
        self,
        key: str,
        request_hash: str,
        make: Callable[[], str],
        *,
        keep: timedelta = timedelta(days=1),
    ) -> str:
        """Do something once, and return what it made, the second time, too.

        All that `make` writes into this ledger is there together with the key, or not at all.

        Args:
            key: Names what is done; whoever comes with the same key at the same time waits.
            request_hash: Of what was asked for.
            make: Does it.
            keep: How long it is remembered.

        Raises:
            LedgerError: Something else was asked for under this key.
        """
        raise NotImplementedError

    def document(self, name: str) -> tuple[str, datetime] | None:
        """Return a signed file that instances share, and when it was kept, or None."""
        raise NotImplementedError

    def keep_document(self, name: str, text: str, *, at: datetime | None = None) -> None:
        """Keep a signed file that instances share, such as the revocation list."""
        raise NotImplementedError

    def tidy(self, *, at: datetime | None = None) -> None:
        """Forget events that everybody heard of a month ago, and keys of `once` that are over."""
        raise NotImplementedError

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


def _open(url_or_path: str | os.PathLike[str]) -> Store:
    """Open a store, now that SQLAlchemy is needed."""
    try:
        from nnguard._selling.store import Store
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sqlalchemy":
            raise
        message = 'the ledger needs SQLAlchemy: pip install "nnguard[ledger]"'
        raise ImportError(message, name=error.name) from None
    return Store(url_or_path)


def _digits(license_id: str) -> str:
    digits = check_storable(license_id, "license_id").lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_ID},{LONGEST_ID}}}", digits):
        hint = f"give a license's id, or its first {SHORTEST_ID} or more hexadecimal digits"
        raise LedgerError(f"not a license id: {license_id[:LONGEST_ID]!r}", hint=hint)
    return digits
