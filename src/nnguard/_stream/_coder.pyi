"""Types of the extension; see src/coder/module.cpp."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_Indices = npt.NDArray[np.int32]
_Weights = npt.NDArray[np.float32]
_Point = tuple[int, int, int]

class DamagedPayload(ValueError):  # noqa: N818
    """Arguments: what is wrong, and at which byte of the payload."""

class Decoder:
    def __init__(
        self,
        payload: bytes,
        rows: int,
        width: int,
        *,
        dependent: bool,
        unary_length: int,
        qp_bits: int,
        row_flag: bool,
        scan_order: int,
        size: int,
        more: Callable[[], bytes],
    ) -> None: ...
    def decode(self, indices: _Indices) -> None: ...
    def decode_block_rows(self, first: int, entries: list[_Point], indices: _Indices) -> _Point: ...
    def finish(self) -> None: ...
    @property
    def qp(self) -> int: ...
    @property
    def start_states(self) -> bytes: ...
    @property
    def skipped_rows(self) -> bytes: ...
    @property
    def first_entry_point(self) -> _Point: ...

class Encoder:
    def __init__(
        self,
        rows: int,
        width: int,
        *,
        dependent: bool,
        unary_length: int,
        qp_bits: int,
        row_flag: bool,
        scan_order: int,
        qp: int,
        start_states: bytes,
        skipped_rows: bytes,
    ) -> None: ...
    def encode(self, indices: _Indices) -> None: ...
    def finish(self) -> bytes: ...
    @property
    def entry_points(self) -> list[_Point]: ...

class StartStateSearch:
    def __init__(
        self,
        rows: int,
        width: int,
        *,
        dependent: bool,
        unary_length: int,
        row_flag: bool,
        scan_order: int,
        skipped_rows: bytes,
    ) -> None: ...
    def observe(self, indices: _Indices) -> None: ...
    def best(self) -> bytes: ...

class TrellisSearch:
    def __init__(self, rows: int, width: int, *, scan_order: int, step: float) -> None: ...
    def forward(self, weights: _Weights) -> None: ...
    def backward(self, weights: _Weights, indices: _Indices) -> None: ...

def follow_trellis(
    parities: npt.NDArray[np.uint8], flipped_if_even: npt.NDArray[np.uint8], state: int
) -> int: ...
def quantize(weights: _Weights, step: float, indices: _Indices) -> None: ...
