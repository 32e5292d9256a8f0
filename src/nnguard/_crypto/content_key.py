"""Content keys: the secret that opens a lock, and what is derived from it.

Every use has a key of its own, by HKDF-SHA256 (RFC 5869) with a label. Content is sealed with
AES-256-GCM in a COSE_Encrypt0; keystreams are AES-256-CTR.

    key = nnguard.ContentKey.generate()
    key.save("content.key")
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nnguard._base.arguments import as_path
from nnguard._base.files import write_bytes
from nnguard._crypto.armor import read_armor, write_armor
from nnguard._crypto.cose import A256GCM, NONCE_SIZE, Encrypt0, Label
from nnguard._crypto.pem import load_key
from nnguard.errors import ArgumentError, KeyFormatError

__all__ = ["CONTENT_KEY_SIZE", "ContentKey", "ContentKeyLike", "Keystream", "entry_masks"]

CONTENT_KEY_SIZE = 32
_ARMOR = "NNGUARD CONTENT KEY"
_LABEL = b"nnguard content key v1\0"


class ContentKey:
    """A secret of 32 bytes that opens a lock. Its `repr` shows its identifier only.

    Examples:
        >>> key = nnguard.ContentKey.load("content.key")
        >>> locked = nnguard.lock("release.nnc", trial="weaker.nnc", content_key=key)
        >>> locked.content_key.id == key.id
        True
    """

    __slots__ = ("_id", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != CONTENT_KEY_SIZE:
            raise ArgumentError(f"a content key has {CONTENT_KEY_SIZE} bytes")
        self._secret = bytes(secret)
        self._id = self._derive(b"identifier", b"")[:8]

    @classmethod
    def generate(cls) -> ContentKey:
        """Make a new key from the system's randomness."""
        return cls(secrets.token_bytes(CONTENT_KEY_SIZE))

    @property
    def id(self) -> bytes:
        """Identifier, 8 bytes; derived from the secret, which it does not tell."""
        return self._id

    @property
    def secret(self) -> bytes:
        """The 32 bytes. Whoever has them opens the lock."""
        return self._secret

    def below(self, steps: int = 1) -> ContentKey:
        """Return the key of a lower tier; there is no way back.

        Args:
            steps: How many tiers lower; 0 for this one.
        """
        key = self
        for _ in range(steps):
            key = ContentKey(key._derive(b"tier below", b""))
        return key

    def seal(self, plaintext: bytes, protected: dict[Any, Any], nonce: bytes, aad: bytes) -> bytes:
        """Encrypt and authenticate.

        Args:
            plaintext: The content.
            protected: More fields for the protected header, authenticated and not encrypted.
            nonce: 12 bytes, never used before with this key; see `new_nonce`.
            aad: Bytes that are authenticated and not part of the message.

        Returns:
            A COSE_Encrypt0. Its size depends on those of the arguments alone.
        """
        header = {Label.ALG: A256GCM, Label.KID: self._id, Label.IV: nonce, **protected}
        message = Encrypt0(header, b"")
        cipher = AESGCM(self._derive(b"record", nonce))
        sealed = cipher.encrypt(nonce, plaintext, message.associated_data(aad))
        return bytes(Encrypt0(header, sealed))

    def open(self, message: Encrypt0, aad: bytes) -> bytes | None:
        """Decrypt a message; None where it was changed, or is of another key."""
        if not hmac.compare_digest(message.key_id, self._id):
            return None
        cipher = AESGCM(self._derive(b"record", message.nonce))
        try:
            return cipher.decrypt(message.nonce, message.ciphertext, message.associated_data(aad))
        except InvalidTag:
            return None

    def keystream(self, use: str, nonce: bytes) -> Keystream:
        """Return a source of bytes that nobody without the key can tell from random ones.

        Args:
            use: What it is for; each use has a keystream of its own.
            nonce: That of the record.
        """
        return Keystream(self._derive(b"keystream " + use.encode(), nonce))

    @staticmethod
    def new_nonce() -> bytes:
        """Return a nonce for one record, 12 bytes."""
        return secrets.token_bytes(NONCE_SIZE)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ContentKey:
        """Read a key from a file that `save` wrote.

        Raises:
            KeyFormatError: The file holds no content key.
            OSError: It cannot be read.
        """
        return load_key(path, cls._parse)

    @classmethod
    def _parse(cls, data: bytes) -> ContentKey:
        try:
            return cls(read_armor(_ARMOR, data.decode("ascii")))
        except ValueError:
            raise KeyFormatError("not a content key", hint="nnguard lock makes one") from None

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the key to a file that only its owner can read."""
        data = write_armor(_ARMOR, self._secret).encode()
        write_bytes(as_path(path), data, overwrite=overwrite, mode=0o600)

    def _derive(self, use: bytes, salt: bytes) -> bytes:
        kdf = HKDF(SHA256(), CONTENT_KEY_SIZE, salt=salt or None, info=_LABEL + use)
        return kdf.derive(self._secret)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContentKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<nnguard.ContentKey {self._id.hex()}>"

    def __reduce__(self) -> Any:
        raise TypeError("content keys are not pickled")


ContentKeyLike = ContentKey | str | os.PathLike[str]
"""What functions take for a content key: a `ContentKey` or the path of one."""


class Keystream:
    """AES-256 in counter mode over zeros: independent runs of bytes, each with a number."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def read(self, run: int, size: int) -> bytes:
        """Return the first bytes of a run.

        Args:
            run: Number of the run, below 2**64; it is the upper half of the counter block.
            size: Bytes, below 2**68.
        """
        counter = run.to_bytes(8, "big") + bytes(8)
        encryptor = Cipher(algorithms.AES(self._key), modes.CTR(counter)).encryptor()
        return encryptor.update(bytes(size))

    def __repr__(self) -> str:
        return "<nnguard keystream>"

    def __reduce__(self) -> Any:
        raise TypeError("keystreams are not pickled")


def entry_masks(entry_key: bytes, entry: int, size: int, nonce: bytes) -> bytes:
    """Return the masks that an entry's key takes off; see `docs/SPEC.md`, section 6.7.

    Args:
        entry_key: Of one variant of the entry; used for nothing else.
        entry: Its number.
        size: Bytes.
        nonce: Of the masks.
    """
    info = _LABEL + b"entry " + entry.to_bytes(4, "big")
    return Keystream(HKDF(SHA256(), 32, nonce, info).derive(entry_key)).read(0, size)
