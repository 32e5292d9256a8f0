"""NNCodec streams as immutable sequences of units.

`Stream.open` indexes a file from its units' headers alone, in time linear in their number.
Replacing a unit gives a new stream that shares all others. Law: what was read is written back byte
for byte.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from nnguard._base.arguments import as_path
from nnguard._base.files import write_all, write_atomically
from nnguard._base.progress import Progress
from nnguard._stream.hashing import UnitDigests, pieces, runs
from nnguard._stream.headers import (
    ModelParameters,
    TensorHeader,
    UnitKind,
    parse_model_parameters,
    parse_tensor_header,
)
from nnguard._stream.kinds import naming_kind
from nnguard._stream.source import FileSource, MemorySource, Source, check_memory
from nnguard._stream.units import Place, Unit, read_unit, replaced
from nnguard.errors import FormatError, LimitError

__all__ = ["MAX_UNITS", "Stream", "begins_a_stream"]

_ALWAYS_UNITS = 1 << 15
_BYTES_PER_UNIT = 32
"""More units than that have so many bytes on average; those of tensors with names have more."""

MAX_UNITS = 1 << 20
"""Units of a stream, at most; some 200 MB of index."""

_HEADER_LIMIT = 1 << 16
"""No unit header that nnguard parses is longer than this."""

_LONG_HEADER_LIMIT = 1 << 21
"""But for those with entry points, when they are to be decoded."""


class Stream:
    """An NNCodec stream (ISO/IEC 15938-17): units in a row over a file or bytes.

    Immutable. Make one with `open` or `from_bytes`.

    Examples:
        >>> stream = nnguard.Stream.open("model.nnc")
        >>> stream.size
        50612
        >>> stream.save("copy.nnc")
    """

    __slots__ = ("_model", "_units")

    def __init__(self, units: tuple[Unit, ...], model: ModelParameters | None) -> None:
        self._units = units
        self._model = model

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Stream:
        """Index the stream in a file.

        Raises:
            FormatError: The file is not a well-formed stream; the error has the offset.
            OSError: The file cannot be read.
        """
        return cls._index_whole(FileSource(path))

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Stream:
        """Index a stream in memory.

        Raises:
            FormatError: The bytes are not a well-formed stream; the error has the offset.
        """
        return cls._index_whole(MemorySource(data))

    @classmethod
    def gather(cls, places: Sequence[Place]) -> Stream:
        """Index units that lie scattered.

        Args:
            places: What holds each unit and where it begins there, in the order of the stream.

        Raises:
            FormatError: Together they are not a well-formed stream.
            LimitError: They are more units than a stream may have.
        """
        size = sum(source.size for source in {source for source, _ in places})
        return cls._index(places, [], size)

    @classmethod
    def _index_whole(cls, source: Source) -> Stream:
        units: list[Unit] = []
        with naming_kind(source):
            return cls._index(_in_a_row(source, units), units, source.size)

    @classmethod
    def _index(cls, places: Iterable[Place], units: list[Unit], size: int) -> Stream:
        model: ModelParameters | None = None
        profile = 0
        most = min(MAX_UNITS, max(_ALWAYS_UNITS, size // _BYTES_PER_UNIT))
        for source, offset in places:
            if not units and not begins_a_stream(source, offset):
                raise FormatError("not an NNCodec stream: no start unit", offset=offset)
            unit, fields_at, head = read_unit(source, offset, len(units))
            if len(units) == most:
                raise LimitError(f"the stream has more than {most} units in {size} bytes")
            if not units:
                profile = head[fields_at]
            elif unit.kind == UnitKind.STR:
                raise FormatError("second start unit", offset=offset)
            elif unit.kind == UnitKind.MPS and fields_at:
                if model is not None:
                    raise FormatError("second model parameter set", offset=offset)
                data = source.read(offset, min(unit.size, _HEADER_LIMIT))
                model = parse_model_parameters(data[fields_at:], profile, offset + fields_at)
            elif unit.kind == UnitKind.LPS:
                # A layer parameter set changes the quantization of what follows: leave it alone.
                model = None if model is None else _without_quantization(model)
            elif unit.kind == UnitKind.NDU and fields_at:
                if model is None:
                    raise FormatError("data before the model parameter set", offset=offset)
                unit = _with_tensor(unit, fields_at, head, model)
            units.append(unit)
        return cls(tuple(units), model)

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units in order."""
        return self._units

    @property
    def size(self) -> int:
        """Bytes of the whole stream."""
        return sum(unit.size for unit in self._units)

    def __len__(self) -> int:
        return len(self._units)

    def __iter__(self) -> Iterator[Unit]:
        return iter(self._units)

    def __getitem__(self, index: int) -> Unit:
        return self._units[index]

    def __bytes__(self) -> bytes:
        return b"".join(unit.read() for unit in self._units)

    def __repr__(self) -> str:
        return f"<nnguard.Stream of {len(self)} units, {self.size} bytes>"

    def pinned(self, digests: Sequence[bytes]) -> Stream:
        """Return the stream, which from now on is refused where its file is not what was verified.

        Args:
            digests: SHA-256 of every unit.
        """
        units = (
            unit if isinstance(unit.source, MemorySource) else replace(unit, digest=digest)
            for unit, digest in zip(self._units, digests, strict=True)
        )
        return Stream(tuple(units), self._model)

    def in_memory(self) -> Stream:
        """Return the stream with its bytes, and its headers as they are read from them, in memory.

        Raises:
            LimitError: They do not fit into it.
            VerificationError: They have changed since they were verified.
        """
        check_memory(self.size, hint="verify the file where it lies")
        return Stream.from_bytes(bytes(self))

    @property
    def is_pinned(self) -> bool:
        """Tell whether there are units that are compared with what was verified."""
        return any(unit.digest is not None for unit in self._units)

    def replace(self, units: Mapping[int, bytes]) -> Stream:
        """Return a stream in which the tensors at some positions have another payload.

        Args:
            units: Position in the stream to the whole unit's new bytes. All but the size field and
                the payload stays as it is.

        Raises:
            ValueError: The bytes are not one unit with the same header.
        """
        changed = list(self._units)
        for index, data in units.items():
            changed[index] = replaced(self._units[index], data)
        return Stream(tuple(changed), self._model)

    def coded_tensor(self, index: int, *, with_entry_points: bool = True) -> TensorHeader | None:
        """Return the header of a tensor that nnguard can decode, though it may carry nothing.

        The unit itself has none where the scan order is above 0, or the tensor is empty. Entry
        points, of which there can be hundreds of thousands, are not needed to describe a tensor.

        Raises:
            FormatError: The header is damaged.
        """
        unit = self._units[index]
        if unit.tensor is not None or self._model is None or unit.kind != UnitKind.NDU:
            return unit.tensor
        _, fields_at, _ = read_unit(unit.source, unit.offset, index)
        if not fields_at:
            return None
        for limit in (_HEADER_LIMIT, _LONG_HEADER_LIMIT):
            data = unit.source.read(unit.offset, min(limit, unit.size))
            try:
                return parse_tensor_header(
                    data,
                    fields_at,
                    self._model,
                    unit.offset,
                    carriers_only=False,
                    with_entry_points=with_entry_points,
                )[1]
            except FormatError:
                if len(data) == unit.size or limit == _LONG_HEADER_LIMIT:
                    raise
        return None

    def start_hashing(
        self, progress: Progress | None = None, *, whole: bool = False
    ) -> UnitDigests:
        """Start to hash every unit, in parallel and in the background.

        Args:
            progress: Called with the number of bytes hashed since the last call.
            whole: Hash the file, too.
        """
        return UnitDigests(self._units, progress, whole=whole)

    def sha256_of_units(self) -> list[bytes]:
        """Return the SHA-256 of every unit, hashed in parallel."""
        with self.start_hashing() as digests:
            return digests.result()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the stream to a file: to a temporary one that is synced and renamed.

        Args:
            path: The file to make. It may be the one that this stream was opened from.
            overwrite: Replace a file that is there already.

        Raises:
            FileExistsError: The file exists and `overwrite` is false.
            VerificationError: What was written is not what was verified; nothing is left behind.
            OSError: The file cannot be written; nothing is left behind.
        """
        write_atomically(as_path(path), self._write, overwrite=overwrite)

    def save_hashed(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> bytes:
        """Write the stream to a file; return the SHA-256 of what was written. See `save`."""
        found: list[bytes] = []
        write_atomically(
            as_path(path), lambda file: found.append(self._write_hashed(file)), overwrite=overwrite
        )
        return found[0]

    def spooled(self, folder: str | os.PathLike[str]) -> Stream:
        """Return the stream with its bytes in a temporary file, which has no name.

        Raises:
            VerificationError: What was written is not what was verified.
            OSError: The file cannot be written.
        """
        with tempfile.TemporaryFile(prefix=".nnguard.", dir=folder, buffering=0) as file:
            self._write(file)
            return Stream._index_whole(FileSource(file.fileno()))

    def _write(self, file: BinaryIO) -> None:
        if not self.is_pinned:
            for source, offset, size in runs(self._units):
                source.copy(offset, size, file)
            return
        with UnitDigests(self._units, copy_to=file.fileno()) as written:
            self._check(written)

    def _write_hashed(self, file: BinaryIO) -> bytes:
        if not self.is_pinned:
            digest = hashlib.sha256()
            for data in pieces(self._units):
                digest.update(data)
                write_all(file, data)
            return digest.digest()
        with UnitDigests(self._units, copy_to=file.fileno(), whole=True) as written:
            self._check(written)
            return written.of_file()

    def _check(self, written: UnitDigests) -> None:
        """Compare what was written with what was verified."""
        for unit, digest in zip(self._units, written.result(), strict=True):
            unit.check(digest)


def _in_a_row(source: Source, units: Sequence[Unit]) -> Iterator[Place]:
    """Yield where the next unit begins, for as long as units are found."""
    yield source, 0
    while (offset := units[-1].offset + units[-1].size) < source.size:
        yield source, offset


def begins_a_stream(source: Source, offset: int) -> bool:
    """Tell whether a whole start unit stands first: size, kind, profile."""
    left = source.size - offset
    head = source.read(offset, min(4, left))
    if len(head) < 4 or head[0] & 0x80 or not 4 <= int.from_bytes(head[:2], "big") <= left:
        return False
    return head[2] >> 2 == UnitKind.STR and not head[2] & 1


def _with_tensor(unit: Unit, fields_at: int, head: bytes, model: ModelParameters) -> Unit:
    try:
        name, tensor = parse_tensor_header(head, fields_at, model, unit.offset)
    except FormatError:
        if len(head) == unit.size or len(head) >= _HEADER_LIMIT:
            raise
        longer = unit.source.read(unit.offset, min(_HEADER_LIMIT, unit.size))
        name, tensor = parse_tensor_header(longer, fields_at, model, unit.offset)
    return Unit(unit.source, unit.offset, unit.size, unit.kind, name or unit.name, tensor)


def _without_quantization(model: ModelParameters) -> ModelParameters:
    return ModelParameters(model.profile, None, 0, model.indexed_names, model.parent_signalling)
