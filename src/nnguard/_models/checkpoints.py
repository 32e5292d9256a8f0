"""PyTorch checkpoints, read without PyTorch: nothing in them runs, nothing is mapped or inflated.

`torch.load` maps a file (its members as they are, compressed or not), makes all tensors at once,
and does not tell where their values lie. Here a tensor is a place in the file, checked against the
storage that holds it and read when it is coded (`docs/adr/0018-own-checkpoints.md`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from nnguard._base.texts import shown
from nnguard._models.archive import read_members
from nnguard._models.descriptions import Dense, Mapping, OddTensor, Storage
from nnguard._models.formats import FORMATS, TensorType
from nnguard._models.pickles import Pickle
from nnguard._models.tensors import FilePart, StridedPart, Tensor, Values, check_tensor
from nnguard._stream.source import FileSource
from nnguard.errors import LimitError, ModelError, NnguardError

__all__ = ["read_checkpoint"]

_USUAL_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")
"""Where checkpoints keep the weights, beside an optimizer's state and the like."""

_MAX_PICKLE = 1 << 24
"""Bytes of a pickle, at most."""

_GROWTH = 64
"""Bytes to read for all tensors, for each byte of the file, at most; they may share storages."""

_ALWAYS = 1 << 20
"""Bytes of a tensor that may be more than its storage has; and of all, beside `_GROWTH`."""

_MAX_DIMENSIONS = 64
"""Of PyTorch's tensors."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
"""Of the format before PyTorch 1.6: pickles, then the storages."""

Place = Callable[[Storage], int]
"""Returns where a storage begins in the file; checks that it lies there."""


def read_checkpoint(path: str | os.PathLike[str]) -> list[Tensor]:
    """Return the tensors of a checkpoint; values are read when they are coded.

    The weights are the mapping from names to tensors that it is, or that it holds under a usual
    key.

    Raises:
        ModelError: It holds anything else, code included; or it is malformed.
        LimitError: It has too many tensors, or they are much larger than the file.
        OSError: It cannot be read.
    """
    file = FileSource(path)
    try:
        read = _read_archive if file.read(0, min(2, file.size)) == b"PK" else _read_legacy
        held, place, order = read(file)
        weights = _weights(held)
        tensors = [_tensor(file, name, weights[name], place, order) for name in weights]
        total, limit = sum(map(_bytes_read, tensors)), _GROWTH * file.size + _ALWAYS
        if total > limit:
            raise LimitError(f"its tensors have {total} bytes to read, the file {file.size}")
    except NnguardError as error:
        error.args = (f"{os.fspath(path)}: {error}",)
        raise
    return tensors


def _read_archive(file: FileSource) -> tuple[Any, Place, str]:
    """Return what a zip archive holds, its storages, and their byte order."""
    members = read_members(file)
    folder = next(iter(members), b"").partition(b"/")[0]

    def read(name: bytes, most: int) -> bytes:
        member = members[folder + name]
        if member.size > most:
            raise LimitError(f"{name.decode()[1:]} has {member.size} bytes; limit {most}")
        return file.read(member.offset, member.size)

    if folder + b"/data.pkl" not in members:
        raise ModelError("it is not a PyTorch checkpoint: it has no data.pkl")
    held = Pickle(read(b"/data.pkl", _MAX_PICKLE)).load()
    order = read(b"/byteorder", 16) if folder + b"/byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise ModelError("it is not a PyTorch checkpoint: its byte order is unknown")

    def place(storage: Storage) -> int:
        name = folder + b"/data/" + storage.key.encode("utf-8", "surrogatepass").lower()
        member = members.get(name)
        if member is None or member.size != storage.nbytes:
            raise ModelError("values are missing")
        return member.offset

    return held, place, "<" if order == b"little" else ">"


def _read_legacy(file: FileSource) -> tuple[Any, Place, str]:
    """Return what a file of the format before PyTorch 1.6 holds, and its storages."""
    pickle = Pickle(file.read(0, min(file.size, _MAX_PICKLE)))
    try:
        begins = (pickle.load(), pickle.load()) == (_MAGIC, _PROTOCOL)
    except ModelError:
        begins = False
    if not begins:
        raise ModelError("it is not a PyTorch checkpoint")
    pickle.load()  # about the machine that wrote it
    held, keys = pickle.load(), pickle.load()
    at, offsets = pickle.end, dict[str, int]()
    for key in keys if isinstance(keys, list) else []:
        storage = pickle.storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.base is not None or key in offsets:
            raise ModelError("its list of storages is malformed")
        end = at + 8 + storage.nbytes
        if end > file.size or int.from_bytes(file.read(at, 8), "little") != storage.size:
            raise ModelError("values are missing")
        offsets[key], at = at + 8, end

    def place(storage: Storage) -> int:
        base, offset = storage.base or (storage, 0)
        if base.key not in offsets or (offset + storage.size) * storage.itemsize > base.nbytes:
            raise ModelError("values are missing")
        return offsets[base.key] + offset * storage.itemsize

    return held, place, "<"


def _weights(held: Any) -> dict[str, Any]:
    if isinstance(held, Mapping):
        if _is_state_dict(held):
            return held.named()
        found = held.named()
        for key in _USUAL_KEYS:
            if _is_state_dict(found.get(key)):
                inner: dict[str, Any] = found[key].named()
                return inner
        names = [str(key) for key, _ in held.items[:10] if isinstance(key, (str, int))]
        what = ", ".join(shown(name) for name in names)
    else:
        what = "a list" if isinstance(held, list) else "something else"
    raise ModelError(
        f"it holds no state dict: {what or 'nothing'}",
        hint="load it with torch and pass the mapping from names to tensors",
    )


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value.items)
        and all(isinstance(key, str) for key, _ in value.items)
        and all(isinstance(tensor, (Dense, OddTensor)) for _, tensor in value.items)
    )


def _tensor(
    file: FileSource, name: str, tensor: Dense | OddTensor, place: Place, order: str
) -> Tensor:
    """Return a tensor, once it is known to lie within its storage."""
    if isinstance(tensor, OddTensor):
        raise ModelError(f"tensor {shown(name)} is {tensor.what}, which nnguard does not code")
    form = FORMATS.get(tensor.format)
    if form is None:
        raise ModelError(f"tensor {shown(name)} is {tensor.format}, which nnguard does not code")
    if not _are_sizes(tensor.shape) or not _are_sizes(tensor.stride):
        raise ModelError(f"the description of tensor {shown(name)} is malformed")
    shape, stride = tensor.shape, tensor.stride
    check_tensor(name, shape)
    if len(shape) != len(stride) or not _are_sizes((tensor.offset,)):
        raise ModelError(f"the description of tensor {shown(name)} is malformed")
    size, itemsize = math.prod(shape), form.dtype.itemsize
    stride = tuple(step if length > 1 else 0 for length, step in zip(shape, stride, strict=True))
    extent = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    start = tensor.offset * itemsize
    if size and start + extent * itemsize > tensor.storage.nbytes:
        raise ModelError(f"tensor {shown(name)} goes beyond the values that are there")
    if size * itemsize > max(tensor.storage.nbytes, _ALWAYS):
        raise LimitError(
            f"tensor {shown(name)} has {size} values, made of {tensor.storage.nbytes} bytes",
            hint="it is an expanded view; save a copy of it",
        )
    values: Values = FilePart(
        file,
        place(tensor.storage) + start if size else 0,
        form.dtype.newbyteorder(order),  # type: ignore[arg-type]
    )
    if size and not _is_contiguous(shape, stride):
        values = StridedPart(values, extent, shape, stride)
    return Tensor(name, TensorType(form, scalar=not shape), shape, values)


def _bytes_read(tensor: Tensor) -> int:
    """Return the bytes of the tensor, or of all that it is spread over, whichever are more."""
    values, size = tensor.values, tensor.size
    extent = max(size, values.extent) if isinstance(values, StridedPart) else size
    return extent * tensor.type.format.dtype.itemsize


def _are_sizes(numbers: Any) -> bool:
    """Tell whether this is a tuple of few numbers that sizes can be."""
    return (
        isinstance(numbers, tuple)
        and len(numbers) <= _MAX_DIMENSIONS
        and all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    )


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for length, step in zip(reversed(shape), reversed(stride), strict=True):
        if length not in (1, 0) and step != expected:
            return False
        expected *= length
    return True
