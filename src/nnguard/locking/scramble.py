"""Encrypting the signs of all weights of a tensor, in place.

Each sign is added to a bit of a keystream of the content key. Magnitudes and zeros stay, so the
histogram and the size of the file hardly change; without the key, every sign is a coin flip.
Law: scrambling twice with the same keystream gives the tensor back.
"""

from __future__ import annotations

import numpy as np

from nnguard.crypto.content import Keystream
from nnguard.locking.choice import can_lock
from nnguard.stream import Stream
from nnguard.stream.coding import QuantizedTensor

__all__ = ["scramble", "tensors_to_scramble"]


def scramble(tensor: QuantizedTensor, unit: int, keystream: Keystream) -> QuantizedTensor:
    """Encrypt or decrypt the signs of a tensor.

    A magnitude keeps its parity, so the states of a trellis do not change.

    Args:
        tensor: The tensor.
        unit: Position of its unit, which chooses the run of the keystream.
        keystream: A bit for each weight, zeros included.
    """
    flat = tensor.indices.reshape(-1)
    stream = np.frombuffer(keystream.read(unit, (flat.size + 7) // 8), np.uint8)
    flipped = np.unpackbits(stream, count=flat.size).astype(bool)
    return tensor.with_indices(np.where(flipped, -flat, flat))


def tensors_to_scramble(stream: Stream, fraction: float, weights: int) -> list[int]:
    """Return the positions of the smallest tensors that have this fraction of the weights.

    Small ones first: that way most layers are hit for the least coding.

    Args:
        stream: The stream.
        fraction: Of all weights, above 0.
        weights: How many there are.
    """
    sizes = {
        index: unit.tensor.size
        for index, unit in enumerate(stream)
        if unit.tensor is not None and can_lock(unit)
    }
    chosen: list[int] = []
    covered = 0
    for index in sorted(sizes, key=sizes.__getitem__):
        if covered >= fraction * weights:
            break
        chosen.append(index)
        covered += sizes[index]
    return chosen
