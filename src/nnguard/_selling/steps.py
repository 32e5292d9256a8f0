"""Steps that several of a seller's actions share, each within a transaction of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from nnguard._base.times import seconds_of
from nnguard._selling.entry import LedgerEntry
from nnguard._selling.order import Order
from nnguard.errors import LedgerError, LedgerReason

if TYPE_CHECKING:
    from nnguard._selling.store import Transaction

__all__ = ["note_issued", "order_data", "revoke_all", "there"]

_Found = TypeVar("_Found")


def there(found: _Found | None, what: str, hint: str = "") -> _Found:
    """Return what was found; a LedgerError where it was not."""
    if found is None:
        message = f"no {what} is in the ledger"
        raise LedgerError(message, reason=LedgerReason.MISSING, hint=hint)
    return found


def note_issued(
    rows: Transaction, entry: LedgerEntry, actor: str, *, order: Order | None = None, seat: str = ""
) -> None:
    """Tell the audit log and the outbox of a license."""
    ids = {"order": "" if order is None else order.id, "seat": seat}
    rows.note(actor, "license.issued", entry.license_id, product=entry.product, **ids)
    data = {"license": entry.license_id, **ids, "product": entry.product}
    data |= {"customer": entry.customer, "reference": "" if order is None else order.reference}
    rows.events.add("license.issued", entry.issued_at, data)


def order_data(order: Order, **others: str) -> dict[str, str]:
    """Return what an event says about an order."""
    data = {"order": order.id, "product": order.product}
    return data | {"customer": order.customer, "reference": order.reference} | others


def revoke_all(
    rows: Transaction, ids: Iterable[str], at: datetime, reason: str, actor: str
) -> None:
    """Note that licenses are revoked, those that were not yet."""
    for license_id in sorted(ids):  # in the same order everywhere: two never wait for each other
        if rows.licenses.revoke(license_id, seconds_of(at), reason):
            rows.note(actor, "license.revoked", license_id, reason=reason)
            entry = rows.licenses.find(license_id)
            data = {"license": license_id, "order": entry.order_id, "seat": entry.seat_id}
            data |= {"product": entry.product, "customer": entry.customer, "reason": reason}
            rows.events.add("license.revoked", at, data)
