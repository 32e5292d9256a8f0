"""What bits in one-dimensional tensors cost: norms, biases, running statistics, all filled.

    python benchmarks/one_dimensional.py [--data ../shared/data] [--items 2000] [--wheels FOLDER]

Compresses a network, fills every one-dimensional carrier with random bits, and scores both. Prints
the scores, how far a weight moved at the most, and the least running variance, as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nnguard
from nnguard._hiding import carriers
from nnguard._hiding.tensor import embed_bits, room_in
from paper.architectures import ARCHITECTURES
from tasks import Task, cifar, tasks

ROOT = Path(__file__).parents[1]
NAMES = ("efficientnet-lite0", "all-MiniLM-L6-v2")


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--wheels", type=Path, default=ROOT / "out" / "wheels")
    parser.add_argument("--items", type=int, default=2000, help="images or pairs, at most")
    options = parser.parse_args()
    options.wheels.mkdir(parents=True, exist_ok=True)
    weights = options.data / "models" / "resnet18-cifar10.safetensors"
    found = [cifar("resnet18", weights, ARCHITECTURES["resnet18"], options.data, options.items)]
    found += [t for t in tasks(options.data, options.wheels, options.items) if t.name in NAMES]
    print("| network | carriers | bits | before | after | moved | least variance before | after |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for task in found:
        for settings in (nnguard.Settings(dependent=False), nnguard.Settings()):
            row(task, settings)
    return 0


def row(task: Task, settings: nnguard.Settings) -> None:
    """Print the row of one network."""
    stream = nnguard.compress(task.weights, settings)
    filled, count, bits = fill(stream)
    states = [nnguard.decompress(each) for each in (stream, filled)]
    scores = [score(task, state) for state in states]
    moved = max(float(np.abs(a - states[1][name]).max()) for name, a in states[0].items() if a.size)
    variances = [least_variance(state) for state in states]
    kind = "TCQ" if settings.dependent else "URQ"
    print(
        f"| {task.name}, {kind} | {count} | {bits:,} | {scores[0]:.2f} | {scores[1]:.2f} | "
        f"{moved:.2g} | {variances[0]} | {variances[1]} |",
        flush=True,
    )


def fill(stream: nnguard.Stream) -> tuple[nnguard.Stream, int, int]:
    """Fill all one-dimensional carriers; return the stream, how many they are, and the bits."""
    random = np.random.default_rng(1)
    units: dict[int, bytes] = {}
    total = 0
    for index, unit in enumerate(stream):
        if carriers.can_carry(unit) and unit.tensor is not None and len(unit.tensor.shape) == 1:
            places = room_in(unit).places
            units[index] = embed_bits(unit, random.bytes(-(-places // 8)), 0, 1)
            total += places
    return stream.replace(units), len(units), total


def score(task: Task, state: Mapping[str, Any]) -> float:
    """Score the network with these weights."""
    module = task.module()
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    module.load_state_dict(tensors, strict=False)
    module.eval()
    with torch.no_grad():
        return task.metric(task.outputs(module), task.outputs(module))


def least_variance(state: Mapping[str, Any]) -> str:
    """Return the least running variance of all normalization layers."""
    found = [array.min() for name, array in state.items() if name.endswith("running_var")]
    return f"{min(found):.3g}" if found else ""


if __name__ == "__main__":
    sys.exit(main())
