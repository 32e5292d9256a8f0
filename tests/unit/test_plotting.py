"""Pictures: what is drawn in them, and how."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
from nnguard import plotting
from nnguard._hiding import extract
from nnguard._stream.quantized import decode
from nnguard.errors import ArgumentError, CapacityError

Signed = Callable[[str], nnguard.Stream]
Drawn = list[Any]
"""matplotlib's `Axes`."""

pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The axes of every picture that a test draws."""
    found: Drawn = []
    draw = plotting._draw

    def watched(path: Path, paint: Callable[[Any], object], **options: Any) -> None:
        def paint_and_keep(figure: Any) -> None:
            paint(figure)
            found.extend(figure.axes)

        draw(path, paint_and_keep, **options)

    monkeypatch.setattr(plotting, "_draw", watched)
    return found


def heights(axes: Any) -> list[dict[float, int]]:
    """Return what the bars of each histogram count, by where they stand."""
    return [
        {round(bar.get_x() + bar.get_width() / 2, 6): int(bar.get_height()) for bar in bars}
        for bars in axes.containers
    ]


def width_of(picture: Path) -> int:
    """Return how many pixels wide a png is."""
    return int.from_bytes(picture.read_bytes()[16:20], "big")


@pytest.mark.parametrize("name", ["default", "urq", "resnet20.urq38"])
def test_carrier_is_drawn_before_and_after_on_one_axis(
    tmp_path: Path, signed: Signed, drawn: Drawn, name: str
) -> None:
    picture = tmp_path / "carrier.png"
    carrier = plotting.plot_carrier(signed(name), picture)
    (axes,) = drawn
    before, after = heights(axes)
    found = extract(signed(name))
    original, (width, *_) = found.original, found.header.widths
    (unit,) = (unit for unit in original if unit.name == carrier)
    indices = decode(unit).indices
    assert [before[step] for step in (-1, 0, 1)] == [(indices == i).sum() for i in (-1, 0, 1)]
    assert after[0] == before[0], "zeros carry nothing"
    assert min(np.diff(sorted(after))) == 1 / 2**width
    assert [label.split()[0] for label in axes.get_legend_handles_labels()[1]] == [
        "before",
        "after",
    ]
    assert axes.get_title("left").startswith(carrier)
    assert "steps of" in axes.get_xlabel()
    assert width_of(picture) >= 1600
    with pytest.raises(FileExistsError):
        plotting.plot_carrier(signed(name), picture)


def test_tensor_that_would_carry_is_drawn_of_an_unsigned_stream(
    tmp_path: Path, signed: Signed, drawn: Drawn
) -> None:
    would = plotting.plot_carrier(samples.path_of("default"), tmp_path / "unsigned.png")
    assert would == plotting.plot_carrier(signed("default"), tmp_path / "signed.png")
    (now,), (before, _) = map(heights, drawn)
    assert now == before
    assert "no record" in drawn[0].get_title("left")


def test_stream_without_room_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(CapacityError):
        plotting.plot_carrier(samples.path_of("scan2"), tmp_path / "carrier.png")
    assert not list(tmp_path.iterdir())


def test_carrier_of_several_bits_counts_whole_steps(tmp_path: Path, drawn: Drawn) -> None:
    weights = np.random.default_rng(1).normal(0, 1, (20, 20)).astype(np.float32)
    few = nnguard.compress({"w": weights}, nnguard.Settings(qp=-24))
    carrying = nnguard.attach(few, bytes(range(200)))
    assert extract(carrying).header.widths[0] > 3
    plotting.plot_carrier(carrying, tmp_path / "a.png")
    moved = re.search(r"no weight moved by more than ([\d.]+) step", drawn[0].get_title("left"))
    assert moved is not None
    assert 0.4 < float(moved[1]) <= 1


def test_picture_that_cannot_be_drawn_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("picture.xyz", "picture", ".png"):
        with pytest.raises(ArgumentError, match="suffix"):
            plotting.check_picture(name)
    plotting.check_picture("picture.svg")
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError) as caught:
        plotting.check_picture("picture.png")
    assert str(caught.value) == 'pictures need matplotlib: pip install "nnguard[plot]"'


@pytest.fixture(scope="module")
def locks(model: nnguard.Stream) -> list[nnguard.Locked]:
    """Two locks with targets, the first of which took a second draw of weights."""
    weights = nnguard.decompress(model)["conv.weight"]
    asked: list[int] = []

    def evaluate(state: Mapping[str, Any]) -> float:
        changed = int(np.count_nonzero(state["conv.weight"] * weights < 0))
        asked.append(changed)
        return 1.0 if len(asked) < 6 else 1 - changed / 100

    tiers = [
        nnguard.Tier("pro", soft=nnguard.Soft(target=0.9, tolerance=0.02, max_fraction=0.02)),
        nnguard.Tier("trial", soft=nnguard.Soft(target=0.7, tolerance=0.03, max_fraction=0.02)),
    ]
    return nnguard.lock_tiers(model, tiers, evaluate=evaluate)


def test_search_shows_target_and_tolerance_and_joins_one_draw(
    tmp_path: Path, locks: list[nnguard.Locked], drawn: Drawn
) -> None:
    picture = tmp_path / "search.png"
    plotting.plot_search(locks, picture)
    (axes,) = drawn
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert {"tier pro: target 0.9 ± 0.02", "tier trial: target 0.7 ± 0.03"} <= lines.keys()
    *points, trial = locks[0].curve
    assert {point.draw for point in points} > {0, trial.draw}, "several draws"
    mine = [point for point in points if point.draw in (0, trial.draw)]
    joined = lines["tier pro: search"]
    assert sorted(joined.get_ydata()) == sorted(point.score for point in mine)
    assert [*joined.get_xdata()] == sorted(joined.get_xdata())
    apart = lines["tier pro: other draws of weights"]
    assert apart.get_linestyle() == "None"
    assert len(apart.get_xdata()) == len(points) - len(mine)
    assert "%" in axes.get_xlabel()
    assert width_of(picture) >= 1600


def test_locks_without_a_target_have_no_curve(tmp_path: Path, model: nnguard.Stream) -> None:
    with pytest.raises(ArgumentError, match="target"):
        plotting.plot_search([nnguard.lock(model)], tmp_path / "search.png")
    assert not list(tmp_path.iterdir())
