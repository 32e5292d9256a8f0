"""Pictures of how far a network fell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnguard._locking.tiers import Locked
from nnguard._plotting.pictures import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_curves"]


def plot_curves(
    locks: Sequence[Locked], path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Draw the score against the fraction of weights that were replaced.

    Args:
        locks: Of `lock` or `lock_tiers`, made with a target.
        path: Picture to write; its suffix says the format.
        overwrite: Replace a file that is there already.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: No picture format has the suffix, or there is nothing to draw.
    """
    drawn = [locked for locked in locks if locked.curve]
    if not drawn:
        raise ValueError("there is no curve: the lock had no target")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for locked in drawn:
            points = sorted((100 * point.fraction, point.score) for point in locked.curve)
            label = ascii(locked.tier)[1:-1][:80]
            (line,) = axes.plot(*zip(*points, strict=True), "o-", label=f"lock of tier {label}")
            last = locked.curve[-1]
            axes.plot(100 * last.fraction, last.score, "s", markersize=10, color=line.get_color())
        axes.set_xlabel("weights replaced (% of all; square: the trial)")
        axes.set_ylabel("score")
        axes.grid(alpha=0.3)
        axes.legend()

    draw(Path(path), (8, 5), paint, overwrite=overwrite)
