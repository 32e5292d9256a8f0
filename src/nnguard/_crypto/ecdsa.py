"""ECDSA signatures as OpenSSF Model Signing has them: in DER, by keys on P-256, P-384 or P-521.

They sign nothing inside weights. There a signature has one valid form (`algorithms`); in DER,
(r, s) and (r, n - s) are both right, and standard tools make either.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from nnguard._base.arguments import wrong_type
from nnguard._crypto.keys import Signer
from nnguard._crypto.pem import load_key, load_public_pem, public_blocks, public_pem
from nnguard._crypto.trust import key_files
from nnguard.errors import ArgumentError, KeyFormatError

__all__ = ["EcdsaKey", "EcdsaTrust", "load_ecdsa_trust", "sign_in_der"]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_HINT = "OpenSSF Model Signing takes ECDSA keys: nnguard keygen --algorithm p256 makes one"

EcdsaTrust = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""Trusted keys: PEM files with one or more, folders of `.pub` and `.pem` files."""


class EcdsaKey:
    """A public key.

    Attributes:
        pem: SubjectPublicKeyInfo as PEM.
        hint: SHA-256 of that text in hexadecimal, by which bundles name the key.

    Raises:
        KeyFormatError: It is another kind of key.
    """

    __slots__ = ("_key", "hint", "pem")

    def __init__(self, key: Any) -> None:
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise KeyFormatError("not an ECDSA key on P-256, P-384 or P-521", hint=_HINT)
        self._key = key
        self.pem = public_pem(key)
        self.hint = hashlib.sha256(self.pem).hexdigest()

    @classmethod
    def from_pem(cls, data: bytes) -> EcdsaKey:
        """Read a public key.

        Raises:
            KeyFormatError: It is not one of these.
        """
        return cls(load_public_pem(data))

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Tell whether a signature over data was made with the private half of this key."""
        try:
            self._key.verify(signature, data, ec.ECDSA(_HASHES[self._key.curve.name]))
        except InvalidSignature:
            return False
        return True


def sign_in_der(signer: Signer, data: bytes) -> bytes:
    """Return a signature over data in DER.

    Raises:
        KeyFormatError: The signer's key is not ECDSA.
        ArgumentError: What it returns does not verify with its public key.
    """
    key, signature = EcdsaKey.from_pem(signer.public_key.pem), signer.sign(data)
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    encoded = encode_dss_signature(r, s)
    if not key.verifies(encoded, data):
        raise ArgumentError("the signer's signature does not verify with its own public key")
    return encoded


def load_ecdsa_trust(trust: EcdsaTrust) -> dict[str, EcdsaKey]:
    """Collect trusted keys, by their hints.

    Raises:
        KeyFormatError: A file holds something else than such keys, or there are none.
        TypeError: `trust` is neither a path nor a list of paths.
    """
    paths = [trust] if isinstance(trust, (str, os.PathLike)) else trust
    if isinstance(paths, (bytes, bytearray)) or not isinstance(paths, Iterable):
        raise wrong_type("trust", "a path or a list of paths", paths)
    keys = [key for path in paths for file in key_files(path) for key in load_key(file, _parse)]
    if not keys:
        raise KeyFormatError("there is no trusted key", hint=_HINT)
    return {key.hint: key for key in keys}


def _parse(data: bytes) -> list[EcdsaKey]:
    return [EcdsaKey.from_pem(block) for block in public_blocks(data, _HINT)]
