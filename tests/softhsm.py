"""A PKCS#11 token in software: SoftHSM 2 of the system, or what `make test` unpacked."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_named_curve_parameters

_UNPACKED = Path(__file__).parents[1] / ".venv" / "softhsm"
_PLACES = ["/usr/lib/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm"]
MODULE = next(
    (
        str(path)
        for folder in [*_PLACES, _UNPACKED / "usr/lib/softhsm"]
        if (path := Path(folder) / "libsofthsm2.so").exists()
    ),
    "",
)
UTIL = shutil.which("softhsm2-util") or str(_UNPACKED / "usr/bin/softhsm2-util")
WHY_NOT = "no SoftHSM 2: neither the system has it, nor could make test get it from Debian"

PIN, SO_PIN = "271828", "314159"
CURVES = {
    "ed25519": (KeyType.EC_EDWARDS, bytes.fromhex("06032b6570")),
    "p256": (KeyType.EC, encode_named_curve_parameters("secp256r1")),
    "p384": (KeyType.EC, encode_named_curve_parameters("secp384r1")),
    "P-521": (KeyType.EC, encode_named_curve_parameters("secp521r1")),
}


@dataclass(frozen=True)
class Token:
    """A token that was initialized.

    Attributes:
        label: Its name.
        session: Logged in, for what a test prepares.
    """

    label: str
    session: Any

    def uri(self, key: str, query: str = "") -> str:
        """Name a key by its label."""
        return f"pkcs11:token={self.label};object={key}?module-path={MODULE}{query}"

    def generate(
        self,
        label: str,
        algorithm: str = "ed25519",
        key_id: bytes = b"",
        more: dict[Attribute, Any] | None = None,
    ) -> Any:
        """Make a pair in the token, with more attributes of the private key; return that."""
        kind, params = CURVES[algorithm]
        domain = self.session.create_domain_parameters(
            kind, {Attribute.EC_PARAMS: params}, local=True
        )
        made = domain.generate_keypair(
            store=True, label=label, id=key_id or label.encode(), private_template=more
        )
        return made[1]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[None]:
    """Keep tokens in a folder, here and in child processes; before any token is used."""
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        yield


def initialize(label: str) -> None:
    """Make a token."""
    command = [UTIL, "--module", MODULE, "--init-token", "--free", "--label", label]
    pins = ["--pin", PIN, "--so-pin", SO_PIN]
    subprocess.run([*command, *pins], check=True, capture_output=True, timeout=60)


def log_in(label: str) -> Token:
    """Open a token to prepare it."""
    token = pkcs11.lib(MODULE).get_token(token_label=label)
    return Token(label, token.open(rw=True, user_pin=PIN))
