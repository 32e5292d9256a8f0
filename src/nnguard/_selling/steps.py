"""Steps that several of a seller's actions share, each within a transaction of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from nnguard._base.times import seconds_of
from nnguard._selling.entry import LedgerEntry
from nnguard.errors import LedgerError

if TYPE_CHECKING:
    from nnguard._selling.store import Transaction

__all__ = ["note_issued", "revoke_all", "there"]

_Found = TypeVar("_Found")


def there(found: _Found | None, what: str, hint: str = "") -> _Found:
    """Return what was found; a LedgerError where it was not."""
    if found is None:
        raise LedgerError(f"no {what} is in the ledger", hint=hint)
    return found


def note_issued(
    rows: Transaction, entry: LedgerEntry, actor: str, *, order: str = "", seat: str = ""
) -> None:
    """Tell the audit log and the outbox of a license."""
    rows.note(
        actor,
        "license.issued",
        entry.license_id,
        product=entry.product,
        order=order,
        seat=seat,
    )
    ids = {"license": entry.license_id, "order": order, "seat": seat}
    rows.events.add("license.issued", entry.issued_at, ids)


def revoke_all(
    rows: Transaction, ids: Iterable[str], at: datetime, reason: str, actor: str
) -> None:
    """Note that licenses are revoked, those that were not yet."""
    for license_id in sorted(ids):  # in the same order everywhere: two never wait for each other
        if rows.licenses.revoke(license_id, seconds_of(at), reason):
            rows.note(actor, "license.revoked", license_id, reason=reason)
            rows.events.add("license.revoked", at, {"license": license_id, "reason": reason})
