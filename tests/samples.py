"""Streams and parts of streams that tests are made of."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import stock

FOLDER = Path(__file__).parent / "streams"
DIGITS = Path(__file__).parents[1] / "examples" / "digits"

NEXT_STATE = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))
"""Of the trellis (SPEC 4), by state and parity of the coded integer."""

SIGNABLE = (
    "default",
    "density3",
    "norowskip",
    "optqp",
    "qp20",
    "qp50_urq",
    "resnet20.default",
    "resnet20.urq38",
    "unary4",
    "urq",
    "urq_nopopt",
)
"""Stock streams that have room for a signature."""

OPAQUE = ("scan1_urq", "scan2")
"""Stock streams whose tensors nnguard carries as bytes."""

ALL = (*SIGNABLE, *OPAQUE, "bitdepth8")

INT, FLOAT, RAW_FLOAT, BLOCK = range(4)
STR, MPS, LPS, TPL, QNT, NDU, AGG = range(7)


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.nnc"


def read(name: str) -> bytes:
    return path_of(name).read_bytes()


def small_network(weights: int = 3000, seed: int = 0) -> dict[str, stock.Array]:
    """Return one matrix that carries, and tensors that do not."""
    rng = np.random.default_rng(seed)
    return {
        "conv.bias": rng.normal(0, 0.1, 10).astype(np.float32),
        "conv.weight": rng.normal(0, 0.05, (weights // 100, 10, 10)).astype(np.float32),
        "conv.steps": np.array([7], np.int32),
    }


def small_stream(*, dependent: bool = True, weights: int = 3000, seed: int = 0) -> bytes:
    """Return a stream of some 1 kB with room for a signature."""
    return stock.encode(small_network(weights, seed), qp=-20, dependent=dependent)


def split(data: bytes) -> list[bytes]:
    """Return the units of a well-formed stream."""
    units = []
    while data:
        size = int.from_bytes(data[:2], "big")
        if size >> 15:
            size = int.from_bytes(data[:4], "big") & 0x7FFFFFFF
        if not 3 <= size <= len(data):
            raise ValueError(f"unit of {size} bytes")
        units.append(data[:size])
        data = data[size:]
    return units


class BitWriter:
    """The bits of a header, written the way that the standard describes them."""

    def __init__(self) -> None:
        self.digits = ""

    def u(self, value: int, width: int) -> BitWriter:
        self.digits += f"{value:0{width}b}" if width else ""
        return self

    def i(self, value: int, width: int) -> BitWriter:
        return self.u(value % (1 << width), width)

    def ue(self, value: int, order: int) -> BitWriter:
        zeros = 0
        while value >= 1 << (order + zeros):
            value -= 1 << (order + zeros)
            zeros += 1
        return self.u(1, zeros + 1).u(value, order + zeros)

    def ie(self, value: int, order: int) -> BitWriter:
        return self.ue(2 * value - 1 if value > 0 else -2 * value, order)

    def text(self, value: str) -> BitWriter:
        for byte in (*value.encode(), 0):
            self.u(byte, 8)
        return self

    def align(self) -> BitWriter:
        self.u(1, 1)
        return self.u(0, -len(self.digits) % 8)

    def __bytes__(self) -> bytes:
        padded = self.digits + "0" * (-len(self.digits) % 8)
        return int("1" + padded, 2).to_bytes(len(padded) // 8 + 1, "big")[1:]


def coding_order(rows: int, width: int, scan_order: int) -> stock.Array:
    """Return the positions of a tensor in the order in which they are coded."""
    positions = np.arange(rows * width).reshape(rows, width)
    if not scan_order or rows == 1 or width == 1:
        return positions.reshape(-1)
    edge = 4 << scan_order
    corners = itertools.product(range(0, rows, edge), range(0, width, edge))
    blocks = [positions[row : row + edge, at : at + edge].reshape(-1) for row, at in corners]
    return np.concatenate(blocks)


def indices_of(integers: stock.Array, scan_order: int = 0) -> stock.Array:
    """Return the indices of TCQ that are coded as these integers, no row being skipped."""
    flat, state = integers.reshape(-1).tolist(), 0
    for at in coding_order(len(integers), len(flat) // len(integers), scan_order).tolist():
        integer = flat[at]
        if integer:
            flat[at] = 2 * integer - (state & 1 if integer > 0 else -(state & 1))
        state = NEXT_STATE[state][integer & 1]
    return np.array(flat, np.int32).reshape(integers.shape)


def unit(kind: int, body: bytes = b"", *, partial: bool = False, long: bool = False) -> bytes:
    """Return a unit of any kind; `long` takes the size field of 31 bits."""
    content = bytes([kind << 2 | partial]) + body
    if long or len(content) + 2 >= 1 << 15:
        return (len(content) + 4 | 1 << 31).to_bytes(4, "big") + content
    return (len(content) + 2).to_bytes(2, "big") + content


def start_unit(profile: int = 1) -> bytes:
    return unit(STR, bytes([profile]))


def model_unit(*, quantized: bool = True, density: int = 2, base_qp: int = 0) -> bytes:
    bits = BitWriter().u(0, 5).u(1 if quantized else 0, 3).u(0, 8)
    if quantized:
        bits.u(density, 3).i(base_qp, 13)
    return unit(MPS, bytes(bits))


def data_unit(
    name: str = "w",
    shape: Iterable[int] = (16, 32),
    payload: bytes = b"\0" * 8,
    *,
    payload_type: int = FLOAT,
    scan_order: int = 0,
    codebook: bool = False,
    partial: bool = False,
    long: bool = False,
) -> bytes:
    """Return a data unit of profile 1 as the stock coder writes it."""
    shape = tuple(shape)
    bits = BitWriter().u(payload_type, 5).u(0b001, 3).text(name)
    bits.u(0, 1)  # no node identifiers
    if payload_type == FLOAT:
        bits.u(codebook, 1)
    if payload_type != RAW_FLOAT:
        bits.u(1, 1)  # TCQ
    bits.u(0b10, 2).u(0, 4).ue(len(shape), 1)
    for size in shape:
        bits.ue(size, 7)
    if len(shape) > 1:
        bits.ue(0, 1).u(scan_order, 4)
    return unit(NDU, bytes(bits.align()) + payload, partial=partial, long=long)


def stream_of(*units: bytes) -> bytes:
    return b"".join((start_unit(), model_unit(), *units))


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nnguard", *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )
