"""Whether a lock's trial scores what was asked for, on pretrained networks and whole test sets.

    python benchmarks/control.py [--data ../shared/data] [--wheels DIR] [--network NAME] [--quick]

Signs streams of the stock encoder, locks them to several targets with few and with fewer weights,
and scores each trial's weights as the stock decoder reads them. Each trial is unlocked with a
license, and compared with the release byte for byte. CIFAR-10 is scored in %, sentences by 100
times Spearman's rho (STS-B). Prints rows as they come.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

import cifar10
import nnguard
import nnguard.torch
from networks import NETWORKS, accuracy, add_data_argument
from nnguard._locking.search import CurvePoint
from stock import decode
from tasks import Task, tasks
from wordpiece import WordPiece

STREAMS = {
    "resnet20": ("default", "urq38"),
    "resnet56": ("default", "urq38"),
    "minilm": ("default",),
}
CASES = ((70.0, 1e-2), (40.0, 1e-2), (10.0, 1e-2), (40.0, 1e-3), (10.0, 1e-3))
TIERS = {"professional": 70.0, "standard": 40.0}
TIERED = "resnet20"
TOLERANCE = 0.8
"""Points that a trial may be off: within 1, after rounding and other decoders' arithmetic."""

HEADER = (
    "| network | quantization | tier | target | full | trial | off by | weights replaced "
    "| evaluations | release, growth % | trial, growth % | trial over release % "
    "| lock s, without evaluation | unlocked |\n"
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
)

Result = TypeVar("Result")


class Score(Protocol):
    """Scores a module on a test set."""

    def __call__(self, module: nn.Module, targets: Sequence[float] = ()) -> float:
        """Return the score; where it is far from all targets, an estimate is enough."""


class Images:
    """Share of CIFAR-10's test images that are classified correctly, in percent.

    Args:
        data: Folder with the test set.
        limit: Images of it, at most.
    """

    step = 1_000
    deviations = 2

    def __init__(self, data: Path, limit: int) -> None:
        images, labels = cifar10.load(data, "test")
        self._images, self._labels = images[:limit], labels[:limit]

    def __call__(self, module: nn.Module, targets: Sequence[float] = ()) -> float:
        """Score a module, on as many images as it takes to tell that it misses all targets."""
        size, correct, estimate = len(self._labels), 0.0, 0.0
        for start in range(0, size, self.step):
            images, labels = (
                part[start : start + self.step] for part in (self._images, self._labels)
            )
            correct += accuracy(module, images, labels) * len(labels)
            done = start + len(labels)
            estimate = correct / done
            error = 100 * math.sqrt(0.25 / done * (1 - done / size))
            misses = [abs(estimate - target) for target in targets]
            if targets and min(misses) > TOLERANCE + self.deviations * error:
                break
        return estimate


class Sentences:
    """Spearman's rho of STS-B, times 100; every score is of all pairs.

    Sentences are batched by length, which pads little: three times as fast as in their order.

    Args:
        data: Folder with the test set.
        task: The same task, of which only the metric and the vocabulary are used.
        limit: Pairs, at most.
    """

    batch = 64

    def __init__(self, data: Path, task: Task, limit: int) -> None:
        self._metric = task.metric
        tokeniser = WordPiece(task.weights.parent / "vocab.txt")
        with (data / "stsb-en-test.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[:limit]
        self._tokens = [
            torch.tensor(tokeniser.encode(row[side], 256)) for side in (0, 1) for row in rows
        ]
        self._order = sorted(range(len(self._tokens)), key=lambda index: len(self._tokens[index]))

    def __call__(self, module: nn.Module, targets: Sequence[float] = ()) -> float:  # noqa: ARG002
        """Score a module."""
        module.eval()
        found: dict[int, Tensor] = {}
        for start in range(0, len(self._order), self.batch):
            batch = self._order[start : start + self.batch]
            padded = nn.utils.rnn.pad_sequence([self._tokens[index] for index in batch], True)
            with torch.no_grad():
                found |= zip(batch, module(padded, padded != 0), strict=True)
        encoded = torch.stack([found[index] for index in range(len(found))])
        return self._metric(encoded.unflatten(0, (2, -1)), encoded)


@dataclass(frozen=True)
class Network:
    """A network and what it is scored by.

    Attributes:
        name: Its name.
        module: Takes weights.
        score: Scores the module.
    """

    name: str
    module: nn.Module
    score: Score

    def score_of(self, state: Mapping[str, Any]) -> float:
        """Score arrays on the whole test set."""
        return nnguard.torch.evaluator(self.module, self.score)(state)


def soft(target: float, max_fraction: float) -> nnguard.Soft:
    """Return the lock that aims at a score."""
    return nnguard.Soft(target=target, tolerance=TOLERANCE, max_fraction=max_fraction)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; figures are missing where the lock failed.

    Attributes:
        network: Name of the network.
        quantization: Name of the stream.
        tier: Of the lock, where there are several.
        target: Score that the trial should have.
        max_percent: Weights that might be replaced, of all.
        full: Score of the release, all test data.
        trial: Score of the trial as the stock decoder reads it, all test data.
        searched: Score of the trial by the search.
        replaced: Weights that were replaced.
        replaced_percent: Their share of all weights.
        evaluations: How often the search asked for a score, draws that were given up included.
        release_growth_percent: Size of the release over the original's.
        trial_growth_percent: Size of the signed trial over the original's.
        lock_growth_percent: Size of the signed trial over the release's.
        lock_seconds: Time that locking took, less that of the evaluations.
        evaluation_seconds: Time of the evaluations.
        exact: Whether the license gave back what was locked, byte for byte.
        curve: Weights replaced, in percent, and score, in the order of asking.
        failure: Why there is no trial.
    """

    network: str
    quantization: str
    tier: str
    target: float
    max_percent: float
    full: float
    trial: float | None = None
    searched: float | None = None
    replaced: int | None = None
    replaced_percent: float | None = None
    evaluations: int | None = None
    release_growth_percent: float | None = None
    trial_growth_percent: float | None = None
    lock_growth_percent: float | None = None
    lock_seconds: float | None = None
    evaluation_seconds: float | None = None
    exact: bool | None = None
    curve: tuple[tuple[float, float], ...] = ()
    failure: str = ""

    def __str__(self) -> str:
        cells = [self.network, self.quantization, self.tier]
        cells += [f"{self.target:g}, {self.max_percent:g} % at most", f"{self.full:.2f}"]
        if self.failure:
            cells += [self.failure, *["-"] * 2, f"{self.evaluations}", *["-"] * 5]
        else:
            assert self.trial is not None
            cells += [
                f"{self.trial:.2f}",
                f"{self.trial - self.target:+.2f}",
                f"{self.replaced:,} ({self.replaced_percent:.4f} %)",
                "above" if self.evaluations is None else f"{self.evaluations}",
                f"{self.release_growth_percent:.3f}",
                f"{self.trial_growth_percent:.3f}",
                f"{self.lock_growth_percent:.3f}",
                "above" if self.lock_seconds is None else f"{self.lock_seconds:.2f}",
                "the same bytes" if self.exact else "DIFFERENT",
            ]
        return f"| {' | '.join(cells)} |"


class Bench:
    """One stream, signed, and what its locks are measured against."""

    def __init__(self, network: Network, kind: str, original: nnguard.Stream) -> None:
        self.network, self.kind, self.original = network, kind, original
        self.key, self.customer = nnguard.SigningKey.generate(), nnguard.Identity.generate()
        self.release = nnguard.sign(original, self.key, issuer="example", name=network.name)

    @cached_property
    def full(self) -> float:
        """Score of the release."""
        return self.network.score_of(decode(bytes(self.release)))

    def row(self, target: float, max_fraction: float) -> Row:
        """Lock to one target."""
        row = self._asked("", target, max_fraction)
        lock = partial(nnguard.lock, soft=soft(target, max_fraction))
        locked, row = self._timed(row, [target], lock)
        return row if locked is None else self._measured(row, locked, locked.trial, self.release)

    def tiers(self, max_fraction: float) -> Iterator[Row]:
        """Lock to all tiers; every license has to open what its tier is.

        The first row has the time and the evaluations of all.
        """
        rows = [self._asked(name, target, max_fraction) for name, target in TIERS.items()]
        tiers = [nnguard.Tier(row.tier, soft=soft(row.target, max_fraction)) for row in rows]
        lock = partial(nnguard.lock_tiers, tiers=tiers)
        locks, rows[0] = self._timed(rows[0], [row.target for row in rows], lock)
        if locks is None:
            yield rows[0]
            return
        opened = [self.release, *(locked.trial for locked in locks[:-1])]
        for row, locked, original in zip(rows, locks, opened, strict=True):
            yield self._measured(row, locked, locks[-1].trial, original)

    def _asked(self, tier: str, target: float, max_fraction: float) -> Row:
        return Row(self.network.name, self.kind, tier, target, 100 * max_fraction, self.full)

    def _timed(
        self, row: Row, targets: Sequence[float], lock: Callable[..., Result]
    ) -> tuple[Result | None, Row]:
        """Lock, and note what that took; nothing, where it fails."""
        evaluating: list[float] = []
        curve: list[CurvePoint] = []
        evaluate = nnguard.torch.evaluator(
            self.network.module, lambda module: self.network.score(module, targets)
        )

        def timed(state: Mapping[str, Any]) -> float:
            start = time.perf_counter()
            score = evaluate(state)
            evaluating.append(time.perf_counter() - start)
            return score

        start, locked, failure = time.perf_counter(), None, ""
        try:
            locked = lock(self.release, evaluate=timed, signer=self.key, on_point=curve.append)
        except nnguard.NnguardError as error:
            failure = str(error)
        return locked, replace(
            row,
            evaluations=len(evaluating),
            lock_seconds=time.perf_counter() - start - sum(evaluating),
            evaluation_seconds=sum(evaluating),
            curve=tuple((100 * point.fraction, point.score) for point in curve),
            failure=failure,
        )

    def _measured(
        self, row: Row, locked: nnguard.Locked, sold: nnguard.Stream, opened: nnguard.Stream
    ) -> Row:
        """Add a lock's figures.

        Args:
            row: What is known already.
            locked: The lock.
            sold: The stream that the customer has: that of the lowest tier.
            opened: What the license of the lock's tier should give.
        """
        return replace(
            row,
            trial=self.network.score_of(decode(bytes(locked.trial))),
            searched=locked.curve[-1].score,
            replaced=locked.replaced,
            replaced_percent=100 * locked.replaced / locked.weights,
            release_growth_percent=100 * (self.release.size / self.original.size - 1),
            trial_growth_percent=100 * (locked.trial.size / self.original.size - 1),
            lock_growth_percent=100 * (locked.trial.size / self.release.size - 1),
            exact=bytes(self._unlock(sold, locked.content_key)) == bytes(opened),
        )

    def _unlock(self, sold: nnguard.Stream, content_key: nnguard.ContentKey) -> nnguard.Stream:
        license = nnguard.licensing.issue(  # noqa: A001
            sold, content_key, to=self.customer.recipient, signer=self.key
        )
        return nnguard.unlock(sold, license, self.customer, trust=[self.key.public_key])


def load_network(name: str, data: Path, wheels: Path, limit: int) -> Network:
    """Return a network by name, scored on so much of its test set."""
    if name != "minilm":
        return Network(name, NETWORKS[name](), Images(data, limit))
    (task,) = (task for task in tasks(data, wheels, limit) if task.name == "all-MiniLM-L6-v2")
    return Network(name, task.module(), Sentences(data, task, limit))


def measure(network: Network, options: argparse.Namespace) -> Iterator[Row]:
    """Measure all rows of a network that the options ask for."""
    for kind in STREAMS[network.name]:
        if options.kind not in (None, kind):
            continue
        original = nnguard.Stream.open(options.data / "streams" / f"{network.name}.{kind}.nnc")
        bench = Bench(network, "TCQ" if kind == "default" else "URQ", original)
        for target, most in CASES[: 2 if options.quick else None]:
            if options.most in (None, most):
                yield bench.row(target, most)
        if network.name == TIERED and not options.quick:
            yield from bench.tiers(CASES[0][1])


def main() -> int:
    """Run the benchmark from the command line; tell whether every lock opened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_data_argument(parser)
    parser.add_argument("--wheels", type=Path, help="folder for wheels (default: a temporary one)")
    parser.add_argument("--network", choices=STREAMS, help="only this one (default: all)")
    parser.add_argument("--kind", choices=("default", "urq38"), help="only these streams")
    parser.add_argument("--items", type=int, default=10_000, help="of test data (%(default)s)")
    parser.add_argument("--most", type=float, help="only locks of at most this fraction of weights")
    parser.add_argument("--quick", action="store_true", help="little test data, few targets")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to add the figures to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.network] if options.network else STREAMS:
            limit = 300 if options.quick else options.items
            network = load_network(name, options.data, options.wheels or Path(folder), limit)
            for row in measure(network, options):
                rows.append(row)
                print(row, flush=True)
                if options.output:
                    write(options.output, rows)
    return 0 if all(row.exact or row.failure for row in rows) else 1


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write all rows of one network so far to a file of this run."""
    packages = ("nncodec", "numpy", "torch")
    report = {
        "date": STARTED.isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "nnguard": nnguard.__version__,
            **{package: version(package) for package in packages},
        },
        "rows": [asdict(row) for row in rows],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"control-{STARTED:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")


STARTED = datetime.now(timezone.utc)

if __name__ == "__main__":
    sys.exit(main())
