"""Bits into one tensor and out again, piece by piece, so that memory does not follow its size.

Law: of what `embed_bits` makes, a `Carrier` gives the bits, and restores the former bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from nnguard._base.texts import shown
from nnguard._hiding import hqim
from nnguard._hiding.frame import (
    MAGIC,
    MAX_BITS,
    MAX_HEADER_SIZE,
    SIZE_END,
    FrameHeader,
    header_size,
    parse_header,
)
from nnguard._hiding.hqim import Indices
from nnguard._hiding.packing import Joiner, split
from nnguard._stream import Unit
from nnguard._stream.coding import Parameters, qp_range
from nnguard._stream.headers import TensorHeader
from nnguard._stream.quantized import (
    QuantizedTensor,
    decode,
    encode,
    pieces_of,
    recode,
    suited_to,
)
from nnguard.errors import VerificationError

__all__ = ["NO_ROOM", "Carrier", "Room", "embed_bits", "room_in", "suit"]


@dataclass(frozen=True, slots=True)
class Room:
    """What a tensor can hold.

    Attributes:
        places: Weights that are not zero.
        largest: The largest magnitude of an index.
        divisions: How often its step can be halved.
    """

    places: int
    largest: int
    divisions: int

    def width(self, most: int = MAX_BITS) -> int:
        """Return how many bits a place can hold, no more than so many; 0 where it can hold none."""
        widths = range(min(most, self.divisions), 0, -1)
        return next((each for each in widths if self.largest <= hqim.max_value(each)), 0)

    def bits(self, most: int = MAX_BITS) -> int:
        """Return how many bits fit, no more than so many in a place."""
        return self.width(most) * self.places


NO_ROOM = Room(0, 0, 0)


def room_in(unit: Unit) -> Room:
    """Decode a tensor, and return what it can hold.

    Raises:
        FormatError: It is damaged, or of a foreign encoder.
    """
    header = _header(unit)
    places = most = qp = 0
    for indices, decoder in pieces_of(unit):
        qp = decoder.qp
        places += int(np.count_nonzero(indices))
        most = max(most, hqim.largest(indices))
    divisions = (qp - qp_range(header.qp_density)[0]) >> header.qp_density
    return Room(places, most, divisions)


def embed_bits(unit: Unit, data: bytes, begin: int, bits_per_weight: int) -> bytes:
    """Return a unit with a part of the step and bits in its tensor.

    Args:
        unit: One that may carry, with room.
        data: All bytes that are hidden; zeros follow them.
        begin: The first bit of them that goes into this tensor.
        bits_per_weight: Of its places.
    """
    walk = _walk(unit, bits_per_weight)

    def embed(indices: Indices, _: Parameters) -> Indices:
        nonlocal begin
        numbers = split(data, begin, bits_per_weight, int(np.count_nonzero(indices)))
        begin += bits_per_weight * numbers.size
        return walk.embed(indices, numbers)

    return recode(unit, embed, by=-bits_per_weight * _octave(unit))


def suit(unit: Unit, bits_per_weight: int, bits: int) -> bytes:
    """Return a unit of the same weights, coded as suits what goes into it.

    Args:
        unit: One that may carry, with room.
        bits_per_weight: Of its places.
        bits: How many go in, as random as ciphertext; behind them there are zeros.
    """
    walk = _walk(unit, bits_per_weight)
    rng = np.random.default_rng(0)
    left = -(-bits // bits_per_weight)

    def embed(indices: Indices) -> Indices:
        nonlocal left
        places = int(np.count_nonzero(indices))
        numbers = rng.integers(1 << bits_per_weight, size=places, dtype=np.uint16)
        numbers[max(left, 0) :] = 0
        left -= places
        return walk.embed(indices, numbers)

    return suited_to(unit, embed)


class Carrier:
    """A tensor that may hold bits, as a reader sees it.

    Args:
        unit: One that may carry.
        keep: Decode it once for all that is asked, and keep its indices; otherwise it is decoded
            each time, piece by piece.
    """

    def __init__(self, unit: Unit, *, keep: bool) -> None:
        self.unit, self._keep = unit, keep
        self._taken: dict[int, tuple[hqim.Numbers, Indices]] = {}

    def by_value(self) -> Carrier:
        """Return the tensor with its bytes in memory, for another process."""
        return Carrier(self.unit.by_value(), keep=self._keep)

    def find_header(self) -> FrameHeader | None:
        """Find the header of the outermost record, if this is a primary carrier.

        How many bits a weight holds is tried, from one on; the header says it, too.

        Raises:
            FormatError: The tensor is damaged, or of a foreign encoder.
        """
        head, qp = self._head()
        most = (qp_range(_header(self.unit).qp_density)[1] - qp) // _octave(self.unit)
        places = np.flatnonzero(head)
        if not places.size:
            return None
        first = hqim.first_number(int(head[places[0]]), dependent=_header(self.unit).dependent)
        for bits_per_weight in range(1, min(most, MAX_BITS) + 1):
            mask = (1 << bits_per_weight) - 1
            if first & mask != int.from_bytes(MAGIC, "big") >> 8 * len(MAGIC) - bits_per_weight:
                continue  # a header begins in another way

            def first_bytes(count: int, width: int = bits_per_weight) -> bytes:
                used = places[: -(-8 * count // width)]
                joiner = Joiner(count)
                numbers, _ = _walk(self.unit, width).extract(head[: int(used[-1]) + 1])
                joiner.add(numbers, width)
                return bytes(joiner.data)

            size = header_size(first_bytes(SIZE_END))
            header = size and parse_header(first_bytes(size))
            if header and header.widths[0] == bits_per_weight:
                return header
        return None

    def all_numbers(self, bits_per_weight: int) -> list[hqim.Numbers]:
        """Return what `numbers` yields."""
        return list(self.numbers(bits_per_weight))

    def numbers(self, bits_per_weight: int) -> Iterator[hqim.Numbers]:
        """Yield what the places hold, piece by piece.

        Raises:
            FormatError: The tensor is damaged.
            VerificationError: It is not what `embed_bits` makes.
        """
        most = hqim.max_value(bits_per_weight)
        highest = qp_range(_header(self.unit).qp_density)[1]
        for numbers, values, qp in self._parts(bits_per_weight):
            lost = np.count_nonzero(values) != numbers.size or hqim.largest(values) > most
            if lost or qp + bits_per_weight * _octave(self.unit) > highest:
                name = self.unit.name
                raise VerificationError(f"tensor {shown(name)} was changed", tensors=[name])
            yield numbers

    def restore(self, bits_per_weight: int) -> bytes:
        """Return the unit as it was before bits went in; anything, where `numbers` refuses it."""
        by = bits_per_weight * _octave(self.unit)
        if not self._keep:
            walk = _walk(self.unit, bits_per_weight)
            return recode(self.unit, lambda each, _: walk.extract(each)[1], by=by)
        ((_, values, qp),) = self._parts(bits_per_weight)
        parameters = replace(self._whole.parameters, qp=qp + by)
        return encode(replace(self._whole, indices=values, parameters=parameters))

    def _parts(self, bits_per_weight: int) -> Iterator[tuple[hqim.Numbers, Indices, int]]:
        """Yield numbers, the values as they were before, and the quantization parameter."""
        walk = _walk(self.unit, bits_per_weight)
        if not self._keep:
            for indices, decoder in pieces_of(self.unit):
                yield *walk.extract(indices), decoder.qp
            return
        if bits_per_weight not in self._taken:
            self._taken[bits_per_weight] = walk.extract(self._whole.indices.reshape(-1))
        yield *self._taken[bits_per_weight], self._whole.qp

    def _head(self) -> tuple[Indices, int]:
        """Return the indices at the beginning, as many as hold a header, and the parameter.

        All of the tensor is decoded, to know that it is whole.
        """
        if self._keep:
            return self._whole.indices.reshape(-1), self._whole.qp
        head: list[Indices] = []
        places = qp = 0
        for indices, decoder in pieces_of(self.unit):
            qp = decoder.qp
            if places < 8 * MAX_HEADER_SIZE:
                head.append(indices.copy())
                places += int(np.count_nonzero(indices))
        return np.concatenate(head), qp

    @functools.cached_property
    def _whole(self) -> QuantizedTensor:
        return decode(self.unit)


def _walk(unit: Unit, bits_per_weight: int) -> hqim.Walk:
    return hqim.Walk(bits_per_weight, dependent=_header(unit).dependent)


def _header(unit: Unit) -> TensorHeader:
    assert unit.tensor is not None
    return unit.tensor


def _octave(unit: Unit) -> int:
    """Return by how much the quantization parameter falls where the step halves."""
    return 1 << _header(unit).qp_density
