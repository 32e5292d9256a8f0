"""Seats as pages show them: what they are called, and how many are taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nnguard._selling.order import Seat

__all__ = ["names_of", "taken_of"]


def names_of(seats: Sequence[Seat]) -> dict[str, str]:
    """Return what each seat is called, by its id.

    Args:
        seats: All that were ever taken of an order: one without a name gets its number among them.
    """
    return {
        seat.id: seat.name or f"{'Relay' if seat.leases else 'Machine'} {number}"
        for number, seat in enumerate(seats, start=1)
    }


def taken_of(seats: Sequence[Seat], time: datetime) -> int:
    """Return how many seats of an order nobody else can have at a time."""
    return sum(seat.weight for seat in seats if seat.state_at(time) != "free")
