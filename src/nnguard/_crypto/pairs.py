"""What pairs of keys have in common, whatever they are for: PEM, files, and what must not leak."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, NoReturn, TypeVar

from nnguard._base.arguments import as_path
from nnguard._base.files import write_bytes
from nnguard._crypto.pem import load_key, private_pem, public_pem

__all__ = ["PrivateHalf", "PublicHalf"]

_Public = TypeVar("_Public", bound="PublicHalf")
_Private = TypeVar("_Private", bound="PrivateHalf")


class PublicHalf(ABC):
    """The public half of a pair, of one or two keys of `cryptography`."""

    __slots__ = ("_keys",)

    _keys: tuple[Any, ...]

    @property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo as PEM, a block for each of the keys."""
        return b"".join(map(public_pem, self._keys))

    @classmethod
    @abstractmethod
    def from_pem(cls: type[_Public], data: bytes) -> _Public:
        """Read the key."""

    @classmethod
    def load(cls: type[_Public], path: str | os.PathLike[str]) -> _Public:
        """Read the key from a file; see `from_pem`."""
        return load_key(path, cls.from_pem)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the key to a file as PEM."""
        write_bytes(as_path(path), self.pem, overwrite=overwrite)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.pem == other.pem

    def __hash__(self) -> int:
        return hash(self.pem)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_pem, (self.pem,)


class PrivateHalf(ABC):
    """The private half of a pair, of one or two keys of `cryptography`."""

    __slots__ = ("_keys",)

    _keys: tuple[Any, ...]

    @classmethod
    @abstractmethod
    def from_pem(cls: type[_Private], data: bytes, *, passphrase: str | None = None) -> _Private:
        """Read the key."""

    @classmethod
    def load(
        cls: type[_Private], path: str | os.PathLike[str], *, passphrase: str | None = None
    ) -> _Private:
        """Read the key from a file; see `from_pem`."""
        return load_key(path, partial(cls.from_pem, passphrase=passphrase))

    def pem(self, *, passphrase: str | None = None) -> bytes:
        """Return the key as PKCS#8 in PEM, encrypted where a passphrase is given."""
        return b"".join(private_pem(key, passphrase) for key in self._keys)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        passphrase: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the key to a file that only its owner can read."""
        data = self.pem(passphrase=passphrase)
        write_bytes(as_path(path), data, overwrite=overwrite, mode=0o600)

    def __reduce__(self) -> NoReturn:
        raise TypeError("private keys are not pickled: save them with a passphrase")
