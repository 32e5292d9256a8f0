"""`keygen`, and how commands get at private keys.

A passphrase comes from the file that `--passphrase-file` names, from `NNGUARD_PASSPHRASE`, or from
a terminal. Where there is none of these, nobody waits for one.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Protocol, TypeVar

import click

import nnguard
from nnguard._base.atomic import named_together
from nnguard._base.files import read_file
from nnguard._cli.commands import Options, command
from nnguard._cli.options import FORCE, argument, check_output, option
from nnguard._cli.output import Outcome
from nnguard.errors import KeyFormatError, LimitError

__all__ = [
    "PASSPHRASE_FILE",
    "SIGNING_KEY",
    "load_private",
    "load_signer",
    "new_passphrase",
    "own_identity",
    "read_secret",
    "run_keygen",
]

_VARIABLE = "NNGUARD_PASSPHRASE"
_LONGEST_SECRET = 4096
_WAYS = f"give --passphrase-file, or set {_VARIABLE}"

_Private = TypeVar("_Private", covariant=True)

PASSPHRASE_FILE = option(
    "--passphrase-file FILE",
    f"Its first line is the private key's passphrase (or {_VARIABLE}, or you are asked).",
)
SIGNING_KEY = [
    option("--key FILE", "Private key: a PEM file, or pkcs11:... in a token.", required=True),
    PASSPHRASE_FILE,
]


def load_signer(name: str, passphrase_file: str | None) -> nnguard.Signer:
    """Load the private key that `--key` names: a file, with its passphrase, or one in a token.

    Raises:
        KeyFormatError: It cannot be read, or there is no passphrase or PIN to be had.
    """
    from nnguard._crypto.token_uri import is_token_uri

    if not is_token_uri(name):
        return load_private(nnguard.SigningKey, name, passphrase_file)
    if passphrase_file is not None:
        raise click.UsageError("a token has no passphrase: its PIN is NNGUARD_PIN, or asked for")
    from nnguard._crypto.token import open_token

    return open_token(name, ask=_ask_pin)


def _ask_pin(token: str) -> str:
    """Ask for the PIN of a token."""
    ways = "set NNGUARD_PIN, or add pin-source=FILE to the URI"
    return _ask(f"PIN of the token {token}: ", f"the token {token!r} needs a PIN", ways)


class _Kind(Protocol[_Private]):
    def load(self, path: str, *, passphrase: str | None = None) -> _Private: ...


def load_private(kind: _Kind[_Private], path: str, passphrase_file: str | None) -> _Private:
    """Load a private key, with its passphrase where it has one.

    Args:
        kind: `SigningKey` or `Identity`.
        path: Of the key.
        passphrase_file: What `--passphrase-file` names.

    Raises:
        KeyFormatError: It cannot be read, or there is no passphrase to be had.
    """
    passphrase = None
    if passphrase_file is not None:
        passphrase = _first_line(passphrase_file)
    elif _is_protected(path):
        passphrase = os.environ.get(_VARIABLE)
        if passphrase is None:
            passphrase = _ask(f"Passphrase of {path}: ", f"{path} is protected by a passphrase")
    try:
        return kind.load(path, passphrase=passphrase)
    except KeyFormatError as error:
        if passphrase is not None:
            error.hint = error.hint or "give the passphrase that the key was made with"
        raise


@command(
    argument("NAME", "Path of the files; .key and .pub are added."),
    option(
        "--algorithm NAME",
        "ed25519, the default; p256 or p384, for tokens that have no Ed25519; ml-dsa-65 or "
        "ml-dsa-87, hybrids with Ed25519 that hold against quantum computers: 3 and 5 kB more.",
        default="ed25519",
        show_default=False,
    ),
    option("--identity", "Make a customer's pair."),
    option(
        "--post-quantum", "With --identity: ML-KEM-768 besides X25519; licenses are 1.1 kB larger."
    ),
    option(
        "--public-of KEY",
        "Make no pair: write the public half of this vendor's key, such as one in a token.",
    ),
    option("--protect", "Ask for a passphrase for the private key."),
    PASSPHRASE_FILE,
    FORCE,
)
def run_keygen(options: Options) -> Outcome:
    """Make a vendor's or a customer's pair of keys.

    Make a vendor's pair: NAME.key signs and stays with you, NAME.pub verifies. With --identity,
    make a customer's pair: licenses are made out to NAME.pub, and open with NAME.key.

    Examples:
      nnguard keygen vendor
      nnguard keygen vendor --protect
      nnguard keygen vendor --algorithm ml-dsa-65
      nnguard keygen customer --identity
      nnguard keygen vendor --public-of 'pkcs11:token=vendor;object=release'
    """
    name = options.name.removesuffix(".key").removesuffix(".pub")
    if name.rpartition("/")[2] in ("", ".", "..", "-"):
        raise click.UsageError(f"{options.name!r} is not a name for files of keys")
    if options.post_quantum and not options.identity:
        raise click.UsageError("--post-quantum is for customers' pairs: add --identity")
    if options.identity and options.algorithm != "ed25519":
        raise click.UsageError("--algorithm is for vendors' pairs: leave out --identity")
    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    if options.public_of:
        return _write_public_half(options, public)
    for path in (private, public):
        check_output(path, overwrite=options.force)
    key, public_key = _generate(options)
    passphrase = new_passphrase(options.passphrase_file, protect=options.protect)
    with named_together():
        key.save(private, passphrase=passphrase, overwrite=options.force)
        public_key.save(public, overwrite=options.force)
    key_id = public_key.id.hex()
    use = "send it to the vendor" if options.identity else "publish it"
    secret = "keep it secret" if passphrase is None else "keep it secret; it has a passphrase"
    return Outcome(
        {"key_id": key_id, "private_key": str(private), "public_key": str(public)},
        [f"Key {key_id}: {private} ({secret}), {public} ({use})"],
    )


def _write_public_half(options: Options, public: Path) -> Outcome:
    if options.identity or options.protect or options.algorithm != "ed25519":
        raise click.UsageError("--public-of makes no key: give no options of one")
    key = load_signer(options.public_of, options.passphrase_file).public_key
    key.save(public, overwrite=options.force)
    return Outcome(
        {"key_id": key.id.hex(), "public_key": str(public)},
        [f"Key {key.id.hex()} ({key.algorithm}): {public} (publish it)"],
    )


def _generate(
    options: Options,
) -> tuple[nnguard.SigningKey | nnguard.Identity, nnguard.PublicKey | nnguard.Recipient]:
    if options.identity:
        identity = nnguard.Identity.generate(post_quantum=options.post_quantum)
        return identity, identity.recipient
    key = nnguard.SigningKey.generate(options.algorithm)
    return key, key.public_key


def own_identity(options: Options) -> tuple[nnguard.Identity, bool]:
    """Load the private key that `--identity` names, or make one; tell whether it was made."""
    if Path(options.identity).exists():
        return load_private(nnguard.Identity, options.identity, options.passphrase_file), False
    identity = nnguard.Identity.generate()
    identity.save(options.identity, passphrase=new_passphrase(options.passphrase_file))
    return identity, True


def new_passphrase(file: str | None, *, protect: bool = False) -> str | None:
    """Return the passphrase for a key that is made now, or None for none.

    Args:
        file: What `--passphrase-file` names.
        protect: Ask for one, where nobody gave one.
    """
    given = os.environ.get(_VARIABLE)
    if file is not None:
        given = _first_line(file)
    elif given is None and protect:
        given = _ask("Passphrase: ", "there is no terminal to ask for a passphrase")
        if given != _ask("Again: ", ""):
            raise KeyFormatError("the two passphrases differ", hint="try again")
    if given == "":
        raise KeyFormatError("an empty passphrase protects nothing", hint=_WAYS)
    return given


def read_secret(path: str | None) -> str:
    """Return the secret in the first line of a file; empty, where none is named.

    Raises:
        UsageError: There is nothing that a header of HTTP can hold.
    """
    if not path:
        return ""
    text = read_file(path, _LONGEST_SECRET).decode("utf-8", "replace")
    secret = text.partition("\n")[0].strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        raise click.UsageError(f"{path} has no secret, in ASCII, in its first line")
    return secret


def _ask(prompt: str, otherwise: str, ways: str = _WAYS) -> str:
    """Ask on the terminal."""
    if not _has_terminal():
        raise KeyFormatError(otherwise, hint=ways)
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise KeyFormatError("nothing was typed", hint=ways) from None


def _has_terminal() -> bool:
    """Return whether somebody can be asked; without, `getpass` would wait for a pipe."""
    if sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _is_protected(path: str) -> bool:
    try:
        return b"ENCRYPTED" in read_file(path)
    except LimitError:
        return False


def _first_line(path: str) -> str:
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError:
        hint = "its first line is the passphrase"
        raise KeyFormatError(f"{path} is not UTF-8", hint=hint) from None
    except LimitError as error:
        raise KeyFormatError(f"{error}, too many for a passphrase", hint=_WAYS) from None
    return text.partition("\n")[0].removesuffix("\r")
