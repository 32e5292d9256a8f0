"""The example's network, in NumPy alone: handwritten digits of 8 x 8 pixels.

Convolution, batch normalization, ReLU, convolution, ReLU, 2 x 2 maximum, and two linear layers.
Takes the weights as a dict of arrays, as a decoder gives them, under the names of `train.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["accuracy", "predict"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_BN_EPSILON = np.float32(1e-5)


def accuracy(arrays: Mapping[str, Array], images: Array, labels: Array) -> float:
    """Return the fraction of images that the network classifies correctly.

    Args:
        arrays: The network's weights by name.
        images: Gray values from 0 to 16, of shape `(n, 8, 8)`.
        labels: Digits, of shape `(n,)`.
    """
    return float(np.equal(predict(arrays, images), labels).mean())


def predict(arrays: Mapping[str, Array], images: Array) -> npt.NDArray[np.intp]:
    """Return the digit that the network sees in each image.

    Args:
        arrays: The network's weights by name.
        images: Gray values from 0 to 16, of shape `(n, 8, 8)`.

    Returns:
        Digits, of shape `(n,)`.
    """
    x = images[:, None].astype(np.float32) / np.float32(16)
    x = np.maximum(_normalize(_convolve(x, arrays["conv1.weight"]), arrays), 0)
    x = _convolve(x, arrays["conv2.weight"]) + arrays["conv2.bias"][:, None, None]
    x = _pool(np.maximum(x, 0)).reshape(len(x), -1)
    x = np.maximum(x @ arrays["fc1.weight"].T + arrays["fc1.bias"], 0)
    logits = x @ arrays["fc2.weight"].T + arrays["fc2.bias"]
    digits: npt.NDArray[np.intp] = logits.argmax(axis=1)
    return digits


def _convolve(x: Floats, kernels: Floats) -> Floats:
    """Convolve `(n, c, h, w)` with `(d, c, 3, 3)`, borders padded with zeros: `(n, d, h, w)`."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.moveaxis(np.tensordot(windows, kernels, axes=((1, 4, 5), (1, 2, 3))), 3, 1)


def _normalize(x: Floats, arrays: Mapping[str, Array]) -> Floats:
    """Normalize each channel with the statistics of the training."""
    scale = arrays["bn1.weight"] / np.sqrt(arrays["bn1.running_var"] + _BN_EPSILON)
    offset = arrays["bn1.bias"] - arrays["bn1.running_mean"] * scale
    return np.asarray(x * scale[:, None, None] + offset[:, None, None], dtype=np.float32)


def _pool(x: Floats) -> Floats:
    """Return the maximum of each 2 x 2 pixels."""
    n, c, h, w = x.shape
    pooled: Floats = x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return pooled
