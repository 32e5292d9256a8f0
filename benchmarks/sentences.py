"""What a scrambled sentence encoder gives away, beside what anybody has without it.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/sentences.py --data DIR --wheels DIR --output FILE [--starts ...]
        [--labeled 287 500] [--steps 100] [--draws 3]

all-MiniLM-L6-v2 on STS-B, Spearman's rho times 100, of 879 pairs; the attacker has other pairs. All
attackers weigh words by how rare they are in their own sentences, take the mean of the vectors and
their main direction out, and train on judged pairs. *Words* are the word embeddings alone, of the
release or of a trial, or random. *Networks* are trials, begun anew where they are scrambled, and
networks from scratch. Each result is added to FILE as it comes; the best learning rate counts.
`--report` prints what is there, as Markdown.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import encoders
import nnguard
import nnguard.torch
from bert import VOCABULARY, WIDTH, SentenceEncoder
from nnguard._hiding import extract
from results import SEED, Results
from tasks import tasks

State = Mapping[str, Tensor]
WORDS = "embeddings.word_embeddings.weight"
LOCKS: dict[str, Any] = {
    "the default": 0.05,
    "the default and words": None,  # names, which depend on the default
    "vectors": ["*.bias", "*LayerNorm.weight"],
    "all": 1.0,
}
WORD_RATES = (0.01, 0.03)
NETWORK_RATES = (1e-5, 3e-5, 1e-4, 5e-4)
_FASTER = 30
"""Learning rate of vectors over that of matrices."""

_SILENT = re.compile(r"position_emb|token_type|output\.dense|intermediate")
"""Matrices that are set to 0 where they are scrambled: others pass by what is behind them."""


class Words(nn.Module):
    """Vectors of words, without a network."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(vectors.clone(), freeze=True)

    def forward(self, tokens: Tensor, _: Tensor) -> Tensor:
        states: Tensor = self.words(tokens)
        return states


class Network(SentenceEncoder):
    """The encoder up to its last layer."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.embeddings(tokens)
        for layer in self.encoder["layer"]:
            states = layer(states, mask)
        return states


class Attacked(nn.Module):
    """What an attacker makes of states: a weighted mean, less what all sentences share, mapped.

    Args:
        body: Makes the states of tokens.
        rarity: Weight of each word.
    """

    def __init__(self, body: nn.Module, rarity: Tensor) -> None:
        super().__init__()
        self.body = body
        self.rarity = nn.Embedding.from_pretrained(rarity[:, None].clone(), freeze=False)
        self.map = nn.Linear(WIDTH, WIDTH)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        weights = self.rarity(tokens) * mask.unsqueeze(-1)
        mean = (self.body(tokens, mask).float() * weights).sum(1) / weights.sum(1)
        with torch.autocast("cpu", enabled=False):
            return nn.functional.normalize(self.map(mean))

    @torch.no_grad()
    def center(self, pairs: encoders.Pairs, chosen: Sequence[int]) -> None:
        """Take out what sentences share: their mean and its main direction."""
        seen: list[Tensor] = []
        hook = self.map.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        pairs.encode_all(self, chosen)
        hook.remove()
        known = torch.cat(seen)
        mean = known.mean(0)
        main = torch.linalg.svd(known - mean, full_matrices=False)[2][:1]
        self.map.weight -= main.T @ main
        self.map.bias.copy_(-self.map.weight @ mean)


class Both(nn.Module):
    """Words beside a network, whose share is learned: an attacker need not do without either."""

    def __init__(self, words: Attacked, network: Attacked) -> None:
        super().__init__()
        self.words, self.network = words, network
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found = [self.words(tokens, mask), self.share * self.network(tokens, mask)]
        return nn.functional.normalize(torch.cat(found, 1))

    def center(self, pairs: encoders.Pairs, chosen: Sequence[int]) -> None:
        """Center both."""
        self.words.center(pairs, chosen)
        self.network.center(pairs, chosen)


class Bench:
    """The release, its trials, and the pairs."""

    def __init__(self, options: argparse.Namespace) -> None:
        (task,) = (t for t in tasks(options.data, options.wheels, 1) if "MiniLM" in t.name)
        self._pairs = encoders.Pairs(
            options.data / "stsb-en-test.csv", task.weights.parent / "vocab.txt"
        )
        self._release = nnguard.Stream.open(options.data / "streams" / "minilm.default.nnc")
        self._full = self._state_of(self._release)

    def words(self, start: str, count: int, steps: int, draw: int, rate: float) -> float:
        """Return what the embeddings of words give, without a network."""
        attacked = self._words(start, count, draw)
        return self._trained(attacked, count, steps, draw, _around(attacked, rate))

    def network(self, start: str, count: int, steps: int, draw: int, rate: float) -> float:
        """Return what a network gives: a trial's, begun anew where scrambled, or from scratch."""
        attacked = self._network(start, count, draw)
        groups = [*_around(attacked, WORD_RATES[-1]), *_inside(attacked, rate)]
        return self._trained(attacked, count, steps, draw, groups)

    def both(self, start: str, count: int, steps: int, draw: int, rate: float) -> float:
        """Return what a network and the best words that go with it give together."""
        words = {"scratch": "random", "trial: the default and words": "trial, magnitudes"}
        attacked = Both(
            self._words(words.get(start, "release"), count, draw),
            self._network(start, count, draw),
        )
        groups = [
            *_around(attacked.words, WORD_RATES[-1]),
            *_around(attacked.network, WORD_RATES[-1]),
            *_inside(attacked.network, rate),
            {"params": [attacked.share], "lr": WORD_RATES[-1]},
        ]
        return self._trained(attacked, count, steps, draw, groups)

    def _words(self, start: str, count: int, draw: int) -> Attacked:
        return Attacked(Words(self._vectors(start, draw)), self._rarity(self._drawn(draw, count)))

    def _network(self, start: str, count: int, draw: int) -> Attacked:
        torch.manual_seed(SEED)
        body = Network()
        if start != "scratch":
            body.load_state_dict(self._begun(start.removeprefix("trial: ")), strict=False)
        return Attacked(body, self._rarity(self._drawn(draw, count)))

    def _trained(
        self,
        attacked: Attacked | Both,
        count: int,
        steps: int,
        draw: int,
        groups: list[dict[str, Any]],
    ) -> float:
        chosen = self._drawn(draw, count)
        attacked.center(self._pairs, chosen)
        if steps:
            encoders.train(
                attacked,
                self._pairs,
                chosen,
                steps=steps,
                rate=0,  # each group has its own
                loss_of=encoders.uncorrelated,
                groups=groups,
            )
        return encoders.score(attacked, self._pairs)

    def _vectors(self, start: str, draw: int) -> Tensor:
        if start == "random":
            generator = torch.Generator().manual_seed(SEED + draw)
            return torch.randn(VOCABULARY, WIDTH, generator=generator)
        lock, _, what = start.partition(", ")
        vectors = (self._full if lock == "release" else self._trial("the default and words"))[WORDS]
        vectors = vectors.abs() if what == "magnitudes" else vectors
        return vectors - vectors.mean(0)

    @cache  # noqa: B019
    def _trial(self, lock: str) -> State:
        wanted = LOCKS[lock]
        if wanted is None:
            default = self._trial("the default")
            wanted = [name for name in self._full if (default[name] != self._full[name]).any()]
            wanted.append(WORDS)
        key = nnguard.ContentKey(bytes([[*LOCKS].index(lock)]) * 32)
        locked = nnguard.lock(self._release, content_key=key, scramble=wanted)
        print(f"{lock}: {locked.scrambled:,} of {locked.weights:,}", file=sys.stderr, flush=True)
        return self._state_of(extract(locked.trial).original)

    def _begun(self, lock: str) -> State:
        """Return a trial with what is scrambled begun anew, as far as that helps."""
        return {name: self._anew(name, value) for name, value in self._trial(lock).items()}

    def _anew(self, name: str, value: Tensor) -> Tensor:
        if torch.equal(value, self._full[name]):
            return value
        if value.ndim == 1:
            return value.mean().expand_as(value) if "Norm.weight" in name else value * 0
        return value * 0 if _SILENT.search(name) else value

    @staticmethod
    def _state_of(stream: nnguard.Stream) -> State:
        own = SentenceEncoder().state_dict()
        found = nnguard.torch.decompress(stream)
        return {
            name: found[name].reshape(own[name].shape)
            for name in own
            if name in found and own[name].is_floating_point()
        }

    def _rarity(self, chosen: Sequence[int]) -> Tensor:
        """Return the logarithm of how few of the attacker's sentences have each word."""
        sentences = self._pairs.sentences(chosen)
        count = torch.zeros(VOCABULARY)
        for tokens in sentences:
            count[tokens.unique()] += 1
        return ((len(sentences) + 1) / (count + 1)).log() + 1e-3

    def _drawn(self, draw: int, count: int) -> list[int]:
        order = np.random.default_rng(SEED + draw).permutation(len(self._pairs.theirs))
        return [self._pairs.theirs[at] for at in order[:count]]


def _around(attacked: Attacked, rate: float) -> list[dict[str, Any]]:
    """Return what is trained around a body; training vectors of words, too, gives no more."""
    return [
        {"params": attacked.rarity.parameters(), "lr": 3 * rate},
        {"params": attacked.map.parameters(), "lr": rate / 20},
    ]


def _inside(attacked: Attacked, rate: float) -> list[dict[str, Any]]:
    """Return what is trained of a network."""
    trained = [p for name, p in attacked.body.named_parameters() if "pooler" not in name]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": rate},
        {"params": [p for p in trained if p.ndim == 1], "lr": _FASTER * rate},
    ]


def jobs(options: argparse.Namespace) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Yield what is to be measured: its name, the kind of attack, and what that is given."""
    kinds = {"words": options.words, "network": options.networks, "both": options.both}
    usual = {"words": WORD_RATES, "network": NETWORK_RATES, "both": NETWORK_RATES}
    for draw in range(options.draws):
        for kind, starts in kinds.items():
            for start in starts:
                for count in options.labeled:
                    for steps in options.steps:
                        for rate in (options.rates or usual[kind]) if steps else (0.0,):
                            name = f"{kind}: {start}; {count} pairs, {steps} steps"
                            given = start, count, steps, draw, rate
                            yield f"{name}; draw {draw}; rate {rate}", kind, given


def report(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the best scores: means over draws, the least and the greatest."""
    best: dict[str, dict[str, float]] = {}
    for label, value in values.items():
        if label != "made":
            name, draw, _ = label.rsplit("; ", 2)
            draws = best.setdefault(name, {})
            draws[draw] = max(value, draws.get(draw, value))
    yield "| attacker | data | draws | mean | least | greatest |\n|---|---|" + "--:|" * 4 + "\n"
    for name, draws in sorted(best.items()):
        found = list(draws.values())
        figures = " | ".join(f"{f(found):.1f}" for f in (statistics.mean, min, max))
        yield f"| {name.replace('; ', ' | ')} | {len(found)} | {figures} |\n"


def main() -> None:
    """Measure, or report, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--wheels", type=Path, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--words",
        nargs="*",
        default=["release", "release, magnitudes", "trial", "trial, magnitudes", "random"],
    )
    trials = [f"trial: {lock}" for lock in LOCKS]
    parser.add_argument("--networks", nargs="*", default=[*trials, "scratch"])
    parser.add_argument("--both", nargs="*", default=[*trials, "scratch"])
    parser.add_argument("--labeled", type=int, nargs="*", default=[287, 500])
    parser.add_argument("--steps", type=int, nargs="*", default=[100])
    parser.add_argument("--rates", type=float, nargs="*", help="learning rates to try")
    parser.add_argument("--draws", type=int, default=3, help="of data and of random vectors")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (%(default)s)")
    parser.add_argument("--report", action="store_true", help="print what was measured before")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = Results(options.output)
    if options.report:
        print("".join(report(results.values)), end="")
        return
    bench = Bench(options)
    for name, kind, given in jobs(options):
        attack = getattr(bench, kind)
        if (seconds := results.add(name, lambda a=attack, g=given: a(*g))) is not None:
            print(f"{name}: {results.values[name]:.2f} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
