"""`keygen`, and how commands get at private keys."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import nnguard
from nnguard._base.files import named_together, read_file
from nnguard._cli.output import add_json, check_output, print_json, say

__all__ = [
    "add_commands",
    "add_passphrase_file",
    "add_signing_key",
    "load_identity",
    "load_signing_key",
]

_Private = TypeVar("_Private", covariant=True)


class _Loader(Protocol[_Private]):
    def __call__(self, path: str, *, passphrase: str | None = None) -> _Private: ...


def add_commands(commands: Any) -> None:
    """Add `keygen`."""
    parser = commands.add_parser(
        "keygen",
        help="make a vendor's or a customer's pair of keys",
        description="Make an Ed25519 pair: NAME.key signs and stays with you, NAME.pub verifies. "
        "With --identity a customer's pair: licenses are made out to NAME.pub, and open with "
        "NAME.key.",
        epilog="examples:\n  nnguard keygen vendor\n  nnguard keygen vendor --protect\n"
        "  nnguard keygen customer --identity",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="path of the files, without suffix")
    parser.add_argument("--identity", action="store_true", help="make a customer's pair")
    parser.add_argument(
        "--post-quantum",
        action="store_true",
        help="with --identity: ML-KEM-768 besides X25519; licenses are 1.1 kB larger",
    )
    parser.add_argument("--protect", action="store_true", help="ask for a passphrase for the key")
    add_passphrase_file(parser)
    parser.add_argument("-f", "--force", action="store_true", help="overwrite files that exist")
    add_json(parser)
    parser.set_defaults(run=_keygen)


def add_signing_key(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a private key."""
    parser.add_argument("--key", required=True, metavar="FILE", help="private key (PEM)")
    add_passphrase_file(parser)


def load_signing_key(options: argparse.Namespace) -> nnguard.SigningKey:
    """Load the key that the options name, asking for its passphrase where it needs one."""
    return _load(nnguard.SigningKey.load, options.key, _passphrase_from_file(options))


def load_identity(path: str, options: argparse.Namespace) -> nnguard.Identity:
    """Load an identity, asking for its passphrase where it needs one."""
    return _load(nnguard.Identity.load, path, _passphrase_from_file(options))


def _load(load: _Loader[_Private], path: str, passphrase: str | None) -> _Private:
    try:
        return load(path, passphrase=passphrase)
    except nnguard.KeyFormatError:
        if passphrase is not None or not _is_protected(path):
            raise
    return load(path, passphrase=getpass.getpass(f"Passphrase of {path}: "))


def _is_protected(path: str) -> bool:
    try:
        return b"ENCRYPTED" in read_file(path)
    except nnguard.LimitError:
        return False


def _keygen(options: argparse.Namespace) -> None:
    if options.name.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError(f"{options.name!r} is no name for files of keys")
    private, public = Path(f"{options.name}.key"), Path(f"{options.name}.pub")
    for path in (private, public):
        check_output(path, overwrite=options.force)
    passphrase = _passphrase_from_file(options)
    if options.protect and passphrase is None:
        passphrase = getpass.getpass("Passphrase: ")
        if passphrase != getpass.getpass("Again: "):
            raise nnguard.KeyFormatError("the passphrases differ")
    if passphrase == "":
        raise nnguard.KeyFormatError("an empty passphrase protects nothing")
    if options.post_quantum and not options.identity:
        raise ValueError("--post-quantum is for customers' pairs: add --identity")
    key, public_key = _generate(options)
    with named_together():
        key.save(private, passphrase=passphrase, overwrite=options.force)
        public_key.save(public, overwrite=options.force)
    key_id = public_key.id.hex()
    if options.json:
        paths = {"private_key": str(private), "public_key": str(public)}
        print_json({"ok": True, "key_id": key_id, **paths})
    else:
        use = "send it to the vendor" if options.identity else "publish it"
        say(f"Key {key_id}: {private} (keep it secret), {public} ({use})")


def _generate(
    options: argparse.Namespace,
) -> tuple[
    nnguard.SigningKey | nnguard.Identity,
    nnguard.PublicKey | nnguard.Recipient,
]:
    if options.identity:
        identity = nnguard.Identity.generate(post_quantum=options.post_quantum)
        return identity, identity.recipient
    key = nnguard.SigningKey.generate()
    return key, key.public_key


def add_passphrase_file(parser: argparse.ArgumentParser) -> None:
    """Add the option for the passphrase of a private key."""
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="first line is the private key's passphrase"
    )


def _passphrase_from_file(options: argparse.Namespace) -> str | None:
    if options.passphrase_file is None:
        return None
    try:
        text = read_file(options.passphrase_file).decode()
    except UnicodeDecodeError:
        raise nnguard.KeyFormatError(f"{options.passphrase_file} is not UTF-8") from None
    except nnguard.LimitError as error:
        raise nnguard.KeyFormatError(f"{error}, too many for a passphrase") from None
    return text.partition("\n")[0].removesuffix("\r")
