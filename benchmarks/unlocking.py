"""Cost of unlocking, side by side with decoding the whole network by the stock decoder.

    python benchmarks/unlocking.py [--stream FILE --trial FILE] [--runs 3]

Locks a network of VGG16's size (random weights of its shapes, unless a stream is given) in several
ways: in another network, which is given or of the same shapes, and in itself. For each, whole
processes in turn: the stock decoder reads the trial, and `nnguard unlock` writes the original to a
file, which is compared byte for byte. Prints medians, ratios and peak resident memory as Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import nnguard
import random_networks
from cost import process

LOCKS: dict[str, dict[str, Any]] = {
    "default: scrambled": {},
    "10 % scrambled": {"scramble": 0.1},
    "soft: 4,096 weights": {"soft": nnguard.Soft()},
    "soft: 0.01 % of the weights": {"soft": nnguard.Soft(fraction=1e-4)},
}
BARS = {"another network": 1, "10 % scrambled": 6, "soft: 4,096 weights": 30}

_STOCK = "import sys, pathlib, stock; stock.decode(pathlib.Path(sys.argv[1]).read_bytes())"


def main() -> int:
    """Run all measurements and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stream", type=Path, help="a stream to lock instead")
    parser.add_argument("--trial", type=Path, help="another network that carries it")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; medians are printed")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    key, customer = nnguard.SigningKey.generate(), nnguard.Identity.generate()
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        key.public_key.save(at / "vendor.pub")
        customer.save(at / "customer.key")
        release = nnguard.sign(options.stream or vgg16(at / "model.nnc"), key, name="network")
        weaker = nnguard.Stream.open(options.trial or vgg16(at / "weaker.nnc", seed=1))
        release.save(at / "release.nnc")
        print(
            f"{release.size / 1e6:.0f} MB, {len(release)} units; medians of {options.runs} runs\n"
        )
        print(
            "| lock | weights replaced or scrambled, or bytes carried | growth % | stock decode s "
            "| unlock s | ratio | bar | stock MB | unlock MB |\n"
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
            flush=True,
        )
        for label, amount in {"another network": {"trial": weaker}, **LOCKS}.items():
            locked = nnguard.lock(release, signer=key, **amount)
            locked.trial.save(at / "trial.nnc", overwrite=True)
            license = nnguard.licensing.issue(  # noqa: A001
                locked.trial, locked.content_key, to=customer.recipient, signer=key
            )
            license.save(at / "license", overwrite=True)
            before = release.size + (weaker.size if "trial" in amount else 0)
            measure(label, locked, before, at, options.runs)
    return 0


def vgg16(path: Path, seed: int = 0) -> Path:
    """Write a stream of VGG16's shapes."""
    settings = nnguard.Settings(qp=-38, dependent=False)
    nnguard.compress(random_networks.vgg16(seed), settings, spool=path.parent).save(path)
    return path


def measure(label: str, locked: nnguard.Locked, size: int, at: Path, runs: int) -> None:
    """Print the row of one lock; `size` is that of what it was made of."""
    stock: list[Any] = [sys.executable, "-c", _STOCK, at / "trial.nnc"]
    unlock: list[Any] = [sys.executable, "-m", "nnguard", "unlock", at / "trial.nnc"]
    unlock += ["-o", at / "full.nnc", "--license", at / "license"]
    unlock += ["--identity", at / "customer.key", "--trust", at / "vendor.pub"]
    theirs, ours = [], []
    for run in range(runs):
        (at / "full.nnc").unlink(missing_ok=True)
        ours.append(process(unlock))
        if (at / "full.nnc").read_bytes() != (at / "release.nnc").read_bytes():
            sys.exit("the unlocked file is not the release")
        if run < max(1, runs // 2):
            theirs.append(process(stock))
    slow, fast = (statistics.median(seconds for seconds, _ in row) for row in (theirs, ours))
    memory = [max(peak for _, peak in row) for row in (theirs, ours)]
    growth = 100 * (locked.trial.size - size) / size
    touched = locked.replaced + locked.scrambled + locked.carried
    print(
        f"| {label} | {touched:,} | {growth:.3f} | {slow:.2f} | {fast:.2f} | {slow / fast:.0f} "
        f"| {BARS.get(label, '')} | {memory[0]:.0f} | {memory[1]:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
