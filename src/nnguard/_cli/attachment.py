"""`attach`, `detach`."""

from __future__ import annotations

import argparse
import mimetypes
from pathlib import Path
from typing import Any

import nnguard
from nnguard._base.files import named_together, read_file, write_bytes
from nnguard._cli.output import add_json, add_output, print_json, say
from nnguard._hiding.frame import MAX_RECORD_SIZE

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add `attach` and `detach`."""
    parser = commands.add_parser(
        "attach",
        help="hide a file in a model",
        description="Hide any file in the weights of a model. It is not signed: sign on top of it.",
        epilog="example:\n  nnguard attach model.nnc -o out.nnc --payload card.md "
        "--media-type text/markdown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="NNCodec stream")
    add_output(parser, what="stream with the attachment")
    parser.add_argument("--payload", required=True, metavar="FILE", help="file to attach")
    parser.add_argument("--media-type", metavar="TYPE", help="by default, from the file's name")
    add_json(parser)
    parser.set_defaults(run=_attach)

    parser = commands.add_parser(
        "detach",
        help="take a hidden file out again",
        description="Take an attachment out, and restore the model that it was attached to, byte "
        "for byte. Anyone can attach anything: only a signature on top proves who did.",
        epilog="example:\n  nnguard detach out.nnc -o model.nnc --payload card.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="stream with an attachment")
    add_output(parser, what="stream without it")
    parser.add_argument(
        "--payload",
        dest="payload_output",
        required=True,
        metavar="FILE",
        help="attachment to write",
    )
    add_json(parser)
    parser.set_defaults(run=_detach)


def _attach(options: argparse.Namespace) -> None:
    payload = read_file(options.payload, MAX_RECORD_SIZE)
    guessed = mimetypes.guess_type(options.payload)[0] or "application/octet-stream"
    media_type = options.media_type or guessed
    stream = nnguard.Stream.open(options.model)
    attached = nnguard.attach(stream, payload, media_type=media_type)
    attached.save(options.output, overwrite=options.force)
    growth = 100 * (attached.size - stream.size) / stream.size
    if options.json:
        print_json({"ok": True, "file": options.output, "size": attached.size})
    else:
        say(f"Attached {len(payload):,} bytes of {media_type}: {options.output} ({growth:+.3f} %)")


def _detach(options: argparse.Namespace) -> None:
    payload = Path(options.payload_output)
    if payload.resolve() == Path(options.output).resolve():
        raise ValueError("the stream and the attachment need a file each")
    attachment, original = nnguard.detach(options.file)
    with named_together():
        write_bytes(payload, attachment.payload, overwrite=options.force)
        original.save(options.output, overwrite=options.force)
    if options.json:
        print_json(
            {
                "ok": True,
                "file": options.output,
                "payload": str(payload),
                "media_type": attachment.media_type,
            }
        )
    else:
        size = len(attachment.payload)
        say(f"Detached {size:,} bytes of {attachment.media_type} (not signed): {payload}")
        say(f"Restored {options.output}, {original.size:,} bytes")
