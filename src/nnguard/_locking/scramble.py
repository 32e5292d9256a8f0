"""Encrypting tensors in place: signs of matrices, the order of what has one dimension.

Each sign is added to a bit of a keystream of the content key. Magnitudes and zeros stay, so that
the histogram and the size of the file hardly change; without the key, every sign is a coin flip.
Biases, scales and statistics of normalization change places instead: variances are positive, and
say much about the weights before them (`docs/SPEC.md`, section 6.4).
Law: `unscramble` with the keystream of `scramble` gives the tensor back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import Keystream
from nnguard._locking.choice import can_lock, count_weights
from nnguard._locking.depth import is_sorted, nearest_first
from nnguard._locking.twins import Place, find_twins_in_set
from nnguard._stream import Stream, Unit
from nnguard._stream.quantized import QuantizedTensor, integers_of, narrowed, with_integers
from nnguard.errors import ArgumentError

__all__ = ["scramble", "tensors_to_scramble", "unscramble"]

LARGE = 0.1
"""A tensor with more of all weights, an embedding as a rule, comes after all others: the magnitudes
of its rows tell an attacker as much as their signs (`docs/adr/0020-scrambling.md`)."""


def tensors_to_scramble(
    streams: Mapping[str, Stream], wanted: float | Sequence[str]
) -> dict[str, list[int]]:
    """Return the positions of the tensors to scramble, ascending, by the names of files.

    Where a fraction is wanted, these are all tensors of one dimension, and the first others that
    have this fraction of all weights: what is nearest to the input costs an attacker most. They are
    taken in the order of the stream, or, where that is the order of names, as `nearest_first` has
    them. Very large ones come after the others (`docs/adr/0020-scrambling.md`). Twins of a tensor
    that is scrambled are, too.

    Args:
        streams: A set, in the order of its files, or one stream without a name.
        wanted: Of all weights in tensors of two dimensions or more, a fraction; or names of
            tensors, which may be patterns: `layer1.*`.

    Raises:
        ArgumentError: There is no tensor of this name that could be scrambled.
    """
    chosen = _chosen(streams, wanted)
    twins = find_twins_in_set(streams) if chosen else {}
    places = sorted({each for at in chosen for each in twins.get(at, (at,))})
    return {file: [index for name, index in places if name == file] for file in streams}


def _chosen(streams: Mapping[str, Stream], wanted: float | Sequence[str]) -> list[Place]:
    usable = [
        (file, index)
        for file, stream in streams.items()
        for index, unit in enumerate(stream)
        if can_lock(unit)
    ]
    if isinstance(wanted, float | int):
        return _first(streams, usable, wanted)
    chosen: list[Place] = []
    for pattern in wanted:
        found = [at for at in usable if fnmatchcase(streams[at[0]][at[1]].name, pattern)]
        if not found:
            raise ArgumentError(f"there is no tensor {pattern} that could be scrambled")
        chosen += found
    return chosen


def _first(streams: Mapping[str, Stream], usable: Sequence[Place], fraction: float) -> list[Place]:
    """Return the first matrices with this fraction of all weights, and all vectors."""
    weights = sum(map(count_weights, streams.values()))
    shapes = {at: _shape_of(streams[at[0]][at[1]]) for at in usable}
    matrices = _from_the_input_on(
        streams, {at: shape for at, shape in shapes.items() if len(shape) > 1}
    )
    chosen: list[Place] = []
    needed = fraction * weights
    for at in sorted(matrices, key=lambda at: math.prod(shapes[at]) > LARGE * weights):
        if needed <= 0:
            break
        chosen.append(at)
        needed -= math.prod(shapes[at])
    vectors = [at for at, shape in shapes.items() if len(shape) == 1]
    return chosen + vectors if chosen else []  # vectors alone do not make a lock


def _from_the_input_on(
    streams: Mapping[str, Stream], matrices: Mapping[Place, tuple[int, ...]]
) -> list[Place]:
    """Return matrices in the order of the network, as far as one can tell."""
    named = {at: (streams[at[0]][at[1]].name, shape) for at, shape in matrices.items()}
    files = [[name for at, (name, _) in named.items() if at[0] == file] for file in streams]
    return nearest_first(named) if all(map(is_sorted, files)) else [*matrices]


def _shape_of(unit: Unit) -> tuple[int, ...]:
    assert unit.tensor is not None
    return unit.tensor.shape


def scramble(tensor: QuantizedTensor, unit: int, keystream: Keystream) -> QuantizedTensor:
    """Encrypt a tensor.

    Args:
        tensor: The tensor, as it was decoded.
        unit: Position of its unit, which chooses the run of the keystream.
        keystream: A bit for each index, or 8 bytes where the tensor has one dimension.

    Raises:
        ValueError: An index would be too large.
    """
    if tensor.indices.ndim == 1:
        return with_integers(tensor, integers_of(tensor)[_order(tensor, unit, keystream)])
    return _with_flipped_signs(tensor, unit, keystream)


def unscramble(tensor: QuantizedTensor, unit: int, keystream: Keystream) -> QuantizedTensor:
    """Decrypt a tensor; see `scramble`."""
    if tensor.indices.ndim == 1:
        integers = np.empty(tensor.indices.size, np.int64)
        integers[_order(tensor, unit, keystream)] = integers_of(tensor)
        return with_integers(tensor, integers)
    return _with_flipped_signs(tensor, unit, keystream)


def _with_flipped_signs(
    tensor: QuantizedTensor, unit: int, keystream: Keystream
) -> QuantizedTensor:
    """Flip signs; a magnitude keeps its parity, so that the states of a trellis do not change."""
    flat = tensor.indices.reshape(-1)
    bits = np.frombuffer(keystream.read(unit, (flat.size + 7) // 8), np.uint8)
    flipped = np.unpackbits(bits, count=flat.size).astype(bool)
    return tensor.with_indices(narrowed(np.where(flipped, -flat.astype(np.int64), flat)))


def _order(tensor: QuantizedTensor, unit: int, keystream: Keystream) -> npt.NDArray[np.intp]:
    """Return for each place where its integer stood."""
    numbers = np.frombuffer(keystream.read(unit, 8 * tensor.indices.size), ">u8")
    return np.argsort(numbers, kind="stable")
