"""`sign`, `verify`, `strip`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import nnguard
from nnguard._cli.compression import (
    add_settings,
    add_workers,
    compress_folder,
    compress_model,
    refuse_settings,
)
from nnguard._cli.keys import add_signing_key, load_signing_key
from nnguard._cli.output import add_json, add_output, print_json, progress_bar, say, warn

__all__ = ["add_commands", "add_trust", "pair"]

_MANY_WEIGHTS = 1 << 22
"""Where a signature goes into more weights than this, people are told what that costs."""

_One = TypeVar("_One")
_Many = TypeVar("_Many")


def add_commands(commands: Any) -> None:
    """Add `sign`, `verify` and `strip`."""
    parser = commands.add_parser(
        "sign",
        help="sign a model inside its own weights",
        description="Sign a model. The signature travels in the quantized weights; every NNCodec "
        "decoder reads the signed file.",
        epilog="examples:\n  nnguard sign model.nnc -o release.nnc --key vendor.key \\\n"
        "      --issuer acme.ai --name resnet56 --version 1.0 --meta git=4f2a91c\n"
        "  nnguard sign model.safetensors -o release.nnc --key vendor.key --qp -32\n"
        "  nnguard sign streams -o release --key vendor.key",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="NNCodec stream; a model file, compressed first; or a folder of shards of either",
    )
    add_output(parser, what="signed stream, or folder of streams,")
    add_signing_key(parser)
    parser.add_argument("--issuer", default="", help="who signs, such as a domain")
    parser.add_argument("--name", default="", help="what is signed")
    parser.add_argument("--version", default="", help="version of the release")
    parser.add_argument(
        "--meta", action="append", default=[], metavar="KEY=VALUE", type=pair,
        help="anything else to sign; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--localize",
        action="store_true",
        help="let verify name the tensors that were changed; takes 4 bytes a unit",
    )
    add_settings(parser)
    add_workers(parser)
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
    parser.add_argument("file", metavar="FILE", help="signed stream, or a folder of them")
    add_trust(parser)
    add_json(parser)
    parser.set_defaults(run=_verify)

    parser = commands.add_parser(
        "strip",
        help="verify, and get the original back",
        description="Verify a file and write the original that was signed, byte for byte.",
        epilog="example:\n  nnguard strip release.nnc -o model.nnc --trust vendor.pub",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="signed stream, or a folder of them")
    add_output(parser, what="original stream, or folder of streams,")
    add_trust(parser)
    add_json(parser)
    parser.set_defaults(run=_strip)


def _sign(options: argparse.Namespace) -> None:
    key = load_signing_key(options)
    claims: dict[str, Any] = {
        "issuer": options.issuer,
        "name": options.name,
        "version": options.version,
        "metadata": dict(options.meta),
        "localize": options.localize,
    }
    output = Path(options.output)
    sign = _sign_folder if Path(options.model).is_dir() else _sign_file
    before, after = sign(options, key, claims)
    growth = 100 * (after - before) / before
    key_id = key.public_key.id.hex()
    if options.json:
        sizes = {"size_before": before, "size": after}
        print_json({"ok": True, "file": options.output, "key_id": key_id, **sizes})
    else:
        say(f"Signed with key {key_id}: {output}, {after:,} bytes ({growth:+.3f} %)")


def _sign_file(
    options: argparse.Namespace, key: nnguard.SigningKey, claims: dict[str, Any]
) -> tuple[int, int]:
    """Sign a stream, or a compressed model; return the stream's size before and after."""
    output = Path(options.output)
    stream = _open_stream(options.model)
    if stream is None:
        stream = compress_model(options, output.parent)
    else:
        refuse_settings(options)
    with progress_bar(stream.size, "Signing") as progress:
        signed = nnguard.sign(stream, key, **claims, progress=progress, planned=_warn_of_many)
    signed.save(output, overwrite=options.force)
    return stream.size, signed.size


def _warn_of_many(weights: int) -> None:
    """Say what it costs that there are no small tensors for a signature."""
    if weights > _MANY_WEIGHTS:
        warn(
            f"no small tensors for the signature: every verification will decode {weights:,} "
            f"weights, and the file grows by some {weights // 8:,} bytes"
        )


def _open_stream(model: str) -> nnguard.Stream | None:
    """Return the stream in a file, or None for a model that is yet to be compressed."""
    suffix = Path(model).suffix.lower()
    if suffix == ".safetensors":
        return None
    try:
        return nnguard.Stream.open(model)
    except nnguard.FormatError:
        from nnguard._models.sources import MODEL_SUFFIXES

        if suffix in MODEL_SUFFIXES:
            return None
        raise


def _sign_folder(
    options: argparse.Namespace, key: nnguard.SigningKey, claims: dict[str, Any]
) -> tuple[int, int]:
    """Sign a folder of shards, compressed first where they are safetensors."""
    model, output = Path(options.model), Path(options.output)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".nnguard.") as temporary:
        if any(model.glob("*.safetensors.index.json")):
            model = compress_folder(options, Path(temporary) / "streams")
        else:
            refuse_settings(options)
        streams = nnguard.StreamSet.open(model)
        with progress_bar(2 * streams.size, "Signing") as progress:
            signed = nnguard.sign_set(
                streams, key, **claims, progress=progress, planned=_warn_of_many
            )
        signed.save(output, overwrite=options.force)
        return streams.size, signed.size


def _verify(options: argparse.Namespace) -> None:
    report = _check(options, lambda: nnguard.verify, lambda: nnguard.verify_set)
    if options.json:
        print_json({"ok": True, **report.to_json()})
        return
    say(f"Verified: {options.file}")
    for label, value in _lines(report):
        if value:
            say(f"  {label:<11} {value}")


def _strip(options: argparse.Namespace) -> None:
    original = _check(options, lambda: nnguard.strip, lambda: nnguard.strip_set)
    original.save(options.output, overwrite=options.force)
    if options.json:
        print_json({"ok": True, "file": options.output, "size": original.size})
    else:
        say(f"Verified, and stripped: {options.output}, {original.size:,} bytes")


def _check(
    options: argparse.Namespace,
    check_file: Callable[[], Callable[..., _One]],
    check_folder: Callable[[], Callable[..., _Many]],
) -> _One | _Many:
    """Do what verifies a stream, or a folder of them, with a progress bar.

    Both are asked for when they are needed: importing what folders take is slow.
    """
    if Path(options.file).is_dir():
        streams = nnguard.StreamSet.open(options.file)
        with progress_bar(streams.size, "Verifying") as progress:
            return check_folder()(streams, options.trust, progress=progress)
    stream = nnguard.Stream.open(options.file)
    with progress_bar(stream.size, "Verifying") as progress:
        return check_file()(stream, options.trust, progress=progress)


def _lines(report: nnguard.Report | nnguard.SetReport) -> list[tuple[str, str]]:
    claims = report.claims
    lines = [
        ("issuer", claims.issuer),
        ("name", claims.name),
        ("version", claims.version),
        ("issued at", "" if claims.issued_at is None else claims.issued_at.isoformat()),
    ]
    lines += [("meta", f"{key}={value}") for key, value in claims.metadata.items()]
    lines += [("key", report.key_id), ("digest", report.digest)]
    if claims.shard is not None:
        lines.append(("shard", f"{claims.shard.position + 1} of {claims.shard.count}"))
    if not isinstance(report, nnguard.Report):
        return lines + [("shard", name) for name in report.shards]
    if (mark := report.licensed_to) is not None:
        lines.append(("licensed to", f"{mark.customer} (license {mark.id})".strip()))
    for record in report.nested:
        trusted = ", by a trusted key" if record.verified else ""
        name = record.claims.name if record.claims is not None else ""
        lines.append(("inside", f"{record.kind} {name}{trusted}".strip()))
    return lines


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option that names trusted keys."""
    parser.add_argument(
        "--trust",
        action="append",
        required=True,
        metavar="PATH",
        help="trusted public keys: a PEM file with one or more, or a directory of them; "
        "may be repeated",
    )


def pair(text: str) -> tuple[str, str]:
    """Read `KEY=VALUE`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
