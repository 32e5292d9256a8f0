"""How many weights to replace: until the trial scores what the seller asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnguard._compression.decompress import decompress
from nnguard._compression.quantizing import dequantize
from nnguard._locking.choice import Choice
from nnguard._models.stream_set import Model
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor
from nnguard.errors import ArgumentError, LockError

__all__ = ["CurvePoint", "Evaluate", "Scores", "narrow", "score_of"]

Evaluate = Callable[[Mapping[str, npt.NDArray[np.generic]]], float]
"""Scores a network, given its tensors by name; higher is better."""

_MAX_EVALUATIONS = 60
_NEXT = 8
"""How far to look for the other side of the target at first, after a weight was left out; then
twice as far each time."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a network scored at one amount of replaced weights.

    Attributes:
        fraction: Of all weights, how many were replaced.
        score: What `evaluate` said.
        draw: Of which draw of weights these are the first; 0 for none replaced. Points of
            different draws make no curve.
    """

    fraction: float
    score: float
    draw: int = 0


class Scores:
    """Scores of a network with weights replaced, and the curve that they make.

    Args:
        evaluate: Scores a network.
        stream: The network as it is.
        weights: How many the network has.
        progress: Called with each point of the curve.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        stream: Stream,
        weights: int,
        progress: Callable[[CurvePoint], object] | None,
    ) -> None:
        self._evaluate = evaluate
        self._state = decompress(stream, allow_trial=True)
        self._weights = weights
        self._progress = progress
        self._known: dict[bytes, float] = {}
        self._draw = 0
        self.curve: list[CurvePoint] = []

    def of(self, choice: Choice, changed: Mapping[int, QuantizedTensor]) -> float:
        """Score the network with the tensors that a choice changes; ask once only."""
        key = choice.units.tobytes() + choice.pairs.tobytes()
        if key in self._known:
            return self._known[key]
        state = dict(self._state)
        for tensor in changed.values():
            name = tensor.header.name
            state[name] = dequantize(tensor).astype(state[name].dtype)
        self._known[key] = self._note(choice.weights, state)
        return self._known[key]

    def next_draw(self) -> None:
        """Note that from now on, other weights are replaced."""
        self._draw += 1

    def of_stream(self, stream: Stream, replaced: int) -> float:
        """Score the network in a stream."""
        return self._note(replaced, decompress(stream, allow_trial=True))

    def _note(self, replaced: int, state: Mapping[str, npt.NDArray[np.generic]]) -> float:
        point = CurvePoint(replaced / self._weights, _score(self._evaluate, state), self._draw)
        self.curve.append(point)
        if self._progress is not None:
            self._progress(point)
        return point.score


def score_of(evaluate: Evaluate, model: Model) -> float:
    """Score the network in a stream, or in a set.

    Raises:
        ArgumentError: The function gives no finite number.
    """
    return _score(evaluate, decompress(model, allow_trial=True))


def _score(evaluate: Evaluate, state: Mapping[str, npt.NDArray[np.generic]]) -> float:
    score = float(evaluate(state))
    if not math.isfinite(score):
        raise ArgumentError(f"the function that evaluates gave {score}, not a finite number")
    return score


def narrow(
    choice: Choice, score: Callable[[Choice], float], target: float, tolerance: float
) -> Choice:
    """Return the part of a choice that brings the score to the target.

    More replacements mean a lower score, on the whole, so this is a bisection. A single pair that
    makes the score jump across the target is left out, and the search goes on without it.

    Args:
        choice: Pairs of weights that trade; the score with all of them is below the target.
        score: Scores the network with some of them replaced; above the target with none.
        target: The score to reach.
        tolerance: How far from it the score may be, either way.

    Raises:
        LockError: No part of the choice does.
    """
    above, below, below_is_known = 0, len(choice), True
    reach = _NEXT
    for _ in range(_MAX_EVALUATIONS):
        if below - above == 1 and below_is_known:
            choice = choice.without(above)
            reach = _NEXT
            below, below_is_known = min(above + reach, len(choice)), False
        if below == above:
            break
        middle = max((above + below) // 2, above + 1)
        part = choice.first(middle)
        difference = score(part) - target
        if abs(difference) <= tolerance:
            return part
        if difference < 0:
            below, below_is_known = middle, True
        else:
            above = middle
            if not below_is_known:
                reach *= 2
                below = min(above + reach, len(choice))
    raise LockError(
        f"no amount of weights takes the score to {target:g}",
        hint="allow a larger tolerance",
    )
