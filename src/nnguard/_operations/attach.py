"""Attaching a file to a model, inside its weights: a model card, a license text, a parts list.

    attached = nnguard.attach("model.nnc", card, media_type="text/markdown")
    attachment, original = nnguard.detach(attached)

An attachment is protected against accidents, not against people: sign the stream on top of it.
"""

from __future__ import annotations

import hmac

from nnguard._base.arguments import is_folder, wrong_type
from nnguard._hiding import embed
from nnguard._models.stream_set import StreamSet
from nnguard._records.attachment import Attachment
from nnguard._records.digest import model_digest
from nnguard._records.kinds import RecordKind, kind_name
from nnguard._records.layers import Layer
from nnguard._stream import Stream, StreamLike, as_stream
from nnguard.errors import ArgumentError, NoRecordError, VerificationError

__all__ = ["attach", "detach"]


def attach(
    model: StreamLike, payload: bytes, *, media_type: str = "application/octet-stream"
) -> Stream:
    """Hide bytes in a stream.

    Args:
        model: A stream.
        payload: Any bytes.
        media_type: What they are.

    Raises:
        CapacityError: They do not fit; the error says how many bits do.
        FormatError: The input is not a well-formed stream.
        ArgumentError: It is a folder.
        LimitError: The stream holds too many records already.

    Examples:
        >>> carrying = nnguard.attach("model.nnc", b"# Digits", media_type="text/markdown")
        >>> attachment, model = nnguard.detach(carrying)
        >>> attachment.media_type
        'text/markdown'
    """
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise wrong_type("payload", "bytes", payload)
    stream = _single(model)
    digest = model_digest(stream.sha256_of_units())
    record = Attachment(bytes(payload), media_type).to_record(digest)
    return embed(stream, record, kind=RecordKind.ATTACHMENT)


def detach(model: StreamLike) -> tuple[Attachment, Stream]:
    """Take an attachment out of a stream.

    Returns:
        The attachment, and the stream that it was attached to, byte for byte. Neither is
        authenticated: anyone can attach anything.

    Raises:
        NoRecordError: The outermost record is not an attachment.
        VerificationError: The stream was changed since.
        FormatError: The input is not a well-formed stream, or damaged.

    Examples:
        >>> carrying = nnguard.attach("model.nnc", b"# Digits")
        >>> attachment, model = nnguard.detach(carrying)
        >>> attachment.payload
        b'# Digits'
    """
    layer = Layer(_single(model))
    try:
        kind = layer.extraction.header.kind
    except NoRecordError:
        raise NoRecordError("nothing is attached: the stream holds no record") from None
    if kind != RecordKind.ATTACHMENT:
        raise NoRecordError(
            f"the outermost record is not an attachment: {kind_name(kind)}",
            hint="nnguard inspect lists the records; nnguard strip takes a signature off",
        )
    attachment, digest = Attachment.parse(layer.record)
    digests = layer.below.sha256_of_units()
    if not hmac.compare_digest(model_digest(digests), digest):
        raise VerificationError("the stream was changed after the file was attached")
    return attachment, layer.below.pinned(digests)


def _single(model: StreamLike) -> Stream:
    if is_folder(model) or isinstance(model, StreamSet):
        raise ArgumentError(
            "a folder of streams keeps its files beside them, and a signature covers both",
            hint="put the file there; or name one stream",
        )
    return as_stream(model)
