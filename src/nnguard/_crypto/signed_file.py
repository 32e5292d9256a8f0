"""Signed files: claims in a COSE message that one key signed, kept as text in armor.

A kind of file is a subclass with a label, a domain and claims of its own. Whoever signs with the
same key for something else signs under another domain, so no file passes for another kind.

Law: `parse(encoded).encoded == encoded`, and no other bytes hold the same claims and signature.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from nnguard._base.arguments import as_path
from nnguard._base.files import read_file, write_bytes
from nnguard._crypto.armor import read_armor, write_armor
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.cose import Signed, parse_signed, sign
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._crypto.trust import find_key
from nnguard.errors import (
    ArgumentError,
    LicenseError,
    NnguardError,
    Refusal,
    VerificationError,
)

__all__ = ["SignedFile"]

_File = TypeVar("_File", bound="SignedFile")

_MALFORMED = (
    LicenseError,  # of a license in a lease
    VerificationError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
)
"""What reading claims that are not as they should be may raise."""


@dataclass(frozen=True, slots=True, eq=False)
class SignedFile:
    """A signed file that was read. Nothing in it is to be believed before `authenticate`.

    Attributes:
        encoded: Its bytes, without the armor.
    """

    encoded: bytes
    _envelope: Signed

    _WHAT: ClassVar[str]  # in errors, such as "license"
    _ARMOR: ClassVar[str]  # label of the armor
    _DOMAIN: ClassVar[bytes]  # the signature covers it, the file does not hold it
    _MAX_SIZE: ClassVar[int]  # bytes of the file

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        """Return the fields of the subclass; any error of `_MALFORMED` where there are none."""
        raise NotImplementedError

    @classmethod
    def _malformed(cls, message: str) -> NnguardError:
        """Return the error about a file that is not one of this kind, or was changed."""
        return LicenseError(message, reason=Refusal.MALFORMED)

    @classmethod
    def _sign(cls: type[_File], claims: Mapping[Any, Any], signer: Signer) -> _File:
        """Sign claims.

        Raises:
            ArgumentError: They are not ones that `parse` reads; or the signature does
                not verify with the signer's own public key.
        """
        encoded = sign(signer, {}, encode_cbor(dict(claims)), cls._DOMAIN)
        try:
            return cls._read(encoded)
        except _MALFORMED:
            raise ArgumentError(
                f"a claim of the {cls._WHAT} has the wrong type, or is out of range"
            ) from None

    @classmethod
    def parse(cls: type[_File], encoded: bytes) -> _File:
        """Read the bytes of a file; its signature is not checked.

        Raises:
            LicenseError: They are malformed.
        """
        return cls._parse(encoded, "")

    @classmethod
    def _parse(cls: type[_File], encoded: bytes, lead: str) -> _File:
        try:
            return cls._read(encoded)
        except _MALFORMED:
            raise cls._malformed(f"{lead}not a {cls._WHAT}, or it was changed") from None

    @classmethod
    def _read(cls: type[_File], encoded: bytes) -> _File:
        """Read the bytes of a file; any error of `_MALFORMED` where they are those of none."""
        if len(encoded) > cls._MAX_SIZE:
            raise ValueError("size")
        envelope = parse_signed(encoded)
        if envelope.protected or len(envelope.key_ids) > 1:
            raise ValueError("header")
        return cls(encoded, envelope, **cls._fields(parse_cbor(envelope.payload)))

    @classmethod
    def from_text(cls: type[_File], text: str) -> _File:
        """Read armor, as a file or an e-mail has it; see `parse`."""
        return cls._from_text(text, "")

    @classmethod
    def _from_text(cls: type[_File], text: str, lead: str) -> _File:
        try:
            encoded = read_armor(cls._ARMOR, text)
        except ValueError as error:
            raise cls._malformed(f"{lead}not a {cls._WHAT}: {error}") from None
        return cls._parse(encoded, lead)

    @classmethod
    def is_in(cls, text: str) -> bool:
        """Tell whether armor of this kind begins in a text."""
        return f"-----BEGIN {cls._ARMOR}-----" in text

    @classmethod
    def load(cls: type[_File], path: str | os.PathLike[str]) -> _File:
        """Read a file.

        Raises:
            LicenseError: It is malformed; its signature is not checked.
            LimitError: It is too large to be one.
            OSError: It cannot be read.
        """
        data = read_file(path, cls._MAX_SIZE)
        return cls._from_text(data.decode("utf-8", "replace"), f"{path}: ")

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the file, in armor."""
        write_bytes(as_path(path), str(self).encode(), overwrite=overwrite)

    @property
    def key_id(self) -> str:
        """Identifier of the key that signed, as the file says, in hexadecimal."""
        return self._envelope.key_id.hex()

    def authenticate(self, keys: Sequence[PublicKey]) -> None:
        """Make sure that one of these keys signed the file.

        Raises:
            WrongKeyError: It is signed by another.
            LicenseError: It was changed.
        """
        key = find_key(keys, self._envelope.key_id, f"the {self._WHAT}")
        if not self._envelope.verified_by(key, self._DOMAIN):
            raise self._malformed(f"the {self._WHAT} was changed")

    def __str__(self) -> str:
        """Return the file's text: its bytes in armor."""
        return write_armor(self._ARMOR, self.encoded)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.encoded == self.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).parse, (self.encoded,)
