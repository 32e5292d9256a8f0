"""A mapping that never changes, for the fields of frozen classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

__all__ = ["EMPTY", "FrozenMapping"]

V = TypeVar("V", covariant=True)


class FrozenMapping(Mapping[str, V]):
    """A read-only mapping; unlike `types.MappingProxyType`, it can be hashed, copied and pickled.

    Args:
        items: What is in it; a copy is made.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


EMPTY: FrozenMapping[Any] = FrozenMapping({})
