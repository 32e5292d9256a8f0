"""Entropy coding of payloads (DeepCABAC), a piece at a time, so that memory does not follow them.

A payload states all that its encoder chose: quantization parameter, start states of contexts, rows
that are skipped. Law: what was decoded encodes to the same bytes. So nothing has to be searched or
tried to restore a tensor, and a payload that decodes to its end is whole
(`docs/SPEC.md`, section 2.4).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from nnguard._stream import _coder
from nnguard._stream.headers import EntryPoint, TensorHeader
from nnguard.errors import FormatError

__all__ = [
    "Indices",
    "Parameters",
    "Pieces",
    "decode_payload",
    "decode_pieces",
    "encode_payload",
    "find_zero_rows",
    "magnitude_contexts",
    "parameters_of",
    "piece_ranges",
    "qp_range",
    "search_start_states",
    "step_size",
    "usual_start_states",
]

Indices = npt.NDArray[np.int32]

Pieces = Callable[[], Iterable[Indices]]
"""Goes through the indices of a tensor from the start, in the pieces of `piece_ranges`."""

_PIECE = 1 << 15
"""Indices that are coded at once, as far as the order of coding lets them be split."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What an encoder chose and a payload states, besides the indices.

    Attributes:
        qp: Quantization parameter, without `header.base_qp`; 0 for integers.
        start_states: A byte for each context: the state and windows that it starts with, 0 to 8.
        skipped_rows: A byte for each row: 1 where it is all zeros and flagged instead of coded;
            empty where rows are not skipped.
    """

    qp: int
    start_states: bytes
    skipped_rows: bytes


def piece_ranges(header: TensorHeader, block_rows: range | None = None) -> Iterator[range]:
    """Split a tensor for coding: runs of indices, row by row; whole rows of blocks in blocks.

    Args:
        header: The tensor's.
        block_rows: Only these rows of blocks.
    """
    rows, width = header.shape[0], header.width
    if header.in_blocks:
        block_row = header.block_height * width
        span = block_rows or range(header.block_rows)
        step = max(1, _PIECE // block_row)
        for start in range(span.start, span.stop, step):
            stop = min(start + step, span.stop)
            yield range(start * block_row, min(stop * block_row, header.size))
    elif width <= _PIECE:  # whole rows
        step = _PIECE // width * width
        for start in range(0, header.size, step):
            yield range(start, min(start + step, header.size))
    else:
        for row, start in itertools.product(range(rows), range(0, width, _PIECE)):
            yield range(row * width + start, row * width + min(start + _PIECE, width))


def decode_pieces(
    header: TensorHeader,
    parts: Iterator[bytes],
    size: int,
    *,
    block_rows: range | None = None,
    into: Indices | None = None,
    offset: int = 0,
) -> Iterator[tuple[range, Indices, _coder.Decoder]]:
    """Decode a payload piece by piece; what was yielded is to be believed once the last one was.

    Args:
        header: The tensor's; it is quantized or of integers, and not empty.
        parts: The payload, which is what stands behind the header, to the end of the unit. In one
            part for a tensor in blocks.
        size: Bytes of the payload.
        block_rows: Only these rows of blocks.
        into: Flat array for all indices of the tensor; memory of a piece is used again and again,
            if None.
        offset: Where the payload lies in the stream, for error messages.

    Yields:
        Where the piece is, its indices, and the decoder, which has the parameters.

    Raises:
        FormatError: The payload is damaged, or does not end where the last index does.
    """
    try:
        decoder = _coder.Decoder(
            next(parts, b""),
            **_format_of(header),
            qp_bits=header.qp_bits,
            size=size,
            more=lambda: next(parts, b""),
        )
        buffer = np.empty(0, np.int32)
        entries = _entry_points(header, decoder.first_entry_point)
        for piece in piece_ranges(header, block_rows):
            if into is not None:
                indices = into[piece.start : piece.stop]
            else:
                if buffer.size < len(piece):
                    buffer = np.empty(len(piece), np.int32)
                indices = buffer[: len(piece)]
            if entries is None:
                decoder.decode(indices)
            else:
                span = header.block_height * header.width
                first, stop = piece.start // span, -(-piece.stop // span)
                end = decoder.decode_block_rows(first, entries[first:stop], indices)
                if stop < len(entries) and end != entries[stop]:
                    raise _coder.DamagedPayload("entry points that do not fit it", end[0] // 8)
            yield piece, indices, decoder
        if entries is None:
            decoder.finish()
    except _coder.DamagedPayload as error:
        reason, at = error.args
        raise FormatError(
            f"payload of tensor {header.name} is damaged: {reason}", offset=offset + at
        ) from None


def decode_payload(
    header: TensorHeader, payload: bytes, *, offset: int = 0
) -> tuple[Indices, Parameters]:
    """Decode a payload whole; see `decode_pieces`.

    Returns:
        The indices, int32 of the header's shape, and the parameters.
    """
    indices = np.empty(header.size, np.int32)
    parts = iter([payload])
    *_, (_, _, decoder) = decode_pieces(header, parts, len(payload), into=indices, offset=offset)
    return indices.reshape(header.shape), parameters_of(decoder)


def parameters_of(decoder: _coder.Decoder) -> Parameters:
    """Return what a payload states, once its decoder has begun."""
    return Parameters(decoder.qp, decoder.start_states, decoder.skipped_rows)


def encode_payload(
    header: TensorHeader, pieces: Iterable[Indices], parameters: Parameters
) -> tuple[bytes, tuple[EntryPoint, ...]]:
    """Encode the indices of a tensor.

    Args:
        header: The tensor's; where payload and entry points lie does not count.
        pieces: int32 arrays, flat and C-contiguous.
        parameters: What the payload is to state.

    Returns:
        The payload, and the entry points that belong into the header.
    """
    encoder = _coder.Encoder(
        **_format_of(header),
        qp_bits=header.qp_bits,
        qp=parameters.qp,
        start_states=parameters.start_states,
        skipped_rows=parameters.skipped_rows,
    )
    for piece in pieces:
        encoder.encode(piece)
    payload = encoder.finish()
    points = encoder.entry_points
    entry_points = (EntryPoint(at - points[0][0], value, state) for at, value, state in points[1:])
    return payload, tuple(entry_points)


def search_start_states(
    header: TensorHeader, pieces: Iterable[Indices], skipped_rows: bytes
) -> bytes:
    """Return the start states that the stock encoder chooses ("parameter optimization").

    That is some percent of size for three times the time.
    """
    search = _coder.StartStateSearch(
        **_format_of(header),
        skipped_rows=skipped_rows,
    )
    for piece in pieces:
        search.observe(piece)
    return search.best()


def usual_start_states(header: TensorHeader) -> bytes:
    """Return the start states of an encoder that does not search."""
    others = 3 * (8 if header.dependent else 1) + 3
    return bytes(others + magnitude_contexts(header))


def magnitude_contexts(header: TensorHeader) -> int:
    """Return how many contexts are for magnitudes; they are the last (`docs/SPEC.md`, 2.4.3)."""
    return 2 * header.unary_length + 31


def find_zero_rows(header: TensorHeader, pieces: Iterable[Indices]) -> bytes:
    """Return a byte for each row: 1 where it is all zeros; empty where rows cannot be skipped."""
    rows, width = header.shape[0], header.width
    if header.profile != 1 or rows == 1 or width == 1:
        return b""
    used = np.zeros(rows, bool)
    for piece, indices in zip(piece_ranges(header), pieces, strict=True):
        first = piece.start // width
        if len(piece) < width:
            used[first] |= indices.any()
        else:
            used[first : piece.stop // width] = indices.reshape(-1, width).any(axis=1)
    return (~used).astype(np.uint8).tobytes()


def step_size(qp: int, qp_density: int) -> float:
    """Return the step size that a quantization parameter stands for."""
    mantissa = (1 << qp_density) + (qp & ((1 << qp_density) - 1))
    return float(mantissa) * 2.0 ** ((qp >> qp_density) - qp_density)


def step_of(header: TensorHeader, qp: int) -> float:
    """Return the step size of a tensor whose payload states this quantization parameter."""
    return step_size(qp + header.base_qp, header.qp_density)


def qp_range(qp_density: int) -> tuple[int, int]:
    """Return the least and the largest quantization parameter that a payload can hold."""
    limit = 1 << (5 + qp_density)
    return -limit, limit - 1


def _entry_points(
    header: TensorHeader, first: tuple[int, int, int]
) -> list[tuple[int, int, int]] | None:
    """Return where each row of blocks begins in the payload; None for a tensor not in blocks."""
    if not header.in_blocks:
        return None
    further = [(first[0] + point.offset, point.value, point.state) for point in header.entry_points]
    return [first, *further]


class _Format(TypedDict):
    rows: int
    width: int
    dependent: bool
    unary_length: int
    row_flag: bool
    scan_order: int


def _format_of(header: TensorHeader) -> _Format:
    """Return what the extension has to know of a tensor."""
    return {
        "rows": header.shape[0],
        "width": header.width,
        "dependent": header.dependent,
        "unary_length": header.unary_length,
        "row_flag": header.profile == 1,
        "scan_order": header.scan_order,
    }
