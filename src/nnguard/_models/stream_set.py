"""A folder of streams, its index, and the files beside them: a model in several files.

Nothing is verified here, but that the index, which is not signed, says where the tensors are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from nnguard._base.arguments import as_path, is_folder
from nnguard._base.atomic import make_folder_atomically
from nnguard._base.mappings import EMPTY
from nnguard._base.texts import shown
from nnguard._base.workers import in_order
from nnguard._models.coded import CodedTensor, coded_tensors
from nnguard._models.index import is_set, read_index, write_index
from nnguard._models.side_files import SideFile, find_files, list_files
from nnguard._stream import Stream, StreamLike, as_stream
from nnguard.errors import FormatError, NnguardError, VerificationError

__all__ = [
    "STREAM_INDEX",
    "Folder",
    "Model",
    "ModelLike",
    "StreamSet",
    "as_model",
    "check_index",
    "is_ours",
    "naming",
    "some_of",
    "streams_of",
]

STREAM_INDEX = "model.nnc.index.json"
_RELEASE = "release"
"""Folder in that of a trial, for the files beside the release that the trial carries."""

is_ours = partial(is_set, suffix=".nnc")
"""Tells whether a folder holds streams and their index, and nothing else."""

Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class StreamSet:
    """The streams of a folder, in the order of their names.

    Attributes:
        weight_map: Name of the file that holds each tensor, as the index says.
        streams: Names of the files to their streams.
        files: Files beside the streams that the index lists: configuration, tokenizer and so on.
            A signature covers them, and `save` writes them.
        others: Names of files in the folder that are not part of the set.
        folder: Where these are.
        index: The index itself, as it was read.

    Examples:
        >>> shards = nnguard.compress("digits-hf")
        >>> shards.save("digits-streams")
        >>> sorted(nnguard.StreamSet.open("digits-streams").streams)
        ['model-00001-of-00002.nnc', 'model-00002-of-00002.nnc']
    """

    weight_map: Mapping[str, str]
    streams: Mapping[str, Stream]
    files: Mapping[str, SideFile] = EMPTY
    others: tuple[str, ...] = ()
    folder: Path | None = None
    index: SideFile | None = None

    @classmethod
    def open(cls, folder: Folder) -> StreamSet:
        """Index the streams that the folder's index lists.

        Raises:
            FormatError: The index or a stream is malformed.
            VerificationError: A file is missing, or there is a stream that the index does not list.
            LimitError: There are too many files.
            OSError: The folder cannot be read.
        """
        folder = Path(folder)
        index = read_index(folder, ".nnc", FormatError)
        names = sorted(set(index.weight_map.values()))
        present = {*list_files(folder)}
        if missing := {*names, *index.files} - present:
            raise VerificationError(f"files are missing: {some_of(missing)}")
        others = {name for name in present - {*names, *index.files} if not _is_index(name)}
        if stray := {name for name in others if name.lower().endswith(".nnc")}:
            raise VerificationError(f"not part of the set: {some_of(stray)}")
        streams: dict[str, Stream] = {}
        for name in names:
            with naming(name):
                streams[name] = Stream.open(folder / name)
        files = {name: SideFile(folder / name, digest) for name, digest in index.files.items()}
        return cls(index.weight_map, streams, files, tuple(sorted(others)), folder, index.file)

    def with_all_files(self) -> StreamSet:
        """Return the set with all files of its folder in it that may be; see `files`."""
        if self.folder is None:
            return self
        found = find_files(self.folder, self.others)
        others = tuple(name for name in self.others if name not in found)
        return replace(self, files={**self.files, **found}, others=others)

    def with_files_of(self, release: StreamSet) -> StreamSet:
        """Return the set with the files of another in a folder of its own; see `files_below`."""
        theirs = release.with_all_files().files
        below = {f"{_RELEASE}/{name}": file for name, file in theirs.items()}
        return replace(self, files={**self.files, **below})

    def files_below(self, depth: int) -> dict[str, SideFile]:
        """Return the files that `with_files_of` put in, so many times one into the other."""
        prefix = f"{_RELEASE}/" * depth
        return {
            name.removeprefix(prefix): file
            for name, file in self.files.items()
            if name.startswith(prefix)
        }

    @property
    def file_digests(self) -> dict[str, bytes]:
        """SHA-256 of the files beside the streams, as listed."""
        return {name: file.digest for name, file in self.files.items()}

    @classmethod
    def of(cls, streams: Mapping[str, Stream]) -> StreamSet:
        """Make a set of streams, by the names of their files.

        Raises:
            FormatError: A stream has a tensor that is not decoded here, or two have one of a name.
        """
        ordered = dict(sorted(streams.items()))
        weight_map = _map_of(_tensors_of(ordered))
        if weight_map is None:
            raise FormatError("two shards have a tensor of one name")
        return cls(weight_map, ordered)

    def __repr__(self) -> str:
        return f"<nnguard.StreamSet of {len(self.streams)} files, {self.size} bytes>"

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(stream.size for stream in self.streams.values())

    def in_memory(self) -> StreamSet:
        """Return the set with its bytes in memory; see `Stream.in_memory`."""
        return self._with_each(Stream.in_memory)

    def spooled(self, folder: Folder) -> StreamSet:
        """Return the set with its bytes in temporary files; see `Stream.spooled`."""
        return self._with_each(lambda stream: stream.spooled(folder))

    def _with_each(self, change: Callable[[Stream], Stream]) -> StreamSet:
        found: dict[str, Stream] = {}
        for name, stream in self.streams.items():
            with naming(name):
                found[name] = change(stream)
        return replace(self, streams=found)

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
                than a set.
            VerificationError: What was written is not what was verified; nothing is left behind.
            OSError: It cannot be written; nothing is left behind.
        """
        with make_folder_atomically(
            as_path(folder, "folder"), overwrite=overwrite, is_ours=is_ours
        ) as temporary:
            for name, stream in self.streams.items():
                stream.save(temporary / name)
            self._write_others(temporary)
            before()

    def write_hashed(self, folder: Path) -> dict[str, bytes]:
        """Write all files into a folder that is there; return the SHA-256 of each. See `save`."""

        def save_hashed(name: str) -> bytes:
            return self.streams[name].save_hashed(folder / name)

        names = [*self.streams]
        digests = dict(zip(names, in_order(save_hashed, names), strict=True))
        return {**digests, **self.file_digests, STREAM_INDEX: self._write_others(folder)}

    def _write_others(self, folder: Path) -> bytes:
        """Write the files beside the streams, and the index; return the SHA-256 of the latter."""
        if any(stream.is_pinned for stream in self.streams.values()):
            self._check_map(folder)
        for name, file in self.files.items():
            file.save(folder / name)
        return write_index(folder / STREAM_INDEX, self.weight_map, self.file_digests)

    def _check_map(self, folder: Path) -> None:
        """Compare the map, made of headers when files were opened, with what was written since."""
        written = {name: Stream.open(folder / name) for name in self.streams}
        check_index(replace(self, streams=written), VerificationError)


def as_model(model: ModelLike, name: str = "model") -> Model:
    """Return the stream or the set that an argument stands for.

    Args:
        model: The argument.
        name: What the caller calls it.

    Raises:
        NnguardError: See `Stream.open` and `StreamSet.open`.
        OSError: The file or folder cannot be read.
        TypeError: It is none of a `Stream`, a `StreamSet`, a path, bytes, or a binary file.
    """
    if isinstance(model, StreamSet):
        return model
    if is_folder(model):
        return StreamSet.open(model)
    return as_stream(model, name)


def streams_of(model: Model) -> Mapping[str, Stream]:
    """Return the streams of a model by the names of their files; a stream by itself has none."""
    return {"": model} if isinstance(model, Stream) else model.streams


def check_index(
    streams: StreamSet, error: type[FormatError] | type[VerificationError]
) -> dict[str, list[CodedTensor]]:
    """Check that the index, which is not signed, is the one that the shards make.

    Returns:
        The tensors of each shard, by the names of files.
    """
    tensors = _tensors_of(streams.streams)
    if _map_of(tensors) != dict(streams.weight_map):
        raise error("the index does not say where the tensors are")
    return tensors


Model = Stream | StreamSet
AnyModel = TypeVar("AnyModel", Stream, StreamSet)
"""A stream where a stream is given, a set where a set is."""

ModelLike = StreamLike | StreamSet
"""What verbs take for a model: besides what stands for a stream, a set, or the path of a folder."""


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
    return ", ".join(map(shown, sorted(names)[:5])).encode(errors="backslashreplace").decode()


def _is_index(name: str) -> bool:
    return "/" not in name and name.endswith(".nnc.index.json")


def _map_of(tensors: Mapping[str, list[CodedTensor]]) -> dict[str, str] | None:
    """Return which file holds each tensor; None where two have one of a name."""
    places = [(each.header.name, file) for file, found in tensors.items() for each in found]
    return dict(places) if len(dict(places)) == len(places) else None


def _tensors_of(streams: Mapping[str, Stream]) -> dict[str, list[CodedTensor]]:
    """Return the tensors of each stream of a set."""
    found: dict[str, list[CodedTensor]] = {}
    for file, stream in streams.items():
        with naming(file):
            found[file] = coded_tensors(stream)
    return found
