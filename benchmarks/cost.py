"""Cost of signing and verifying, side by side with hashing and with the stock decoder.

    python benchmarks/cost.py [--data ../shared/data] [--megabytes 500] [--runs 5]

Makes a large stream out of real units, then runs whole processes in turn: `nnguard verify`,
`nnguard sign` and `openssl dgst -sha256` of the same file, with their peak resident memory; and in
one process `verify` against the stock decoder on the ResNet18 stream. Prints medians and ratios as
Markdown, beside the bars that the project set itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nnguard
from nnguard._stream.units import frame_unit
from stock import decode

ROOT = Path(__file__).parents[1]

MANY_UNITS = 1000
"""Streams of more units have a bar that allows for reading so many headers."""


def main() -> int:
    """Run all measurements and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the large streams")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; medians are printed")
    options = parser.parse_args()
    source = options.data / "streams" / "resnet18.urq38.nnc"
    if not source.exists():
        print(f"no stream at {source}; name its folder with --data", file=sys.stderr)
        return 2
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; ",
        end="",
    )
    print(f"medians of {options.runs} runs, whole processes, files in the page cache\n")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        key = nnguard.SigningKey.generate()
        key.save(at / "vendor.key")
        key.public_key.save(at / "vendor.pub")
        size = options.megabytes * 10**6
        print("| file | units | command | seconds | of openssl | bar, seconds | peak MB |")
        print("|---|---|---|---|---|---|---|")
        for label, smallest in (("ResNet18, large units repeated", 10**6), ("whole ResNet18s", 0)):
            model = at / "model.nnc"
            write_large(source, model, size, smallest)
            compare(label, model, at, options.runs)
        print()
        small(source, at, options.runs)
    return 0


def write_large(source: Path, target: Path, size: int, smallest: int) -> None:
    """Write a stream of at least `size` bytes: the source, and copies under other names.

    Args:
        source: A stream of real weights.
        target: File to write.
        size: Bytes, at least.
        smallest: Only units of this many bytes or more are repeated.
    """
    stream = nnguard.Stream.open(source)
    written = stream.size
    repeated = [unit for unit in stream if unit.tensor is not None and unit.size >= smallest]
    with target.open("wb") as file:
        file.write(bytes(stream))
        copy = 0
        while written < size:
            copy += 1
            for unit in repeated:
                data = unit.read()
                name_at = 6 if data[0] & 0x80 else 4
                prefix = data[name_at - 2 : name_at] + f"copy{copy}.".encode()
                written += file.write(frame_unit(prefix + data[name_at:]))


def compare(label: str, model: Path, at: Path, runs: int) -> None:
    """Print the rows of one large stream."""
    release = at / "release.nnc"
    cli = [sys.executable, "-m", "nnguard"]
    sign = [*cli, "sign", model, "-o", release, "--key", at / "vendor.key"]
    verify = [*cli, "verify", release, "--trust", at / "vendor.pub"]
    openssl = ["openssl", "dgst", "-sha256", release]
    rows: list[list[tuple[float, float]]] = [[], [], []]
    for _ in range(runs):
        release.unlink(missing_ok=True)  # a new file: what freeing an old one takes is the disk's
        signing = process(sign)
        for row, figures in zip(rows, (process(openssl), process(verify), signing), strict=True):
            row.append(figures)
    reference = statistics.median(seconds for seconds, _ in rows[0])
    units = len(nnguard.Stream.open(release))
    headers = 0.15 if units > MANY_UNITS else 0
    bars = ("", f"{0.75 * reference + 0.25 + headers:.2f}", f"{reference + 1:.2f}")
    for name, row, bar in zip(("openssl", "verify", "sign"), rows, bars, strict=True):
        seconds = statistics.median(seconds for seconds, _ in row)
        memory = max(peak for _, peak in row)
        what = f"{label}, {release.stat().st_size / 1e6:.0f} MB | {units:,}"
        ratio = seconds / reference
        print(
            f"| {what} | {name} | {seconds:.2f} | {ratio:.2f} | {bar} | {memory:.0f} |", flush=True
        )


def small(source: Path, at: Path, runs: int) -> None:
    """Print the figures of one ordinary network, and of starting up."""
    release = at / "small.nnc"
    nnguard.sign(source, nnguard.SigningKey.load(at / "vendor.key")).save(release)
    data = release.read_bytes()
    stock = statistics.median(timed(lambda: decode(data)) for _ in range(max(1, runs // 2)))
    ours = statistics.median(
        timed(lambda: nnguard.verify(release, at / "vendor.pub")) for _ in range(runs)
    )
    cli = [sys.executable, "-m", "nnguard", "verify", release, "--trust", at / "vendor.pub"]
    whole = statistics.median(process(cli)[0] for _ in range(runs))
    empty = statistics.median(process([sys.executable, "-c", "pass"])[0] for _ in range(runs))
    importing = statistics.median(
        process([sys.executable, "-c", "import nnguard"])[0] for _ in range(runs)
    )
    print(f"ResNet18, URQ, {len(data) / 1e6:.1f} MB:\n")
    print("| what | seconds | bar |")
    print("|---|---|---|")
    print(f"| stock decoder, in process | {stock:.2f} | |")
    print(
        f"| `nnguard.verify`, in process: {stock / ours:.0f} times faster | {ours:.3f} | 10 times |"
    )
    print(f"| `nnguard verify`, whole process | {whole:.2f} | 0.7 |")
    print(f"| `import nnguard`, less starting Python | {importing - empty:.2f} | 0.3 |")


LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - started
print(json.dumps([code, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


def process(command: Sequence[str | Path]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak resident memory in MB.

    A small process starts it: a child's peak counts the pages of the process that forked it.
    """
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, command)]
    out = subprocess.run(launch, stdout=subprocess.PIPE, check=True).stdout
    code, seconds, memory = json.loads(out)
    if code:
        raise SystemExit(f"{command} failed")
    return seconds, memory


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
