"""What a file is that is not what was expected, told by its first bytes; for messages only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from nnguard._stream.source import Source
from nnguard.errors import FormatError

__all__ = ["FileKind", "naming_kind", "recognize"]

_HEAD = 64
_TAIL = 1 << 16
"""Bytes at the end of a ZIP archive that are searched for the names of its members."""

_COMPRESS = "compress it first: nnguard compress MODEL -o model.nnc"
_EXPORT = (
    "nnguard reads safetensors files and PyTorch checkpoints: save the weights as one of these"
)
_STATE = "save its weights alone, and compress these: torch.save({}, 'model.pth')"


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file.

    Attributes:
        what: What it is, with an article.
        hint: What to do with it.
        suffixes: How names of files end that nnguard reads as models of this kind.
    """

    what: str
    hint: str
    suffixes: tuple[str, ...] = ()


SAFETENSORS = FileKind("a safetensors file", _COMPRESS, (".safetensors",))
CHECKPOINT = FileKind("a PyTorch checkpoint", _COMPRESS, (".pt", ".pth", ".bin", ".ckpt"))
STREAM = FileKind("an NNCodec stream", "it is compressed already: nnguard sign signs it")

_BEGINNINGS = {
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9": CHECKPOINT,  # as before PyTorch 1.6
    b"\0\4": STREAM,
    b"GGUF": FileKind("a GGUF file", _EXPORT),
    b"\x89HDF\r\n": FileKind("an HDF5 file", _EXPORT),
    b"\x93NUMPY": FileKind("a NumPy array", _EXPORT),
    b"\x89PNG\r\n": FileKind("a PNG picture", ""),
    b"%PDF-": FileKind("a PDF", ""),
    b"\x1f\x8b": FileKind("a gzip archive", "unpack it"),
    b"SQLite format 3\0": FileKind("a ledger", "give it with --ledger"),
    b"version https://git-lfs": FileKind("a pointer of Git LFS", "git lfs pull fetches the file"),
    b"-----BEGIN PUBLIC KEY": FileKind("a public key", "give it with --trust, or with --to"),
    b"-----BEGIN PRIVATE KEY": FileKind("a private key", "give it with --key, or --identity"),
    b"-----BEGIN ENCRYPTED": FileKind("a private key", "give it with --key, or --identity"),
    b"-----BEGIN NNGUARD CONTENT": FileKind("a content key", "give it with --content-key"),
    b"-----BEGIN NNGUARD LICENSE REQ": FileKind("a request", "nnguard license show shows it"),
    b"-----BEGIN NNGUARD LICENSE REC": FileKind("a receipt", "nnguard license show shows it"),
    b"-----BEGIN NNGUARD LICENSE": FileKind("a license", "give it with --license"),
    b"-----BEGIN NNGUARD LATEST": FileKind("a latest statement", "give it with --latest"),
    b"-----BEGIN NNGUARD POLICY": FileKind("a trust policy", "give it with --policy"),
    b"-----BEGIN NNGUARD REVOC": FileKind("a revocation list", "give it with --revocations"),
    b"<!": FileKind("a web page", "perhaps a download went wrong"),
    b"<html": FileKind("a web page", "perhaps a download went wrong"),
    b"{": FileKind("JSON", "name the folder of the shards, where it is their index"),
    b"[": FileKind("JSON", ""),
}

_MEMBERS = {
    b"/constants.pkl": FileKind("a TorchScript program", _STATE.format("module.state_dict()")),
    b"/archive_format": FileKind("a program of torch.export", _STATE.format("program.state_dict")),
    b"serialized_exported_program": FileKind(
        "a program of torch.export", _STATE.format("program.state_dict")
    ),
    b"/data.pkl": CHECKPOINT,
    b".npy": FileKind("a NumPy archive", _EXPORT),
    b"": FileKind("a ZIP archive", ""),
}
"""Kinds of ZIP archives, by what the names of their members contain; the first that fits."""


def recognize(source: Source) -> FileKind | None:
    """Tell what a file is, by its first bytes; None where nobody knows."""
    head = source.read(0, min(_HEAD, source.size))
    if not head:
        return FileKind("an empty file", "")
    if head.startswith(b"PK\3\4"):
        size = min(_TAIL, source.size)
        names = head + source.read(source.size - size, size)
        return next(kind for name, kind in _MEMBERS.items() if name in names)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= source.size - 8:
        return SAFETENSORS
    if head[0] == 8 and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x3a"):
        return FileKind("an ONNX model", _EXPORT)
    return next((kind for start, kind in _BEGINNINGS.items() if head.startswith(start)), None)


@contextlib.contextmanager
def naming_kind(source: Source) -> Iterator[None]:
    """Say in a `FormatError` that this is another kind of file than a stream, where it is one."""
    try:
        yield
    except FormatError:
        kind = recognize(source)
        if kind is None or kind is STREAM:
            raise
        what = f"not an NNCodec stream but {kind.what}"
        raise FormatError(what, hint=kind.hint) from None
