"""What a licensee can take off who knows all but the vendor's secret: which weights are masked.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/tracing_structure.py NETWORK --data DIR --cifar10 PATH --wheels DIR
        --output DIR [--repair 0.01] [--repair-steps 300] [--base FILE]

A licensee knows which weights are masked, not which of them are marked, nor which way. They can
spoil all, add noise to all, or guess what is likelier by what other weights are. With `--base`, the
release was trained from that public network, and its weights are put there instead. `--repair`
trains afterwards.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import nnguard
import nnguard.torch
from nnguard._tracing.accusation import log10_innocent
from nnguard._tracing.evidence import collect
from results import SEED, Results
from tracing_buyers import Buyers
from tracing_marks import Marked, Part
from tracing_tuning import Classifier, State, Subject, network_arguments, prepared, subject

Change = Callable[[Part, Tensor], Tensor]
NOISE = (2, 4, 8, 16)


class Structure:
    """A release, one buyer's copy of it, and what its owner makes of that."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.stream = nnguard.Stream.open(options.stream)
        self.state: State = nnguard.torch.decompress(self.stream, allow_trial=True)
        self.marked = Marked(self.stream)
        self.buyers = Buyers(self.marked, options.buyers)
        self.subject: Subject = subject(
            options.network, options.data, options.cifar10, options.wheels, options.images
        )
        self.base: State | None = None if options.base is None else load_file(options.base)
        self.repairs: bool = options.repair is not None
        self._repair = options.repair, options.repair_steps
        values = self.marked.values(self.buyers.fingerprints[0].astype(float))
        self.copy = self.marked.put(self.state, values)
        self._tensors = self.marked.caster.marked_tensors()

    def changed(self, change: Change, *, core: bool | None = None) -> State:
        """Change the masked weights of the copy; those of the core, or those elsewhere, if asked.

        Args:
            change: Makes new weights of those of one tensor.
            core: Whether only the core is changed, or only what is not in it.
        """
        found = {name: value.clone() for name, value in self.copy.items()}
        for part in self.marked.parts:
            if core is None or core == part.core:
                flat = found[part.name].view(-1)
                flat[part.covered] = change(part, flat[part.covered])
        return found

    def like(self, part: Part, theirs: Tensor) -> Tensor:
        """Go back by what a mark is likelier to have done, as the weights of the tensor spread."""
        step = float(part.amplitude)
        whole = self.copy[part.name].view(-1)
        spread = float(whole.std()) / 40
        places = torch.linspace(float(whole.min()), float(whole.max()), 2001)
        width = float(places[1] - places[0])
        counts = torch.histc(whole, 2001, float(places[0]), float(places[-1]))
        reach = max(int(4 * spread / width), 1)
        kernel = torch.exp(-((torch.arange(-reach, reach + 1) * width / spread) ** 2) / 2)
        density = nn.functional.conv1d(counts[None, None], kernel[None, None], padding=reach)[0, 0]

        def at(values: Tensor) -> Tensor:
            index = ((values - places[0]) / width).round().long().clamp(0, 2000)
            return density[index] + 1e-3

        up, down = at(theirs - step), at(theirs + step)  # it was moved up, or down
        return theirs - step * (up - down) / (up + down)

    def tell(self, state: State, *, repaired: bool = False) -> dict[str, float]:
        """Return the guilty buyer's score, the bound on an innocent's, and how good it is."""
        if repaired:
            rate, steps = self._repair
            state = self.subject.train(state, steps=steps, rate=rate)
        suspect = {name: value.numpy() for name, value in state.items()}
        found = collect(self._tensors, self.marked.entries, suspect)
        ways = self.buyers.ways(found.estimate)
        scores = self.buyers.scores(ways)
        bounds = [
            log10_innocent(way, self.buyers.biases, float(own[0]))
            for way, own in zip(ways, scores, strict=True)
        ]
        return {
            "z": float(scores[:, 0].max()),
            "bound": min(bounds) + math.log10(len(ways)),
            "innocent": float(scores[:, 1:].max()),
            "score": self.subject.score(state),
        }


def jobs(bench: Structure) -> Iterator[tuple[str, Callable[[], State]]]:
    """Yield attacks: their names, and what they make."""

    def noise(times: float, part: Part, theirs: Tensor) -> Tensor:
        drawn = torch.randn(theirs.shape, generator=seeded(part.unit))
        return theirs + times * float(part.amplitude) * drawn

    def others(part: Part, theirs: Tensor) -> Tensor:
        return theirs[torch.randperm(theirs.numel(), generator=seeded(part.unit))]

    def likelier(times: float, part: Part, theirs: Tensor) -> Tensor:
        return theirs + times * (bench.like(part, theirs) - theirs)

    yield "a copy", lambda: bench.copy
    for where, core in (("all", None), ("the core", True), ("elsewhere", False)):
        yield f"nothing instead, {where}", partial(bench.changed, lambda _, v: v * 0, core=core)
        yield f"others instead, {where}", partial(bench.changed, others, core=core)
    for times in NOISE:
        yield f"noise of {times} marks", partial(bench.changed, partial(noise, times))
    for times in (1, 10):
        yield (
            f"back to the likelier, {times} times",
            partial(bench.changed, partial(likelier, times)),
        )
    for kept in (0.99, 0.95):
        yield f"{kept:.0%} of the energy kept, by rank", partial(low_rank, bench, kept)
    yield "channels permuted and scaled", lambda: disguised(bench.copy, seeded(0))
    if isinstance(taught := bench.subject, Classifier):
        yield (
            "another network, trained on its answers",
            lambda: taught.distill(bench.copy, steps=1000, rate=0.1),
        )
    if (base := bench.base) is not None:
        yield (
            "the base instead",
            partial(bench.changed, lambda part, _: base[part.name].reshape(-1)[part.covered]),
        )


def seeded(number: int) -> torch.Generator:
    """Return a source of random numbers that does not hang on what was run before."""
    return torch.Generator().manual_seed(SEED + number)


def disguised(state: State, rng: torch.Generator) -> State:
    """Return the same function in other weights: of a ResNet, or of an encoder.

    Inside of each block, channels take other places; where batch normalization follows, they are
    scaled as well.
    """
    found = dict(state)
    for first in state:
        block = first.removesuffix(".conv1.weight")
        normalized = block != first
        if normalized:
            vectors, second = f"{block}.bn1.", f"{block}.conv2.weight"
        elif first.endswith(".intermediate.dense.weight"):
            vectors = first.removesuffix("weight")
            second = first.replace("intermediate", "output")
        else:
            continue
        order = torch.randperm(found[first].shape[0], generator=rng)
        for name in {first, *(name for name in found if name.startswith(vectors))}:
            if found[name].shape[:1] == order.shape:
                found[name] = found[name][order]
        found[second] = found[second][:, order]
        if normalized:
            scale = torch.exp(torch.randn(order.numel(), generator=rng) / 2)
            found[first] = found[first] * scale.view(-1, 1, 1, 1)
            found[f"{vectors}running_mean"] = found[f"{vectors}running_mean"] * scale
            found[f"{vectors}running_var"] = found[f"{vectors}running_var"] * scale**2
    return found


def low_rank(bench: Structure, kept: float) -> State:
    """Return the copy with masked tensors of the least rank that keeps so much of their energy."""
    found = dict(bench.copy)
    for part in bench.marked.parts:
        matrix = found[part.name].flatten(1)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        energy = values.square().cumsum(0) / values.square().sum()
        rank = int((energy < kept).sum()) + 1
        low = left[:, :rank] * values[:rank] @ right[:rank]
        found[part.name] = low.reshape(found[part.name].shape)
    return found


def report(values: dict[str, Any]) -> str:
    """Return what was measured, as a table."""
    rows = ["| attack | guilty | bound for an innocent | score |", "|---|--:|--:|--:|"]
    for name, value in values.items():
        if name != "made":
            figures = f"{value['z']:.1f} | 10^{value['bound']:.0f} | {value['score']:.2f}"
            rows.append(f"| {name} | {figures} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, or report, from the command line."""
    parser = network_arguments(__doc__.partition("\n")[0])
    parser.add_argument("--repair", type=float, help="learning rate of a repair")
    parser.add_argument("--repair-steps", type=int, default=300)
    parser.add_argument("--base", type=Path, metavar="FILE", help="safetensors")
    parser.add_argument("--only", nargs="*", help="names of attacks")
    parser.add_argument("--buyers", type=int, default=1000, help="(%(default)s)")
    options = prepared(parser.parse_args())
    results = Results(options.output / f"{options.stream.stem}-structure.json")
    if options.report:
        print(report(results.values))
        return
    bench = Structure(options)
    for name, attack in jobs(bench):
        for repaired in (False, True)[: 1 + bench.repairs]:
            label = f"{name}, trained" if repaired else name
            if options.only and label not in options.only:
                continue
            measure = partial(measured, bench, attack, repaired=repaired)
            if (seconds := results.add(label, measure)) is not None:
                print(f"{label}: {results.values[label]} ({seconds:.0f} s)", flush=True)


def measured(bench: Structure, attack: Callable[[], State], *, repaired: bool) -> dict[str, float]:
    """Make a suspect and tell what is found of it."""
    return bench.tell(attack(), repaired=repaired)


if __name__ == "__main__":
    main()
