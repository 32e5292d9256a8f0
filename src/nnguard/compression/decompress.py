"""From a stream back to a model.

arrays = nnguard.decompress("model.nnc")
nnguard.decompress_to_file("model.nnc", "model.safetensors")
for name, array in nnguard.iter_tensors("model.nnc"):
    ...

Nothing here is verified: `nnguard.torch.load` and `nnguard.verify` do that.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnguard.compression.decoding import DecodeJob, Target, decode_jobs
from nnguard.compression.workers import Batch, Crew, crew, largest_first, make_batches, run
from nnguard.errors import FormatError, LimitError
from nnguard.files import write_atomically
from nnguard.models.safetensors import lay_out
from nnguard.models.tensors import FilePart, InMemory, Values
from nnguard.sharing import SharedFile
from nnguard.stream import Stream, StreamLike, as_stream
from nnguard.stream.formats import Array, TensorType, read_topology
from nnguard.stream.headers import TensorHeader, UnitKind
from nnguard.stream.source import FileSource

__all__ = [
    "MAX_WEIGHTS",
    "CodedTensor",
    "as_array",
    "coded_tensors",
    "decode_tensors",
    "decompress",
    "decompress_to_file",
    "iter_tensors",
]

MAX_WEIGHTS = 1 << 30
"""Tensors of more weights are not decoded unless the caller says so: 4 GiB."""

_MAX_EXTENT = 1 << 59
"""Product of the dimensions of an empty tensor but its zeros, at most: NumPy's own limit."""

_ALIGNMENT = 64
"""Arrays in shared memory begin at multiples of this."""

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class CodedTensor:
    """A tensor of a stream that can be decoded.

    Attributes:
        unit: Position of its unit in the stream.
        header: The unit's header.
        type: What the tensor was before it was coded.
        shape: The shape that it had.
    """

    unit: int
    header: TensorHeader
    type: TensorType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.type.format.dtype.itemsize


def decompress(
    stream: StreamLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    max_weights: int = MAX_WEIGHTS,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Decode all tensors of a stream.

    Args:
        stream: A stream or the path of one. It is not verified.
        workers: Processes that decode side by side; as many as there are processors, if None.
            Small models are decoded in this process.
        executor: Decodes tensors instead, here or on other machines; see `compress`.
        max_weights: Refuse streams with a tensor of more weights than this.
        progress: Called with a number of bytes whenever so many more were decoded.

    Returns:
        Names to arrays, in the stream's order, with the formats and shapes that went in. Those of
        a stream by the stock encoder are float32 and int32.

    Raises:
        FormatError: The stream is damaged, or uses tools of the standard that are not decoded.
        LimitError: A tensor is too large.
        WorkerError: A worker died.
    """
    stream = as_stream(stream)
    tensors = coded_tensors(stream, max_weights)
    values = decode_tensors(stream, tensors, workers, executor, progress)
    return {
        tensor.header.name: as_array(tensor, flat)
        for tensor, flat in zip(tensors, values, strict=True)
    }


def iter_tensors(
    stream: StreamLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    max_weights: int = MAX_WEIGHTS,
) -> Iterator[tuple[str, Array]]:
    """Decode a stream tensor by tensor, in its order; memory holds a few tensors at a time.

    Args and errors are those of `decompress`. Closing the iterator stops the workers.
    """
    stream = as_stream(stream)
    tensors = coded_tensors(stream, max_weights)
    batches = _batches(tensors)
    with crew(batches, workers, executor, decoding=True) as team:
        units = _Units(stream, team)
        regions: dict[Batch, _Region] = {}

        def prepare(batch: Batch) -> tuple[list[DecodeJob], object]:
            chosen = [tensors[position] for position in batch.positions]
            targets: Sequence[Target | None] = [None] * len(chosen)
            if team.executor is not None and team.shares_files:
                regions[batch] = _Region(chosen)
                targets = regions[batch].targets
            pairs = zip(chosen, targets, strict=True)
            return [units.job(tensor, target) for tensor, target in pairs], units

        for batch, values in run(team, batches, prepare, decode_jobs, in_order=True):
            region = regions.pop(batch, None)
            for index, position in enumerate(batch.positions):
                flat = values[index] if region is None else region.array(index)
                assert flat is not None
                yield tensors[position].header.name, as_array(tensors[position], flat)


def decompress_to_file(
    stream: StreamLike,
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    max_weights: int = MAX_WEIGHTS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Decode all tensors of a stream to a safetensors file, straight into their places.

    Args:
        stream: A stream or the path of one. It is not verified.
        path: The file to make.
        workers: See `decompress`.
        executor: See `decompress`.
        max_weights: See `decompress`.
        overwrite: Replace a file that is there already.
        progress: See `decompress`.

    Raises:
        FileExistsError: The file exists and `overwrite` is false.
        OSError: The file cannot be written; nothing is left behind.
        FormatError: See `decompress`.
        LimitError: See `decompress`.
        WorkerError: See `decompress`.
    """
    stream = as_stream(stream)
    tensors = coded_tensors(stream, max_weights)
    layout = lay_out([(tensor.header.name, tensor.type.format, tensor.shape) for tensor in tensors])

    def write(file: BinaryIO) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, layout.size)  # a full disk shows here
        else:
            os.truncate(file.fileno(), layout.size)
        place = SharedFile(os.dup(file.fileno()), str(file.name))
        place.write(layout.header, 0)
        _decode_into(place, layout.offsets, stream, tensors, workers, executor, progress)

    write_atomically(Path(path), write, overwrite=overwrite)


def coded_tensors(stream: Stream, max_weights: int) -> list[CodedTensor]:
    """Return the tensors of a stream, from headers alone.

    Raises:
        FormatError: One cannot be decoded, or two have the same name.
        LimitError: One is too large.
    """
    positions = [at for at, unit in enumerate(stream) if unit.kind in (UnitKind.NDU, UnitKind.AGG)]
    headers: list[TensorHeader] = []
    for at in positions:
        header = stream.coded_tensor(at)
        if header is None:
            raise FormatError(
                f"unit {stream[at].name} uses tools of the standard that nnguard does not decode",
                offset=stream[at].offset,
                hint="decode it with the nncodec package",
            )
        if header.size > max_weights:
            raise LimitError(f"tensor {header.name} has {header.size} weights; limit {max_weights}")
        if math.prod(size for size in header.shape if size) > _MAX_EXTENT:
            raise FormatError(f"tensor {header.name} has dimensions that no array can have")
        headers.append(header)
    if len({header.name for header in headers}) != len(headers):
        raise FormatError("two tensors of the stream have the same name")
    return [
        CodedTensor(at, header, kind, kind.shape_of(header))
        for at, header, kind in zip(positions, headers, read_topology(stream, headers), strict=True)
    ]


def decode_tensors(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    workers: int | None,
    executor: Executor | None,
    progress: Progress | None,
) -> list[Array]:
    """Return the values of tensors, flat, in the memory form of their formats."""
    _check_memory(tensors)
    found: list[Array | None] = [None] * len(tensors)
    batches = largest_first(_batches(tensors))
    with crew(batches, workers, executor, decoding=True) as team:
        in_processes = team.executor is not None and team.shares_files
        region = _Region(tensors) if in_processes else None
        prepare = _preparing(
            _Units(stream, team), tensors, None if region is None else region.targets
        )
        for batch, values in run(team, batches, prepare, decode_jobs):
            for position, flat in zip(batch.positions, values, strict=True):
                found[position] = flat if region is None else region.array(position)
            _tell(progress, tensors, batch)
    return [flat for flat in found if flat is not None]


def _check_memory(tensors: Sequence[CodedTensor]) -> None:
    """Refuse what this machine could not hold, before any of it is taken."""
    needed = sum(tensor.nbytes for tensor in tensors)
    if "SC_PHYS_PAGES" in os.sysconf_names:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > available:
            raise LimitError(
                f"the tensors take {needed} bytes; this machine has {available}",
                hint="decode them to a file, or one by one",
            )


def as_array(tensor: CodedTensor, values: Array) -> Array:
    """Return a tensor's values as an array of its shape and dtype."""
    if tensor.type.format.name == "bfloat16":
        import ml_dtypes

        values = values.view(ml_dtypes.bfloat16)
    return values.reshape(tensor.shape)


def _decode_into(
    file: SharedFile,
    offsets: Sequence[int],
    stream: Stream,
    tensors: Sequence[CodedTensor],
    workers: int | None,
    executor: Executor | None,
    progress: Progress | None,
) -> None:
    batches = largest_first(_batches(tensors))
    with crew(batches, workers, executor, decoding=True) as team:
        targets = [Target(file.path, offset) for offset in offsets] if team.shares_files else None
        prepare = _preparing(_Units(stream, team), tensors, targets)
        for batch, values in run(team, batches, prepare, decode_jobs):
            for position, flat in zip(batch.positions, values, strict=True):
                if flat is not None:
                    file.write(flat, offsets[position])
            _tell(progress, tensors, batch)


def _preparing(
    units: _Units, tensors: Sequence[CodedTensor], targets: Sequence[Target] | None
) -> Callable[[Batch], tuple[list[DecodeJob], object]]:
    def prepare(batch: Batch) -> tuple[list[DecodeJob], object]:
        return [
            units.job(tensors[position], None if targets is None else targets[position])
            for position in batch.positions
        ], units

    return prepare


class _Units:
    """Where workers read the units of a stream: in its file, or in what they are sent."""

    def __init__(self, stream: Stream, team: Crew) -> None:
        self._stream = stream
        self._files: dict[int, SharedFile] = {}
        if team.shares_files:
            sources = {id(unit.source): unit.source for unit in stream}
            for key, source in sources.items():
                if isinstance(source, FileSource):
                    self._files[key] = SharedFile(os.dup(source.descriptor), "")

    def job(self, tensor: CodedTensor, target: Target | None) -> DecodeJob:
        """Return the job of decoding a tensor."""
        unit = self._stream[tensor.unit]
        file = self._files.get(id(unit.source))
        where: Values
        if file is not None and file.path:
            where = FilePart(file.path, unit.offset, np.dtype(np.uint8))
        else:
            where = InMemory(np.frombuffer(unit.read(), np.uint8))
        return DecodeJob(tensor.header, tensor.type, where, unit.size, target)


def _batches(tensors: Sequence[CodedTensor]) -> list[Batch]:
    return make_batches([tensor.header.size for tensor in tensors])


def _tell(progress: Progress | None, tensors: Sequence[CodedTensor], batch: Batch) -> None:
    if progress is not None:
        progress(sum(tensors[position].nbytes for position in batch.positions))


class _Region:
    """Memory that workers decode into, and the arrays that it then holds."""

    def __init__(self, tensors: Sequence[CodedTensor]) -> None:
        offsets = []
        end = 0
        for tensor in tensors:
            offsets.append(end)
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._tensors = tensors
        self._file = SharedFile.in_memory(max(end, 1))
        self._pages = mmap.mmap(self._file.descriptor, max(end, 1))
        self.targets = [Target(self._file.path, offset) for offset in offsets]

    def array(self, index: int) -> Array:
        """Return the values of a tensor; they keep all of the region's memory alive."""
        form, size = self._tensors[index].type.format, math.prod(self._tensors[index].shape)
        return np.frombuffer(self._pages, form.dtype, size, self.targets[index].offset)
