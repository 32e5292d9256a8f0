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
from types import TracebackType
from typing import TYPE_CHECKING

from nnguard._base.times import TimeLike, seconds_of, to_utc
from nnguard._selling.entry import LONGEST_ID, SHORTEST_ID, LedgerEntry, check_id, check_storable
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
