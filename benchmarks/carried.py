"""The lock by another network: its trial's score, the growth, and what an attacker gets out of it.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/carried.py NETWORK --data DIR --cifar10 PATH --wheels DIR --weaker DIR
        --output FILE [--steps 100] [--draws 3]

NETWORK is a release and the weaker network that carries it; `weaker.py` makes those in `--weaker`.
The same attacks on the same data run on the weaker network and on the trial, which differs by the
bits in its weights; the trial is kept beside FILE. A draw is of the attacker's data. Each result is
added to FILE as it comes, and not measured again in a second run; `--report` prints what is there,
as Markdown.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import attacks
import cifar10
import encoders
import nnguard
import nnguard.torch
from networks import NETWORKS, accuracy
from nnguard._hiding import peek
from opening import open_locks
from repair import pictures, repair
from results import SEED, Results
from tasks import Task, tasks
from weaker import ALL, TASKS, score, shallow_encoder

Job = tuple[str, Callable[[], Any]]
UNLABELED = 500
TEST = 2000
"""Images that attacks on images are scored on."""


@dataclass(frozen=True)
class Case:
    """A release and what it is sold with.

    Attributes:
        release: Stream in the data folder.
        weaker: Name in the folder of weaker networks.
        task: Name of the release's network among `TASKS`.
        module: Makes the weaker network, without weights.
        labeled: How many examples the attacker has.
        qp: Of the weaker network's stream: a finer step has fewer zeros, and more room.
    """

    release: str
    weaker: str
    task: str
    module: Callable[[], nn.Module]
    labeled: tuple[int, ...] = (500, 2500, 5000)
    qp: int = nnguard.Settings().qp


CASES = {
    "resnet20": Case("resnet20.default", "resnet20", "resnet20", NETWORKS["resnet20"]),
    "resnet56": Case("resnet56.default", "resnet56", "resnet56", NETWORKS["resnet56"]),
    "resnet56-by-resnet20": Case(
        "resnet56.default", "resnet20", "resnet56", NETWORKS["resnet20"], qp=-42
    ),
    "minilm": Case("minilm.default", "minilm", "minilm", shallow_encoder, (57, 287, 500)),
}
STARTS = ("weaker", "trial")


class Bench:
    """What one case is measured with.

    Args:
        case: One of `CASES`.
        options: Of the command line.
    """

    def __init__(self, case: Case, options: argparse.Namespace) -> None:
        self.case = case
        self.release = nnguard.Stream.open(options.data / "streams" / f"{case.release}.nnc")
        self.weaker = nnguard.compress(
            options.weaker / f"{case.weaker}.safetensors", nnguard.Settings(qp=case.qp)
        )
        self.trial = self._trial(options.output.with_name(f"{options.network}.trial.nnc"))
        found = {t.name: t for t in tasks(options.data, options.wheels, ALL)}
        self.task: Task = found[TASKS[case.task]]
        self.states: Mapping[str, Mapping[str, Tensor]] = {
            "weaker": nnguard.torch.decompress(self.weaker),
            "trial": nnguard.torch.decompress(self.trial, allow_trial=True),
        }

        self.labeled: list[int] = options.labeled or list(case.labeled)
        self._rates: list[float] = options.rates

    def rates(self, usual: Iterable[float]) -> Iterable[float]:
        """Return the learning rates to try."""
        return self._rates or usual

    def module(self, start: str) -> nn.Module:
        """Return the weaker network, with its own weights or the trial's."""
        module = self.case.module().to(memory_format=torch.channels_last)
        attacks.load(module, self.states[start])
        return module.eval()

    def _trial(self, path: Path) -> nnguard.Stream:
        """Return the trial; it is made once, since no two are the same."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock().save(path)
        return nnguard.Stream.open(path)

    def _lock(self) -> nnguard.Stream:
        locked = nnguard.lock(self.release, trial=self.weaker)
        found = open_locks(locked.trial, locked.content_key)
        if bytes(found.stream) != bytes(self.release):
            raise ValueError("what was unlocked is not the release")
        return locked.trial

    def score_another(self) -> float:
        """Score another trial of the same release, of another key."""
        module = self.case.module()
        attacks.load(module, nnguard.torch.decompress(self._lock(), allow_trial=True))
        return score(self.task, module)

    def sizes(self) -> dict[str, Any]:
        """Return bytes of all streams, and what a weight of the trial holds."""
        header, _ = peek(self.trial, 1)
        return {
            "release": self.release.size,
            "weaker": self.weaker.size,
            "trial": self.trial.size,
            "bits": max(header.widths),
            "carriers": sum(self.trial[at].tensor.size for at in header.carriers),
        }

    def release_score(self) -> float:
        """Score the release on the whole test set."""
        module = self.task.module()
        attacks.load(module, nnguard.torch.decompress(self.release))
        return score(self.task, module)


class Images(Bench):
    """A case of classifying CIFAR-10."""

    def __init__(self, case: Case, options: argparse.Namespace) -> None:
        super().__init__(case, options)
        self._known = cifar10.load(options.cifar10, "train")
        self._test = tuple(part[:TEST] for part in cifar10.load(options.data, "test"))

    def attacks(self, start: str, draw: int, steps: list[int]) -> Iterator[Job]:
        """Yield the attacks on one start with one draw of data."""
        for count in self.labeled:
            for step in steps:
                for rate in self.rates(attacks.RATES):
                    label = f"{count} labeled, {step} steps, draw {draw}, rate {rate}"
                    yield label, lambda c=count, s=step, r=rate: self._train(start, draw, c, s, r)
        yield f"statistics anew, draw {draw}", lambda: self._adapt(start, draw)
        for rate in self.rates(attacks.RATES):
            label = f"distilled, 100 steps, draw {draw}, rate {rate}"
            yield label, lambda r=rate: self._distill(start, draw, r)

    def without_data(self, start: str) -> Iterator[Job]:
        """Yield the attacks on one start that take no data."""
        yield "no data, repaired", lambda: self._repair(start)
        for rate in attacks.SYNTHETIC_RATES:
            label = (
                f"no data, statistics fitted to synthetic images, 100 steps, draw 0, rate {rate}"
            )
            yield label, lambda r=rate: self._fit(start, r)

    def _repair(self, start: str) -> float:
        module = self.module(start)
        mended, _ = repair(module, self.states[start], trades=True)
        attacks.load(module, mended)
        return accuracy(module, *self._test)

    def _fit(self, start: str, rate: float) -> float:
        module = self.module(start)
        attacks.fit_statistics(module, pictures(), steps=100, rate=rate)
        return accuracy(module, *self._test)

    def _train(self, start: str, draw: int, count: int, steps: int, rate: float) -> float:
        module = self.module(start)
        attacks.train(module, *self._drawn(draw, count), steps=steps, rate=rate)
        return accuracy(module, *self._test)

    def _adapt(self, start: str, draw: int) -> float:
        module = self.module(start)
        attacks.adapt(module, self._drawn(draw, UNLABELED)[0])
        return accuracy(module, *self._test)

    def _distill(self, start: str, draw: int, rate: float) -> float:
        module = self.module(start)
        attacks.distill(module, self._drawn(draw, UNLABELED)[0], steps=100, rate=rate)
        return accuracy(module, *self._test)

    def _drawn(self, draw: int, count: int) -> tuple[Tensor, Tensor]:
        images, labels = self._known
        chosen = np.random.default_rng(SEED + draw).permutation(len(labels))[:count]
        return images[chosen], labels[chosen]


class Sentences(Bench):
    """A case of encoding sentences."""

    def __init__(self, case: Case, options: argparse.Namespace) -> None:
        super().__init__(case, options)
        vocabulary = self.task.weights.parent / "vocab.txt"
        self._pairs = encoders.Pairs(options.data / "stsb-en-test.csv", vocabulary)

    def attacks(self, start: str, draw: int, steps: list[int]) -> Iterator[Job]:
        """Yield the attacks on one start with one draw of data."""
        for count in self.labeled:
            for step in steps:
                for rate in self.rates(encoders.RATES):
                    label = f"{count} labeled, {step} steps, draw {draw}, rate {rate}"
                    yield label, lambda c=count, s=step, r=rate: self._train(start, draw, c, s, r)
        yield f"whitened, draw {draw}", lambda: self._whiten(start, draw)

    def without_data(self, start: str) -> Iterator[Job]:  # noqa: ARG002
        """Yield nothing: no statistics are kept that would tell."""
        yield from ()

    def _train(self, start: str, draw: int, count: int, steps: int, rate: float) -> float:
        module = self.module(start)
        encoders.train(module, self._pairs, self._drawn(draw)[:count], steps=steps, rate=rate)
        return encoders.score(module, self._pairs)

    def _whiten(self, start: str, draw: int) -> float:
        chosen = self._drawn(draw)[: UNLABELED // 2]  # of two sentences each
        return encoders.score_whitened(self.module(start), self._pairs, chosen)

    def _drawn(self, draw: int) -> list[int]:
        order = np.random.default_rng(SEED + draw).permutation(len(self._pairs.theirs))
        return [self._pairs.theirs[at] for at in order]


def jobs(name: str, bench: Images | Sentences, options: argparse.Namespace) -> Iterator[Job]:
    """Yield what is to be measured of a case: sizes, scores of the whole test set, attacks."""
    yield f"{name}: sizes", bench.sizes
    yield f"{name}: release", bench.release_score
    for start in STARTS:
        yield f"{name}: {start}", lambda s=start: score(bench.task, bench.module(s))
    for number in range(1, options.trials):
        yield f"{name}: trial, key {number}", bench.score_another
    for start in STARTS:
        for label, attack in bench.without_data(start):
            yield f"{name}: {start}: {label}", attack
    for draw in range(options.draws):
        both = [bench.attacks(start, draw, options.steps) for start in STARTS]
        for pair in zip(*both, strict=True):
            for start, (label, attack) in zip(STARTS, pair, strict=True):
                yield f"{name}: {start}: {label}", attack


def report(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables, as Markdown."""
    names = [name for name in CASES if f"{name}: trial" in values]
    yield "| release | its score | weaker | trial: mean | furthest off | keys | bits in each "
    yield "| bytes: release | weaker | trial | growth over both % |\n|---|" + "--:|" * 10 + "\n"
    for name in names:
        sizes, weaker = values[f"{name}: sizes"], values[f"{name}: weaker"]
        trials = [value for label, value in values.items() if is_trial(label, name)]
        furthest = max((trial - weaker for trial in trials), key=abs)
        scores = f"{values[f'{name}: release']:.2f} | {weaker:.2f} | {statistics.mean(trials):.2f}"
        streams = " | ".join(f"{sizes[what]:,}" for what in ("release", *STARTS))
        growth = 100 * (sizes["trial"] / (sizes["release"] + sizes["weaker"]) - 1)
        yield f"| {name} | {scores} | {furthest:+.2f} | {len(trials)} | {sizes['bits']} "
        yield f"| {streams} | {growth:+.2f} |\n"
    yield "\n| release | attack | draws | weaker | trial | difference | its standard error |\n"
    yield "|---|---|--:|--:|--:|--:|--:|\n"
    for name in names:
        for attack, best in sorted(found(values, name).items(), key=order):
            pairs = [best[draw] for draw in best if len(best[draw]) == len(STARTS)]
            if pairs:
                yield f"| {name} | {attack} | {row(pairs)} |\n"


def is_trial(label: str, name: str) -> bool:
    """Tell whether a result is the score of a trial, of whatever key."""
    return label == f"{name}: trial" or label.startswith(f"{name}: trial, key ")


def found(values: Mapping[str, Any], name: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return the best score of each attack, over all rates, by attack, draw and start."""
    best: dict[str, dict[str, dict[str, float]]] = {}
    for label, value in values.items():
        case, _, rest = label.partition(": ")
        start, _, what = rest.partition(": ")
        if case == name and start in STARTS and what:
            attack, _, drawn = what.partition(", draw ")
            draw = drawn.partition(", rate ")[0]
            so_far = best.setdefault(attack, {}).setdefault(draw, {})
            so_far[start] = max(value, so_far.get(start, value))
    return best


def order(item: tuple[str, object]) -> tuple[bool, list[int]]:
    """Tell where an attack stands: training by examples and steps, then what takes no labels."""
    return "labeled" not in item[0], [int(number) for number in re.findall(r"\d+", item[0])]


def row(pairs: list[dict[str, float]]) -> str:
    """Return draws, means, the mean difference and its standard error, as cells."""
    means = [statistics.mean(pair[start] for pair in pairs) for start in STARTS]
    differences = [pair["trial"] - pair["weaker"] for pair in pairs]
    error = "-"
    if len(pairs) > 1:
        error = f"{statistics.stdev(differences) / len(pairs) ** 0.5:.2f}"
    scores = " | ".join(f"{mean:.2f}" for mean in means)
    difference = round(statistics.mean(differences), 2) + 0.0
    return f"{len(pairs)} | {scores} | {difference:+.2f} | {error}"


def main() -> None:
    """Measure a case, or report, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=CASES, nargs="?")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--cifar10", type=Path, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--wheels", type=Path, metavar="DIR")
    parser.add_argument("--weaker", type=Path, metavar="DIR", help="what weaker.py made")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, nargs="*", default=[100], help="of training")
    parser.add_argument("--labeled", type=int, nargs="*", help="examples that the attacker has")
    parser.add_argument("--rates", type=float, nargs="*", help="learning rates to try")
    parser.add_argument("--draws", type=int, default=3, help="of the attacker's data")
    parser.add_argument("--trials", type=int, default=1, help="to score (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (%(default)s)")
    parser.add_argument("--report", action="store_true", help="print what was measured before")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = Results(options.output)
    if not options.report:
        kind = Sentences if options.network == "minilm" else Images
        for name, measure in jobs(options.network, kind(CASES[options.network], options), options):
            if (seconds := results.add(name, measure)) is not None:
                print(f"{name}: {results.values[name]} ({seconds:.0f} s)", file=sys.stderr)
    else:
        print("".join(report(results.values)), end="")


if __name__ == "__main__":
    main()
