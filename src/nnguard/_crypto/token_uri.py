"""URIs of keys in PKCS#11 tokens (RFC 7512), as far as they name a private key.

    pkcs11:token=vendor;object=release-2026?module-path=/usr/lib/softhsm/libsofthsm2.so

What a URI says and we do not know is refused, not passed over: it might have named another key.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from nnguard._base.files import read_file
from nnguard._base.texts import shown
from nnguard.errors import KeyFormatError, LimitError

__all__ = ["MODULE_VARIABLE", "PIN_VARIABLE", "TokenUri", "is_token_uri"]

MODULE_VARIABLE, PIN_VARIABLE = "NNGUARD_PKCS11_MODULE", "NNGUARD_PIN"
_SCHEME = "pkcs11:"
_PATH = {"token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"}
_QUERY = {"module-path", "pin-source"}
_HINT = "such as pkcs11:token=NAME;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so"
_ATTRIBUTE = re.compile(r"([a-z-]+)=((?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|&]|%[0-9A-Fa-f]{2})*)")


def is_token_uri(path: object) -> bool:
    """Tell whether this names a key in a token, and not a file.

    Raises:
        KeyFormatError: It would, but for white space before it.
    """
    if not isinstance(path, str) or not path.lstrip().lower().startswith(_SCHEME):  # RFC 3986, 3.1
        return False
    if path[0].isspace():
        raise KeyFormatError("white space before the URI of a key, pkcs11:...", hint="take it away")
    return True


@dataclass(frozen=True, slots=True)
class TokenUri:
    """A URI that was read.

    Attributes:
        text: The URI; it holds no secret.
        token: What the token has to be: attributes of the URI and their values.
        label: Label of the key, or None for any.
        id: Identifier of the key, or None for any.
        module: Path of the library that drives the token.
        pin_source: Path of a file with the PIN; empty for none.
    """

    text: str
    token: dict[str, str]
    label: str | None
    id: bytes | None
    module: str
    pin_source: str

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Read a URI.

        Raises:
            KeyFormatError: It is none, names something else than a private key, or no library.
        """
        path, _, query = text[len(_SCHEME) :].partition("?")
        found = {**_attributes(path, ";", _PATH), **_attributes(query, "&", _QUERY)}
        try:
            words = {name: value.decode() for name, value in found.items() if name != "id"}
        except UnicodeDecodeError:
            raise KeyFormatError("a PKCS#11 URI that is not UTF-8", hint=_HINT) from None
        if words.pop("type", "private") != "private":
            raise KeyFormatError("a PKCS#11 URI of something else than a private key", hint=_HINT)
        module = words.pop("module-path", os.environ.get(MODULE_VARIABLE, ""))
        if not module:
            raise KeyFormatError(
                "a PKCS#11 URI without the library of its token",
                hint=f"add ?module-path=FILE to it, or set {MODULE_VARIABLE}",
            )
        source = words.pop("pin-source", "").removeprefix("file:")
        return cls(text, words, words.pop("object", None), found.get("id"), module, source)

    def find_pin(self) -> str | None:
        """Return the PIN of the environment or of the URI's file; None where there is none.

        Raises:
            KeyFormatError: The file holds none.
            OSError: It cannot be read.
        """
        if not self.pin_source:
            return os.environ.get(PIN_VARIABLE)
        try:
            pin = read_file(self.pin_source).decode().partition("\n")[0].removesuffix("\r")
        except (UnicodeDecodeError, LimitError):
            pin = ""
        if not pin:
            raise KeyFormatError(f"{self.pin_source} has no PIN in its first line")
        return pin


def _attributes(text: str, separator: str, known: set[str]) -> dict[str, bytes]:
    """Read attributes of a URI, each once, all of them known."""
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(separator)):
        match = _ATTRIBUTE.fullmatch(part)
        if match is None:
            raise KeyFormatError("a PKCS#11 URI that is malformed", hint=_HINT)
        name = match[1]
        if name == "pin-value":
            raise KeyFormatError(
                "a PIN in a PKCS#11 URI, which others see",
                hint=f"set {PIN_VARIABLE}, or name a file: pin-source=FILE",
            )
        if name not in known or name in found:
            raise KeyFormatError(
                f"a PKCS#11 URI with {shown(name)!r}, unknown or twice", hint=_HINT
            )
        found[name] = unquote_to_bytes(match[2])
    return found
