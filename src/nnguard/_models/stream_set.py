"""A folder of streams and its index: a model in several files.

Nothing is verified here, but that the index, which is not signed, says where the tensors are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nnguard._base.files import make_folder_atomically
from nnguard._models.coded import CodedTensor, coded_tensors
from nnguard._models.index import is_set, read_index, write_index
from nnguard._stream import Stream, StreamLike
from nnguard.errors import FormatError, NnguardError, VerificationError

__all__ = [
    "STREAM_INDEX",
    "Folder",
    "StreamSet",
    "as_model",
    "as_set",
    "check_index",
    "is_ours",
    "naming",
    "open_model",
    "some_of",
]

STREAM_INDEX = "model.nnc.index.json"
is_ours = partial(is_set, suffix=".nnc")
"""Tells whether a folder holds streams and their index, and nothing else."""

Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class StreamSet:
    """The streams of a folder, in the order of their names.

    Attributes:
        weight_map: Name of the file that holds each tensor, as the index says.
        streams: Names of the files to their streams.
    """

    weight_map: Mapping[str, str]
    streams: Mapping[str, Stream]

    @classmethod
    def open(cls, folder: Folder, *, in_memory: bool = False) -> StreamSet:
        """Index the streams that the folder's index lists.

        Args:
            folder: The folder.
            in_memory: Read the files whole, so that what is verified is what is used.

        Raises:
            FormatError: The index or a stream is malformed.
            VerificationError: A file is missing, or there is a stream or a folder that the index
                does not list.
            OSError: The folder cannot be read.
        """
        folder = Path(folder)
        weight_map = read_index(folder, ".nnc", FormatError)
        names = sorted(set(weight_map.values()))
        present = {path.name for path in folder.iterdir() if _may_hold_streams(path)}
        if missing := set(names) - present:
            raise VerificationError(f"shards are missing: {some_of(missing)}")
        if stray := present - set(names):
            raise VerificationError(f"not part of the set: {some_of(stray)}")

        def opened(path: Path) -> Stream:
            with naming(path.name):
                stream = Stream.open(path)
                return stream.in_memory() if in_memory else stream

        return cls(weight_map, {name: opened(folder / name) for name in names})

    @classmethod
    def of(cls, streams: Mapping[str, Stream]) -> StreamSet:
        """Make a set of streams, by the names of their files.

        Raises:
            FormatError: A stream has a tensor that is not decoded here, or two have one of a name.
        """
        ordered = dict(sorted(streams.items()))
        tensors = _tensors_of(ordered)
        weight_map = {tensor.header.name: name for tensor, name in tensors}
        if len(weight_map) < len(tensors):
            raise FormatError("two shards have a tensor of one name")
        return cls(weight_map, ordered)

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(stream.size for stream in self.streams.values())

    def save(
        self,
        folder: Folder,
        *,
        overwrite: bool = False,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Write the streams and their index to a folder: a temporary one that is then renamed.

        Args:
            folder: The folder to make.
            overwrite: Replace a folder that is there already.
            before: Called when all is written, just before the folder gets its name.

        Raises:
            FileExistsError: The folder exists and `overwrite` is false, or it holds something else
                than shards and their index.
            VerificationError: What was written is not what was verified; nothing is left behind.
            OSError: It cannot be written; nothing is left behind.
        """
        with make_folder_atomically(
            Path(folder), overwrite=overwrite, is_ours=is_ours
        ) as temporary:
            for name, stream in self.streams.items():
                stream.save(temporary / name)
            if any(stream.is_pinned for stream in self.streams.values()):
                self._check_map(temporary)
            write_index(temporary / STREAM_INDEX, self.weight_map)
            before()

    def _check_map(self, folder: Path) -> None:
        """Compare the map, made of headers when files were opened, with what was written since."""
        written = {name: Stream.open(folder / name) for name in self.streams}
        check_index(replace(self, streams=written), VerificationError)


def open_model(path: Folder) -> Stream | StreamSet:
    """Open a stream, or a folder of streams.

    Raises:
        NnguardError: See `Stream.open` and `StreamSet.open`.
    """
    return StreamSet.open(path) if Path(path).is_dir() else Stream.open(path)


def as_set(streams: StreamSet | Folder) -> StreamSet:
    """Return the set itself, or the one in the folder of this path."""
    return streams if isinstance(streams, StreamSet) else StreamSet.open(streams)


def as_model(model: StreamLike | StreamSet) -> Stream | StreamSet:
    """Return the stream or the set itself, or the one at this path."""
    return model if isinstance(model, Stream | StreamSet) else open_model(model)


def check_index(
    streams: StreamSet, error: type[FormatError] | type[VerificationError]
) -> list[CodedTensor]:
    """Check that the index, which is not signed, is the one that the shards make.

    Returns:
        The tensors of all shards.
    """
    tensors = _tensors_of(streams.streams)
    files = {tensor.header.name: file for tensor, file in tensors}
    if len(files) != len(tensors) or files != dict(streams.weight_map):
        raise error("the index does not say where the tensors are")
    return [tensor for tensor, _ in tensors]


@contextlib.contextmanager
def naming(file: str) -> Iterator[None]:
    """Say in errors which file they are about."""
    try:
        yield
    except NnguardError as error:
        if file:
            error.args = (f"{file}: {error}",)
        raise


def some_of(names: Iterable[str]) -> str:
    """Return a few names to show, whatever bytes a file system has for them."""
    return ", ".join(sorted(names)[:5]).encode(errors="backslashreplace").decode()


def _may_hold_streams(path: Path) -> bool:
    """Tell whether a loader could find a stream here, by a name in capitals or in a folder, too."""
    return path.name.lower().endswith(".nnc") or path.is_dir()


def _tensors_of(streams: Mapping[str, Stream]) -> list[tuple[CodedTensor, str]]:
    """Return all tensors of a set, each with the name of its file."""
    tensors: list[tuple[CodedTensor, str]] = []
    for file, stream in streams.items():
        with naming(file):
            tensors += [(tensor, file) for tensor in coded_tensors(stream)]
    return tensors
