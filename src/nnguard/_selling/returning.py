"""Giving seats back, taking them back, and cancelling orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from nnguard._licensing.receipt import Receipt
from nnguard._selling.order import Order, Seat
from nnguard._selling.steps import order_data, revoke_all, there
from nnguard.errors import ActivationError, ActivationReason

if TYPE_CHECKING:
    from nnguard._selling.store import Transaction

__all__ = ["cancel", "give_back", "revoke_licenses", "revoke_seat", "take_back"]


def give_back(rows: Transaction, order_id: str, receipt: Receipt, at: datetime, actor: str) -> Seat:
    """Free the seat of a license that its machine uses no more; see `Issuer.give_back`."""
    order = there(rows.orders.locked(order_id), f"order {order_id}")
    seat = there(rows.seats.of_license(receipt.license_id), f"license {receipt.license_id}")
    if seat.request_key != receipt.key.raw.hex():
        raise ActivationError(
            "the receipt is signed with another key than the one that the license came with",
            reason=ActivationReason.OTHER_KEY,
            hint="use the identity that the license was requested with",
        )
    if seat.released_at is not None:
        return seat
    freed = at if seat.free_at is None else min(at, seat.free_at)
    seat = replace(seat, released_at=at, free_at=freed)
    rows.seats.change(seat)
    revoke_seat(rows, order, seat.id, at, "given back", actor)
    rows.note(actor, "seat.released", seat.id, order=order.id)
    rows.events.add("seat.released", at, order_data(order, seat=seat.id))
    return seat


def take_back(
    rows: Transaction, order_id: str, seat_id: str, at: datetime, reason: str, actor: str
) -> Seat:
    """Take a seat back, which is free after a while; see `Issuer.take_back`."""
    order = there(rows.orders.locked(order_id), f"order {order_id}")
    seat = there(rows.seats.find(seat_id), f"seat {seat_id}")
    if seat.free_at is not None:
        return seat
    seat = replace(seat, taken_back_at=at, free_at=at + order.cooling)
    rows.seats.change(seat)
    revoke_seat(rows, order, seat.id, at, reason or "taken back", actor)
    rows.note(actor, "seat.taken-back", seat.id, order=order.id, reason=reason)
    rows.events.add("seat.released", at, order_data(order, seat=seat.id))
    return seat


def cancel(rows: Transaction, order_id: str, at: datetime, reason: str, actor: str) -> Order:
    """Cancel an order; see `Issuer.cancel`."""
    order = there(rows.orders.locked(order_id), f"order {order_id}")
    if order.cancelled_at is not None:
        return order
    rows.orders.cancel(order.id, at, reason)
    for seat in rows.seats.of_order(order.id):
        revoke_seat(rows, order, seat.id, at, reason or "order cancelled", actor)
    rows.note(actor, "order.cancelled", order.id, reason=reason)
    rows.events.add("order.cancelled", at, order_data(order, reason=reason))
    return replace(order, cancelled_at=at, reason=reason)


def revoke_licenses(
    rows: Transaction, ids: Sequence[str], at: datetime, reason: str, actor: str
) -> None:
    """Revoke licenses, and all others of their seats; see `Issuer.revoke`."""
    seats = {seat.id: seat for license_id in ids if (seat := rows.seats.of_license(license_id))}
    for order_id in sorted({seat.order_id for seat in seats.values()}):
        order = there(rows.orders.locked(order_id), f"order {order_id}")
        for seat in seats.values():
            if seat.order_id == order_id:
                revoke_seat(rows, order, seat.id, at, reason, actor)
    revoke_all(rows, ids, at, reason, actor)


def revoke_seat(
    rows: Transaction, order: Order, seat_id: str, at: datetime, reason: str, actor: str
) -> None:
    """Revoke the licenses of a seat that still hold; the list need not name what is over."""
    entries = rows.licenses.entries(seat=seat_id, revoked=False)
    live = [
        entry.license_id
        for entry in entries
        if entry.expires_at is None or entry.expires_at + order.grace >= at
    ]
    revoke_all(rows, live, at, reason, actor)
