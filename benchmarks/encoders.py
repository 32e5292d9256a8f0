"""Attacks on sentence encoders, by pairs of sentences whose similarity somebody judged.

    pairs = Pairs(rows, vocabulary)
    train(module, pairs, pairs.theirs[:57], steps=100, rate=1e-4)
    score(module, pairs)

STS-B's training set is not at hand, so its test set is shared out: 500 pairs are the attacker's,
and the other 879 tell what they got.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from results import SEED
from tasks import spearman
from wordpiece import WordPiece

__all__ = ["RATES", "Pairs", "score", "score_whitened", "squares", "train", "uncorrelated"]

RATES = (5e-6, 2e-5, 1e-4)
"""Learning rates that are tried, of AdamW; the best one counts."""

_BATCH = 24
_LONGEST = 64


class Pairs:
    """Pairs of sentences and how similar they are, from 0 to 1.

    Args:
        path: STS-B as CSV: sentence, sentence, similarity from 0 to 5.
        vocabulary: Of the encoder.

    Attributes:
        theirs: Positions of the attacker's pairs, in random order.
        test: Positions of the pairs that scores are of, by length.
    """

    def __init__(self, path: Path, vocabulary: Path) -> None:
        tokenizer = WordPiece(vocabulary)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        self._tokens = [
            [torch.tensor(tokenizer.encode(row[side], _LONGEST)) for side in (0, 1)] for row in rows
        ]
        self.similarity = torch.tensor([float(row[2]) / 5 for row in rows])
        order = np.random.default_rng(SEED).permutation(len(rows)).tolist()
        self.theirs: list[int] = order[:500]
        self.test = sorted(order[500:], key=lambda at: max(map(len, self._tokens[at])))

    def sentences(self, chosen: Sequence[int]) -> list[Tensor]:
        """Return the tokens of the sentences of pairs, first ones first."""
        return [self._tokens[at][side] for side in (0, 1) for at in chosen]

    def encode(self, module: nn.Module, chosen: Sequence[int]) -> Tensor:
        """Return what an encoder makes of pairs, of shape (2, n, width)."""
        tokens = pad_sequence(self.sentences(chosen), batch_first=True)
        with torch.autocast("cpu", torch.bfloat16):
            encoded: Tensor = module(tokens, tokens != 0)
        return encoded.float().unflatten(0, (2, -1))

    def encode_all(self, module: nn.Module, chosen: Sequence[int]) -> Tensor:
        """Do so in batches, without gradients."""
        with torch.no_grad():
            batches = [chosen[at : at + 64] for at in range(0, len(chosen), 64)]
            return torch.cat([self.encode(module.eval(), batch) for batch in batches], 1)


def squares(cosines: Tensor, similarity: Tensor) -> Tensor:
    """Return how far cosines are from similarities."""
    return (cosines - similarity).square().mean()


def uncorrelated(cosines: Tensor, similarity: Tensor) -> Tensor:
    """Return 1 less the correlation of both, which the score is near to."""
    return 1 - torch.corrcoef(torch.stack([cosines, similarity]))[0, 1]


def train(
    module: nn.Module,
    pairs: Pairs,
    chosen: Sequence[int],
    *,
    steps: int,
    rate: float,
    loss_of: Callable[[Tensor, Tensor], Tensor] = squares,
    groups: Iterable[dict[str, Any]] | None = None,
) -> None:
    """Train an encoder on judged pairs: AdamW, cosine, batches of 24.

    Args:
        module: The encoder, with the weights to begin with.
        pairs: All pairs.
        chosen: The attacker's.
        steps: Batches.
        rate: Learning rate at the start.
        loss_of: Of cosines and similarities.
        groups: Parameters that are trained, where they have rates of their own; all, if not given.
    """
    torch.manual_seed(SEED)
    optimizer = torch.optim.AdamW(groups or module.parameters(), rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    for _ in range(steps):
        batch = [chosen[at] for at in torch.randint(len(chosen), (_BATCH,)).tolist()]
        first, second = pairs.encode(module, batch)
        loss = loss_of((first * second).sum(1), pairs.similarity[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def score(module: nn.Module, pairs: Pairs) -> float:
    """Return Spearman's rho of cosines and similarities of the test pairs, in percent."""
    first, second = pairs.encode_all(module, pairs.test)
    return _rho(first, second, pairs)


def score_whitened(module: nn.Module, pairs: Pairs, chosen: Sequence[int]) -> float:
    """Do so after whitening by unlabeled sentences, those of pairs: what statistics alone give."""
    known = pairs.encode_all(module, chosen).flatten(0, 1)
    mean = known.mean(0)
    values, vectors = torch.linalg.eigh((known - mean).T.cov())
    kept = values > values.max() * 1e-3
    matrix = vectors[:, kept] / values[kept].sqrt()
    first, second = nn.functional.normalize(
        (pairs.encode_all(module, pairs.test) - mean) @ matrix, dim=2
    )
    return _rho(first, second, pairs)


def _rho(first: Tensor, second: Tensor, pairs: Pairs) -> float:
    return 100 * spearman((first * second).sum(1), pairs.similarity[pairs.test])
