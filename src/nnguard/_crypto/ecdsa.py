"""ECDSA keys and signatures as OpenSSF Model Signing has them: P-256, P-384, P-521, in DER.

They sign nothing inside weights: for that, `keys` has one valid signature for each message, and an
ECDSA signature in DER has two.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from nnguard._base.arguments import wrong_type
from nnguard._crypto.pem import (
    load_key,
    load_private_pem,
    load_public_pem,
    pem_blocks,
    public_pem,
)
from nnguard._crypto.trust import key_files
from nnguard.errors import KeyFormatError

__all__ = ["EcdsaKey", "EcdsaSigner", "EcdsaTrust", "load_ecdsa_trust"]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_HINT = "OpenSSF Model Signing takes ECDSA keys over P-256, P-384 or P-521"

EcdsaTrust = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""Trusted keys: PEM files with one or more, folders of `.pub` and `.pem` files."""


class EcdsaKey:
    """A public key.

    Raises:
        KeyFormatError: It is over another curve.
    """

    __slots__ = ("_hash", "_key", "hint", "pem")

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key, self._hash = key, _hash_of(key)
        self.pem = public_pem(key)
        self.hint = hashlib.sha256(self.pem).hexdigest()
        """SHA-256 of the PEM text in hexadecimal, by which bundles name the key."""

    @classmethod
    def from_pem(cls, data: bytes) -> EcdsaKey:
        """Read a public key.

        Raises:
            KeyFormatError: It is none of these.
        """
        return cls(load_public_pem(data))

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Tell whether a signature over data was made with the private half of this key."""
        try:
            self._key.verify(signature, data, ec.ECDSA(self._hash))
        except InvalidSignature:
            return False
        return True


class EcdsaSigner:
    """A private key."""

    __slots__ = ("_key", "public_key")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        _hash_of(key)
        self._key = key
        self.public_key = EcdsaKey(key.public_key())

    @classmethod
    def from_pem(cls, data: bytes, *, passphrase: str | None = None) -> EcdsaSigner:
        """Read a private key.

        Raises:
            KeyFormatError: It is none of these, or the passphrase is missing or wrong.
        """
        return cls(load_private_pem(data, passphrase))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, passphrase: str | None = None) -> EcdsaSigner:
        """Read a private key from a file; see `from_pem`."""
        return load_key(path, partial(cls.from_pem, passphrase=passphrase))

    def sign(self, data: bytes) -> bytes:
        """Return the signature over data, in DER."""
        return self._key.sign(data, ec.ECDSA(_hash_of(self._key)))

    def __reduce__(self) -> NoReturn:
        raise TypeError("private keys are not pickled: save them with a passphrase")


def load_ecdsa_trust(trust: EcdsaTrust) -> dict[str, EcdsaKey]:
    """Collect trusted keys, by their hints.

    Raises:
        KeyFormatError: A file holds something else than such keys, or there are none.
        TypeError: `trust` is neither a path nor a list of paths.
    """
    paths = [trust] if isinstance(trust, (str, os.PathLike)) else trust
    if isinstance(paths, (bytes, bytearray)) or not isinstance(paths, Iterable):
        raise wrong_type("trust", "a path or a list of paths", paths)
    keys = [
        key for path in paths for file in key_files(Path(path)) for key in load_key(file, _parse)
    ]
    if not keys:
        raise KeyFormatError("there is no trusted key", hint=_HINT)
    return {key.hint: key for key in keys}


def _parse(data: bytes) -> list[EcdsaKey]:
    if b"PRIVATE KEY-----" in data:
        raise KeyFormatError("this is a private key", hint="trust its public half")
    keys = [EcdsaKey.from_pem(block) for block in pem_blocks(data)]
    if not keys:
        raise KeyFormatError("no public key in PEM in it", hint=_HINT)
    return keys


def _hash_of(key: object) -> hashes.HashAlgorithm:
    """Return the hash that belongs to a key's curve.

    Raises:
        KeyFormatError: It is no such key.
    """
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        found = _HASHES.get(key.curve.name)
        if found is not None:
            return found
    raise KeyFormatError("not an ECDSA key over P-256, P-384 or P-521", hint=_HINT)
