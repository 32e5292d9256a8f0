"""The seller's own function, which says how good a network is (`--evaluate`), and the search."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnguard._cli.output import warn

if TYPE_CHECKING:
    from nnguard._locking.search import CurvePoint

__all__ = ["Search", "load_function"]


def load_function(text: str) -> Callable[[Any], float]:
    """Load the function that `--evaluate FILE.py:FUNCTION` names, which runs the file.

    Raises:
        FileNotFoundError: There is no such file.
        click.UsageError: It cannot be run, or has no such function. Calling the function raises it,
            too, wherever the seller's code fails or gives no number.
    """
    path, colon, name = text.rpartition(":")
    if not colon:
        raise click.UsageError(f"--evaluate {text}: give a file and a function, FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"nnguard_evaluates_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"--evaluate {text}: {path} is not a Python file, which ends in .py")
    if not Path(path).is_file():
        raise FileNotFoundError(f"--evaluate {text}: there is no file {path}; is the name right?")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses, among others, look for it there
    sys.path.insert(0, str(Path(path).resolve().parent))
    with _their_code(text, spec.origin):
        spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise click.UsageError(f"--evaluate {text}: {path} has no function {name}; define it there")

    def evaluate(weights: Any) -> float:
        with _their_code(text, spec.origin):
            return float(function(weights))

    return evaluate


@contextlib.contextmanager
def _their_code(text: str, path: str | None) -> Iterator[None]:
    """Run the seller's code: what it prints is not a result, and where it fails is told."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        where = f"line {lines[-1]}: " if lines else ""
        message = f"--evaluate {text}: {where}{type(error).__name__}: {error}"
        raise click.UsageError(f"{message}; correct your function") from error


class Search:
    """Says how the search for a target goes: evaluations, the best so far, and what is left.

    Args:
        targets: Of the tiers, in their order; None where a tier has none.
    """

    def __init__(self, targets: Sequence[float | None]) -> None:
        self._targets = [target for target in targets if target is not None]
        self._points: list[CurvePoint] = []
        self._start = time.monotonic()

    def __call__(self, point: CurvePoint) -> None:
        """Tell of an evaluation."""
        if point.fraction == 0:  # of the network as it is: a search begins
            self._begin(point.score)
        self._points.append(point)
        said = f"{100 * point.fraction:.4f} % replaced: score {point.score:g}"
        warn(f"evaluation {len(self._points)}, {said}{self._prospect()}")

    def _begin(self, score: float) -> None:
        del self._points[:]
        target, *self._targets = self._targets
        self._target, self._start = target, time.monotonic()
        if target >= score:
            meant = target / 100 if 1 < target <= 100 and target / 100 < score else None
            advice = "give a lower one" if meant is None else f"did you mean {meant:g}?"
            raise click.UsageError(
                f"the target {target:g} is not below the score of the network as it is, {score:g}; "
                f"{advice}"
            )

    def _prospect(self) -> str:
        """Say which score was best, and how long a bisection from here takes."""
        above = [p for p in self._points if p.score >= self._target]
        below = [p for p in self._points if p.score < self._target]
        best = min(self._points, key=lambda p: abs(p.score - self._target))
        said = f" (best {best.score:g}, target {self._target:g}"
        each = (time.monotonic() - self._start) / max(len(self._points) - 1, 1)
        if above and below:
            gap = min(p.score for p in above) - max(p.score for p in below)
            more = max(1, ceil(log2(max(gap, 1e-9) / 0.01)))
            said += f", some {more} more, {more * each:.0f} s"
        elif len(self._points) > 1:
            said += f", {each:.1f} s each"
        return f"{said})"
