"""The audit log: what was done, by whom, in entries that each hold the hash of the one before.

Whoever changes, removes or moves an entry has to make all later ones anew, and their hashes then
differ from the one that somebody noted elsewhere.

Law: `entry.hash == entry.computed_hash()` for every entry of a whole log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nnguard._base.times import seconds_of
from nnguard._crypto.cbor import encode_cbor

__all__ = ["START", "AuditEntry"]

_LABEL = b"nnguard audit entry v1\0"

START = bytes(32).hex()
"""What stands for the hash before the first entry."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log.

    Attributes:
        number: 1 for the first, and one more for each.
        at: When, by the clock of the machine that did it.
        actor: Who: "desk", the name of an API token, and so on.
        action: What was done, such as "license.issued".
        subject: To what: the id of an order, a seat, a license.
        details: More about it: texts, whole numbers, truth values and None. No secrets.
        previous: Hash of the entry before, in hexadecimal; 64 zeros for the first.
        hash: SHA-256 of all of the above, in hexadecimal.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     head = ledger.check_audit()
        ...     first = ledger.audit(limit=1)[0]
        >>> first.actor, first.action
        ('desk', 'content-key.kept')
        >>> head.hash == head.computed_hash()
        True
    """

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """Return the hash that the entry has to have."""
        fields = [
            self.number,
            seconds_of(self.at),
            self.actor,
            self.action,
            self.subject,
            dict(self.details),
            bytes.fromhex(self.previous),
        ]
        return hashlib.sha256(_LABEL + encode_cbor(fields)).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {
            "number": self.number,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "details": dict(self.details),
            "previous": self.previous,
            "hash": self.hash,
        }
