"""Events that others are to hear of: written down together with what they tell of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and has not been told to everybody yet.

    Attributes:
        id: 32 hexadecimal digits, the same each time that it is told.
        kind: "order.created", "order.cancelled", "license.issued", "license.revoked" or
            "seat.released".
        at: When it happened.
        data: What happened: ids, and no secret.
        attempts: How often somebody has taken it to tell it, this time included.
        delivered_to: Who has heard of it already.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     event = ledger.take_events(limit=1)[0]
        ...     ledger.event_delivered(event.id)
        >>> event.kind, event.data["customer"]
        ('order.created', 'Ada')
    """

    id: str
    kind: str
    at: datetime
    data: Mapping[str, Any]
    attempts: int
    delivered_to: tuple[str, ...]
