"""The paper's form of H-QIM: one peak for the whole network (paper, section III).

Which reading is taken where the paper leaves one open:

- The weights are those of all quantized tensors of two dimensions or more: they share one step.
- The peak is the most frequent index of all of them, the least of equals.
- All indices above the peak move up by one, also where the peak is zero ("shift to w^p + 1" names
  the bin that this empties).
- A 0 leaves an index at the peak, a 1 moves it up.

Unlike nnguard's form, extraction is told the peak, and how each tensor was encoded; changed tensors
are coded as the stock encoder codes their indices, since rows of zeros may end where the peak is 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nnguard._stream import Stream
from nnguard._stream.coding import (
    Indices,
    find_zero_rows,
    piece_ranges,
    search_start_states,
    usual_start_states,
)
from nnguard._stream.headers import PayloadType
from nnguard._stream.quantized import QuantizedTensor, decode, encode
from nnguard.errors import CapacityError

__all__ = ["PaperForm"]

_MAX_WEIGHTS = 1 << 27
"""The paper's form takes every tensor, also those that nnguard would not decode for a stranger."""

_LARGE = 1 << 24
"""From so many weights on, changed tensors are coded without parameter optimization: a percent more
in size for a quarter of the time."""

Bits = npt.NDArray[np.uint8]


class PaperForm:
    """A URQ stream in which the paper's form hides bits.

    Attributes:
        weights: How many weights take part.
        peak: The index that carries.
        capacity: How often it occurs, which is how many bits there is room for.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._tensors: dict[int, QuantizedTensor] = {}
        counts: Counter[int] = Counter()
        for index, unit in enumerate(stream):
            header = unit.tensor
            if header is None or header.payload_type != PayloadType.FLOAT or len(header.shape) < 2:
                continue
            tensor = decode(unit, max_weights=_MAX_WEIGHTS)
            self._tensors[index] = tensor
            distinct, found = np.unique(tensor.indices, return_counts=True)
            counts.update(dict(zip(distinct.tolist(), found.tolist(), strict=True)))
        self.weights = counts.total()
        self.peak = min(counts, key=lambda value: (-counts[value], value))
        self.capacity = counts[self.peak]
        self.histogram = dict(counts)

    def embed(self, bits: Bits) -> Stream:
        """Return the stream with bits in it; places that they do not reach hold zeros.

        Raises:
            CapacityError: There are more bits than places.
        """
        if bits.size > self.capacity:
            raise CapacityError("the message", needed=bits.size, available=self.capacity)
        units = {}
        for index, tensor in self._tensors.items():
            units[index], bits = self._mark(tensor, bits)
        return self._stream.replace(units)

    def _mark(self, tensor: QuantizedTensor, bits: Bits) -> tuple[bytes, Bits]:
        flat = tensor.indices.reshape(-1)
        places = np.flatnonzero(flat == self.peak)
        embedded = flat + (flat > self.peak)
        here = bits[: places.size]
        embedded[places[: here.size]] += here
        return encode(_fitted(tensor.with_indices(embedded.astype(np.int32)))), bits[here.size :]

    def extract(self, embedded: Stream) -> tuple[Bits, Stream]:
        """Return the bits of a stream, zeros up to the capacity, and the original."""
        parts: list[Bits] = []
        units = {}
        for index, original in self._tensors.items():
            tensor = decode(embedded[index], max_weights=_MAX_WEIGHTS)
            flat = tensor.indices.reshape(-1)
            at_peak = flat[(flat == self.peak) | (flat == self.peak + 1)]
            parts.append((at_peak > self.peak).astype(np.uint8))
            restored: Indices = (flat - (flat > self.peak)).astype(np.int32)
            units[index] = encode(original.with_indices(restored))
        return np.concatenate(parts), embedded.replace(units)


def _fitted(tensor: QuantizedTensor) -> QuantizedTensor:
    """Return a tensor with the parameters that the stock encoder chooses for its indices."""
    header, parameters = tensor.header, tensor.parameters
    flat = tensor.indices.reshape(-1)
    pieces = [flat[piece.start : piece.stop] for piece in piece_ranges(header)]
    skipped = find_zero_rows(header, pieces) if parameters.skipped_rows else b""
    states = usual_start_states(header)
    if parameters.start_states != states and flat.size < _LARGE:
        states = search_start_states(header, pieces, skipped)
    return replace(
        tensor, parameters=replace(parameters, start_states=states, skipped_rows=skipped)
    )
