"""Ed25519 keys as PEM files, and what signs.

Private keys are PKCS#8, public keys SubjectPublicKeyInfo (RFC 8410), so `openssl pkey` reads both.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nnguard._base.arguments import wrong_type
from nnguard._base.files import write_bytes
from nnguard._crypto.pem import (
    load_key,
    load_private_pem,
    load_public_pem,
    private_pem,
    public_pem,
)
from nnguard.errors import KeyFormatError

__all__ = ["PublicKey", "Signer", "SignerLike", "SigningKey", "as_signer"]

_HINT = "nnguard keygen makes one; with --identity it makes a customer's, which signs nothing"

_PRIME = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = {0, 1, _EIGHTH, _PRIME - _EIGHTH, _PRIME - 1}
"""The y of the eight points whose order divides 8: anybody can sign with them as keys."""


class PublicKey:
    """An Ed25519 public key.

    Raises:
        KeyFormatError: It is a point of small order, with which anybody can sign, or is encoded in
            another way than RFC 8032 has it.

    Examples:
        >>> key = nnguard.PublicKey.load("vendor.pub")
        >>> key.id.hex() == nnguard.verify("release.nnc", key).key_id
        True
    """

    __slots__ = ("_id", "_key")

    def __init__(self, key: Ed25519PublicKey) -> None:
        if not isinstance(key, Ed25519PublicKey):
            raise TypeError("PublicKey wraps an Ed25519PublicKey")
        y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255
        if y >= _PRIME or y in _SMALL_ORDER:
            raise KeyFormatError(
                "no Ed25519 key that anybody has made: of small order, or not reduced"
            )
        self._key = key
        self._id = hashlib.sha256(self._der()).digest()[:8]

    @property
    def id(self) -> bytes:
        """Key identifier: the first 8 bytes of the SHA-256 of the SubjectPublicKeyInfo in DER."""
        return self._id

    @property
    def algorithm(self) -> str:
        """What the key signs with."""
        return "Ed25519"

    @property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo as PEM."""
        return public_pem(self._key)

    @property
    def raw(self) -> bytes:
        """The 32 bytes of RFC 8032."""
        return self._key.public_bytes_raw()

    @classmethod
    def from_pem(cls, data: bytes) -> PublicKey:
        """Read a public key.

        Raises:
            KeyFormatError: It is not a public Ed25519 key.
        """
        key = load_public_pem(data)
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFormatError("not an Ed25519 key", hint=_HINT)
        return cls(key)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PublicKey:
        """Read a public key from a file; see `from_pem`."""
        return load_key(path, cls.from_pem)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the key to a file as PEM."""
        write_bytes(Path(path), self.pem, overwrite=overwrite)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Tell whether a signature over data was made with the private half of this key."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def _der(self) -> bytes:
        return self._key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __reduce__(self) -> tuple[Any, ...]:
        return PublicKey.from_pem, (self.pem,)

    def __repr__(self) -> str:
        return f"<nnguard.PublicKey {self._id.hex()}>"


@runtime_checkable
class Signer(Protocol):
    """What signs: a `SigningKey`, or your own class in front of an HSM, a KMS or an agent.

    Examples:
        >>> class Token:
        ...     def __init__(self) -> None:
        ...         self._key = nnguard.SigningKey.generate()
        ...
        ...     @property
        ...     def public_key(self) -> nnguard.PublicKey:
        ...         return self._key.public_key
        ...
        ...     def sign(self, data: bytes) -> bytes:
        ...         return self._key.sign(data)
        >>> token = Token()
        >>> release = nnguard.sign("model.nnc", token, name="digits")
        >>> nnguard.verify(release, token.public_key).claims.name
        'digits'
    """

    @property
    def public_key(self) -> PublicKey:
        """The key that signatures verify with."""

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature over data (RFC 8032), 64 bytes."""


class SigningKey:
    """An Ed25519 private key; a `Signer`.

    Examples:
        >>> key = nnguard.SigningKey.generate()
        >>> key.save("new-vendor.key", passphrase="correct horse battery staple")
        >>> key.public_key.save("new-vendor.pub")
    """

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("SigningKey wraps an Ed25519PrivateKey")
        self._key = key
        self._public = PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> PublicKey:
        return self._public

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    @classmethod
    def from_pem(cls, data: bytes, *, passphrase: str | None = None) -> SigningKey:
        """Read a private key.

        Raises:
            KeyFormatError: It is not a private Ed25519 key, or the passphrase is missing or wrong.
        """
        key = load_private_pem(data, passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFormatError("not an Ed25519 key", hint=_HINT)
        return cls(key)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, passphrase: str | None = None) -> SigningKey:
        """Read a private key from a file; see `from_pem`."""
        return load_key(path, partial(cls.from_pem, passphrase=passphrase))

    def pem(self, *, passphrase: str | None = None) -> bytes:
        """Return the key as PKCS#8 in PEM, encrypted where a passphrase is given."""
        return private_pem(self._key, passphrase)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        passphrase: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the key to a file that only its owner can read."""
        write_bytes(Path(path), self.pem(passphrase=passphrase), overwrite=overwrite, mode=0o600)

    def __repr__(self) -> str:
        return f"<nnguard.SigningKey {self._public.id.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("private keys are not pickled: save them with a passphrase")


SignerLike = Signer | str | os.PathLike[str]
"""What functions take for a signer: a `Signer`, or the path of an unprotected private key."""


def as_signer(signer: SignerLike, argument: str = "signer") -> Signer:
    """Return what signs: the argument itself, or the unprotected private key in its file.

    Raises:
        KeyFormatError: The file holds no private Ed25519 key, or a protected one.
        TypeError: The argument is neither a path nor a `Signer`.
    """
    if isinstance(signer, (str, os.PathLike)):
        return SigningKey.load(signer)
    if isinstance(signer, Signer):
        return signer
    raise wrong_type(argument, "a path, a SigningKey or a Signer", signer)
