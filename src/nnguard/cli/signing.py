"""`sign`, `verify`, `strip`."""

from __future__ import annotations

import argparse
from typing import Any

import nnguard
from nnguard.cli.keys import add_signing_key, load_signing_key
from nnguard.cli.output import add_json, add_output, print_json, progress_bar, say

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add `sign`, `verify` and `strip`."""
    parser = commands.add_parser(
        "sign",
        help="sign a model inside its own weights",
        description="Sign a model. The signature travels in the quantised weights; every NNCodec "
        "decoder reads the signed file.",
        epilog="example:\n  nnguard sign model.nnc -o release.nnc --key vendor.key \\\n"
        "      --issuer acme.ai --name resnet56 --version 1.0 --meta git=4f2a91c",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="NNCodec stream")
    add_output(parser, what="signed stream")
    add_signing_key(parser)
    parser.add_argument("--issuer", default="", help="who signs, such as a domain")
    parser.add_argument("--name", default="", help="what is signed")
    parser.add_argument("--version", default="", help="version of the release")
    parser.add_argument(
        "--meta", action="append", default=[], metavar="KEY=VALUE", type=_pair,
        help="anything else to sign; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--localize",
        action="store_true",
        help="let verify name the tensors that were changed; takes 4 bytes a unit",
    )
    add_json(parser)
    parser.set_defaults(run=_sign)

    parser = commands.add_parser(
        "verify",
        help="check that a file is what a trusted vendor signed",
        description="Check every bit of a file against the signature in it. Exit code 0 means "
        "that it is what the vendor signed; nothing else does.",
        epilog="examples:\n  nnguard verify release.nnc --trust vendor.pub\n"
        "  nnguard verify release.nnc --trust /etc/nnguard/trust --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="signed stream")
    _add_trust(parser)
    add_json(parser)
    parser.set_defaults(run=_verify)

    parser = commands.add_parser(
        "strip",
        help="verify, and get the original back",
        description="Verify a file and write the original that was signed, byte for byte.",
        epilog="example:\n  nnguard strip release.nnc -o model.nnc --trust vendor.pub",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="signed stream")
    add_output(parser, what="original stream")
    _add_trust(parser)
    add_json(parser)
    parser.set_defaults(run=_strip)


def _sign(options: argparse.Namespace) -> None:
    key = load_signing_key(options)
    stream = nnguard.Stream.open(options.model)
    with progress_bar(stream.size, "Signing") as progress:
        signed = nnguard.sign(
            stream,
            key,
            issuer=options.issuer,
            name=options.name,
            version=options.version,
            metadata=dict(options.meta),
            localize=options.localize,
            progress=progress,
        )
    signed.save(options.output, overwrite=options.force)
    growth = 100 * (signed.size - stream.size) / stream.size
    key_id = key.public_key.id.hex()
    if options.json:
        sizes = {"size_before": stream.size, "size": signed.size}
        print_json({"ok": True, "file": options.output, "key_id": key_id, **sizes})
    else:
        say(f"Signed with key {key_id}: {options.output}, {signed.size:,} bytes ({growth:+.3f} %)")


def _verify(options: argparse.Namespace) -> None:
    stream = nnguard.Stream.open(options.file)
    with progress_bar(stream.size, "Verifying") as progress:
        report = nnguard.verify(stream, options.trust, progress=progress)
    if options.json:
        print_json({"ok": True, **report.to_json()})
        return
    say(f"Verified: {options.file}")
    for label, value in _lines(report):
        if value:
            say(f"  {label:<10} {value}")


def _strip(options: argparse.Namespace) -> None:
    stream = nnguard.Stream.open(options.file)
    with progress_bar(stream.size, "Verifying") as progress:
        original = nnguard.strip(stream, options.trust, progress=progress)
    original.save(options.output, overwrite=options.force)
    if options.json:
        print_json({"ok": True, "file": options.output, "size": original.size})
    else:
        say(f"Verified, and stripped: {options.output}, {original.size:,} bytes")


def _lines(report: nnguard.Report) -> list[tuple[str, str]]:
    claims = report.claims
    lines = [
        ("issuer", claims.issuer),
        ("name", claims.name),
        ("version", claims.version),
        ("issued at", "" if claims.issued_at is None else claims.issued_at.isoformat()),
    ]
    lines += [("meta", f"{key}={value}") for key, value in claims.metadata.items()]
    lines += [("key", report.key_id), ("digest", report.digest)]
    for record in report.nested:
        trusted = ", by a trusted key" if record.verified else ""
        name = record.claims.name if record.claims is not None else ""
        lines.append(("inside", f"{record.kind} {name}{trusted}".strip()))
    return lines


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="append",
        required=True,
        metavar="PATH",
        help="trusted public keys: a PEM file with one or more, or a directory of them; "
        "may be repeated",
    )


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
