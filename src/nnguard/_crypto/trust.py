"""Trusted keys: where they come from, and which of them a signature names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnguard._base.arguments import wrong_type
from nnguard._crypto.keys import PublicKey, parse_public_keys
from nnguard._crypto.pem import load_key
from nnguard.errors import KeyFormatError, WrongKeyError

__all__ = ["Trust", "find_key", "key_files", "load_trust"]

Trust = PublicKey | str | os.PathLike[str] | Iterable[PublicKey | str | os.PathLike[str]]
"""Trusted keys: keys, PEM files with one or more, folders of `.pub` and `.pem` files."""

_POLICY = re.compile(rb"^\s*(\[\[\s*rules|rules\s*=)", re.MULTILINE)
_SUFFIXES = {".pem", ".pub"}


def load_trust(trust: Trust) -> tuple[PublicKey, ...]:
    """Collect trusted keys.

    Raises:
        KeyFormatError: A file holds something else than vendors' public keys, or there are no keys.
        TypeError: `trust` holds something else than keys and paths.
    """
    if isinstance(trust, (PublicKey, str, os.PathLike)):
        trust = [trust]
    elif isinstance(trust, (bytes, bytearray)) or not isinstance(trust, Iterable):
        raise _wrong_type(trust)
    keys: dict[PublicKey, None] = {}
    for entry in trust:
        keys.update(dict.fromkeys(_keys_of(entry)))
    if not keys:
        raise KeyFormatError(
            "there is no trusted key",
            hint="give at least one public key; in a folder, only names in .pub and .pem count",
        )
    return tuple(keys)


def find_key(keys: Sequence[PublicKey], key_id: bytes, what: str = "the stream") -> PublicKey:
    """Return the trusted key that a signature names.

    Args:
        keys: Those that are trusted.
        key_id: Identifier, 8 bytes.
        what: What is signed, for the error.

    Raises:
        WrongKeyError: It is not among them.
    """
    for key in keys:
        if key.id == key_id:
            return key
    raise WrongKeyError(
        f"{what} is signed with key {key_id.hex()}, which is not among the {len(keys)} trusted",
        hint="it is another vendor's, or the vendor has a new key: get that over a channel that "
        "you trust",
    )


def _keys_of(entry: Any) -> list[PublicKey]:
    if isinstance(entry, PublicKey):
        return [entry]
    if not isinstance(entry, (str, os.PathLike)):
        raise _wrong_type(entry)
    return [key for path in key_files(entry) for key in load_key(path, _parse_bundle)]


def _parse_bundle(data: bytes) -> list[PublicKey]:
    """Read trusted keys; a trust policy holds keys, too, of which some are not to be trusted."""
    if _POLICY.search(data):
        raise KeyFormatError("this is a trust policy", hint="give it with --policy, or policy=")
    return parse_public_keys(data)


def key_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files that a path of trusted keys stands for: itself, or those of a folder.

    Raises:
        KeyFormatError: The path is empty, which would be the current folder.
    """
    if not os.fspath(path):
        raise KeyFormatError("the path of a trusted key is empty")
    path = Path(path)
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _wrong_type(value: object) -> TypeError:
    return wrong_type("trust", "a path or a PublicKey", value)
