"""Cost of compressing and decompressing, side by side with the stock coder.

    python benchmarks/compression.py [--data ../shared/data] [--only PART ...] [--quick]

Parts: `speed` against the stock coder at the same settings; `growth` with weights and with
tensors; `memory` at the size of VGG16. Every comparison is made in one run, in turns; bytes and
weights are checked to be those of the stock coder. Best times are printed as Markdown, beside the
bars that the project set itself. `benchmarks/coder.py` compares one tensor on one core.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

import nnguard
import stock
from nnguard import Settings
from peak_memory import measure
from random_networks import many_tensors, of_size, vgg16

ROOT = Path(__file__).parents[1]
URQ, TCQ = Settings(dependent=False), Settings()
BLOCKS = Settings(dependent=False, scan_order=4)

WORKERS = 2

Arrays = Mapping[str, stock.Array]


def main() -> int:
    """Run the parts that were asked for and print their tables."""
    parts = {"speed": speed, "growth": growth, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--network", default="", help="only networks of such a name, for speed")
    parser.add_argument("--minilm", type=Path, help="all-MiniLM-L6-v2's own model.safetensors")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the best is printed")
    parser.add_argument("--quick", action="store_true", help="small parts, to try it out")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}; name its folder with --data", file=sys.stderr)
        return 2
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"best of up to {options.runs} runs, as many threads as cores, qp -38\n"
    )
    for part in options.only:
        started = time.perf_counter()
        print(f"{part} ...", file=sys.stderr, flush=True)
        parts[part](options)
        print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        print(flush=True)
    return 0


def speed(options: argparse.Namespace) -> None:
    """Compare with the stock coder."""
    print("| network | weights | | stock s | nnguard s | times as fast | bar |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for label, arrays, settings, runs, bars in networks(options):
        if options.network not in label:
            continue
        weights = sum(array.size for array in arrays.values())
        (ours, theirs), (stream, expected) = best_of(
            runs,
            lambda arrays=arrays, settings=settings: nnguard.compress(arrays, settings),
            lambda arrays=arrays, settings=settings: stock.encode(
                arrays,
                qp=settings.qp,
                dependent=settings.dependent,
                scan_order=settings.scan_order,
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
    label, resnet = resnet18(options)
    yield f"{label}, URQ", resnet, URQ, options.runs, (8, 6)
    yield f"{label}, TCQ", resnet, TCQ, options.runs, (8, 6)
    if options.quick:
        yield "100 tensors, URQ", many_tensors(100), URQ, options.runs, (None, None)
        return
    if options.minilm:
        transformer = as_stock_takes(options.minilm)
    else:
        transformer = nnguard.decompress(options.data / "streams" / "minilm.default.nnc")
    yield "MiniLM, URQ", transformer, URQ, options.runs, (8, 5)
    yield "MiniLM, TCQ", transformer, TCQ, options.runs, (8, 5)
    del transformer
    yield "3,000 tensors, URQ", many_tensors(3000), URQ, 2, (25, 12)
    large = vgg16()
    yield "VGG16's shapes, URQ", large, URQ, 1, (5, 4)
    yield "VGG16's shapes, URQ, scan order 4", large, BLOCKS, 1, (None, 7)


def resnet18(options: argparse.Namespace) -> tuple[str, Arrays]:
    """Return ResNet18 as the stock coder takes it: counters as int32 of one element."""
    arrays = as_stock_takes(options.data / "models" / "resnet18-cifar10.safetensors")
    if options.quick:
        small = {name: array for name, array in arrays.items() if array.size < 100_000}
        return "small tensors of ResNet18", small
    return "ResNet18", arrays


def as_stock_takes(path: Path) -> Arrays:
    """Return the arrays of a file; integers of any size as int32, scalars with one element."""
    return {
        name: np.atleast_1d(array.astype(np.int32) if array.dtype == np.int64 else array)
        for name, array in safetensors.numpy.load_file(path).items()
    }


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
    label = "3 M weights" if options.quick else "VGG16's shapes"
    print(f"| {label}, URQ, file to file | s | resident MB | shared pages once MB | ", end="")
    print("in no file MB | of each process MB | bar MB |")
    print("|---|--:|--:|--:|--:|--:|---|")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as folder:
        model, stream = Path(folder, "model.safetensors"), Path(folder, "model.nnc")
        safetensors.numpy.save_file(of_size(3 * 10**6) if options.quick else vgg16(), model)
        theirs, back = Path(folder, "stock.nnc"), Path(folder, "stock.safetensors")
        ours = Path(folder, "ours.safetensors")
        python, own = [sys.executable, "-c"], [sys.executable, "-m", "nnguard"]
        workers = ["--workers", WORKERS]
        for what, command, bar in (
            (
                f"nnguard compress, {WORKERS} threads",
                [*own, "compress", model, "-o", stream, "--urq", *workers],
                "700 resident",
            ),
            (
                f"nnguard decompress, {WORKERS} threads",
                [*own, "decompress", stream, "-o", ours, *workers],
                "100 in no file",
            ),
            ("stock encoder", [*python, STOCK_ENCODE, model, theirs], ""),
            ("stock decoder", [*python, STOCK_DECODE, stream, back], ""),
        ):
            print(f"{what} ...", file=sys.stderr, flush=True)
            peak = measure(command, environment)
            sums = (peak.resident, peak.proportional, peak.anonymous)
            each = " + ".join(f"{size / 1e6:.0f}" for size in peak.processes)
            print(
                f"| {what} | {peak.seconds:.1f} | "
                + " | ".join(f"{size / 1e6:.0f}" for size in sums)
                + f" | {each} | {bar} |",
                flush=True,
            )
        assert stream.read_bytes() == theirs.read_bytes(), "not the stock encoder's bytes"
        assert equal_weights(ours, back), "not the stock decoder's weights"


def equal_weights(one: Path, other: Path) -> bool:
    """Tell whether two safetensors files hold the same arrays, whatever their order."""
    with (
        safetensors.safe_open(one, "numpy") as first,
        safetensors.safe_open(other, "numpy") as second,
    ):
        names = sorted(first.keys())
        return names == sorted(second.keys()) and all(
            np.array_equal(first.get_tensor(name), second.get_tensor(name)) for name in names
        )


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


if __name__ == "__main__":
    sys.exit(main())
