"""Plots of the miniature: the paper's figure or table on the left, ours on the right."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from comparison.plots import pyplot
from miniature.paper import paper_line
from miniature.structure import ALL, Experiment, Panel
from miniature.summary import Kept, Measured, Row, place_of, rows

from glimmer_ref.costs.published import values
from glimmer_ref.costs.published.plots import SHORT

COLOURS, MARKS = ("#0b3c49", "#d95f02", "#7570b3", "#66a61e"), ("o", "s", "^", "D")
LEVELS = ("#b03a48", "#d98c95", "#6e1020")
COST = "samples per TFLOP"


def _looks(found: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each of our lines."""
    lines, levels = [r for r in found if not r.level], [r for r in found if r.level]
    looks: dict[str, dict[str, Any]] = {
        row.name: {"color": COLOURS[i], "marker": MARKS[i]} for i, row in enumerate(lines)
    }
    return looks | {row.name: {"color": LEVELS[i], "linestyle": ":"} for i, row in enumerate(levels)}


def _spread(h: Measured) -> list[list[float]]:
    return [[h.mean - h.min], [h.max - h.mean]]


def _paper(axes: Any, experiment: Experiment, panel: Panel, found: Sequence[Row]) -> None:
    """Draw all of the paper's points, including those that the miniature does not have."""
    looks = _looks(found)
    for row in found:
        points = paper_line(experiment.name, panel.place, row.paper_name)
        if row.level:
            for printed in points.values():  # none, if the paper does not have this line
                axes.axhline(printed.y, label=row.paper_name, **looks[row.name])
            continue
        some = sorted((float(Fraction(x)) if p.cost is None else p.cost, p.y) for x, p in points.items())
        axes.plot([x for x, _ in some], [y for _, y in some], label=row.paper_name, **looks[row.name])


def _ours(axes: Any, panel: Panel, found: Sequence[Row]) -> None:
    """Draw means over seeds, with bars from the minimum to the maximum."""
    looks = _looks(found)
    for row in found:
        some = [(p, p.ours) for p in row.pairs if p.ours is not None]
        if row.level:
            for _, h in some:
                axes.axhline(h.mean, label=row.name, **looks[row.name])
            continue
        if not some:
            continue
        xs = [h.cost if panel.cost else place_of(p) for p, h in some]
        ys = [h.mean for _, h in some]
        error = [[h.mean - h.min for _, h in some], [h.max - h.mean for _, h in some]]
        axes.errorbar(xs, ys, error, label=row.name, capsize=3, **looks[row.name])
        for x, (p, h) in zip(xs, some, strict=True):
            if panel.cost:
                words = f"{p.k}" if p.m == p.k else f"{p.k}->{p.m}"
                axes.annotate(words, (x, h.mean), xytext=(6, 5), textcoords="offset points", fontsize=8)


def _in_rows(left: Any, right: Any, experiment: Experiment, panel: Panel, found: Sequence[Row]) -> None:
    """Draw rows from top to bottom: dots, with dotted lines at a table's first row, or lines from dot to dot."""
    names = [p.x for p in found[0].pairs]
    there = [point.paper or point.x for point in panel.lines[0].points]
    for axes, labels in ((left, there), (right, names)):
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.15)
    for i, row in enumerate(found):
        for place, p in enumerate(row.pairs):
            look = {"color": COLOURS[i if len(found) > 1 else bool(place)], "marker": MARKS[i], "linestyle": ""}
            if len(found) > 1 and not place:
                look["label"] = row.name
            if p.paper is not None:
                left.plot(p.paper, place, **look)
            if p.ours is not None:
                right.errorbar(p.ours.mean, place, xerr=_spread(p.ours), capsize=3, **look)
    first = found[0].pairs[0]
    if experiment.is_table:
        if first.paper is not None:
            left.axvline(first.paper, color="#999999", linestyle=":", zorder=0)
        if first.ours is not None:
            right.axvline(first.ours.mean, color="#999999", linestyle=":", zorder=0)
        return
    for place, (a, b) in enumerate(zip(found[0].pairs, found[1].pairs, strict=True)):
        if a.paper is not None and b.paper is not None:
            left.hlines(place, a.paper, b.paper, color="#999999", zorder=0)
        if a.ours is not None and b.ours is not None:
            right.hlines(place, a.ours.mean, b.ours.mean, color="#999999", zorder=0)


def _panel(left: Any, right: Any, experiment: Experiment, panel: Panel, kept: Kept) -> None:
    found, place = rows(experiment, panel, kept), panel.place
    described = next(p for p in values.PAPER_RESULTS[experiment.name]().panels if p.place == place)
    unit, ours = SHORT.get(described.unit, described.unit), panel.measure
    scored = "test world, exact match" + (", mean of tasks" if ours == ALL else f", {ours}")
    left.set_title(f"{place}, the paper", fontsize=10)
    seeds = max((p.ours.seeds for row in found for p in row.pairs if p.ours is not None), default=0)
    right.set_title(f"here: {seeds} seed{'s' * (seeds > 1)}" + (", min-max" if seeds > 1 else ""), fontsize=10)
    if experiment.in_rows:
        _in_rows(left, right, experiment, panel, found)
        left.set_xlabel(unit)
        right.set_xlabel(scored)
    else:
        _paper(left, experiment, panel, found)
        _ours(right, panel, found)
        right.margins(*((0.12, 0.1) if panel.cost else (0.05, 0.05)))  # room for words beside the points
        x = f"{COST} (beside each point: k, or k->m)" if panel.cost else panel.x
        for axes, below, beside in ((left, described.x, unit), (right, x, scored)):
            axes.set_xlabel(below)
            axes.set_ylabel(beside)
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        axes.grid(color="#dddddd")
        axes.set_axisbelow(True)


def draw(experiment: Experiment, kept: Kept, path: Path) -> None:
    """Write the plot: for each panel of the figure or table, a row of two."""
    plt = pyplot()
    most = max(len(line.points) for panel in experiment.panels for line in panel.lines)
    tall = 1.6 + 0.4 * most if experiment.in_rows else 3.9
    size, count = (11, tall * len(experiment.panels) + 0.4), len(experiment.panels)
    figure, axes = plt.subplots(count, 2, figsize=size, layout="constrained", squeeze=False)
    figure.suptitle(f"{experiment.name} in miniature (axes differ: other tasks, another model)", fontsize=11)
    for (left, right), panel in zip(axes, experiment.panels, strict=True):
        _panel(left, right, experiment, panel, kept)
    figure.savefig(path, dpi=110)
    plt.close(figure)
