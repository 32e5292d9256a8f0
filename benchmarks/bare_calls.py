"""What the extension takes by itself: its own calls, one tensor after the other on one core.

Only those calls are timed. What they give is returned, so that the work is shown to be the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nncodec.extensions import deepCABAC

import nnguard

Array = npt.NDArray[Any]

_DENSITY, _UNARY_LENGTH, _ROW_SKIPPING = 2, 11, 1
_NO_HISTORY = np.zeros(2, np.int8)
_GUARD = bytes(1 << 14)
"""Zeros behind a payload: the extension reads on past its end."""


@dataclass
class Clock:
    """Adds up what calls take.

    Attributes:
        seconds: So far.
    """

    seconds: float = 0

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = call(*arguments)
        self.seconds += time.perf_counter() - start
        return result


@dataclass(frozen=True)
class Payload:
    """The coded bytes of a tensor.

    Attributes:
        data: The bytes.
        shape: Of the tensor.
        quantized: It has float32 weights, not integers.
    """

    data: bytes
    shape: tuple[int, ...]
    quantized: bool


def payloads(stream: nnguard.Stream) -> Iterator[Payload]:
    """Yield the payloads of all tensors."""
    for unit in stream:
        if (header := unit.tensor) is not None:
            data = unit.read()[header.payload_offset :]
            yield Payload(data, header.shape, header.payload_type == 1)


def encode(arrays: Mapping[str, Array], qp: int, nonweight_qp: int) -> tuple[float, list[bytes]]:
    """Quantize (URQ) and encode float32 and int32 arrays; return seconds and payloads."""
    clock, found = Clock(), []
    for array in arrays.values():
        encoder = deepCABAC.Encoder()
        indices = array
        if array.dtype == np.float32:
            own = qp if array.ndim > 1 else nonweight_qp
            indices = np.zeros(array.shape, np.int32)
            clock(encoder.quantLayer, array, indices, 0, _DENSITY, own, 0.0, _UNARY_LENGTH, 0, 1)
            clock(encoder.iae_v, 6 + _DENSITY, own)
        zero_rows = np.zeros(len(array), np.int32)
        if array.ndim > 1:
            zero_rows[:] = ~indices.reshape(len(array), -1).any(axis=1)
        clock(encoder.initCtxModels, _UNARY_LENGTH, 1)
        clock(
            encoder.encodeLayer,
            *(indices, 0, 0, 1, 0, _ROW_SKIPPING, zero_rows),
            *(deepCABAC.HdspMode.AlwaysOff, _NO_HISTORY, 0, 0),
        )
        found.append(clock(encoder.finish).tobytes())
    return clock.seconds, found


def decode(coded: list[Payload]) -> tuple[float, list[Array]]:
    """Decode and dequantize; return seconds and arrays."""
    clock, found = Clock(), []
    for payload in coded:
        decoder = deepCABAC.Decoder()
        clock(decoder.setStream, np.frombuffer(payload.data + _GUARD, np.uint8))
        qp = clock(decoder.iae_v, 6 + _DENSITY) if payload.quantized else 0
        clock(decoder.initCtxModels, _UNARY_LENGTH)
        indices = np.zeros(payload.shape, np.int32)
        clock(
            decoder.decodeLayer,
            *(indices, 0, 0, 1, 0, deepCABAC.HdspMode.AlwaysOff, _NO_HISTORY, 0, 0),
        )
        weights: Array = indices
        if payload.quantized:
            weights = np.zeros(payload.shape, np.float32)
            clock(decoder.dequantLayer, weights, indices, _DENSITY, qp, 0)
        found.append(weights)
    return clock.seconds, found
