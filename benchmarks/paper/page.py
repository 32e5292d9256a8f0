"""Make docs/results.md and its plots from the JSON of `measure.py`.

python benchmarks/paper/page.py RESULTS.json --page docs/results.md --pictures docs/pictures
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from paper.measure import KINDS, LAYERS, MESSAGES, RATES, SHARES, WIDTHS
from paper.subjects import NAMES, PAPER

PUBLISHED = {
    "vgg16": (25_932_685, (88.66, 88.84, 81.94, 80.644, 80.182, 79.224)),
    "mobilenetv2": (13_807, (92.38, 92.36, 91.27, 91.272, 91.270, 91.274)),
    "resnet18": (190_387, (87.52, 87.51, 74.35, 74.172, 74.028, 74.040)),
}
"""Section IV-A, Table II: count of the peak; accuracy raw, compressed, shifted, 10, 50, 100 %."""

PUBLISHED_SIZES = {
    "vgg16": (537_218, 56_210, 53_066, 54_481, 56_211),
    "mobilenetv2": (9_195, 2_512, 2_511, 2_512, 2_512),
    "resnet18": (44_806, 9_395, 9_376, 9_384, 9_395),
}
"""Table I, in KB: raw, compressed, 10, 50, 100 %."""

SHOWN = (8, 16)
"""Bits in each weight, of those measured, that stand beside the paper's capacity."""

MISSING = ["-"] * 6
"""Cells of what was not measured."""

_FORMS = {"paper": ("o", "#000000"), "ours, URQ": ("s", "#0072b2"), "ours, TCQ": ("^", "#e69f00")}
"""What is drawn, with markers and colors (of Okabe and Ito) that all people can tell apart."""

_DOTS = 150
"""An inch of a picture: 1,950 pixels and more in all."""

_LABELS = [f"{share:.0%} of the paper's payload" for share in SHARES]


class Page:
    """The results, as Markdown.

    Args:
        values: What `measure.py` wrote.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.networks = [name for name in NAMES if f"{name}: peak" in values]

    def bars(self) -> list[str]:
        """Return what the paper's payload and a signature cost, and how much costs a point."""
        rows = []
        for name in self.networks:
            raw, published = self.values[f"{name}: raw"], ""
            if name in PUBLISHED:
                _, compressed, *_, full = PUBLISHED[name][1]
                published = change([full], compressed)
            rows.append(
                [
                    name,
                    f"{raw['unit']}, {raw['items']:,} items",
                    f"{self.values[f'{name}: URQ']['score']:.2f}",
                    published,
                    self._change(name, "URQ", "paper, 100%"),
                    *[
                        " / ".join(self._change(name, k, f"ours, {k}, {label}") for k in KINDS)
                        for label in (_LABELS[-1], "signature")
                    ],
                    " / ".join(self._within_a_point(name, f"ours, {kind}") for kind in KINDS),
                ]
            )
        head = ["network", "score", "compressed", "100 %, published", "100 %, paper's form"]
        ours = ["100 %", "signature", "bits a weight within 1 point"]
        return table([*head, *[f"{what}, ours: URQ / TCQ" for what in ours]], rows)

    def payload(self) -> list[str]:
        """Return section IV-A, and our room."""
        rows = []
        for name in self.networks:
            peak = self.values[f"{name}: peak"]
            published = f"{PUBLISHED[name][0]:,}" if name in PUBLISHED else ""
            rooms = [self.values[f"{name}: {kind}"]["room"] for kind in KINDS]
            rows.append(
                [
                    name,
                    f"{peak['weights']:,}",
                    f"{peak['peak']}",
                    f"{peak['count']:,}",
                    f"{peak['count'] / peak['weights']:.4f}",
                    published,
                    *[f"{room:,} ({room / peak['weights']:.3f})" for room in rooms],
                ]
            )
        head = ["network", "weights", "peak", "count", "a weight", "in the paper"]
        return table([*head, "ours, URQ (a weight)", "ours, TCQ (a weight)"], rows)

    def capacity(self) -> list[str]:
        """Return how many bits a weight holds, beside the paper."""
        rows = []
        for name in self.networks:
            peak = self.values[f"{name}: peak"]
            published = f"{PUBLISHED[name][0] / peak['weights']:.3f}" if name in PUBLISHED else ""
            row = [name, published, f"{peak['count'] / peak['weights']:.3f}"]
            for width in SHOWN:
                found = [self._filled(name, kind, width) for kind in KINDS]
                row += [" / ".join(cells) for cells in list(zip(*found, strict=True))[:4]]
            rows.append(row)
        head = ["network", "published", "paper's form"]
        for width in SHOWN:
            head += [f"ours, {width} in each: bits a weight", "growth / payload", "in a lock"]
            head += ["change"]
        return table(head, rows)

    def widths(self) -> list[str]:
        """Return size, score and time with 1 to 16 bits in every weight that is not zero."""
        rows = []
        for name in self.networks:
            for kind in KINDS:
                plain = self.values.get(f"{name}: {kind}, decoding")
                if plain is None:
                    continue
                each = f"{1e9 * plain['decoding'] / plain['carrying']:.1f}"
                rows.append([name, kind, "-", "", "", "", "", each, ""])
                filled = ((k, self._filled(name, kind, k)) for k in WIDTHS)
                rows += [[name, kind, f"{k}", *cells] for k, cells in filled if cells != MISSING]
        head = ["network", "", "bits in each", "bits a weight", "growth / payload"]
        head += ["growth / payload in a lock", "change"]
        return table([*head, "decoding a weight, ns", "a hidden byte, ns"], rows)

    def _filled(self, name: str, kind: str, width: int) -> list[str]:
        """Return bits a weight, growth, growth in a lock, change, and nanoseconds: it is full."""
        found = self.values.get(f"{name}: ours, {kind}, all room, {width} bits in each")
        if found is None:
            return MISSING
        base = self.values[f"{name}: {kind}"]
        lock = self.values.get(f"{name}: ours, {kind}, in a lock, {width} bits in each")
        return [
            f"{found['bits'] / found['carrying']:.2f}",
            *(growth(each, base["bytes"]) for each in (found, lock)),
            change([found["score"]], base["score"]),
            f"{1e9 * found['decoding'] / found['carrying']:.1f}",
            f"{8e9 * found['decoding'] / found['bits']:.1f}",
        ]

    def sizes(self) -> list[str]:
        """Return Table I."""
        rows = []
        for name in self.networks:
            raw = self.values[f"{name}: raw"]["bytes"]
            compressed = self.values[f"{name}: URQ"]["bytes"]
            row = [name, kilobytes(raw), kilobytes(compressed)]
            for form in ("paper, {:.0%}", "ours, URQ, {:.0%} of the paper's payload"):
                for share in SHARES:
                    found = self._messages(f"{name}: {form.format(share)}", "bytes")
                    row.append(kilobytes(statistics.mean(found)) if found else "-")
            rows.append(row)
            if name in PUBLISHED_SIZES:
                published = [f"{size:,}" for size in PUBLISHED_SIZES[name]]
                rows.append([f"*{name}, published*", *published, "", "", ""])
        head = ["network", "raw", "compressed", "paper's form: 10 %", "50 %", "100 %"]
        return table([*head, "ours: 10 %", "50 %", "100 %"], rows)

    def scores(self) -> list[str]:
        """Return Table II, in the paper's form."""
        rows = []
        for name in self.networks:
            if f"{name}: paper, bins shifted" not in self.values:
                continue
            published = PUBLISHED[name][1] if name in PUBLISHED else ("",) * 6
            compressed = self.values[f"{name}: URQ"]["score"]
            shifted = self.values[f"{name}: paper, bins shifted"]["score"]
            lines: list[tuple[str, list[float]]] = [
                ("raw", [self.values[f"{name}: raw"]["score"]]),
                ("compressed", [compressed]),
                ("bins shifted", [shifted]),
            ]
            lines += [
                (f"{share:.0%}", self._messages(f"{name}: paper, {share:.0%}", "score"))
                for share in SHARES
            ]
            for (what, found), other in zip(lines, published, strict=True):
                rows.append([name, what, *spread(found), f"{other}"])
            rows.append([name, "reconstructed", *spread([compressed]), f"{published[1]}"])
        head = ["network", "", "mean", "median", "min / max", "variance, 10^-3", "published"]
        return table(head, rows)

    def ours(self) -> list[str]:
        """Return the same payloads and more in our form."""
        rows = []
        for name in self.networks:
            for kind in KINDS:
                rows += self._ours(name, kind)
        head = ["network", "", "payload", "bits", "a weight", "file growth %", "growth / payload"]
        scores = ["mean", "median", "min / max", "variance, 10^-3"]
        return table([*head, *scores, "change", "paper's form, change"], rows)

    def _ours(self, name: str, kind: str) -> list[list[str]]:
        rows: list[list[str]] = []
        base = self.values[f"{name}: {kind}"]
        weights = self.values[f"{name}: peak"]["weights"]
        labels = ["signature", *_LABELS, *[f"{rate:g} bits a weight" for rate in RATES]]
        labels += [f"all room, {layers} records" for layers in LAYERS]
        for label in labels:
            found = self._all(f"{name}: ours, {kind}, {label}")
            if not found:
                continue
            scores = [one["score"] for one in found]
            size = statistics.mean(one["bytes"] for one in found)
            bits, grown = found[0]["bits"], size - base["bytes"]
            theirs = ""
            if kind == "URQ" and label in _LABELS:
                share = SHARES[_LABELS.index(label)]
                theirs = self._change(name, kind, f"paper, {share:.0%}")
            rows.append(
                [
                    name,
                    kind,
                    label,
                    f"{bits:,}",
                    f"{bits / weights:.4f}",
                    f"{100 * grown / base['bytes']:+.2f}",
                    f"{8 * grown / bits:.2f}",
                    *spread(scores),
                    change(scores, base["score"]),
                    theirs,
                ]
            )
        return rows

    def points(self, name: str, form: str) -> list[tuple[float, float, float]]:
        """Return bits a weight, change of score, and growth in percent, of all sizes of a form."""
        kind = "TCQ" if "TCQ" in form else "URQ"
        base, weights = self.values[f"{name}: {kind}"], self.values[f"{name}: peak"]["weights"]
        sizes = {label.partition(", message")[0] for label in self.values}
        marks = [self._all(size) for size in sizes if size.startswith(f"{name}: {form}")]
        return sorted(
            (
                found[0]["bits"] / found[0].get("carrying", weights),
                statistics.mean(one["score"] for one in found) - base["score"],
                100 * (statistics.mean(one["bytes"] for one in found) / base["bytes"] - 1),
            )
            for found in marks
            if found and found[0]["bits"]
        )

    def _change(self, name: str, kind: str, label: str) -> str:
        base = self.values[f"{name}: {kind}"]["score"]
        return change(self._messages(f"{name}: {label}", "score"), base)

    def _within_a_point(self, name: str, form: str) -> str:
        within = [bits for bits, lost, _ in self.points(name, form) if lost >= -1]
        return f"{max(within):.2f}" if within else "-"

    def _messages(self, name: str, what: str) -> list[float]:
        return [one[what] for one in self._all(name)]

    def _all(self, name: str) -> list[dict[str, Any]]:
        names = [name, *(f"{name}, message {seed}" for seed in range(MESSAGES))]
        found = [self.values[each] for each in names if each in self.values]
        return [one for one in found if "score" in one]


def growth(found: dict[str, Any] | None, base: int) -> str:
    """Return how many bits a file grows by for each bit that it holds."""
    if not found or "bits" not in found:
        return "-"
    return f"{8 * (found['bytes'] - found.get('base', base)) / found['bits']:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all columns but the first two stand to the right."""
    marks = ["---" if column < 2 else "--:" for column in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)]


def spread(found: Sequence[float]) -> list[str]:
    """Return mean, median, least and largest, and variance."""
    if not found:
        return ["-"] * 4
    return [
        f"{statistics.mean(found):.3f}",
        f"{statistics.median(found):.2f}",
        f"{min(found):.2f} / {max(found):.2f}",
        f"{1000 * statistics.pvariance(found):.2f}",
    ]


def change(scores: Sequence[float], base: float) -> str:
    """Return the difference of the mean from a score, in points."""
    return f"{round(statistics.mean(scores) - base, 2) + 0.0:+.2f}" if scores else "-"


def kilobytes(size: float) -> str:
    """Return bytes as thousands, as the paper has them."""
    return f"{size / 1000:,.0f}"


def draw(page: Page, folder: Path) -> None:
    """Draw score and growth against payload for every network, and histograms as in Fig. 2."""
    folder.mkdir(parents=True, exist_ok=True)
    for column, what, limits, name in (
        (1, "change of the score (points)", (-100, 2), "results-score.png"),
        (2, "growth of the file (%)", (-0.2, 100), "results-growth.png"),
    ):
        figure = _figure(page, column, what, limits)
        figure.savefig(folder / name, dpi=_DOTS)
    draw_histograms(page, folder / "results-histograms.png")


def _figure(page: Page, column: int, what: str, limits: tuple[float, float]) -> Figure:
    """Draw one of the columns of `Page.points` for every network."""
    columns = min(3, len(page.networks))
    rows = -(-len(page.networks) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(page.networks) :]:
        axis.set_visible(False)
    for name, axis in zip(page.networks, axes.flat, strict=False):
        for form, (marker, color) in _FORMS.items():
            points = page.points(name, form)
            x, y = [point[0] for point in points], [point[column] for point in points]
            axis.plot(x, y, marker + "-", color=color, ms=4, lw=0.8, label=form)
        axis.set_xscale("log")
        axis.set_yscale("symlog", linthresh=1)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(limits)
        axis.set_title(name, loc="left")
        axis.set_xlabel("payload (bits for each weight)")
        axis.set_ylabel(what)
        axis.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def draw_histograms(page: Page, path: Path) -> None:
    """Draw Fig. 2 of the paper: before, bins shifted, and with random bits in the peak."""
    names = [name for name in PAPER if name in page.networks]
    figure = Figure(figsize=(13, 2.9 * len(names)), layout="constrained")
    for row, name in zip(figure.subplots(len(names), 3, squeeze=False), names, strict=True):
        peak = page.values[f"{name}: peak"]
        before = {int(value): count for value, count in peak["histogram"].items()}
        shifted = {v + (v > peak["peak"]): count for v, count in before.items()}
        filled = shifted | {peak["peak"]: peak["count"] // 2, peak["peak"] + 1: peak["count"] // 2}
        stages = (before, shifted, filled)
        titles = ("before", "bins shifted", "all of the payload")
        for axis, counts, title in zip(row, stages, titles, strict=True):
            near = {v: count for v, count in counts.items() if abs(v - peak["peak"]) <= 20}
            thousands = [count / 1000 for count in near.values()]
            axis.bar(list(near), thousands, width=1.0, color=_FORMS["ours, URQ"][1])
            axis.set_title(f"{name}: {title}", loc="left")
            axis.set_xlabel("value of a weight (steps)")
            axis.set_ylabel("weights (thousands)")
    figure.savefig(path, dpi=_DOTS)


def fill(text: str, page: Page) -> str:
    """Return the text of the page, with new tables between its marks."""
    for part in ("bars", "capacity", "payload", "sizes", "scores", "ours", "widths"):
        start, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
        before, after = text.split(start)[0], text.split(end)[1]
        text = f"{before}{start}{chr(10).join(getattr(page, part)())}\n{end}{after}"
    return text


def main() -> None:
    """Make the page from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--page", type=Path, required=True, metavar="FILE")
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    page = Page(json.loads(options.results.read_text(encoding="utf-8")))
    text = options.page.read_text(encoding="utf-8")
    options.page.write_text(fill(text, page), encoding="utf-8")
    draw(page, options.pictures)


if __name__ == "__main__":
    main()
