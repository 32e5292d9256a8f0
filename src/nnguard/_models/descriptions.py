"""What a checkpoint can hold, described: storages, tensors, mappings, and what makes them.

Names are those that `torch.load` takes with `weights_only`, and whatever else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnguard.errors import ModelError

__all__ = [
    "NOTHING",
    "STORAGES",
    "Dense",
    "Mapping",
    "Name",
    "Nothing",
    "OddTensor",
    "Storage",
    "call",
    "name_of",
]

STORAGES = {
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
        "torch": (*_DTYPES, *STORAGES, *_SCHEMES, "Size", "Tensor", "device"),
        "torch.storage": STORAGES,
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
class Name:
    """Something that the pickle asks for by name."""

    name: str


class Nothing:
    """Whatever is of no interest."""


NOTHING = Nothing()


def name_of(name: str) -> Name:
    """Return a name that the pickle asks for.

    Raises:
        ModelError: No checkpoint of weights asks for it.
    """
    if name not in _KNOWN:
        raise ModelError(
            f"it is not a checkpoint of weights alone: it asks for {ascii(name)[1:-1][:100]}",
            hint="it may hold code, which nnguard never runs; save a state dict",
        )
    return Name(name)


def call(function: Any, arguments: Any) -> Any:
    """Return a description of what a call would make.

    Raises:
        TypeError: This cannot be called, or not so.
        ValueError: See above.
    """
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise ValueError
    name = function.name.rpartition(".")[2]
    if name == "_rebuild_from_type_v2":
        match arguments:
            case (Name(inner), Name("torch.Tensor" | "torch.nn.parameter.Parameter"), tuple(), _):
                name, arguments = inner.rpartition(".")[2], arguments[2]
            case _:
                return OddTensor("of a kind of its own")
    match name, arguments:
        case "OrderedDict", ():
            return Mapping()
        case "OrderedDict", (list() as items,):
            return Mapping([_pair(item) for item in items])
        case "Size", (tuple() as size,):
            return size
        case (("_rebuild_parameter" | "_rebuild_parameter_with_state" | "Parameter"), (data, *_)):
            return data if isinstance(data, (Dense, OddTensor)) else NOTHING
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
            Name(dtype),
            *said,
        ):
            return _dense(storage, dtype.rpartition(".")[2], (offset, shape, stride), said)
        case _, _:
            return OddTensor(_ODD[name]) if name in _ODD else NOTHING


def _pair(item: Any) -> tuple[Any, Any]:
    match item:
        case [key, value]:  # no text of two letters
            return key, value
    raise ValueError


def _dense(
    storage: Storage, form: str, place: tuple[Any, Any, Any], said: list[Any]
) -> Dense | OddTensor:
    if said and not (isinstance(said[0], Nothing) or _is_empty(said[0])):
        return OddTensor("negative or conjugate until it is used")
    return Dense(storage, form, *place)


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not value.items
