"""Cost of compressing and decompressing, side by side with the stock coder.

    python benchmarks/compression.py [--data ../shared/data] [--only PART ...] [--quick]

Parts: `speed` against the stock coder at the same settings; `bare` against the sum of the bare
calls of the extension on one core; `growth` with weights and with tensors; `memory` at the size of
VGG16. Every comparison is made in one run, in turns; bytes and weights are checked to be those of
the stock coder. Best times are printed as Markdown, beside the bars that the project set itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from nncodec.extensions import deepCABAC

import nnguard
import stock
from nnguard import Settings
from peak_memory import Peak, measure
from random_networks import many_tensors, of_size, vgg16

ROOT = Path(__file__).parents[1]
URQ, TCQ = Settings(dependent=False), Settings()

Arrays = Mapping[str, stock.Array]


def main() -> int:
    """Run the parts that were asked for and print their tables."""
    parts = {"speed": speed, "bare": bare, "growth": growth, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the best is printed")
    parser.add_argument("--quick", action="store_true", help="small networks, to try it out")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}; name its folder with --data", file=sys.stderr)
        return 2
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"best of up to {options.runs} runs, as many workers as cores, qp -38\n"
    )
    for part in options.only:
        parts[part](options)
        print(flush=True)
    return 0


def speed(options: argparse.Namespace) -> None:
    """Compare with the stock coder."""
    print("| network | weights | | stock s | nnguard s | times as fast | bar |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for label, arrays, settings, runs, bars in networks(options):
        weights = sum(array.size for array in arrays.values())
        (ours, theirs), (stream, expected) = best_of(
            runs,
            lambda arrays=arrays, settings=settings: nnguard.compress(arrays, settings),
            lambda arrays=arrays, settings=settings: stock.encode(
                arrays, qp=settings.qp, dependent=settings.dependent
            ),
        )
        data = bytes(stream)
        assert data == expected, f"{label}: not the stock encoder's bytes"
        del stream, expected
        row(label, weights, "compress", theirs, ours, bars[0])
        (ours, theirs), (found, expected) = best_of(
            runs,
            lambda data=data: nnguard.decompress(nnguard.Stream.from_bytes(data)),
            lambda data=data: stock.decode(data),
        )
        for name, array in expected.items():
            assert np.array_equal(found[name], array), f"{label}: not the stock decoder's weights"
        del found, expected
        row(label, weights, "decompress", theirs, ours, bars[1])


def networks(
    options: argparse.Namespace,
) -> Iterator[tuple[str, Arrays, Settings, int, tuple[float | None, float | None]]]:
    """Yield what to measure: label, arrays, settings, runs, bars of both directions."""
    resnet = resnet18(options)
    yield "ResNet18, URQ", resnet, URQ, options.runs, (3, 1.7)
    yield "ResNet18, TCQ", resnet, TCQ, options.runs, (3, 1.7)
    if options.quick:
        yield "100 tensors, URQ", many_tensors(100), URQ, options.runs, (None, None)
        return
    transformer = nnguard.decompress(options.data / "streams" / "minilm.default.nnc")
    yield "MiniLM, URQ", transformer, URQ, options.runs, (2.5, None)
    yield "MiniLM, TCQ", transformer, TCQ, options.runs, (2.5, None)
    del transformer
    yield "3,000 tensors, URQ", many_tensors(3000), URQ, 2, (None, 5)
    yield "VGG16's shapes, URQ", vgg16(), URQ, 1, (2, None)


def resnet18(options: argparse.Namespace) -> Arrays:
    """Return ResNet18 as the stock coder takes it: counters as int32 of one element."""
    path = options.data / "models" / "resnet18-cifar10.safetensors"
    arrays = safetensors.numpy.load_file(path)
    if options.quick:
        arrays = {name: array for name, array in arrays.items() if array.size < 100_000}
    return {
        name: array.astype(np.int32).reshape(1) if array.dtype == np.int64 else array
        for name, array in arrays.items()
    }


def bare(options: argparse.Namespace) -> None:
    """Compare with the sum of the extension's own calls, one after the other on one core."""
    print(
        "| network | | bare calls, 1 core, s | nnguard, 2 workers, s | times as fast | bar | ",
        end="",
    )
    print("share of the extension |")
    print("|---|---|--:|--:|--:|--:|--:|")
    count = 40 if options.quick else 400
    for label, arrays in (
        ("ResNet18, URQ", resnet18(options)),
        (f"{count} tensors of 100,000, URQ", many_tensors(count, 100_000, 100_000)),
    ):
        stream = nnguard.compress(arrays, URQ)
        data = bytes(stream)
        (ours, theirs), _ = best_of(
            options.runs,
            lambda arrays=arrays: nnguard.compress(arrays, URQ, workers=2),
            lambda arrays=arrays: bare_encode(arrays),
        )
        bare_row(label, "compress", theirs, ours)
        payloads = list(payloads_of(stream))
        (ours, theirs), _ = best_of(
            options.runs,
            lambda data=data: nnguard.decompress(nnguard.Stream.from_bytes(data), workers=2),
            lambda payloads=payloads: bare_decode(payloads),
        )
        bare_row(label, "decompress", theirs, ours)


def bare_encode(arrays: Arrays) -> None:
    """Quantise and encode with nothing around the extension."""
    history = np.zeros(2, np.int8)
    for array in arrays.values():
        encoder = deepCABAC.Encoder()
        indices, qp = array, URQ.qp if array.ndim > 1 else URQ.nonweight_qp
        if array.dtype == np.float32:
            indices = np.zeros(array.shape, np.int32)
            encoder.quantLayer(array, indices, 0, 2, qp, 0.0, 11, 0, 1)
            encoder.iae_v(8, qp)
        encoder.initCtxModels(11, 1)
        rows = np.zeros(len(array), np.int32)
        encoder.encodeLayer(
            indices, 0, 0, 1, 0, 1, rows, deepCABAC.HdspMode.AlwaysOff, history, 0, 0
        )
        encoder.finish()


def payloads_of(stream: nnguard.Stream) -> Iterator[tuple[stock.Array, tuple[int, ...], bool]]:
    """Yield payload, shape, and whether it is quantised, of all tensors."""
    for unit in stream:
        if (header := unit.tensor) is not None:
            payload = unit.read()[header.payload_offset :] + bytes(64)
            yield np.frombuffer(payload, np.uint8), header.shape, header.payload_type == 1


def bare_decode(payloads: Sequence[tuple[stock.Array, tuple[int, ...], bool]]) -> None:
    """Decode and dequantise with nothing around the extension."""
    history = np.zeros(2, np.int8)
    for payload, shape, quantised in payloads:
        decoder = deepCABAC.Decoder()
        decoder.setStream(payload)
        qp = decoder.iae_v(8) if quantised else 0
        decoder.initCtxModels(11)
        indices = np.zeros(shape, np.int32)
        decoder.decodeLayer(indices, 0, 0, 1, 0, deepCABAC.HdspMode.AlwaysOff, history, 0, 0)
        if quantised:
            decoder.dequantLayer(np.zeros(shape, np.float32), indices, 2, qp, 0)


def growth(options: argparse.Namespace) -> None:
    """Show how time grows with weights, and with tensors."""
    print("| | compress s | s a million | stock | decompress s | s a million | stock |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    millions = (1, 4) if options.quick else (1, 4, 16, 64, 134)
    counts = (10, 100) if options.quick else (10, 100, 300, 1000, 3000)
    cases = [(f"{size} M weights", of_size(size * 10**6), size <= 16) for size in millions]
    cases += [(f"{count} tensors", many_tensors(count), True) for count in counts]
    for label, arrays, compare in cases:
        weights = sum(array.size for array in arrays.values()) / 1e6
        encode, stream = timed(lambda arrays=arrays: nnguard.compress(arrays, URQ))
        decode, _ = timed(lambda stream=stream: nnguard.decompress(stream))
        cells = [f"{encode:.2f}", f"{encode / weights:.2f}", "", f"{decode:.2f}"]
        cells += [f"{decode / weights:.3f}", ""]
        if compare:
            theirs, _ = timed(lambda arrays=arrays: stock.encode(arrays, dependent=False))
            cells[2] = f"{theirs / weights:.2f}"
            data = bytes(stream)
            theirs, _ = timed(lambda data=data: stock.decode(data))
            cells[5] = f"{theirs / weights:.3f}"
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


STOCK_ENCODE = """
import sys, safetensors.numpy, stock
arrays = safetensors.numpy.load_file(sys.argv[1])
open(sys.argv[2], "wb").write(stock.encode(arrays, dependent=False))
"""
STOCK_DECODE = """
import sys, safetensors.numpy, stock
safetensors.numpy.save_file(stock.decode(open(sys.argv[1], "rb").read()), sys.argv[2])
"""


def memory(options: argparse.Namespace) -> None:
    """Compare peak memory, from file to file in fresh processes."""
    print(
        "| VGG16's shapes, URQ, file to file | s | resident MB | without a file behind MB | bar |"
    )
    print("|---|--:|--:|--:|---|")
    nnguard_cli = [sys.executable, "-m", "nnguard"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as folder:
        model, stream = Path(folder, "model.safetensors"), Path(folder, "model.nnc")
        safetensors.numpy.save_file(of_size(10**6) if options.quick else vgg16(), model)
        commands: list[tuple[str, list[object], str]] = [
            (
                "nnguard compress --workers 2",
                [*nnguard_cli, "compress", model, "-o", stream, "--urq", "--workers", 2],
                "1,000 resident",
            ),
            (
                "nnguard decompress --workers 2",
                [*nnguard_cli, "decompress", stream, "-o", f"{model}.ours", "--workers", 2],
                "400",
            ),
            ("stock encoder", [sys.executable, "-c", STOCK_ENCODE, model, f"{stream}.stock"], ""),
            (
                "stock decoder",
                [sys.executable, "-c", STOCK_DECODE, stream, f"{model}.stock.safetensors"],
                "",
            ),
        ]
        for label, command, bar in commands:
            peak: Peak = measure(command, environment)
            print(
                f"| {label} | {peak.seconds:.1f} | {peak.resident / 1e6:.0f} | "
                f"{peak.anonymous / 1e6:.0f} | {bar} |",
                flush=True,
            )
        assert stream.read_bytes() == Path(f"{stream}.stock").read_bytes()


def best_of(
    runs: int, ours: Callable[[], Any], theirs: Callable[[], Any]
) -> tuple[tuple[float, float], tuple[Any, Any]]:
    """Run both in turns; return the best time of each, and what they returned."""
    best = [float("inf")] * 2
    results: list[Any] = [None, None]
    for _ in range(runs):
        for which, work in enumerate((ours, theirs)):
            results[which] = None
            seconds, results[which] = timed(work)
            best[which] = min(best[which], seconds)
    return (best[0], best[1]), (results[0], results[1])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long it took, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def row(label: str, weights: int, what: str, theirs: float, ours: float, bar: float | None) -> None:
    """Print a line of the table of speeds."""
    print(
        f"| {label} | {weights / 1e6:.1f} M | {what} | {theirs:.2f} | {ours:.2f} | "
        f"{theirs / ours:.1f} | {bar or ''} |",
        flush=True,
    )


def bare_row(label: str, what: str, theirs: float, ours: float) -> None:
    """Print a line of the table of the extension's share."""
    print(
        f"| {label} | {what} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.2f} | 1.7 | "
        f"{100 * theirs / (2 * ours):.0f} % |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
