"""`keygen`, and how commands get at private keys."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import Any

import nnguard
from nnguard.cli.output import add_json, print_json, say

__all__ = ["add_commands", "add_signing_key", "load_signing_key"]


def add_commands(commands: Any) -> None:
    """Add `keygen`."""
    parser = commands.add_parser(
        "keygen",
        help="make a vendor's pair of keys",
        description="Make an Ed25519 pair: NAME.key signs and stays with you, NAME.pub verifies.",
        epilog="examples:\n  nnguard keygen vendor\n  nnguard keygen vendor --protect",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="path of the files, without suffix")
    parser.add_argument("--protect", action="store_true", help="ask for a passphrase for the key")
    _add_passphrase_file(parser)
    parser.add_argument("-f", "--force", action="store_true", help="overwrite files that exist")
    add_json(parser)
    parser.set_defaults(run=_keygen)


def add_signing_key(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a private key."""
    parser.add_argument("--key", required=True, metavar="FILE", help="private key (PEM)")
    _add_passphrase_file(parser)


def load_signing_key(options: argparse.Namespace) -> nnguard.SigningKey:
    """Load the key that the options name, asking for its passphrase where it needs one."""
    passphrase = _passphrase_from_file(options)
    try:
        return nnguard.SigningKey.load(options.key, passphrase=passphrase)
    except nnguard.KeyFormatError:
        if passphrase is not None or b"ENCRYPTED" not in Path(options.key).read_bytes():
            raise
    return nnguard.SigningKey.load(
        options.key, passphrase=getpass.getpass(f"Passphrase of {options.key}: ")
    )


def _keygen(options: argparse.Namespace) -> None:
    private, public = Path(f"{options.name}.key"), Path(f"{options.name}.pub")
    for path in (private, public):
        if path.exists() and not options.force:
            raise FileExistsError(f"{path} exists already")
    passphrase = _passphrase_from_file(options)
    if options.protect and passphrase is None:
        passphrase = getpass.getpass("Passphrase: ")
        if passphrase != getpass.getpass("Again: "):
            raise nnguard.KeyFormatError("the passphrases differ")
    if passphrase == "":
        raise nnguard.KeyFormatError("an empty passphrase protects nothing")
    key = nnguard.SigningKey.generate()
    key.save(private, passphrase=passphrase, overwrite=options.force)
    key.public_key.save(public, overwrite=options.force)
    key_id = key.public_key.id.hex()
    if options.json:
        paths = {"private_key": str(private), "public_key": str(public)}
        print_json({"ok": True, "key_id": key_id, **paths})
    else:
        say(f"Key {key_id}: {private} (keep it secret), {public} (publish it)")


def _add_passphrase_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="first line is the private key's passphrase"
    )


def _passphrase_from_file(options: argparse.Namespace) -> str | None:
    if options.passphrase_file is None:
        return None
    try:
        text = Path(options.passphrase_file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise nnguard.KeyFormatError(f"{options.passphrase_file} is not UTF-8") from None
    return text.partition("\n")[0]
