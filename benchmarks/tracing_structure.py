"""What somebody can take off who knows everything but the vendor's secret: how copies are made.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/tracing_structure.py NETWORK --data DIR --cifar10 PATH --wheels DIR
        --output DIR [--repair 0.01] [--repair-steps 300] [--base FILE]

A licensee knows which weights are marked, which of them share an entry, and with which signs.
*Centered*: of each entry, the mean over its marks is taken off all of them, whatever it was; of
several copies, where they differ, the fingerprint is known besides. *Noise* and *nothing instead*
are on marked weights alone. With `--base`, the release was trained from that public network, and
what it has at the marks is put there instead, or entries are centered about it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import cifar10
import nnguard
import nnguard.torch
from results import SEED, Results
from tracing_buyers import Buyers
from tracing_marks import Marked, Values
from tracing_tuning import State, Subject, release, subject

NOISE = (2, 4, 8, 16)


class Structure:
    """A release, one buyer's copy of it, and what its owner makes of that."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.stream = nnguard.Stream.open(options.stream)
        self.state: State = nnguard.torch.decompress(self.stream, allow_trial=True)
        self.marked = Marked.of(self.stream)
        self.buyers = Buyers(self.marked, options.buyers)
        self.subject: Subject = subject(
            options.network, options.data, options.cifar10, options.wheels, options.images
        )
        self._repair = options.repair, options.repair_steps
        self.base: Values | None = None
        if options.base is not None:
            self.base = self.marked.at(load_file(options.base))

    def held(self, size: int) -> Values:
        """Return the marked weights of the mean of the first buyers' copies."""
        return self.marked.values(self.buyers.fingerprints[:size].mean(0))

    def centered(self, values: Values, share: float = 1.0) -> Values:
        """Take off of each entry what its marks have in common."""
        marked = self.marked
        moved = marked.sign * values / marked.amplitude
        sums = np.bincount(marked.entry, moved, minlength=marked.entries)
        means = (sums / np.maximum(marked.counts, 1)).astype(np.float32)
        return values - share * marked.amplitude * marked.sign * means[marked.entry]

    def noisy(self, values: Values, times: float) -> Values:
        """Add normal noise, so many times the amplitude of marks."""
        rng = np.random.default_rng(SEED)
        noise = rng.standard_normal(values.size, np.float32)
        return values + np.float32(times) * self.marked.amplitude * noise

    def like_others(self, values: Values) -> Values:
        """Replace marked weights by others of the same tensor."""
        rng, found = np.random.default_rng(SEED), []
        pieces = np.split(values, self.marked.starts[1:-1])
        for piece in pieces:
            found.append(rng.permutation(piece))
        return np.concatenate(found)

    def tell(self, values: Values, size: int, *, repaired: bool = False) -> dict[str, float]:
        """Return the best score of the guilty, the change in amplitudes, and how good it is."""
        marked = self.marked
        state = marked.put(self.state, values)
        if repaired:
            rate, steps = self._repair
            state = self.subject.train(state, steps=steps, rate=rate)
            values = marked.at(state)
        scores = self.buyers.scores(marked.estimates(values)[None])[0]
        change = (values - marked.ours) / marked.amplitude
        return {
            "z": float(scores[:size].max()),
            "innocent": float(scores[size:].max()),
            "change": float(np.sqrt((change * change).mean())),
            "score": self.subject.score(state),
        }


def jobs(bench: Structure) -> dict[str, tuple[int, Callable[[Values], Values], bool]]:
    """Return attacks by name: how many copies, what is done, and whether it is trained then."""
    found: dict[str, tuple[int, Callable[[Values], Values], bool]] = {
        "a copy": (1, lambda v: v, False),
        "centered by half": (1, lambda v: bench.centered(v, 0.5), False),
        "centered": (1, bench.centered, False),
        "mean of 2, centered": (2, bench.centered, False),
        "others instead": (1, bench.like_others, False),
        "nothing instead": (1, lambda v: v * 0, False),
    }
    for times in NOISE:
        found[f"noise of {times}"] = 1, lambda v, t=times: bench.noisy(v, t), False
    if (base := bench.base) is not None:
        found["the base instead"] = 1, lambda _: base, False
        found["centered about the base"] = 1, lambda v: base + bench.centered(v - base), False
    if bench._repair[0]:
        found["a copy, trained"] = 1, lambda v: v, True
        found["centered, trained"] = 1, bench.centered, True
        found["noise of 16, trained"] = 1, lambda v: bench.noisy(v, 16), True
        found["nothing instead, trained"] = 1, lambda v: v * 0, True
    return found


def report(values: dict[str, Any]) -> str:
    """Return what was measured, as a table."""
    rows = ["| attack | guilty | change of marked weights, in marks | score |", "|---|--:|--:|--:|"]
    for name, value in values.items():
        if name != "made" and "z" in value:
            rows.append(
                f"| {name} | {value['z']:.1f} | {value['change']:.1f} | {value['score']:.2f} |"
            )
    return "\n".join(rows)


def main() -> None:
    """Measure, or report, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=["resnet20", "resnet56", "resnet18", "minilm"])
    parser.add_argument("--stream", type=Path, metavar="FILE", help="the release")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cifar10", type=Path, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--repair", type=float, help="learning rate of a repair")
    parser.add_argument("--repair-steps", type=int, default=300)
    parser.add_argument("--base", type=Path, metavar="FILE", help="safetensors")
    parser.add_argument("--only", nargs="*", help="names of attacks")
    parser.add_argument("--buyers", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--images", type=int, default=10_000, help="test images (%(default)s)")
    parser.add_argument("--report", action="store_true", help="print what was measured before")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    options.stream = options.stream or release(
        options.network, options.data, options.wheels, options.output
    )
    results = Results(options.output / f"{options.stream.stem}-structure.json")
    if options.report:
        print(report(results.values))
        return
    bench = Structure(options)
    for name, (size, attack, repaired) in jobs(bench).items():
        if options.only and name not in options.only:
            continue
        seconds = results.add(
            name, lambda s=size, a=attack, r=repaired: bench.tell(a(bench.held(s)), s, repaired=r)
        )
        if seconds is not None:
            print(f"{name}: {results.values[name]} ({seconds:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
