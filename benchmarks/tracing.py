"""Who is named when licensees' copies are mixed, trained, pruned, rounded.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/tracing.py NETWORK --data DIR --cifar10 PATH --wheels DIR --output DIR

NETWORK is resnet20, resnet56, resnet18 or minilm. Marks and fingerprints are nnguard's. Training
takes a tenth of the training data and is done once for each learning rate, from the release; what
it changed is added to what coalitions have (`--check` trains real copies, to see that this makes no
difference). Results are added to DIR/NAME.json as they come; `--report` prints them as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

import nnguard
import nnguard.torch
from results import SEED, Results
from tracing_attacks import MIXES, STRATEGIES, mixed, pruned, rounded
from tracing_buyers import Accused, Buyers, accused, name_of
from tracing_marks import Marked, Values
from tracing_tuning import State, Subject, Tuned, network_arguments, prepared, subject

SIZES = (1, 2, 5, 10)
PRUNED = (30, 50, 70)
COARSER = (2, 4, 8)
NOISE = (4, 8)

After = Callable[[Values], Values]


class Bench:
    """A release, its marks, its buyers, and what training does to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.stream = nnguard.Stream.open(options.stream)
        self.state: State = nnguard.torch.decompress(self.stream, allow_trial=True)
        self.marked = Marked(self.stream)
        self.buyers = Buyers(self.marked, options.buyers)
        self._options = options
        self._tuned = Tuned(
            options.output / "tuned", options.stream.stem, self.subject, self.stream, options.steps
        )

    @cache  # noqa: B019
    def subject(self) -> Subject:
        """Return the network as something that can be scored and trained."""
        o = self._options
        return subject(o.network, o.data, o.cifar10, o.wheels, o.images)

    @cache  # noqa: B019
    def change(self, rate: float) -> Values:
        """Return what training does to the marked weights."""
        return self.marked.at(self._tuned.weights(rate)) - self.marked.ours

    @cache  # noqa: B019
    def limit(self, percent: int) -> float:
        """Return the magnitude that so many of the weights are below."""
        wide = [value.abs().flatten() for value in self.state.values() if value.ndim > 1]
        return float(np.quantile(torch.cat(wide).numpy(), percent / 100))

    def afters(self) -> Iterator[tuple[str, After]]:
        """Yield what is done to a mix of copies: its name, and what it makes of marked weights."""
        yield "nothing", lambda values: values
        yield "float16", lambda values: values.astype(np.float16).astype(np.float32)
        for percent in PRUNED:
            yield f"{percent} % pruned", lambda v, p=percent: pruned(v, self.limit(p))
        for times in COARSER:
            yield f"steps {times} times", lambda v, t=times: rounded(v, t * self.marked.step)
        rng = np.random.default_rng(SEED)
        for times in NOISE:
            yield (
                f"noise of {times} marks",
                lambda v, t=times: (
                    v + t * self.marked.amplitude * rng.standard_normal(v.size, np.float32)
                ),
            )
        for rate in self._options.rates:
            yield f"trained at {rate}", lambda v, r=rate: v + self.change(r)
        for rate in self._options.rates:
            yield (
                f"50 % pruned, trained at {rate}",
                lambda v, r=rate: np.where(pruned(v, self.limit(50)) == 0, 0, v + self.change(r)),
            )

    def trace(self, size: int, make: Callable[[Any, Any], Values], trials: int) -> Accused:
        """Make suspects of coalitions, and score them.

        Args:
            size: Of each coalition.
            make: Makes the marked weights of a suspect, from counts and a random generator.
            trials: How many coalitions.
        """
        rng = np.random.default_rng(SEED)
        members, estimates = [], []
        for _ in range(trials):
            members.append(self.buyers.coalition(size, rng))
            estimates.append(self.marked.estimate(make(self.buyers.counts(members[-1]), rng)))
        return accused(self.buyers, estimates, np.array(members))


def coalitions(bench: Bench, results: Results, trials: int) -> None:
    """Mix copies in all ways, and do everything else to the mix."""
    for after, change in bench.afters():
        for size in SIZES:
            for mix in MIXES if size > 1 else ["average"]:

                def make(
                    counts: Any, rng: Any, m: str = mix, c: int = size, f: After = change
                ) -> Values:
                    return f(mixed(bench.marked, counts, c, m, rng))

                add(results, f"{after}|{mix}|{size}", bench, size, make, trials)


def strategies(bench: Bench, results: Results, trials: int) -> None:
    """Compare key material, and choose by entry."""
    for size in SIZES[1:]:
        for strategy, choose in STRATEGIES.items():

            def make(
                counts: Any, rng: Any, f: Callable[..., Any] = choose, c: int = size
            ) -> Values:
                return bench.marked.values(f(counts, c, rng))

            add(results, f"keys: {strategy}||{size}", bench, size, make, trials)


def add(
    results: Results,
    name: str,
    bench: Bench,
    size: int,
    make: Callable[[Any, Any], Values],
    trials: int,
) -> None:
    """Add one result, and say so."""
    seconds = results.add(name, lambda: bench.trace(size, make, trials).as_dict())
    if seconds is not None:
        found = results.values[name]
        print(
            f"{name}: named {found['named']:.2f}, least {found['least']:.1f}, innocent "
            f"{found['innocent']:.1f} ({seconds:.0f} s)",
            file=sys.stderr,
            flush=True,
        )


def harmless(bench: Bench, results: Results, copies: int) -> None:
    """Measure real copies: how good they are, and how large."""
    results.add("accuracy|release", lambda: bench.subject().score(bench.state))

    def measure(buyer: int) -> dict[str, float]:
        copy = bench.marked.copy(name_of(buyer))
        return {
            "score": bench.subject().score(nnguard.torch.decompress(copy, allow_trial=True)),
            "growth": 100 * (copy.size / bench.stream.size - 1),
        }

    for buyer in range(copies):
        results.add(f"copy|{buyer}", lambda b=buyer: measure(b))


def accuracies(bench: Bench, results: Results) -> None:
    """Measure what is left of a real copy, one buyer's, after each attack but training.

    That is of the release: a copy trains like it (`check`).
    """
    subject_, marked = bench.subject(), bench.marked
    results.add("accuracy|release", lambda: subject_.score(bench.state))
    own = bench.buyers.fingerprints[0].astype(float)
    copy = marked.put(bench.state, marked.values(own))
    results.add("accuracy|nothing", lambda: subject_.score(copy))
    for percent in PRUNED:
        limit = bench.limit(percent)
        results.add(
            f"accuracy|{percent} % pruned",
            lambda at=limit: subject_.score(
                {n: v * (v.abs() >= at) if v.ndim > 1 else v for n, v in copy.items()}
            ),
        )
    steps = {part.tensor.header.name: part.tensor.step for part in marked.parts}
    for times in COARSER:
        results.add(
            f"accuracy|steps {times} times",
            lambda t=times: subject_.score(
                {n: (v / t / steps[n]).round() * t * steps[n] if n in steps else v
                 for n, v in copy.items()}
            ),
        )  # fmt: skip
    for rate in bench._options.rates:
        results.add(
            f"accuracy|trained at {rate}", lambda r=rate: subject_.score(bench._tuned.weights(r))
        )


def check(bench: Bench, results: Results, size: int, rate: float) -> None:
    """Train a real average of copies, and compare scores with those of the shortcut."""

    def measure() -> dict[str, float]:
        rng = np.random.default_rng(SEED)
        members = bench.buyers.coalition(size, rng)
        levels = bench.buyers.fingerprints[members].mean(0)
        start = bench.marked.put(bench.state, bench.marked.values(levels))
        after = bench.subject().train(start, steps=bench._options.steps, rate=rate)
        short = bench.marked.values(levels) + bench.change(rate)
        suspects = (bench.marked.estimate(v) for v in (bench.marked.at(after), short))
        scores = [bench.buyers.scores(bench.buyers.ways(e)).max(0)[members] for e in suspects]
        return {
            "score": bench.subject().score(after),
            "real": float(scores[0].max()),
            "real, least": float(scores[0].min()),
            "shortcut": float(scores[1].max()),
            "shortcut, least": float(scores[1].min()),
        }

    if results.add(f"check|{size}|{rate}", measure) is not None:
        print(f"check {size} {rate}: {results.values[f'check|{size}|{rate}']}", flush=True)


def report(values: dict[str, Any]) -> Iterator[str]:
    """Yield tables: accused by mix and size, for each attack."""
    named = {n: v for n, v in values.items() if n.count("|") == 2 and not n.startswith("check")}
    columns = list(dict.fromkeys(tuple(n.split("|")[1:]) for n in named if "||" not in n))
    yield "| then | accuracy | " + " | ".join(f"{m} of {c}" for m, c in columns) + " |\n"
    yield "|---|" + "--:|" * (len(columns) + 1) + "\n"
    for after in dict.fromkeys(n.split("|")[0] for n in named if "||" not in n):
        cells = [figure(named.get("|".join((after, *column)))) for column in columns]
        accuracy = values.get(f"accuracy|{after}")
        yield f"| {after} | {'' if accuracy is None else f'{accuracy:.2f}'} | "
        yield " | ".join(cells) + " |\n"
    yield "\n| keys compared, by entry | " + " | ".join(map(str, SIZES[1:])) + " |\n|---|"
    yield "--:|" * len(SIZES[1:]) + "\n"
    for strategy in dict.fromkeys(n.split("|")[0] for n in named if "||" in n):
        yield f"| {strategy.removeprefix('keys: ')} | "
        yield " | ".join(figure(named.get(f"{strategy}||{size}")) for size in SIZES[1:]) + " |\n"
    trials = sum(value["trials"] for value in named.values())
    wrongly = sum(value["wrongly"] for value in named.values())
    highest = max((value["innocent"] for value in named.values()), default=0)
    yield f"\nInnocents named: {wrongly} of {trials:,}; the highest score of any: {highest:.2f}.\n"
    for name, value in values.items():
        if name.startswith(("check", "copy")):
            yield f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in value.items()) + "\n"


def figure(value: dict[str, float] | None) -> str:
    """Return share of coalitions of which somebody was named, and the median of the best score."""
    if value is None:
        return ""
    return f"{100 * value['named']:.0f} % ({value['median']:.1f})"


def main() -> None:
    """Measure, or report, from the command line."""
    parser = network_arguments(__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="*", default=["coalitions", "strategies", "accuracies"])
    parser.add_argument("--rates", type=float, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=1000, help="of training (%(default)s)")
    parser.add_argument("--trials", type=int, default=100, help="coalitions (%(default)s)")
    parser.add_argument("--buyers", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--copies", type=int, default=5, help="that are scored (%(default)s)")
    parser.add_argument("--check", type=int, nargs="*", default=[], help="sizes of real coalitions")
    options = prepared(parser.parse_args())
    results = Results(options.output / f"{options.stream.stem}.json")
    if options.report:
        print("".join(report(results.values)), end="")
        return
    bench = Bench(options)
    if "strategies" in options.parts:
        strategies(bench, results, options.trials)
    if "coalitions" in options.parts:
        coalitions(bench, results, options.trials)
    if "harmless" in options.parts:
        harmless(bench, results, options.copies)
    if "accuracies" in options.parts:
        accuracies(bench, results)
    for size in options.check:
        for rate in options.rates:
            check(bench, results, size, rate)


if __name__ == "__main__":
    main()
