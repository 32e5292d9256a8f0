"""Decoding and encoding the tensors that a lock touches, in worker processes where it pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nnguard.compression.workers import Batch, crew, largest_first, make_batches, run
from nnguard.stream import Stream, Unit
from nnguard.stream.coding import QuantisedTensor, encode, find_settings
from nnguard.stream.source import MemorySource

__all__ = ["encode_all", "read_all"]


def read_all(stream: Stream, units: Sequence[int]) -> dict[int, QuantisedTensor]:
    """Decode tensors and find how they were encoded; those that cannot be restored are left out.

    Args:
        stream: The stream.
        units: Positions of quantised tensors.
    """

    def prepare(batch: Batch) -> tuple[list[Unit], object]:
        chosen = [stream[units[place]] for place in batch.positions]
        return [replace(unit, source=MemorySource(unit.read()), offset=0) for unit in chosen], None

    batches = _batches(stream, units)
    found: dict[int, QuantisedTensor] = {}
    with crew(batches, None, None) as team:
        for batch, tensors in run(team, batches, prepare, _find_settings):
            for place, tensor in zip(batch.positions, tensors, strict=True):
                if tensor is not None:
                    found[units[place]] = tensor
    return {index: found[index] for index in sorted(found)}


def encode_all(
    stream: Stream, units: Sequence[int], tensor_of: Callable[[int], QuantisedTensor]
) -> dict[int, bytes]:
    """Encode tensors to the bytes of their units.

    Args:
        stream: The stream.
        units: Positions of the tensors.
        tensor_of: Makes the tensor at a position, just before it is encoded.
    """

    def prepare(batch: Batch) -> tuple[list[QuantisedTensor], object]:
        return [tensor_of(units[place]) for place in batch.positions], None

    batches = _batches(stream, units)
    coded: dict[int, bytes] = {}
    with crew(batches, None, None) as team:
        for batch, data in run(team, batches, prepare, _encode):
            coded |= {units[place]: unit for place, unit in zip(batch.positions, data, strict=True)}
    return coded


def _batches(stream: Stream, units: Sequence[int]) -> list[Batch]:
    tensors = (stream[index].tensor for index in units)
    return largest_first(make_batches([0 if t is None else t.size for t in tensors]))


def _find_settings(units: list[Unit]) -> list[QuantisedTensor | None]:
    return [find_settings(unit) for unit in units]


def _encode(tensors: list[QuantisedTensor]) -> list[bytes]:
    return [encode(tensor) for tensor in tensors]
