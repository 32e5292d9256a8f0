"""Private keys as PKCS#8 and public keys as SubjectPublicKeyInfo in PEM (RFC 5958, RFC 7468)."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from nnguard._base.files import read_file
from nnguard.errors import ArgumentError, KeyFormatError, LimitError

__all__ = [
    "key_blocks",
    "load_key",
    "load_private_pem",
    "load_public_pem",
    "pem_blocks",
    "private_pem",
    "public_blocks",
    "public_pem",
]

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_MAX_PASSPHRASE = 1023
_MOST_BLOCKS = 2
_ML_DSA = bytes.fromhex("6086480165030403")
"""Beginning of the object identifiers of signatures of NIST (RFC 9881)."""

_SEED_ONLY = (
    "of a key of ML-DSA, the seed is read and nothing else: "
    "openssl pkey -in KEY -provparam ml-dsa.output_formats=seed-only writes it so"
)

_Key = TypeVar("_Key")


def load_key(path: str | os.PathLike[str], parse: Callable[[bytes], _Key]) -> _Key:
    """Read the key, or the keys, in a file, which errors name.

    Raises:
        KeyFormatError: The file holds something else, or is too large to be one of keys.
        OSError: It cannot be read.
    """
    try:
        return parse(read_file(path))
    except LimitError as error:
        raise KeyFormatError(f"{error}, too many for keys") from None
    except KeyFormatError as error:
        raise KeyFormatError(f"{path}: {error}", hint=error.hint) from None


def pem_blocks(data: bytes) -> list[bytes]:
    """Split PEM into its blocks, in one pass; what stands between them is left out.

    Raises:
        KeyFormatError: A block has no end.
    """
    blocks = []
    for part in data.split(_BEGIN)[1:]:
        end = _END + part.partition(_DASHES)[0] + _DASHES
        body, ended, _ = part.partition(end)
        if not ended:
            raise KeyFormatError("a block of PEM has no end")
        blocks.append(_BEGIN + body + end)
    return blocks


def key_blocks(data: bytes) -> list[bytes]:
    """Return the blocks of one key, single or of two, before anybody works on them.

    Raises:
        KeyFormatError: There are none, or more.
    """
    blocks = pem_blocks(data)
    if not blocks:
        raise KeyFormatError("not a key in PEM")
    if len(blocks) > _MOST_BLOCKS:
        raise KeyFormatError(f"{len(blocks)} blocks of PEM, where a key has {_MOST_BLOCKS} at most")
    return blocks


def public_blocks(data: bytes, hint: str = "") -> list[bytes]:
    """Split PEM of public keys into its blocks.

    Args:
        data: What a file of trusted keys holds.
        hint: Which keys are meant, for the error.

    Raises:
        KeyFormatError: There is a private key among them, or none at all.
    """
    if b"PRIVATE KEY-----" in data:
        raise KeyFormatError("this is a private key", hint="trust its public half")
    blocks = pem_blocks(data)
    if not blocks:
        raise KeyFormatError("no public key in PEM", hint=hint)
    return blocks


def load_public_pem(data: bytes) -> Any:
    """Read a public key of any kind.

    Raises:
        KeyFormatError: It is none, or is encoded in another way than `public_pem` does, such as a
            compressed point: it would be a second key file of the same key.
    """
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFormatError("not a public key in PEM") from None
    if b"".join(data.split()) != b"".join(public_pem(key).split()):
        raise KeyFormatError("a public key in another encoding than the usual one")
    return key


def load_private_pem(data: bytes, passphrase: str | None) -> Any:
    """Read a private key of any kind.

    Raises:
        KeyFormatError: It is none, or the passphrase is missing or wrong.
    """
    secret = None if passphrase is None else _encode_passphrase(passphrase)
    try:
        return serialization.load_pem_private_key(data, secret)
    except TypeError:
        if secret is None:
            raise KeyFormatError("the key is protected: its passphrase is needed") from None
        if not secret:
            raise KeyFormatError("the passphrase is empty") from None
        raise KeyFormatError("the key is not protected: no passphrase belongs to it") from None
    except (ValueError, UnsupportedAlgorithm):
        what = "not a private key in PEM" if secret is None else "wrong passphrase or not a key"
        raise KeyFormatError(what, hint=_SEED_ONLY if _is_ml_dsa(data) else "") from None


def _is_ml_dsa(block: bytes) -> bool:
    """Tell whether PEM that cannot be read is of an ML-DSA key."""
    try:
        body = base64.b64decode(b"".join(block.split(b"\n")[1:-1]))
    except ValueError:
        return False
    return _ML_DSA in body[:32]


def public_pem(key: Any) -> bytes:
    """Return a public key as PEM."""
    encoded: bytes = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def private_pem(key: Any, passphrase: str | None) -> bytes:
    """Return a private key as PEM, encrypted where a passphrase is given."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        if not passphrase:
            raise ArgumentError("an empty passphrase protects nothing")
        protection = serialization.BestAvailableEncryption(_encode_passphrase(passphrase))
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    return encoded


def _encode_passphrase(passphrase: str) -> bytes:
    """Encode a passphrase, which OpenSSL limits to 1023 bytes."""
    try:
        encoded = passphrase.encode()
    except UnicodeEncodeError:
        raise KeyFormatError("the passphrase is not text that UTF-8 can hold") from None
    if len(encoded) > _MAX_PASSPHRASE:
        raise KeyFormatError(f"a passphrase has at most {_MAX_PASSPHRASE} bytes")
    return encoded
