"""Networks of given shapes with random weights, where real ones would have to be downloaded.

Weights are Laplace distributed with the usual deviation, one over the square root of the fan-in.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.float32]]

_CONVOLUTIONS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
_CLASSIFIER = ((4096, 25088), (4096, 4096), (10, 4096))


def vgg16(seed: int = 0) -> Arrays:
    """Return torchvision's VGG16 with ten classes: 134 million weights, 103 in one tensor."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for index, width in enumerate(_CONVOLUTIONS):
        shapes[f"features.{index}.weight"] = (width, channels, 3, 3)
        shapes[f"features.{index}.bias"] = (width,)
        channels = width
    for index, shape in enumerate(_CLASSIFIER):
        shapes[f"classifier.{index}.weight"] = shape
        shapes[f"classifier.{index}.bias"] = shape[:1]
    return _fill(shapes, seed)


def of_size(weights: int) -> Arrays:
    """Return a network of 20 equal matrices with about so many weights."""
    side = math.isqrt(weights // 20)
    return _fill({f"layer{index}.weight": (side, side) for index in range(20)})


def many_tensors(count: int, least: int = 1_000, most: int = 10_000) -> Arrays:
    """Return a network of many small matrices."""
    sizes = np.random.default_rng(count).integers(least, most, count, endpoint=True)
    return _fill(
        {f"layer{index}.weight": (50, int(size) // 50) for index, size in enumerate(sizes)}
    )


def _fill(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        scale = 1 / math.sqrt(2 * math.prod(shape[1:]))
        weights = rng.standard_exponential(shape, np.float32) - rng.standard_exponential(
            shape, np.float32
        )
        arrays[name] = weights * np.float32(scale)
    return arrays
