"""From a stream back to a model.

arrays = nnguard.decompress("model.nnc")
nnguard.decompress_to_file("model.nnc", "model.safetensors")
for name, array in nnguard.iter_tensors("model.nnc"):
    ...

Nothing here is verified: `nnguard.torch.load` and `nnguard.verify` do that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnguard._base.arguments import as_path
from nnguard._base.atomic import make_folder_atomically
from nnguard._base.files import reserve, write_at, write_atomically
from nnguard._base.progress import Progress
from nnguard._base.workers import Workers
from nnguard._compression.admission import Tensors, admit
from nnguard._compression.decoding import decode_in_order, decode_side_by_side
from nnguard._compression.foreign import decode_with_nncodec
from nnguard._models.coded import CodedTensor
from nnguard._models.formats import FORMATS, Array
from nnguard._models.index import SAFETENSORS_INDEX, is_set, write_index
from nnguard._models.safetensors import lay_out
from nnguard._models.stream_set import ModelLike, as_model
from nnguard._stream import Stream
from nnguard._stream.source import check_memory

__all__ = [
    "decompress",
    "decompress_to_file",
    "iter_tensors",
]


def decompress(
    model: ModelLike,
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Decode all tensors of a model; nothing is verified.

    Args:
        model: A stream, or a folder of shards.
        allow_trial: Decode a locked trial, too.
        workers: Threads that decode side by side; as many as there are processors, if None.
        executor: Decodes tensors instead, here or on other machines; see `compress`.
        max_size: Refuse models that decode to more bytes than this. If not given, to more than
            128 for each of their own, and 128 MiB in any case, or that take as long to decode as if
            they did; no limit, if `verified`.
        verified: You have checked the model's signature. Tools of the standard that nnguard does
            not decode (codebooks, say) are then left to the nncodec package, if it is installed.
        progress: Called with the number of bytes decoded since the last call.

    Returns:
        Names to arrays, in the stream's order, with the formats and shapes that went in. Those of
        a stream by the stock encoder are float32 and int32.

    Raises:
        FormatError: The stream is damaged, or uses tools of the standard that are not decoded; or
            the index of a folder does not fit its streams.
        LockedTrialError: It is a locked trial.
        LimitError: It decodes to too much, or it takes too long to see whether it is a trial.
        WorkerError: A worker died.

    Examples:
        >>> weights = nnguard.decompress("model.nnc")
        >>> weights["conv1.weight"].shape
        (16, 1, 3, 3)
    """
    streams = admit(model, max_size, allow_trial=allow_trial, verified=verified)
    found: dict[str, Array] = {}
    for stream, tensors in streams.values():
        if tensors is None:
            found |= decode_with_nncodec(stream)
            continue
        values = _decode_tensors(stream, tensors, Workers(workers, executor), progress)
        for tensor, flat in zip(tensors, values, strict=True):
            found[tensor.header.name] = tensor.as_array(flat)
    return found


def iter_tensors(
    model: ModelLike,
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
) -> Iterator[tuple[str, Array]]:
    """Decode a model tensor by tensor, in its order; memory holds a few tensors at a time.

    Args and errors are those of `decompress`. Closing the iterator stops the workers.

    Examples:
        >>> for name, array in nnguard.iter_tensors("model.nnc"):
        ...     print(name, array.shape)
        ...     break
        conv1.weight (16, 1, 3, 3)
    """
    streams = admit(model, max_size, allow_trial=allow_trial, verified=verified)
    for stream, tensors in streams.values():
        if tensors is None:
            yield from decode_with_nncodec(stream).items()
        else:
            yield from decode_in_order(stream, tensors, Workers(workers, executor))


def decompress_to_file(
    model: ModelLike,
    path: str | os.PathLike[str],
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Decode a stream to a safetensors file, or a folder of shards to such a folder.

    Values go straight into their places in the file. Nothing is verified.

    Args:
        model: See `decompress`.
        path: The file or the folder to make.
        allow_trial: See `decompress`.
        workers: See `decompress`.
        executor: See `decompress`.
        max_size: See `decompress`.
        verified: See `decompress`.
        overwrite: Replace a file that is there already, or a folder of shards.
        progress: See `decompress`.

    Raises:
        FileExistsError: The file exists and `overwrite` is false.
        OSError: The file cannot be written; nothing is left behind.
        NnguardError: See `decompress`.

    Examples:
        >>> nnguard.decompress_to_file("model.nnc", "restored.safetensors")
    """
    model, path = as_model(model), as_path(path)
    streams = admit(model, max_size, allow_trial=allow_trial, verified=verified)

    who = Workers(workers, executor)

    def write(stream: Stream, tensors: Tensors, path: Path, *, overwrite: bool) -> None:
        if tensors is None:
            _write_arrays(decode_with_nncodec(stream), path, overwrite=overwrite)
        else:
            _write_tensors(stream, tensors, path, who, progress, overwrite=overwrite)

    if isinstance(model, Stream):
        write(*streams[""], path, overwrite=overwrite)
        return
    files = {name: Path(name).stem + ".safetensors" for name in streams}
    with make_folder_atomically(
        path, overwrite=overwrite, is_ours=partial(is_set, suffix=".safetensors", more=model.files)
    ) as temporary:
        for name, (stream, tensors) in streams.items():
            write(stream, tensors, temporary / files[name], overwrite=False)
        for name, file in model.files.items():
            file.save(temporary / name)
        weight_map = {tensor: files[name] for tensor, name in model.weight_map.items()}
        write_index(temporary / SAFETENSORS_INDEX, weight_map)


def _write_tensors(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    path: Path,
    workers: Workers,
    progress: Progress | None,
    *,
    overwrite: bool,
) -> None:
    """Decode a stream into a safetensors file."""
    layout = lay_out([(tensor.header.name, tensor.type.format, tensor.shape) for tensor in tensors])

    def write(file: BinaryIO) -> None:
        reserve(file.fileno(), layout.size)
        write_at(file.fileno(), layout.header, 0)

        def deliver(tensor: int, start: int, values: Array) -> None:
            offset = layout.offsets[tensor] + start * values.dtype.itemsize
            write_at(file.fileno(), np.ascontiguousarray(values).view(np.uint8).data, offset)

        decode_side_by_side(stream, tensors, deliver, workers, progress)

    write_atomically(path, write, overwrite=overwrite)


def _write_arrays(arrays: dict[str, Array], path: Path, *, overwrite: bool) -> None:
    layout = lay_out([(name, FORMATS[a.dtype.name], a.shape) for name, a in arrays.items()])

    def write(file: BinaryIO) -> None:
        write_at(file.fileno(), layout.header, 0)
        for array, offset in zip(arrays.values(), layout.offsets, strict=True):
            write_at(file.fileno(), np.ascontiguousarray(array).tobytes(), offset)

    write_atomically(path, write, overwrite=overwrite)


def _decode_tensors(
    stream: Stream,
    tensors: Sequence[CodedTensor],
    workers: Workers,
    progress: Progress | None,
) -> list[Array]:
    """Return the values of tensors, flat, in the memory form of their formats."""
    needed = sum(tensor.nbytes for tensor in tensors)
    check_memory(needed, hint="decode the tensors to a file, or one by one")
    found = [np.empty(math.prod(each.shape), each.type.format.dtype) for each in tensors]

    def deliver(tensor: int, start: int, values: Array) -> None:
        found[tensor][start : start + values.size] = values

    decode_side_by_side(stream, tensors, deliver, workers, progress)
    return found
