"""What each algorithm of signatures costs: bytes and milliseconds.

    python benchmarks/algorithms.py [--data ../shared/data] [--runs 30]

Signs ResNet20, MiniLM and a network of VGG16's shapes with a key of each algorithm, and verifies
them in turns, in one process; prints the best CPU time of all threads as Markdown. What verifying
takes more than for Ed25519 is measured with the units' digests known: hashing them takes the same
for all, and up to a hundred times as long.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

import nnguard
from nnguard._crypto.keys import AlgorithmName
from nnguard._operations.verify import verified
from nnguard._records.hashed import hash_files
from random_networks import vgg16

ROOT = Path(__file__).parents[1]
NAMES = get_args(AlgorithmName)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--runs", type=int, default=30, help="turns; the best of them is printed")
    options = parser.parse_args()
    keys = [nnguard.SigningKey.generate(name) for name in NAMES]
    print(
        "| network | key | record | file grows by | sign ms | verify ms | but hashing ms | more |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for label, model in models(options.data):
        for row in rows(model, keys, options.runs):
            print(f"| {label} | {' | '.join(row)} |", flush=True)


def models(data: Path) -> Iterator[tuple[str, nnguard.Stream]]:
    """The networks, in memory."""
    for label, name in (("ResNet20", "resnet20"), ("MiniLM", "minilm")):
        path = data / "streams" / f"{name}.default.nnc"
        yield label, nnguard.Stream.from_bytes(path.read_bytes())
    yield "VGG16's shapes", nnguard.compress(vgg16())


def rows(model: nnguard.Stream, keys: list[nnguard.SigningKey], runs: int) -> Iterator[list[str]]:
    """Measure one network with all keys, in turns."""
    releases = [nnguard.Stream.from_bytes(bytes(nnguard.sign(model, key))) for key in keys]
    calls: list[list[Callable[[], object]]] = []
    for key, release in zip(keys, releases, strict=True):
        digests = {name: file.digests for name, file in hash_files(release).items()}
        calls.append(
            [
                partial(nnguard.sign, model, key),
                partial(nnguard.verify, release, key.public_key),
                partial(verified, release, [key.public_key], digests=digests),
            ]
        )
    turns = [[[milliseconds(call) for call in each] for each in calls] for _ in range(runs)]
    best = np.min(turns, axis=0)
    for key, release, (sign, verify, known) in zip(keys, releases, best, strict=True):
        grown = release.size - model.size
        yield [
            key.public_key.algorithm,
            f"{nnguard.inspect(release).records[0].size:,}",
            f"{grown:,} ({100 * grown / model.size:.3f} %)",
            f"{sign:.2f}",
            f"{verify:.2f}",
            f"{known:.2f}",
            f"{known - best[0, -1]:+.2f}",
        ]


def milliseconds(call: Callable[[], object]) -> float:
    """Return the CPU time that a call takes in all threads."""
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
