"""What a pickle of PyTorch says, without doing it: nothing is imported, called or allocated.

A pickle is a program for a stack machine. Here it runs on descriptions: a tensor is where its
values lie, and everything that is neither a container nor a tensor is of no interest. Opcodes and
names are those that `torch.load` takes with `weights_only`, and whatever else is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from nnguard.errors import LimitError, ModelError

__all__ = ["Dense", "Mapping", "OddTensor", "Pickle", "Storage"]

_MAX_STEPS = 1 << 22
"""Opcodes of a pickle, at most: some 90,000 tensors. What one makes takes 100 bytes or less."""

_PROTOCOL = 2

_FIXED = {
    0x80: struct.Struct("<B"),  # PROTO
    ord("J"): struct.Struct("<i"),
    ord("K"): struct.Struct("<B"),
    ord("M"): struct.Struct("<H"),
    ord("G"): struct.Struct(">d"),
    ord("q"): struct.Struct("<B"),
    ord("r"): struct.Struct("<I"),
    ord("h"): struct.Struct("<B"),
    ord("j"): struct.Struct("<I"),
}
"""Opcodes with an argument of fixed size."""

_COUNTED = {
    ord("X"): struct.Struct("<I"),
    ord("U"): struct.Struct("<B"),
    0x8A: struct.Struct("<B"),  # LONG1
}
"""Opcodes with so many bytes."""

_STORAGES = {
    "BFloat16Storage": ("bfloat16", 2),
    "BoolStorage": ("bool", 1),
    "ByteStorage": ("uint8", 1),
    "CharStorage": ("int8", 1),
    "ComplexDoubleStorage": ("complex128", 16),
    "ComplexFloatStorage": ("complex64", 8),
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "IntStorage": ("int32", 4),
    "LongStorage": ("int64", 8),
    "QInt32Storage": ("qint32", 4),
    "QInt8Storage": ("qint8", 1),
    "QUInt2x4Storage": ("quint2x4", 1),
    "QUInt4x2Storage": ("quint4x2", 1),
    "QUInt8Storage": ("quint8", 1),
    "ShortStorage": ("int16", 2),
    "UntypedStorage": ("uint8", 1),
}
"""Number formats of storages, and bytes of a value."""

_DTYPES = (
    *("bool", "float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (*range(1, 9), 16, 32, 64)),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("float4_e2m1fn_x2", "qint8", "qint32", "quint8", "quint4x2", "quint2x4"),
    *("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
)
_SCHEMES = (
    *("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
    "per_channel_affine_float_qparams",
)
_ODD = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_qtensor": "quantized",
    "_rebuild_meta_tensor_no_storage": "on the device meta, without values",
    "_rebuild_device_tensor_from_cpu_tensor": "of another device",
    "_rebuild_device_tensor_from_numpy": "of another device",
    "_rebuild_xla_tensor": "of another device",
    "_rebuild_wrapper_subclass": "of a kind of its own",
}
"""Tensors that are not coded, by what makes them."""

_DENSE = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_KNOWN = frozenset(
    f"{home}.{name}"
    for home, names in {
        "collections": ("OrderedDict", "Counter"),
        "_codecs": ("encode",),
        "builtins": ("bytearray", "complex", "set"),
        "__builtin__": ("bytearray", "complex", "set"),
        "torch": (*_DTYPES, *_STORAGES, *_SCHEMES, "Size", "Tensor", "device"),
        "torch.storage": _STORAGES,
        "torch.nn.parameter": ("Parameter",),
        "torch.serialization": ("_get_layout",),
        "torch._tensor": ("_rebuild_from_type_v2",),
        "torch.tensor": ("_rebuild_from_type_v2",),
        "torch._utils": (*_DENSE, *_ODD, "_rebuild_parameter", "_rebuild_parameter_with_state"),
    }.items()
    for name in names
)
"""Names that a checkpoint of weights asks for."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of values in the checkpoint.

    Attributes:
        key: Its name there.
        format: Number format of the values.
        size: In values.
        itemsize: Bytes of a value.
        base: For a view, the storage that it is part of, and from which value on.
    """

    key: str
    format: str
    size: int
    itemsize: int
    base: tuple[Storage, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.size * self.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A tensor whose values lie in a storage; nothing of this is checked yet.

    Attributes:
        storage: The storage.
        format: Number format.
        offset: Of the first value, in values.
        shape: Dimensions.
        stride: Distance of neighbors in each dimension, in values.
    """

    storage: Storage
    format: str
    offset: Any
    shape: Any
    stride: Any


@dataclass(frozen=True, slots=True)
class OddTensor:
    """A tensor of another kind.

    Attributes:
        what: What it is.
    """

    what: str


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A dictionary as it was written down, with keys of any kind, and perhaps twice.

    Attributes:
        items: Keys and values.
    """

    items: list[tuple[Any, Any]] = field(default_factory=list)

    def named(self) -> dict[str, Any]:
        """Return what has a name.

        Raises:
            ModelError: A name is there twice.
        """
        named = [(key, value) for key, value in self.items if isinstance(key, str)]
        if len(dict(named)) != len(named):
            raise ModelError("it names something twice")
        return dict(named)


@dataclass(frozen=True, slots=True)
class _Name:
    """Something that the pickle asks for by name."""

    name: str


class _Nothing:
    """Whatever is of no interest."""


_NOTHING = _Nothing()


class Pickle:
    """Pickles that follow each other, and the storages that they name.

    Args:
        data: The pickles, and anything behind them.

    Attributes:
        end: Where the next pickle begins.
        storages: By their keys.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.end = 0
        self.storages: dict[str, Storage] = {}
        self._steps = 0
        self._memo: dict[int, Any] = {}
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []

    def load(self) -> Any:
        """Return what the next pickle describes.

        Raises:
            ModelError: It is malformed, or asks for anything but weights.
            LimitError: It is too long.
        """
        self._memo, self._stack, self._marks = {}, [], []
        try:
            while (opcode := self._next()) != ord("."):
                self._do(opcode, self._argument(opcode))
            return self._stack.pop()
        except (IndexError, KeyError, TypeError, ValueError):
            raise ModelError("its pickle is malformed") from None

    def _next(self) -> int:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise LimitError(f"its pickle takes more than {_MAX_STEPS} steps")
        opcode = self._data[self.end]
        self.end += 1
        return opcode

    def _argument(self, opcode: int) -> Any:
        if opcode in _FIXED:
            layout = _FIXED[opcode]
            (number,) = layout.unpack(self._take(layout.size))
            return number
        if opcode in _COUNTED:
            layout = _COUNTED[opcode]
            data = self._take(*layout.unpack(self._take(layout.size)))
            if opcode == 0x8A:
                return int.from_bytes(data, "little", signed=True)
            return data.decode("utf-8", "surrogatepass")
        if opcode == ord("c"):
            return f"{self._line()}.{self._line()}"
        return None

    def _take(self, size: int) -> bytes:
        data = self._data[self.end : self.end + size]
        if len(data) != size:
            raise ValueError
        self.end += size
        return data

    def _line(self) -> str:
        stop = self._data.index(b"\n", self.end, self.end + 256)
        data, self.end = self._data[self.end : stop], stop + 1
        return data.decode()

    def _do(self, opcode: int, argument: Any) -> None:
        stack = self._stack
        match chr(opcode):
            case "\x80":  # PROTO
                if argument != _PROTOCOL:
                    raise ModelError(
                        f"its pickle has protocol {argument}, for which torch.load has no safe way",
                        hint="save it again without pickle_protocol",
                    )
            case "q" | "r":  # BINPUT
                self._memo[argument] = stack[-1]
            case "h" | "j":  # BINGET
                stack.append(self._memo[argument])
            case "X" | "U" | "J" | "K" | "M" | "G" | "\x8a":  # texts and numbers
                stack.append(argument)
            case "(":  # MARK
                self._marks.append(stack)
                self._stack = []
            case "t":  # TUPLE
                made = tuple(self._to_mark())
                self._stack.append(made)
            case "\x85" | "\x86" | "\x87":  # TUPLE1 to 3
                count = opcode - 0x84
                if len(stack) < count:
                    raise ValueError
                stack[-count:] = [tuple(stack[-count:])]
            case "c":  # GLOBAL
                stack.append(_named(argument))
            case "Q":  # BINPERSID
                stack.append(self._storage(stack.pop()))
            case "R" | "\x81":  # REDUCE, NEWOBJ
                arguments = stack.pop()
                if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], list):
                    self._steps += len(arguments[0])  # copied, perhaps again and again
                stack.append(_called(stack.pop(), arguments))
            case "b":  # BUILD
                stack.pop()
                if isinstance(stack[-1], (Dense, OddTensor)):
                    raise ModelError("its pickle changes a tensor")
            case "u":  # SETITEMS
                items = self._to_mark()
                _mapping(self._stack[-1]).extend(zip(items[::2], items[1::2], strict=True))
            case "s":  # SETITEM
                value, key = stack.pop(), stack.pop()
                _mapping(stack[-1]).append((key, value))
            case "e":  # APPENDS
                items = self._to_mark()
                _list(self._stack[-1]).extend(items)
            case "a":  # APPEND
                item = stack.pop()
                _list(stack[-1]).append(item)
            case "}":  # EMPTY_DICT
                stack.append(Mapping())
            case "]":  # EMPTY_LIST
                stack.append([])
            case ")":  # EMPTY_TUPLE
                stack.append(())
            case "N" | "\x88" | "\x89" | "\x8f":  # NONE, NEWTRUE, NEWFALSE, EMPTY_SET
                stack.append(_NOTHING)
            case _:
                raise ValueError

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _storage(self, identifier: Any) -> Storage:
        match identifier:
            case ("storage", _Name(kind), str() as key, _, int() as size, *view) if size >= 0:
                form, itemsize = _STORAGES[kind.rpartition(".")[2]]
                storage = Storage(key, form, size, itemsize)
            case _:
                raise ValueError
        match view:
            case [] | [_Nothing()]:
                pass
            case [(str() as part, int() as offset, int() as size)] if offset >= 0 <= size:
                base = self.storages.setdefault(storage.key, storage)
                if base.nbytes != storage.nbytes:
                    raise ValueError
                storage = Storage(part, form, size, itemsize, (base, offset))
            case _:
                raise ValueError
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ModelError("its pickle describes a storage twice, in two ways")
        return storage


def _mapping(value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        raise ValueError
    return value.items


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _named(name: str) -> _Name:
    if name not in _KNOWN:
        raise ModelError(
            f"it is no checkpoint of weights alone: it asks for {ascii(name)[1:-1][:100]}",
            hint="it may hold code, which nnguard never runs; save a state dict",
        )
    return _Name(name)


def _called(function: Any, arguments: Any) -> Any:
    """Return a description of what a call would make."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError
    name = function.name.rpartition(".")[2]
    if name == "_rebuild_from_type_v2":
        match arguments:
            case (_Name(inner), _Name("torch.Tensor" | "torch.nn.parameter.Parameter"), tuple(), _):
                name, arguments = inner.rpartition(".")[2], arguments[2]
            case _:
                return OddTensor("of a kind of its own")
    match name, arguments:
        case "OrderedDict", ():
            return Mapping()
        case "OrderedDict", (list() as items,):
            return Mapping([(key, value) for key, value in map(tuple, items)])
        case "Size", (tuple() as size,):
            return size
        case (("_rebuild_parameter" | "_rebuild_parameter_with_state" | "Parameter"), (data, *_)):
            return data if isinstance(data, (Dense, OddTensor)) else _NOTHING
        case "_rebuild_tensor", (Storage() as storage, offset, shape, stride):
            return Dense(storage, storage.format, offset, shape, stride)
        case "_rebuild_tensor_v2", (Storage() as storage, offset, shape, stride, _, _, *said):
            return _dense(storage, storage.format, (offset, shape, stride), said)
        case "_rebuild_tensor_v3", (
            Storage() as storage,
            offset,
            shape,
            stride,
            _,
            _,
            _Name(dtype),
            *said,
        ):
            return _dense(storage, dtype.rpartition(".")[2], (offset, shape, stride), said)
        case _, _:
            return OddTensor(_ODD[name]) if name in _ODD else _NOTHING


def _dense(
    storage: Storage, form: str, place: tuple[Any, Any, Any], said: list[Any]
) -> Dense | OddTensor:
    if said and not (isinstance(said[0], _Nothing) or _is_empty(said[0])):
        return OddTensor("negative or conjugate until it is used")
    return Dense(storage, form, *place)


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not value.items
