"""Content keys that a ledger keeps, wrapped to the vendor's own identity.

Law: the key of a higher tier, which gives those below, is never replaced by one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.identity import Identity
from nnguard._locking.tiers import MAX_TIERS
from nnguard._selling.ledger import Ledger
from nnguard.errors import KeyFormatError, WrongKeyError

__all__ = ["ContentKeys"]

_WRAPPING = b"nnguard ledger content key v1\0"


@dataclass(frozen=True, slots=True)
class ContentKeys:
    """The content keys of one ledger.

    Attributes:
        ledger: Keeps them.
        identity: They are wrapped to it; without it, none is kept or read.
        actor: Who does it, for the audit log.
    """

    ledger: Ledger
    identity: Identity | None
    actor: str

    def get(self, lock: str) -> ContentKey:
        """Return the content key of a lock.

        Raises:
            KeyFormatError: The ledger keeps none.
            WrongKeyError: It is wrapped to another identity.
        """
        wrapped = self.ledger.wrapped_content_key(lock)
        if wrapped is None:
            raise KeyFormatError(
                f"the ledger has no content key for lock {lock}", hint="give the content key once"
            )
        key = self._unwrap(lock, wrapped)
        if key is None:
            raise WrongKeyError("the content key in the ledger is wrapped to another key")
        return key

    def keep(self, lock: str, product: str, key: ContentKey) -> None:
        """Keep a content key, unless the ledger has that of a higher tier."""
        if self.identity is None:
            return
        self.check()
        kept = self._unwrap(lock, self.ledger.wrapped_content_key(lock))
        if kept is None or not any(kept.below(steps) == key for steps in range(MAX_TIERS)):
            wrapped = self.identity.recipient.wrap(key.secret, _info(lock))
            self.ledger.keep_content_key(lock, product, wrapped, actor=self.actor)

    def check(self) -> None:
        """Make sure that this is the identity that products were added with; opens no key.

        Raises:
            WrongKeyError: It is another.
        """
        if self.identity is None:
            return
        product = self.ledger.product_of_others(self.identity.recipient.id.hex())
        if product is not None:
            raise WrongKeyError(
                f"product {product} was added with another identity than this one",
                hint="a ledger has one, and codes of orders come from it (--ledger-key)",
            )

    def _unwrap(self, lock: str, wrapped: bytes | None) -> ContentKey | None:
        if wrapped is None or self.identity is None:
            return None
        secret = self.identity.unwrap(wrapped, _info(lock))
        return None if secret is None else ContentKey(secret)


def _info(lock: str) -> bytes:
    return _WRAPPING + bytes.fromhex(lock)
