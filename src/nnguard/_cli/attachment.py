"""`attach`, `detach`."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import click

import nnguard
from nnguard._base.atomic import named_together
from nnguard._base.files import read_file, write_bytes
from nnguard._cli.commands import Options, command
from nnguard._cli.options import argument, option, output
from nnguard._cli.output import Outcome
from nnguard._hiding.frame import MAX_RECORD_SIZE

__all__ = ["run_attach", "run_detach"]


@command(
    argument("MODEL", "NNCodec stream."),
    output("Stream with the attachment"),
    option("--payload FILE", "File to attach.", required=True),
    option("--media-type TYPE", "By default, from the file's name."),
)
def run_attach(options: Options) -> Outcome:
    """Hide a file in a model.

    Any file can be hidden in the weights. It is not signed: sign on top of it.

    Examples:
      nnguard attach model.nnc -o out.nnc --payload card.md --media-type text/markdown
    """
    payload = read_file(options.payload, MAX_RECORD_SIZE)
    guessed = mimetypes.guess_type(options.payload)[0] or "application/octet-stream"
    media_type = options.media_type or guessed
    before = Path(options.model).stat().st_size
    attached = nnguard.attach(options.model, payload, media_type=media_type)
    attached.save(options.output, overwrite=options.force)
    growth = 100 * (attached.size - before) / before
    said = f"Attached {len(payload):,} bytes of {media_type}: {options.output} ({growth:+.3f} %)"
    return Outcome({"file": options.output, "size": attached.size}, [said])


@command(
    argument("FILE", "Stream with an attachment."),
    output("Stream without it"),
    option("--payload OUTPUT", "Attachment to write.", required=True),
)
def run_detach(options: Options) -> Outcome:
    """Take a hidden file out again.

    Take an attachment out, and restore the model that it was attached to, byte for byte. Anyone
    can attach anything: only a signature on top proves who did.

    Examples:
      nnguard detach out.nnc -o model.nnc --payload card.md
    """
    payload = Path(options.payload)
    if payload.resolve() == Path(options.output).resolve():
        raise click.UsageError("the stream and the attachment need a file each")
    attachment, original = nnguard.detach(options.file)
    with named_together():
        write_bytes(payload, attachment.payload, overwrite=options.force)
        original.save(options.output, overwrite=options.force)
    values = {"file": options.output, "payload": str(payload), "media_type": attachment.media_type}
    size = len(attachment.payload)
    return Outcome(
        values,
        [
            f"Detached {size:,} bytes of {attachment.media_type} (not signed): {payload}",
            f"Restored {options.output}, {original.size:,} bytes",
        ],
    )
