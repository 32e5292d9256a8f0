"""The coder against nncodec's extension, tensor by tensor on one core.

    python benchmarks/coder.py [--data ../shared/data] [--runs 5]

Both decode, encode and quantize the same tensor, in turns; what they give is checked to be the
same. Figures are from CPU seconds of this process, the best of all runs. The tensor is one of
ResNet18's largest, 2.4 million weights.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from nncodec.extensions import deepCABAC

from nnguard._compression.quantizing import quantize
from nnguard._stream import coding
from nnguard._stream.coding import Parameters
from nnguard._stream.headers import PayloadType, TensorHeader

ROOT = Path(__file__).parents[1]
TENSOR = "layer4.1.conv1.weight"
DENSITY, UNARY_LENGTH = 2, 11
NO_HISTORY = np.zeros(2, np.int8)
OFF = deepCABAC.HdspMode.AlwaysOff

Indices = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]

BARS = {
    ("decode", False, -38): 3.2,
    ("decode", True, -38): 2.6,
    ("decode", True, -32): 2.0,
    ("quantize", True, -38): 3.0,
}


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the best is printed")
    options = parser.parse_args()
    path = options.data / "models" / "resnet18-cifar10.safetensors"
    if not path.exists():
        print(f"no model at {path}; name its folder with --data", file=sys.stderr)
        return 2
    with safetensors.safe_open(path, "numpy") as file:
        weights = file.get_tensor(TENSOR)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {TENSOR}, {weights.size:,} weights\n")
    print("| million weights a second, one core | | stock | nnguard | times as fast | bar |")
    print("|---|---|--:|--:|--:|--:|")
    for dependent, qp in ((False, -38), (True, -38), (True, -32)):
        compare(weights, options.runs, dependent=dependent, qp=qp)
    return 0


def compare(weights: Weights, runs: int, *, dependent: bool, qp: int) -> None:
    """Print the rows of one kind of quantization."""
    header = TensorHeader(
        name=TENSOR,
        payload_type=PayloadType.FLOAT,
        shape=weights.shape,
        dependent=dependent,
        unary_length=UNARY_LENGTH,
        profile=1,
        qp_density=DENSITY,
        base_qp=0,
        scan_order=0,
        data_format=None,
        payload_offset=0,
    )
    flat = weights.reshape(-1)

    def our_quantize() -> Indices:
        return np.concatenate([*quantize(header, lambda a, b: flat[a:b], qp)()])

    def row(what: str, theirs: Callable[[], Any], ours: Callable[[], Any], bar: float) -> Any:
        (slow, fast), (expected, found) = best_of(runs, theirs, ours)
        assert np.array_equal(np.asarray(expected).reshape(-1), np.asarray(found).reshape(-1))
        kind = f"{'TCQ' if dependent else 'URQ'}, qp {qp}"
        rates = (weights.size / slow / 1e6, weights.size / fast / 1e6)
        print(
            f"| {what} | {kind} | {rates[0]:.1f} | {rates[1]:.1f} | {slow / fast:.2f} | {bar} |",
            flush=True,
        )
        return found

    case = (dependent, qp)
    if case == (True, -38):
        bar = BARS.get(("quantize", *case), "")
        indices = row("quantize", lambda: stock_quantize(weights, dependent, qp), our_quantize, bar)
    else:
        indices = our_quantize()
    indices = indices.reshape(weights.shape)
    skipped = coding.find_zero_rows(header, pieces(header, indices))
    usual = Parameters(qp, coding.usual_start_states(header), skipped)

    def our_encode(parameters: Parameters) -> npt.NDArray[np.uint8]:
        payload, _ = coding.encode_payload(header, pieces(header, indices), parameters)
        return np.frombuffer(payload, np.uint8)

    def our_search() -> npt.NDArray[np.uint8]:
        states = coding.search_start_states(header, pieces(header, indices), skipped)
        return our_encode(Parameters(qp, states, skipped))

    payload = row(
        "encode, start states given",
        lambda: stock_encode(indices, dependent, qp, optimize=False),
        lambda: our_encode(usual),
        2.4,
    )
    row(
        "encode, with the search",
        lambda: stock_encode(indices, dependent, qp, optimize=True),
        our_search,
        2.8,
    )
    row(
        "decode",
        lambda: stock_decode(payload, weights.shape, dependent),
        lambda: coding.decode_payload(header, payload.tobytes())[0],
        BARS[("decode", *case)],
    )


def pieces(header: TensorHeader, indices: Indices) -> list[Indices]:
    """Split indices as the coder takes them."""
    flat = indices.reshape(-1)
    return [flat[piece.start : piece.stop] for piece in coding.piece_ranges(header)]


def stock_quantize(weights: Weights, dependent: bool, qp: int) -> Indices:
    """Quantize with the extension."""
    indices = np.zeros(weights.shape, np.int32)
    deepCABAC.Encoder().quantLayer(weights, indices, int(dependent), DENSITY, qp, 0.0, 0, 0, 1)
    return indices


def stock_encode(
    indices: Indices, dependent: bool, qp: int, *, optimize: bool
) -> npt.NDArray[np.uint8]:
    """Encode with the extension, rows skipped."""
    zero_rows = (~indices.reshape(len(indices), -1).any(axis=1)).astype(np.int32)
    encoder = deepCABAC.Encoder()
    encoder.iae_v(6 + DENSITY, qp)
    encoder.initCtxModels(UNARY_LENGTH, int(optimize))
    encoder.encodeLayer(indices, int(dependent), 0, 1, 0, 1, zero_rows, OFF, NO_HISTORY, 0, 0)
    payload: npt.NDArray[np.uint8] = encoder.finish()
    return payload


def stock_decode(
    payload: npt.NDArray[np.uint8], shape: tuple[int, ...], dependent: bool
) -> Indices:
    """Decode with the extension, which reads on past the end of a payload."""
    indices = np.zeros(shape, np.int32)
    decoder = deepCABAC.Decoder()
    decoder.setStream(np.concatenate([payload, np.zeros(1 << 14, np.uint8)]))
    decoder.iae_v(6 + DENSITY)
    decoder.initCtxModels(UNARY_LENGTH)
    decoder.decodeLayer(indices, int(dependent), 0, 1, 0, OFF, NO_HISTORY, 0, 0)
    return indices


def best_of(runs: int, *works: Callable[[], Any]) -> tuple[tuple[float, float], tuple[Any, Any]]:
    """Run all in turns; return the least CPU seconds of each, and what they returned."""
    best = [float("inf")] * len(works)
    results: list[Any] = [None] * len(works)
    for _ in range(runs):
        for which, work in enumerate(works):
            start = time.process_time()
            results[which] = work()
            best[which] = min(best[which], time.process_time() - start)
    return (best[0], best[1]), (results[0], results[1])


if __name__ == "__main__":
    sys.exit(main())
