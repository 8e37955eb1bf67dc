"""Plots of a miniature's result file: the paper's figure or table on the left, ours on the right."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from comparison.plots import pyplot
from miniature.summary import Document, Row, paper_line, rows

from glimmer_ref.costs.published import values
from glimmer_ref.costs.published.plots import SHORT

COLOURS, MARKS = ("#0b3c49", "#d95f02", "#7570b3", "#66a61e"), ("o", "s", "^", "D")
LEVELS = ("#b03a48", "#d98c95", "#6e1020")


def _looks(found: list[Row]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each of our lines."""
    lines, levels = [r for r in found if not r.level], [r for r in found if r.level]
    looks: dict[str, dict[str, Any]] = {
        row.name: {"color": COLOURS[i], "marker": MARKS[i]} for i, row in enumerate(lines)
    }
    return looks | {row.name: {"color": LEVELS[i], "linestyle": ":"} for i, row in enumerate(levels)}


def _paper(axes: Any, document: Document, place: str, found: list[Row]) -> None:
    """Draw all of the paper's points, including those that the miniature does not have."""
    looks, drawn = _looks(found), set[str]()
    for row in found:
        if not row.paper_name or row.paper_name in drawn:
            continue
        drawn.add(row.paper_name)
        points = paper_line(document, place, row.paper_name)
        if row.level:
            axes.axhline(points[""], label=row.paper_name, **looks[row.name])
        else:
            some = sorted((float(Fraction(x)), y) for x, y in points.items())
            axes.plot([x for x, _ in some], [y for _, y in some], label=row.paper_name, **looks[row.name])


def _ours(axes: Any, found: list[Row]) -> None:
    """Draw means over seeds, with bars from the minimum to the maximum."""
    looks = _looks(found)
    for row in found:
        some = [(p.x, p.ours) for p in row.pairs if p.ours is not None]
        if row.level:
            for _, h in some:
                axes.axhline(h.mean, label=row.name, **looks[row.name])
        elif some:
            ys = [h.mean for _, h in some]
            error = [[h.mean - h.min for _, h in some], [h.max - h.mean for _, h in some]]
            axes.errorbar(
                [float(Fraction(x)) for x, _ in some], ys, error, label=row.name, capsize=3, **looks[row.name]
            )


def _dots(left: Any, right: Any, row: Row) -> None:
    """Draw a table's rows from top to bottom, with dotted lines at the values of the first row."""
    for axes in (left, right):
        axes.set_yticks(range(len(row.pairs)), [p.x for p in row.pairs])
        axes.set_ylim(len(row.pairs) - 0.5, -0.5)
        axes.margins(x=0.15)
    for place, p in enumerate(row.pairs):
        look = {"color": COLOURS[bool(place)], "marker": "o"}
        if p.paper is not None:
            left.plot(p.paper, place, **look)
        if p.ours is not None:
            h = p.ours
            right.errorbar(h.mean, place, xerr=[[h.mean - h.min], [h.max - h.mean]], capsize=3, **look)
    first = row.pairs[0]
    if first.paper is not None:
        left.axvline(first.paper, color="#999999", linestyle=":", zorder=0)
    if first.ours is not None:
        right.axvline(first.ours.mean, color="#999999", linestyle=":", zorder=0)


def _panel(left: Any, right: Any, document: Document, panel: Mapping[str, Any]) -> None:
    found, place = rows(document, panel), panel["place"]
    described = next(p for p in values.PAPER_RESULTS[document["paper_result"]]().panels if p.place == place)
    unit, ours = SHORT.get(described.unit, described.unit), panel["measure"]
    scored = "test world, exact match" + (", mean of tasks" if ours == "exact_match" else f", {ours}")
    left.set_title(f"{place}, the paper", fontsize=10)
    seeds = len(document["seeds"])
    right.set_title(f"here: {seeds} seed{'s' * (seeds > 1)}" + (", min-max" if seeds > 1 else ""), fontsize=10)
    if document["paper_result"].startswith("Table"):
        _dots(left, right, found[0])
        left.set_xlabel(unit)
        right.set_xlabel(scored)
    else:
        _paper(left, document, place, found)
        _ours(right, found)
        for axes, x, y in ((left, described.x, unit), (right, panel["x"], scored)):
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(color="#dddddd")
        axes.set_axisbelow(True)


def draw(document: Document, path: Path) -> None:
    """Write the plot: for each panel of the figure or table, a row of two."""
    plt = pyplot()
    panels = document["panels"]
    most = max(len(line["points"]) for panel in panels for line in panel["lines"])
    tall = 1.6 + 0.4 * most if document["paper_result"].startswith("Table") else 3.9
    figure, axes = plt.subplots(
        len(panels), 2, figsize=(11, tall * len(panels) + 0.4), layout="constrained", squeeze=False
    )
    figure.suptitle(f"{document['paper_result']} in miniature (axes differ: other tasks, another model)", fontsize=11)
    for (left, right), panel in zip(axes, panels, strict=True):
        _panel(left, right, document, panel)
    figure.savefig(path, dpi=110)
    plt.close(figure)
