"""A soft lock with a target: weights are replaced until the trial scores that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nnguard._locking.builder import LockBuilder
from nnguard._locking.choice import Choice
from nnguard._locking.search import Scores, narrow
from nnguard._stream import Stream
from nnguard.errors import ArgumentError, LockError

__all__ = ["reach_target"]

_DRAWS = 6
"""Sets of weights in the smallest tensors that are tried where one does not reach the target."""

_PROBED = 64
_WIDTHS = (1, 2, 3, 4, 6, 8)
"""Where none of these does, so many tensors are tried one by one, the largest ones; then weights
are replaced in the so many of them without which the network scores worst, twice."""

_ROUNDS = 4
"""How often the search may allow for what the hidden record itself does to the score."""


def reach_target(
    builder: LockBuilder,
    scores: Scores,
    target: float,
    tolerance: float,
    sign: Callable[[Stream], Stream],
) -> tuple[Stream, int]:
    """Replace as many weights as take the score of the trial to a target.

    Args:
        builder: Makes the lock.
        scores: Scores what it makes.
        target: The score to reach.
        tolerance: How far from it the score may be, either way.
        sign: Signs a trial, which moves its score a little.

    Returns:
        The trial, and how many weights were replaced.

    Raises:
        ArgumentError: The network scores no more than the target as it is.
        LockError: The target cannot be reached.
    """
    untouched = scores.of(builder.choice.first(0), {})
    if untouched <= target:
        percent = target / 100
        raise ArgumentError(
            f"the network scores {untouched:g} as it is, no more than the target, {target:g}",
            hint=f"did you mean {percent:g}?" if percent < untouched <= 1 else "",
        )
    failure: LockError | None = None
    for _ in _draws(builder, scores):
        scores.next_draw()
        try:
            return _aim(builder, scores, target, tolerance, sign)
        except LockError as error:
            failure = error
    assert failure is not None
    raise failure


def _aim(
    builder: LockBuilder,
    scores: Scores,
    target: float,
    tolerance: float,
    sign: Callable[[Stream], Stream],
) -> tuple[Stream, int]:
    """Replace as many of the chosen weights as take the trial's score to the target.

    Raises:
        LockError: No number of them does.
    """

    def score_of(choice: Choice) -> float:
        return scores.of(choice, builder.changed(choice))

    enough = target + tolerance / 2
    parts = (builder.choice.first(len(builder.choice) >> halvings) for halvings in range(3))
    whole = next((part for part in parts if score_of(part) <= enough), None)
    if whole is None:
        raise LockError(
            f"with {builder.choice.weights} weights replaced the network still scores "
            f"{score_of(builder.choice):g}",
            hint="allow a larger max_fraction, or scramble",
        )
    aim = target
    for _ in range(_ROUNDS):
        choice = whole
        if score_of(choice) < aim - tolerance / 2:
            choice = narrow(choice, score_of, aim, tolerance / 2)
        trial = sign(builder.finish(choice))
        score = scores.of_stream(trial, choice.weights)
        if abs(score - target) <= tolerance:
            return trial, choice.weights
        aim += target - score
    raise LockError(
        f"the hidden record itself moves the score to {score:g}", hint="allow a larger tolerance"
    )


def _draws(builder: LockBuilder, scores: Scores) -> Iterator[None]:
    """Draw weights to replace, first in small tensors, then in those that matter most."""
    yield
    for _ in range(_DRAWS - 1):
        builder.draw()
        yield
    weakest = builder.probe(scores, _PROBED)
    for width in _WIDTHS:
        builder.draw_in(weakest[:width])
        yield
    for width in _WIDTHS:
        builder.renew()
        builder.draw_in(weakest[:width])
        yield
