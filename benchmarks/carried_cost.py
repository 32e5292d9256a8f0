"""Cost of the lock by another network, beside the stock coder's work on the same two networks.

    PYTHONPATH=tests:benchmarks python benchmarks/carried_cost.py [--runs 3] [--small]

The release has VGG16's shapes, the trial two thirds as many weights, all random, URQ. `nnguard
lock` has both as streams; the stock coder compresses both. `nnguard unlock` writes the release,
which is compared byte for byte; the stock coder decodes both. Whole processes, in turns; prints
medians, peak resident memory, and the growth over both streams, as Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import save_file

import nnguard
import random_networks
from cost import process

ENCODE = """
import sys, stock
from safetensors.numpy import load_file
for path in sys.argv[1:]:
    stock.encode(load_file(path), dependent=False)
"""
DECODE = """
import sys, stock
for path in sys.argv[1:]:
    stock.decode(open(path, "rb").read())
"""
TWO = ("release", "weaker")


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--small", action="store_true", help="to see that it works")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.runs, small=options.small)
    return 0


def measure(at: Path, runs: int, *, small: bool) -> None:
    """Make two networks in a folder, sell one by the other, and print what it cost."""
    weights = make(at, small=small)
    nnguard.SigningKey.generate().save(at / "vendor.key")
    nnguard.SigningKey.load(at / "vendor.key").public_key.save(at / "vendor.pub")
    nnguard.Identity.generate().save(at / "customer.key")
    lock = nnguard_command("lock", at / "release.nnc", "--trial", at / "weaker.nnc")
    lock += ["-o", at / "trial.nnc", "--content-key", at / "content.key"]
    lock += ["--key", at / "vendor.key", "--force"]
    unlock = nnguard_command("unlock", at / "trial.nnc", "-o", at / "full.nnc", "--force")
    unlock += ["--license", at / "license", "--identity", at / "customer.key"]
    unlock += ["--trust", at / "vendor.pub"]
    stock_encode = [sys.executable, "-c", ENCODE, *[at / f"{name}.safetensors" for name in TWO]]
    stock_decode = [sys.executable, "-c", DECODE, *[at / f"{name}.nnc" for name in TWO]]

    locking = in_turns(lock, stock_encode, runs)
    issue(at)
    unlocking = in_turns(unlock, stock_decode, runs)
    if (at / "full.nnc").read_bytes() != (at / "release.nnc").read_bytes():
        sys.exit("the unlocked file is not the release")

    sizes = [(at / f"{name}.nnc").stat().st_size for name in (*TWO, "trial")]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"release and trial of {weights[0]:,} and {weights[1]:,} weights; {sizes[0]:,} and")
    print(f"{sizes[1]:,} bytes; the locked trial {sizes[2]:,}: ", end="")
    print(f"{100 * (sizes[2] / sum(sizes[:2]) - 1):+.2f} % over both\n")
    print("| | nnguard s | MB | stock coder s | MB | ratio |\n|---|--:|--:|--:|--:|--:|")
    print(row("lock; stock: compress both", locking))
    print(row("unlock; stock: decode both", unlocking))


def make(at: Path, *, small: bool) -> list[int]:
    """Write both networks, as weights and as streams; return how many weights each has."""
    release = random_networks.of_size(400_000) if small else random_networks.vgg16()
    counts = [sum(array.size for array in release.values())]
    weaker = random_networks.of_size(2 * counts[0] // 3)
    counts.append(sum(array.size for array in weaker.values()))
    for name, arrays in zip(TWO, (release, weaker), strict=True):
        save_file(arrays, at / f"{name}.safetensors")
        stream = nnguard.compress(arrays, nnguard.Settings(dependent=False), spool=at)
        stream.save(at / f"{name}.nnc")
    return counts


def nnguard_command(*arguments: str | Path) -> list[str | Path]:
    """Return a command of nnguard."""
    return [sys.executable, "-m", "nnguard", *arguments]


def issue(at: Path) -> None:
    """Write a license for the trial."""
    nnguard.licensing.issue(
        at / "trial.nnc",
        at / "content.key",
        to=nnguard.Identity.load(at / "customer.key").recipient,
        signer=at / "vendor.key",
    ).save(at / "license")


def in_turns(
    ours: Sequence[str | Path], theirs: Sequence[str | Path], runs: int
) -> list[list[tuple[float, float]]]:
    """Run two commands in turns; return seconds and peak MB of all runs of each."""
    turns = [(process(ours), process(theirs)) for _ in range(runs)]
    return list(map(list, zip(*turns, strict=True)))


def row(label: str, found: list[list[tuple[float, float]]]) -> str:
    """Return medians of seconds and the largest memory of both, as cells."""
    seconds = [statistics.median(second for second, _ in runs) for runs in found]
    memory = [max(peak for _, peak in runs) for runs in found]
    cells = (f"{s:.2f} | {m:.0f}" for s, m in zip(seconds, memory, strict=True))
    return f"| {label} | {' | '.join(cells)} | {seconds[1] / seconds[0]:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
