"""What a pickle of PyTorch says, without doing it: nothing is imported, called or allocated.

A pickle is a program for a stack machine. Here it runs on descriptions: a tensor is where its
values lie, and everything that is neither a container nor a tensor is of no interest. Opcodes are
those that `torch.load` takes with `weights_only`, and whatever else is refused.
"""

from __future__ import annotations

import struct
from typing import Any

from nnguard._models.descriptions import (
    NOTHING,
    STORAGES,
    Dense,
    Mapping,
    Name,
    Nothing,
    OddTensor,
    Storage,
    call,
    name_of,
)
from nnguard.errors import LimitError, ModelError

__all__ = ["Pickle"]

_MAX_STEPS = 1 << 21
"""Opcodes of a pickle, at most: some 45,000 tensors.

What one makes takes 115 bytes at most, an empty dictionary: 240 MB in all, beside its texts.
"""

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
"""Opcodes that a length follows, and the form of that."""


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
                stack.append(name_of(argument))
            case "Q":  # BINPERSID
                stack.append(self._storage(stack.pop()))
            case "R" | "\x81":  # REDUCE, NEWOBJ
                arguments = stack.pop()
                if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], list):
                    self._steps += len(arguments[0])  # copied, perhaps again and again
                stack.append(call(stack.pop(), arguments))
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
                stack.append(NOTHING)
            case _:
                raise ValueError

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _storage(self, identifier: Any) -> Storage:
        match identifier:
            case ("storage", Name(kind), str() as key, _, int() as size, *view) if size >= 0:
                form, itemsize = STORAGES[kind.rpartition(".")[2]]
                storage = Storage(key, form, size, itemsize)
            case _:
                raise ValueError
        match view:
            case [] | [Nothing()]:
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
