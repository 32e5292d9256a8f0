"""Pictures, drawn with matplotlib, which is loaded here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nnguard._base.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_picture", "draw"]


def check_picture(path: Path) -> None:
    """Make sure that a picture can be drawn, before any work is done for it.

    Args:
        path: The picture's file; its suffix says the format.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: No picture format has the suffix.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        message = "pictures need matplotlib: pip install 'nnguard[plot]'"
        raise ImportError(message) from None
    if path.suffix[1:] not in FigureCanvasAgg.filetypes:
        raise ValueError(f"{path}: no picture format has this suffix; png, svg and pdf are some")


def draw(
    path: Path, size: tuple[float, float], paint: Callable[[Figure], object], *, overwrite: bool
) -> None:
    """Draw a picture and write it to a file, whole or not at all.

    Args:
        path: See `check_picture`, which raises.
        size: Width and height in inches.
        paint: Draws on the figure.
        overwrite: Replace a file that is there already.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    paint(figure)
    write_atomically(
        path, lambda file: figure.savefig(file, format=path.suffix[1:]), overwrite=overwrite
    )
