"""From a model to a stream, or from a folder of shards to a set of streams.

model = nnguard.compress("model.safetensors", nnguard.Settings(qp=-38))
model.save("model.nnc")
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, overload

from nnguard._base.arguments import check_type, is_folder
from nnguard._base.files import write_all
from nnguard._base.progress import Progress
from nnguard._base.workers import Call, Workers
from nnguard._compression.batches import Batch, largest_first, make_batches
from nnguard._compression.encoding import EncodeJob, encode_jobs, leading_units
from nnguard._compression.settings import Settings
from nnguard._models.formats import write_topology
from nnguard._models.index import map_weights
from nnguard._models.side_files import find_files, list_files
from nnguard._models.sources import HasStateDict, WeightsLike, open_weights
from nnguard._models.stream_set import Model, StreamSet
from nnguard._models.tensors import InMemory
from nnguard._stream import Stream
from nnguard._stream.source import FileSource, MemorySource, Source
from nnguard.errors import ModelError

__all__ = ["compress"]

_OTHER_FORMS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".gguf", ".h5", ".msgpack"),
    *(".safetensors.index.json", ".bin.index.json"),
)
"""How names of files end that hold the model once more, or say where its tensors were."""


@overload
def compress(
    model: Mapping[str, Any] | HasStateDict,
    settings: Settings | None = ...,
    *,
    workers: int | None = ...,
    executor: Executor | None = ...,
    spool: str | os.PathLike[str] | None = ...,
    progress: Progress | None = ...,
) -> Stream: ...
@overload
def compress(
    model: str | os.PathLike[str],
    settings: Settings | None = ...,
    *,
    workers: int | None = ...,
    executor: Executor | None = ...,
    spool: str | os.PathLike[str] | None = ...,
    progress: Progress | None = ...,
) -> Model: ...


def compress(
    model: WeightsLike,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Model:
    """Compress a model to an NNCodec stream.

    Floating-point tensors are quantized; integers and booleans are kept as they are. The stream
    tells number formats and scalars, so that `decompress` gives them back; the stock decoder gives
    float32 or int32, and scalars as arrays of one element.

    Args:
        model: Names to NumPy arrays or PyTorch tensors, a PyTorch module, or the path of a
            safetensors file, of a PyTorch checkpoint, or of a folder with one safetensors file, or
            with several and their index. A checkpoint with code in it is refused.
        settings: How tensors are quantized and coded.
        workers: Threads that code side by side; as many as there are processors, if None.
        executor: Codes tensors instead, here or on other machines, from `concurrent.futures`, Dask
            and others. Tensors are sent to it by value: it has `workers` tasks in hand at a time,
            twice as many as this machine has processors, if None.
        spool: Folder for temporary files that hold the units; in memory, if None.
        progress: Called with the number of bytes of the model coded since the last call.

    Returns:
        The stream, which every NNCodec decoder reads; of a folder, a set of streams, with the
        files beside the shards (configuration, tokenizer). Those that it leaves out are its
        `others`: hidden ones, and models in other forms.

    Raises:
        ModelError: The model cannot be read; an index does not fit its shards; a tensor has NaN,
            infinity, or a format that is not coded.
        WorkerError: A worker died.
        OSError: A file cannot be read or written.
        ArgumentError: The settings name tensors that are not there.

    Examples:
        >>> model = nnguard.compress("model.safetensors", nnguard.Settings(qp=-32))
        >>> model.save("finer.nnc")
    """
    settings = Settings() if settings is None else settings
    check_type(settings, Settings, "settings")
    who = Workers(workers, executor)
    if is_folder(model):
        return _compress_folder(Path(model), settings, spool, who, progress)
    return _compress(model, settings, spool, who, progress)


def _compress_folder(
    folder: Path,
    settings: Settings,
    spool: str | os.PathLike[str] | None,
    workers: Workers,
    progress: Progress | None,
) -> StreamSet:
    """Compress the shards of a folder one after the other."""
    weight_map = map_weights(folder)
    settings.check_names(weight_map)
    streams: dict[str, Stream] = {}
    for file in sorted(set(weight_map.values())):
        names = {tensor.name for tensor in open_weights(folder / file)}
        if names != {name for name, where in weight_map.items() if where == file}:
            raise ModelError(f"the index of {folder} does not list the tensors of {file}")
        own = {name: qp for name, qp in settings.qp_per_tensor.items() if name in names}
        streams[Path(file).stem + ".nnc"] = _compress(
            folder / file, replace(settings, qp_per_tensor=own), spool, workers, progress
        )
    beside = [name for name in list_files(folder) if name not in weight_map.values()]
    kept = [name for name in beside if not name.lower().endswith(_OTHER_FORMS)]
    files = find_files(folder, kept)
    left_out = tuple(name for name in beside if name not in files)
    return replace(StreamSet.of(streams), files=files, others=left_out)


def _compress(
    model: WeightsLike,
    settings: Settings,
    spool: str | os.PathLike[str] | None,
    workers: Workers,
    progress: Progress | None,
) -> Stream:
    tensors = open_weights(model)
    settings.check_names({tensor.name for tensor in tensors})
    leading = leading_units(settings, write_topology([tensor.type for tensor in tensors]))
    batches = largest_first(make_batches([tensor.size for tensor in tensors]))
    with workers.pool(len(batches)) as pool, _Spool(leading, spool) as units:

        def job(position: int) -> EncodeJob:
            tensor = tensors[position]
            values = tensor.values
            if pool.remote:
                values = InMemory(values.read(0, tensor.size))
            return EncodeJob(tensor.name, tensor.type, tensor.shape, values, position, settings)

        def call(batch: Batch) -> Call[list[bytes]]:
            jobs = [job(position) for position in batch.positions]
            return encode_jobs, (jobs,) if pool.remote else (jobs, pool.check)

        for number, coded in pool.run(map(call, batches)):
            positions = batches[number].positions
            units.add(positions[0], coded)
            if progress is not None:
                progress(sum(tensors[position].nbytes for position in positions))
        return units.gather()


class _Spool:
    """Units as they come, and the stream that they make in the end."""

    def __init__(self, leading: bytes, folder: str | os.PathLike[str] | None) -> None:
        self._leading = leading
        self._file: BinaryIO | None = None
        if folder is not None:
            self._file = tempfile.TemporaryFile(prefix=".nnguard.", dir=folder, buffering=0)  # noqa: SIM115
        self._in_memory: list[bytes] = []
        self._runs: dict[int, list[int]] = {}
        self._end = 0
        self._add(leading)

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, position: int, units: Sequence[bytes]) -> None:
        """Add units that follow each other from a position on."""
        self._runs[position] = [self._add(unit) for unit in units]

    def gather(self) -> Stream:
        """Return the stream of all units in order."""
        source: Source
        if self._file is not None:
            source = FileSource(self._file.fileno())
        else:
            source = MemorySource(b"".join(self._in_memory))
            self._in_memory = []
        first = Stream.from_bytes(self._leading)
        offsets = [unit.offset for unit in first]
        for position in sorted(self._runs):
            offsets += self._runs[position]
        return Stream.gather([(source, offset) for offset in offsets])

    def _add(self, data: bytes) -> int:
        start, self._end = self._end, self._end + len(data)
        if self._file is None:
            self._in_memory.append(data)
        else:
            write_all(self._file, data)
        return start
