"""How many bits a model can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard._base.progress import Progress
from nnguard._hiding import candidates, carriers_cost, max_cost, room_of
from nnguard._hiding.carriers import cost_of
from nnguard._hiding.frame import MAX_BITS
from nnguard._hiding.tensor import Room
from nnguard._models.stream_set import ModelLike, as_model, naming
from nnguard._stream import Stream
from nnguard._stream.headers import LEAST_COST
from nnguard.errors import LimitError

__all__ = ["Capacity", "TensorInfo", "capacity"]

_ALWAYS_COUNTED = 1 << 24
_COUNTED_PER_BYTE = 16
"""What `capacity` decodes, in weights: so many for each byte of the stream, or so many in all,
whichever is more."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Room in one tensor.

    Attributes:
        name: The tensor's name.
        weights: How many it has.
        places: Of these, how many can hold bits: those that are not zero.
        bits: How many bits it can hold at the most, 16 in a place or fewer.
    """

    name: str
    weights: int
    places: int
    bits: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """Room in a stream.

    Attributes:
        places: Weights that can hold bits. A record that has no more bits than that, its frame
            included, takes one in each, and grows the file by about as much.
        bits: How many bits fit at the most, a record's frame included.
        tensors: The tensors that can carry, best primary carrier first.
        shards: Of a set, the names of the files and the room in each.

    Examples:
        >>> room = nnguard.capacity("model.nnc")
        >>> room.places <= room.bits
        True
        >>> room.tensors[0].name
        'fc2.weight'
    """

    places: int
    bits: int
    tensors: tuple[TensorInfo, ...] = field(default=(), repr=False)
    shards: Mapping[str, Capacity] = field(default=EMPTY, repr=False)


def capacity(model: ModelLike, *, progress: Progress | None = None) -> Capacity:
    """Count the bits that a model can hold. Decodes every tensor that can carry.

    Args:
        model: A stream, or a folder of shards.
        progress: Called with the number of weights decoded since the last call.

    Raises:
        FormatError: The input is not a well-formed stream.
        LimitError: These tensors have more weights than a stream of this size accounts for: 16 for
            each byte, and 2^24 in any case.

    Examples:
        >>> nnguard.capacity("model.nnc").bits > 8 * 10_000
        True
    """
    model = as_model(model)
    if isinstance(model, Stream):
        return _capacity(model, progress)
    shards: dict[str, Capacity] = {}
    for name, stream in model.streams.items():
        with naming(name):
            shards[name] = _capacity(stream, progress)
    places = sum(shard.places for shard in shards.values())
    bits = sum(shard.bits for shard in shards.values())
    return Capacity(places, bits, shards=FrozenMapping(shards))


def _capacity(stream: Stream, progress: Progress | None) -> Capacity:
    tensors: list[TensorInfo] = []
    rooms: list[Room] = []
    order = candidates(stream)
    cost = sum(max(cost_of(stream, index), LEAST_COST) for index in order)
    if cost > (most := max(_ALWAYS_COUNTED, _COUNTED_PER_BYTE * stream.size)):
        raise LimitError(
            f"decoding the {len(order)} tensors that can carry costs as much as {cost} weights; "
            f"limit {most} for a stream of {stream.size} bytes"
        )
    for index in order:
        header = stream[index].tensor
        assert header is not None
        room = room_of(stream, index)
        places = room.places if room.width() else 0
        tensors.append(TensorInfo(header.name, header.size, places, room.bits()))
        rooms.append(room)
        if progress is not None:
            progress(header.size)
    in_all = [
        sum(room.bits(width) for room in rooms)
        for width in range(1, MAX_BITS + 1)  # of a weight, at most
        if carriers_cost(
            stream, {at: room.width(width) for at, room in zip(order, rooms, strict=True)}
        )
        <= max_cost(stream)
    ]
    places = sum(tensor.places for tensor in tensors)
    return Capacity(places, max(in_all, default=0), tuple(tensors))
