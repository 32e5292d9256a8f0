"""A customer's pair of keys: licenses are made out to a `Recipient`, an `Identity` opens them.

HPKE (RFC 9180) in base mode with HKDF-SHA256 and AES-256-GCM; the KEM is X25519, or ML-KEM-768 with
X25519, which holds against quantum computers as well. Keys are PEM files: PKCS#8 and
SubjectPublicKeyInfo, one block for X25519 and one for ML-KEM-768, where there is one.

    identity = nnguard.Identity.generate()
    identity.save("customer.key")
    identity.recipient.save("customer.pub")
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nnguard._crypto.keys import SigningKey
from nnguard._crypto.pairs import PrivateHalf, PublicHalf
from nnguard._crypto.pem import (
    key_blocks,
    load_private_pem,
    load_public_pem,
)
from nnguard.errors import KeyFormatError

__all__ = ["Identity", "IdentityLike", "Recipient", "RecipientLike"]

_HINT = "nnguard keygen --identity makes a pair"
_REQUESTS = b"nnguard request signing v1\0"
_SECRET_SIZE = 32


class Recipient(PublicHalf):
    """The public half of a customer's pair.

    Examples:
        >>> recipient = nnguard.Recipient.load("ada.pub")
        >>> recipient == nnguard.Identity.load("ada.key").recipient
        True
    """

    __slots__ = ("_id", "_mlkem", "_x25519")

    def __init__(self, x25519: X25519PublicKey, mlkem: MLKEM768PublicKey | None = None) -> None:
        try:
            X25519PrivateKey.generate().exchange(x25519)
        except ValueError:  # RFC 7748, section 6.1: all secrets shared with it are zero
            raise KeyFormatError(
                "an X25519 key of small order: anybody could open what is wrapped to it", hint=_HINT
            ) from None
        self._x25519 = x25519
        self._mlkem = mlkem
        self._keys = (x25519,) if mlkem is None else (x25519, mlkem)
        self._id = hashlib.sha256(self.pem).digest()[:8]

    @property
    def id(self) -> bytes:
        """Key identifier: the first 8 bytes of the SHA-256 of `pem`."""
        return self._id

    @property
    def suite(self) -> str:
        """Name of the KEM: `X25519`, or `ML-KEM-768+X25519`."""
        return "X25519" if self._mlkem is None else "ML-KEM-768+X25519"

    @classmethod
    def from_pem(cls, data: bytes) -> Recipient:
        """Read a recipient.

        Raises:
            KeyFormatError: These are not a customer's public keys.
        """
        keys = [load_public_pem(block) for block in key_blocks(data)]
        match keys:
            case [X25519PublicKey() as x25519]:
                return cls(x25519)
            case [X25519PublicKey() as x25519, MLKEM768PublicKey() as mlkem]:
                return cls(x25519, mlkem)
        raise KeyFormatError("not a customer's public key", hint=_HINT)

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """Encrypt a secret so that the identity alone opens it.

        Args:
            secret: What to encrypt.
            info: What it is for, and all that it is bound to.
        """
        if self._mlkem is None:
            return _suite(KEM.X25519).encrypt(secret, self._x25519, info)
        public = MLKEM768X25519PublicKey(self._mlkem, self._x25519)
        return _suite(KEM.MLKEM768_X25519).encrypt(secret, public, info)

    def __repr__(self) -> str:
        return f"<nnguard.Recipient {self._id.hex()} {self.suite}>"


class Identity(PrivateHalf):
    """The private half of a customer's pair. Its `repr` shows its identifier only.

    Examples:
        >>> ada = nnguard.Identity.generate()
        >>> ada.save("new-ada.key", passphrase="correct horse battery staple")
        >>> ada.recipient.save("new-ada.pub")
    """

    __slots__ = ("_mlkem", "_recipient", "_x25519")

    def __init__(self, x25519: X25519PrivateKey, mlkem: MLKEM768PrivateKey | None = None) -> None:
        self._x25519 = x25519
        self._mlkem = mlkem
        self._keys = (x25519,) if mlkem is None else (x25519, mlkem)
        public = None if mlkem is None else mlkem.public_key()
        self._recipient = Recipient(x25519.public_key(), public)

    @classmethod
    def generate(cls, *, post_quantum: bool = False) -> Identity:
        """Make a new pair from the system's randomness.

        Args:
            post_quantum: ML-KEM-768 besides X25519; licenses then are 1.1 kB larger.
        """
        mlkem = MLKEM768PrivateKey.generate() if post_quantum else None
        return cls(X25519PrivateKey.generate(), mlkem)

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        return self._recipient

    @classmethod
    def from_pem(cls, data: bytes, *, passphrase: str | None = None) -> Identity:
        """Read an identity.

        Raises:
            KeyFormatError: These are not a customer's private keys, or the passphrase is missing or
                wrong.
        """
        keys = [load_private_pem(block, passphrase) for block in key_blocks(data)]
        match keys:
            case [X25519PrivateKey() as x25519]:
                return cls(x25519)
            case [X25519PrivateKey() as x25519, MLKEM768PrivateKey() as mlkem]:
                return cls(x25519, mlkem)
        raise KeyFormatError("not a customer's private key", hint=_HINT)

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes | None:
        """Decrypt what `Recipient.wrap` encrypted; None where it was changed, or is not for us."""
        try:
            if self._mlkem is None:
                return _suite(KEM.X25519).decrypt(wrapped, self._x25519, info)
            private = MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
            return _suite(KEM.MLKEM768_X25519).decrypt(wrapped, private, info)
        except InvalidTag:
            return None

    def derive(self, label: bytes) -> bytes:
        """Return a secret of 32 bytes that whoever has the private keys can make again.

        Args:
            label: What it is for; secrets of different labels tell nothing of each other.
        """
        secret = b"".join(key.private_bytes_raw() for key in self._keys)
        return HKDF(SHA256(), _SECRET_SIZE, salt=None, info=label).derive(secret)

    @property
    def request_signer(self) -> SigningKey:
        """The key, derived from this pair, that signs requests for licenses and receipts."""
        return SigningKey(Ed25519PrivateKey.from_private_bytes(self.derive(_REQUESTS)))

    def __repr__(self) -> str:
        return f"<nnguard.Identity {self._recipient.id.hex()} {self._recipient.suite}>"


RecipientLike = Recipient | str | os.PathLike[str]
"""What functions take for a recipient: a `Recipient` or the path of one."""

IdentityLike = Identity | str | os.PathLike[str]
"""What functions take for an identity: an `Identity`, or the path of one without a passphrase."""


def _suite(kem: KEM) -> Suite:
    return Suite(kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
