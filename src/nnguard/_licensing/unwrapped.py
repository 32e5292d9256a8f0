"""What a license, or a lease of it, has for its customer alone."""

from __future__ import annotations

from typing import NamedTuple

from nnguard._crypto.content_key import CONTENT_KEY_SIZE, ContentKey

__all__ = ["Unwrapped"]


class Unwrapped(NamedTuple):
    """The secrets of a license; its `repr` shows none.

    Attributes:
        content_key: Opens the lock.
        license_key: Takes the masks off what a traceable lock opens; empty for other locks.
    """

    content_key: ContentKey
    license_key: bytes = b""

    def to_bytes(self) -> bytes:
        """Return both, to be wrapped."""
        return self.content_key.secret + self.license_key

    @classmethod
    def from_bytes(cls, secret: bytes) -> Unwrapped:
        """Read what `to_bytes` returned.

        Raises:
            ArgumentError: It is too short.
        """
        return cls(ContentKey(secret[:CONTENT_KEY_SIZE]), secret[CONTENT_KEY_SIZE:])

    def __repr__(self) -> str:
        return f"<unwrapped {self.content_key!r}>"
