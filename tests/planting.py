"""Secrets that are planted, and searched for in everything that comes out."""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass, field

import numpy as np

import nnguard

__all__ = ["Secrets", "digits", "forms_of", "planted"]


def planted(name: str) -> bytes:
    """Return 32 bytes that occur nowhere by chance."""
    return nnguard.ContentKey(name.encode().ljust(32, b".")).below().secret


def digits(text: str) -> str:
    """Return a text without what is between the numbers of an array."""
    return "".join(text.split())


def forms_of(secret: bytes) -> set[bytes]:
    """Return how a secret may look in a text: hexadecimal, Base64 at each alignment, as shown."""
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    forms |= {repr(secret)[2:-1].encode(), repr(list(secret))[1:-1].replace(" ", "").encode()}
    for encode, skip in itertools.product((base64.b64encode, base64.urlsafe_b64encode), range(3)):
        whole = encode(bytes(skip) + secret).rstrip(b"=")
        forms.add(whole[-(-8 * skip // 6) : -1])
    return forms


@dataclass
class Secrets:
    """What must not be found, and where it was found."""

    named: dict[str, set[bytes]] = field(default_factory=dict)

    def add(self, name: str, secret: bytes) -> None:
        self.named[name] = forms_of(secret)

    def add_numbers(self, name: str, numbers: np.ndarray) -> None:
        """Plant a list: its bytes, and the first and last few of it as NumPy shows them."""
        self.named[name] = forms_of(numbers.tobytes()) | {
            ",".join(map(str, part.tolist())).encode() for part in (numbers[:3], numbers[-3:])
        }

    def found_in(self, data: bytes) -> list[str]:
        squeezed = digits(data.decode("latin-1")).encode("latin-1")
        return [
            name
            for name, forms in self.named.items()
            if any(form in data or form in squeezed for form in forms)
        ]
