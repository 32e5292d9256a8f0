"""Which machine this is, well enough to bind a license to it.

The fingerprint of a device has a few components: the system's identifier, network addresses, and so
on. What leaves the customer are their SHA-256, and a license holds them hashed once more, with a
salt of its own. A license asks for `required` of them, so that a new network card does not end it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnguard._base.arguments import check_text
from nnguard._base.files import read_file, write_bytes
from nnguard._licensing.claims import bytes_claim, text_claim
from nnguard.errors import ArgumentError

__all__ = ["Device", "DeviceBinding"]

_TRAIT = b"nnguard device trait v1\0"
_BINDING = b"nnguard device binding v1\0"
_SALT_SIZE, _PRINT_SIZE, _MOST = 16, 16, 64

_NAME = "name"
_HINT = "nnguard license device writes one"

_FILES = {
    "machine-id": "etc/machine-id",
    "product-uuid": "sys/class/dmi/id/product_uuid",
    "board-serial": "sys/class/dmi/id/board_serial",
    "network": "sys/class/net/*/device/../address",
    "disk": "sys/class/block/*/device/wwid",
}
"""Where Linux keeps what tells machines apart, under the root: kind of component, and pattern."""


@dataclass(frozen=True, slots=True)
class Device:
    """A machine, by its fingerprint.

    Attributes:
        fingerprint: Kind and SHA-256 in hexadecimal of each component.

    Examples:
        >>> rack = licensing.Device.of_values([("serial", "4711"), ("site", "Berlin")])
        >>> rack == licensing.Device.from_json(rack.to_json())
        True
    """

    fingerprint: tuple[tuple[str, str], ...]

    @classmethod
    def of_values(cls, values: Iterable[tuple[str, str]]) -> Device:
        """Make a device of components that you gather yourself: kind and value of each."""
        hashed = (
            (kind, hashlib.sha256(_TRAIT + f"{kind}\0{value}".encode()).hexdigest())
            for kind, value in values
        )
        return cls(tuple(dict.fromkeys(hashed)))

    @classmethod
    def named(cls, name: str) -> Device:
        """Make a device of a name alone, for machines that are new each time they start."""
        return cls.of_values([(_NAME, check_text(name, "name"))])

    @property
    def is_named(self) -> bool:
        """Whether it is known by a name."""
        return any(kind == _NAME for kind, _ in self.fingerprint)

    @classmethod
    def this(cls) -> Device:
        """Return the machine that this runs on."""
        values = [("host", socket.gethostname())]
        for kind, pattern in _FILES.items():
            values += [(kind, _read(path)) for path in sorted(Path("/").glob(pattern))]
        if not any(kind == "network" and value for kind, value in values):
            values.append(("network", _network_address()))
        return cls.of_values((kind, value) for kind, value in values if value)

    @classmethod
    def from_json(cls, text: str) -> Device:
        """Read what `to_json` wrote.

        Raises:
            ArgumentError: It is something else.
        """
        try:
            parts = [(str(part["kind"]), str(part["sha256"])) for part in json.loads(text)]
            if not parts or any(len(bytes.fromhex(digest)) != 32 for _, digest in parts):
                raise ValueError("digest")
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ArgumentError("not the fingerprint of a device", hint=_HINT) from None
        return cls(tuple(parts))

    def to_json(self) -> str:
        """Return the fingerprint as JSON, for the vendor; no value can be read out of it."""
        return json.dumps([{"kind": kind, "sha256": digest} for kind, digest in self.fingerprint])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Device:
        """Read a fingerprint from a file.

        Raises:
            ArgumentError: The file holds something else.
            LimitError: It is too large to be one.
            OSError: It cannot be read.
        """
        try:
            return cls.from_json(read_file(path).decode())
        except ValueError:
            message = f"{os.fspath(path)}: not the fingerprint of a device"
            raise ArgumentError(message, hint=_HINT) from None

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fingerprint to a file, as JSON."""
        write_bytes(Path(path), self.to_json().encode(), overwrite=overwrite)

    def to_cbor(self) -> list[list[Any]]:
        """Return the value of the claim of a request."""
        return [[kind, bytes.fromhex(digest)] for kind, digest in self.fingerprint]

    @classmethod
    def from_cbor(cls, value: Any) -> Device:
        """Read the value of the claim.

        Raises:
            ValueError: It is malformed.
        """
        match value:
            case [_, *_] if len(value) <= _MOST:
                return cls(tuple((text_claim(kind), bytes_claim(at, 32)) for kind, at in value))
        raise ValueError("device")

    def __repr__(self) -> str:
        return f"<nnguard.licensing.Device of {len(self.fingerprint)} components>"


@dataclass(frozen=True, slots=True)
class DeviceBinding:
    """The device that a license holds on.

    Attributes:
        required: How many of the components must match.
        salt: 16 bytes.
        prints: HMAC-SHA256 of each component, cut to 16 bytes.
    """

    required: int
    salt: bytes
    prints: tuple[bytes, ...]

    @classmethod
    def make(cls, device: Device, required: int) -> DeviceBinding:
        """Bind to a device.

        Args:
            device: The customer's.
            required: How many of its components must match.

        Raises:
            ArgumentError: It has fewer, or more than a license holds.
        """
        salt = secrets.token_bytes(_SALT_SIZE)
        prints = {_print(salt, digest) for _, digest in device.fingerprint}
        if not 0 < required <= len(prints) <= _MOST:
            raise ArgumentError(
                f"the device has {len(prints)} components, of which {required} cannot be required",
                hint=f"a license holds {_MOST} at most",
            )
        return cls(required, salt, tuple(sorted(prints)))

    def matches(self, device: Device) -> int:
        """Return how many of the components a device has."""
        found = {_print(self.salt, digest) for _, digest in device.fingerprint}
        return len(found.intersection(self.prints))

    def to_cbor(self) -> list[Any]:
        """Return the value of the claim."""
        return [self.required, self.salt, b"".join(self.prints)]

    @classmethod
    def from_cbor(cls, value: Any) -> DeviceBinding:
        """Read the value of the claim.

        Raises:
            ValueError: It is malformed.
        """
        match value:
            case [int() as required, bytes() as salt, bytes() as joined] if (
                len(salt) == _SALT_SIZE and len(joined) % _PRINT_SIZE == 0
            ):
                parts = (joined[at : at + _PRINT_SIZE] for at in range(0, len(joined), _PRINT_SIZE))
                prints = tuple(parts)
                if 0 < required <= len(prints) <= _MOST and list(prints) == sorted(set(prints)):
                    return cls(required, salt, prints)
        raise ValueError("device")

    def to_json(self) -> dict[str, int]:
        """Return what there is to say about it as JSON values."""
        return {"required": self.required, "of": len(self.prints)}


def _print(salt: bytes, digest: str) -> bytes:
    return hmac.digest(salt, _BINDING + bytes.fromhex(digest), "sha256")[:_PRINT_SIZE]


def _network_address() -> str:
    """Return the address of a network card, or nothing where Python would make one up."""
    node = uuid.getnode()
    return "" if node >> 40 & 1 else f"{node:012x}"


def _read(path: Path) -> str:
    try:
        return read_file(path).decode("utf-8", "replace").strip()
    except OSError:
        return ""
