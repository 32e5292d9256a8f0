"""API tokens: texts that let programs and people use the license server, each in a role.

The ledger keeps a hash (argon2id, RFC 9106). The secret has 32 random bytes and is shown once.
Needs argon2-cffi.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from nnguard.errors import ArgumentError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["ROLES", "Role", "Token", "Verifier", "check_role", "id_of", "make_secret"]

Role = Literal["shop", "support", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)

_REMEMBERED = 60.0
"""Seconds for which a token need not be hashed again: that takes milliseconds on purpose."""

_MOST = 1024
"""Tokens that are remembered at once."""


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, without its secret.

    Attributes:
        id: 16 hexadecimal digits; they are a part of the token's text.
        role: "shop", "support" or "auditor".
        name: Whose it is; it stands in the audit log.
        created_at: When.
        revoked_at: When it was revoked, or None.

    Examples:
        >>> with licensing.Ledger("shop.db") as ledger:
        ...     token, text = ledger.new_token("auditor", "Eve")
        ...     ledger.check_token(text) == token
        True
    """

    id: str
    role: Role
    name: str
    created_at: datetime
    revoked_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the token as JSON values."""
        return {
            "id": self.id,
            "role": self.role,
            "name": self.name,
            "created_at": self.created_at.isoformat(),
            "revoked_at": None if self.revoked_at is None else self.revoked_at.isoformat(),
        }


def make_secret() -> tuple[str, str, str]:
    """Return the id of a new token, its text, and the hash to keep."""
    token_id = secrets.token_hex(8)
    text = f"nng_{token_id}_{secrets.token_urlsafe(32)}"
    return token_id, text, _hasher().hash(text)


def id_of(text: str) -> str | None:
    """Return the id that the text of a token names; None where it is no such text."""
    found = re.fullmatch("nng_([0-9a-f]{16})_[0-9A-Za-z_-]{43}", text)
    return found and found[1]


def check_role(role: str) -> Role:
    """Return a role.

    Raises:
        ArgumentError: There is no such role.
    """
    for known in ROLES:
        if role == known:
            return known
    raise ArgumentError(f"there is no role {role!r}", hint=f"one of {', '.join(ROLES)}")


class Verifier:
    """Compares texts with the hashes that a ledger keeps, and remembers for a minute what fits."""

    def __init__(self) -> None:
        self._known: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def fits(self, text: str, kept: str) -> bool:
        """Tell whether this is the text that was hashed."""
        from argon2.exceptions import Argon2Error, InvalidHashError

        seen = hashlib.sha256(f"{kept}\0{text}".encode()).digest()
        now = time.monotonic()
        with self._lock:
            if self._known.get(seen, 0.0) > now:
                return True
        try:
            _hasher().verify(kept, text)
        except (Argon2Error, InvalidHashError):
            return False
        with self._lock:
            if len(self._known) >= _MOST:
                self._known = {key: end for key, end in self._known.items() if end > now}
            if len(self._known) < _MOST:
                self._known[seen] = now + _REMEMBERED
        return True


def _hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError as error:
        message = 'API tokens need argon2-cffi: pip install "nnguard[server]"'
        raise ImportError(message, name=error.name) from None
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
