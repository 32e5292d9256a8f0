"""Products: trials that orders sell, opened once, so that a license needs no trial anymore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

__all__ = ["Product", "Tier"]


class Tier(NamedTuple):
    """A tier of a product.

    Attributes:
        name: As the lock says.
        opens: Model digest of what its key makes of the trial, in hexadecimal.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     highest = ledger.product("digits").tiers[-1]
        >>> highest.name
        'full'
    """

    name: str
    opens: str


@dataclass(frozen=True, slots=True)
class Product:
    """A trial that is sold.

    Attributes:
        name: What it is called in orders; no other product of the ledger has it.
        stream: Model digest of the trial, in hexadecimal.
        lock: Identifier of the content key of its outermost lock, in hexadecimal.
        issuer: Who sells, as the trial's signature says.
        tiers: What the content key that the ledger keeps opens, the lowest first.
        added_at: When it was added.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     product = ledger.products()[0]
        >>> product.name, [tier.name for tier in product.tiers]
        ('digits', ['full'])
    """

    name: str
    stream: str
    lock: str
    issuer: str
    tiers: tuple[Tier, ...]
    added_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the product as JSON values."""
        return {
            "name": self.name,
            "stream": self.stream,
            "lock": self.lock,
            "issuer": self.issuer,
            "tiers": [tier._asdict() for tier in self.tiers],
            "added_at": self.added_at.isoformat(),
        }
