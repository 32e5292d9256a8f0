"""Pictures of how far a network fell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nnguard.files import write_atomically
from nnguard.locking.tiers import Locked

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [locked for locked in locks if locked.curve]
    if not drawn:
        raise ValueError("there is no curve: the lock had no target")
    path = Path(path)
    figure = Figure(figsize=(8, 5), layout="constrained")
    if path.suffix[1:] not in FigureCanvasAgg(figure).get_supported_filetypes():
        raise ValueError(f"{path}: no picture format has this suffix; png, svg and pdf are some")
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
    write_atomically(
        path,
        lambda file: figure.savefig(file, format=path.suffix[1:]),
        overwrite=overwrite,
    )
