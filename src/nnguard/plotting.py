"""Pictures of what was hidden and of how far a network fell; needs matplotlib.

    nnguard.plotting.plot_carrier("release.nnc", "carrier.png")
    nnguard.plotting.plot_search([locked], "search.png")

The suffix of a picture says its format. Pictures are written whole or not at all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nnguard._base.files import write_atomically
from nnguard._hiding import extract, plan_record
from nnguard._locking.search import CurvePoint
from nnguard._locking.tiers import Locked
from nnguard._stream import StreamLike, as_stream
from nnguard._stream.quantized import QuantizedTensor, decode
from nnguard.errors import ArgumentError, NoRecordError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nnguard._operations.trace import Trace

__all__ = ["plot_carrier", "plot_search", "plot_trace"]

_SIZE, _DOTS = (10, 5.6), 200
"""Width and height in inches, and dots an inch where a picture is made of dots."""

_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""By Okabe and Ito: people who are color-blind can tell them apart, too."""

_SHOWN_STEPS = 24
"""Of the histogram, to either side of zero."""

_DRAWN_PARTS = 8
"""Bars for each step, at most."""

_CUT = 1.6
"""Where zero has more weights than so many times the next bar has, its bar is cut off there."""

_KIND, _RECORD_SIZE = 1, 138
"""Of a short signature: where it would go is drawn of a stream that has no record."""


def check_picture(path: str | os.PathLike[str]) -> None:
    """Make sure that a picture can be drawn, before any work is done for it.

    Args:
        path: The picture's file.

    Raises:
        ImportError: matplotlib is not installed.
        ArgumentError: No picture format has the suffix.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        message = 'pictures need matplotlib: pip install "nnguard[plot]"'
        raise ImportError(message) from None
    if Path(path).suffix[1:] not in FigureCanvasAgg.filetypes:
        raise ArgumentError(f"{path}: no picture format has this suffix; use .png, .svg or .pdf")


def plot_carrier(
    stream: StreamLike, path: str | os.PathLike[str], *, overwrite: bool = False
) -> str:
    """Draw the histogram of the primary carrier, before and after embedding (paper, Fig. 2).

    Of a stream without a record, draw that of the tensor that would carry a signature.

    Args:
        stream: A stream or the path of one. It is not verified.
        path: The picture to write.
        overwrite: Replace a file that is there already.

    Returns:
        The name of the tensor.

    Raises:
        ImportError: matplotlib is not installed.
        ArgumentError: No picture format has the suffix.
        CapacityError: The stream has no record, and no room for one.

    Examples:
        >>> nnguard.plotting.plot_carrier("release.nnc", "carrier.png")
        'fc2.weight'
    """
    check_picture(path)
    stream = as_stream(stream)
    after, divisions = None, 1
    try:
        extraction = extract(stream)
    except NoRecordError:
        carrier = plan_record(stream, _KIND, _RECORD_SIZE).header.carriers[0]
        before = decode(stream[carrier])
        title = "no record; one would be hidden here"
    else:
        header = extraction.header
        carrier, divisions = header.carriers[0], 1 << header.widths[0]
        before, after = decode(extraction.original[carrier]), decode(stream[carrier])
        more = f" and in {len(header.carriers) - 1:,} more" if header.carriers[1:] else ""
        farthest = np.abs(_flat(after) - divisions * _flat(before)).max() / divisions
        title = (
            f"{header.record_size:,} bytes hidden here{more}; "
            f"no weight moved by more than {farthest:g} step{'s' if farthest > 1 else ''}"
        )
    name = _printable(stream[carrier].name)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_title(f"{name}\n{title}", loc="left", parse_math=False)
        _paint_carrier(axes, before, after, divisions)

    _draw(path, paint, overwrite=overwrite)
    return name


def _paint_carrier(
    axes: Axes, before: QuantizedTensor, after: QuantizedTensor | None, divisions: int
) -> None:
    """Draw one histogram over the other; `after` counts steps that are divided so many times."""
    label = "weights" if after is None else "before"
    highest = _paint_bars(axes, before, 1, label=label, order=0)
    if after is not None:
        highest = max(highest, _paint_bars(axes, after, divisions, label="after", order=1))
    zeros = int(np.count_nonzero(before.indices == 0))
    if zeros > _CUT * highest:
        axes.set_ylim(0, _CUT * highest)
        stay = "" if after is None else " and stay zero"
        axes.annotate(f" {zeros:,} are zero{stay}", (0.5, 0.9 * _CUT * highest))
    axes.set_xlabel(f"value of a weight near zero (in steps{_size_of(before)})")
    axes.set_ylabel("weights (count in each bar)")
    axes.legend()


def _paint_bars(
    axes: Axes, tensor: QuantizedTensor, divisions: int, *, label: str, order: int
) -> int:
    """Draw a tensor's histogram near zero; return its highest bar, zero left out.

    Args:
        axes: Where to.
        tensor: The tensor.
        divisions: Its indices count steps that are so many times as small as those of the picture.
        label: For the legend.
        order: 0 for what is drawn first.
    """
    bars = min(divisions, _DRAWN_PARTS)
    places = np.rint(_flat(tensor) * (bars / divisions)).astype(np.int64)
    shown = min(_SHOWN_STEPS * bars, int(np.abs(places).max()))
    counts = np.bincount(places[np.abs(places) <= shown] + shown, minlength=2 * shown + 1)
    width = f"1/{bars} of a step" if bars > 1 else "one step"
    axes.bar(
        np.arange(-shown, shown + 1) / bars,
        counts,
        (0.7 if order else 0.94) / bars,
        color=_COLORS[order],
        label=f"{label} (each bar {width} wide)",
    )
    counts[shown] = 0
    return int(counts.max(initial=1))


def plot_search(
    locks: Sequence[Locked], path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Draw what a network scored with more and more of its weights replaced.

    Lines join points of the draw of weights that made the trial. Points of other draws are pale.

    Args:
        locks: Of `lock` or `lock_tiers`, made with a target.
        path: The picture to write.
        overwrite: Replace a file that is there already.

    Raises:
        ImportError: matplotlib is not installed.
        ArgumentError: No picture format has the suffix, or no lock had a target.

    Examples:
        >>> from score import accuracy
        >>> soft = nnguard.Soft(target=0.5, tolerance=0.1)
        >>> locked = nnguard.lock("release.nnc", soft=soft, evaluate=accuracy)
        >>> nnguard.plotting.plot_search([locked], "search.png")
    """
    check_picture(path)
    drawn = [locked for locked in locks if locked.curve]
    if not drawn:
        raise ArgumentError("there is no curve to draw: no lock had a target")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for color, locked in zip(itertools.cycle(_COLORS), drawn, strict=False):
            _paint_search(axes, locked, color)
        axes.set_xlabel("weights replaced (% of all)")
        axes.set_ylabel("score (what evaluate returns)")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=min(len(drawn), 3))

    _draw(path, paint, overwrite=overwrite)


def _paint_search(axes: Axes, locked: Locked, color: str) -> None:
    *points, trial = locked.curve
    mine = sorted((p for p in points if p.draw in (0, trial.draw)), key=lambda p: p.fraction)
    others = [point for point in points if point.draw not in (0, trial.draw)]
    tier = f"tier {_printable(locked.tier)}"
    axes.plot(*_places(mine), "o-", color=color, markersize=4, label=f"{tier}: search")
    if others:
        label = f"{tier}: other draws of weights"
        axes.plot(*_places(others), "x", color=color, alpha=0.5, label=label)
    label = f"{tier}: trial, {trial.score:.4g}"
    axes.plot(*_places([trial]), "D", color=color, mec="black", markersize=9, label=label)
    if locked.soft is not None and (target := locked.soft.target) is not None:
        tolerance = locked.soft.tolerance
        axes.axhspan(target - tolerance, target + tolerance, color=color, alpha=0.15)
        label = f"{tier}: target {target:g} ± {tolerance:g}"
        axes.axhline(target, color=color, linestyle="--", label=label)


def _places(points: Sequence[CurvePoint]) -> tuple[list[float], list[float]]:
    """Return where points are: percent, and scores."""
    return [100 * point.fraction for point in points], [point.score for point in points]


def plot_trace(trace: Trace, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Draw the scores of all licenses that a suspect was compared with.

    Args:
        trace: What `nnguard.trace` returned.
        path: The picture to write.
        overwrite: Replace a file that is there already.

    Raises:
        ImportError: matplotlib is not installed.
        ArgumentError: No picture format has the suffix.

    Examples:
        >>> licenses = [licensing.License.load("ada-copy.license").terms.id]
        >>> trace = nnguard.trace("ada-copy.nnc", "sold.nnc", "sold.key", licenses)
        >>> nnguard.plotting.plot_trace(trace, "scores.png")
    """
    check_picture(path)
    others = trace.other_scores

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.hist(others, bins=60, color=_COLORS[0], label=f"{len(others):,} others")
        for accusation, color in zip(trace.accused, itertools.cycle(_COLORS[1:]), strict=False):
            label = f"license {accusation.license_id[:8]}: {accusation.score:.1f}"
            axes.plot([accusation.score], [0.5], "D", color=color, mec="black", label=label)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xlabel("score (standard deviations of what licenses score that had no part)")
        axes.set_ylabel("licenses")
        verdict = "accused" if trace.accused else "nobody is accused"
        axes.set_title(f"{len(trace.accused) or ''} {verdict}".strip(), loc="left")
        figure.legend(loc="outside lower center", ncols=4)

    _draw(path, paint, overwrite=overwrite)


def _flat(tensor: QuantizedTensor) -> npt.NDArray[np.int64]:
    return tensor.indices.reshape(-1).astype(np.int64)


def _size_of(tensor: QuantizedTensor) -> str:
    """Return the size of a step in words; none where a header names one beyond all numbers."""
    try:
        return f" of {tensor.step:g}"
    except OverflowError:
        return ""


def _printable(name: str) -> str:
    return ascii(name)[1:-1][:80]


def _draw(
    path: str | os.PathLike[str], paint: Callable[[Figure], object], *, overwrite: bool
) -> None:
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    paint(figure)
    write_atomically(
        path, lambda file: figure.savefig(file, format=path.suffix[1:]), overwrite=overwrite
    )
