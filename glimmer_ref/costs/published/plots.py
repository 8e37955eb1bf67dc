"""The paper's figures and tables as plots, beside the same values against the calculator's cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...pictures import picture
from ..modes import TERA
from ..plots import STYLES
from .values import KILT, NQ

Report = Mapping[str, Any]
Row = Mapping[str, Any]
COST = "TMACs (10^12 multiply-adds) a question, mode full"
SHORT = {KILT: "KILT dev, mean score", NQ: "NQ dev, exact match"}
LIGHT = {"color": "#5b93c4", "marker": "D", "linestyle": "--"}
LIGHTER = {"color": "#d98c95", "marker": "v", "linestyle": "--"}
SERIES: dict[str, dict[str, Any]] = {  # for figures where one system has two lines; others use `STYLES`
    "2 rerank layers": LIGHT,
    "NQ-only": LIGHTER,
    "lumen-5": {"color": "#d98c95", "marker": "v", "linestyle": ":"},
    "lumen-25": {"color": "#b03a48", "marker": "^", "linestyle": "--"},
    "lumen-40": {"color": "#6e1020", "marker": "<", "linestyle": "-."},
}


def sheet(path: str, shape: tuple[int, int], size: tuple[float, float], draw: Callable[[Any, Any], None]) -> None:
    """Write a figure with a grid of axes and one legend below all of them.

    Raises:
        InputError: as `pictures.picture`.
    """
    with picture(path, *shape, size, dpi=120) as (figure, axes):
        draw(figure, axes)
        named = {label: h for a in axes.flat for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
        if len(named) > 1:
            figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4, frameon=False)


def style(row: Row) -> dict[str, Any]:
    """Colour, marker and dashes of a series."""
    return {"markersize": 7, **SERIES.get(row["series"], STYLES[row["system"]])}


def in_series(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each series together."""
    return [[row for row in rows if row["series"] == name] for name in dict.fromkeys(row["series"] for row in rows)]


def tera(row: Row) -> float:
    """A model's cost on the cost axis."""
    return float(row["macs"] / TERA)


def _frame(axes: Any, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(SHORT.get(y, y))
    axes.set_title(title, fontsize=10)
    axes.grid(color="#dddddd")
    axes.set_axisbelow(True)
    axes.margins(x=0.08, y=0.12)


def lines(axes: Any, rows: Sequence[Row], x: Callable[[Row], float | None]) -> None:
    """One line for each series; a series without x is a horizontal line."""
    for series in in_series(rows):
        ys, look = [float(row["y"]) for row in series], style(series[0])
        if x(series[0]) is None:
            axes.axhline(
                ys[0], label=series[0]["series"], color=look["color"], linestyle=look["linestyle"], linewidth=2
            )
        else:
            axes.plot([x(row) for row in series], ys, label=series[0]["series"], **look)


def as_printed(row: Row) -> float | None:
    """x as in the paper."""
    return None if row["x"] is None else float(row["x"])


def curves(report: Report, path: str) -> None:
    """Each panel as in the paper on the left, and the same points against their cost on the right."""
    panels = report["axes"]

    def draw(figure: Any, axes: Any) -> None:
        figure.suptitle(f"{report['name']}: {report['title']}", fontsize=11)
        for (left, right), (place, names) in zip(axes, panels.items(), strict=True):
            rows = [row for row in report["rows"] if row["place"] == place]
            _frame(left, names["x"], names["y"], f"{place}, as published")
            lines(left, rows, as_printed)
            _frame(right, COST, names["y"], "against what it costs")
            lines(right, rows, tera)
            right.set_xlim(0, 1.08 * max(tera(row) for row in rows))

    sheet(path, (len(panels), 2), (10.5, 3.9 * len(panels) + 0.7), draw)


def bars(report: Report, path: str) -> None:
    """Figure 6: its stacked bars, and the scores of both trainings against the model's cost."""
    alone, more = in_series(report["rows"])
    ((place, names),) = report["axes"].items()

    def draw(figure: Any, axes: Any) -> None:
        figure.suptitle(f"{report['name']}: {report['title']}", fontsize=11)
        ((left, right),) = axes
        labels, low, high = [r["x"] for r in alone], [float(r["y"]) for r in alone], [float(r["y"]) for r in more]
        left.barh(labels, low, color=LIGHTER["color"], edgecolor="black", label="NQ only")
        left.barh(labels, high, left=low, color=STYLES["lumen"]["color"], edgecolor="black", hatch="//", label="KILT")
        left.bar_label(left.containers[0], [f"{a:.2f} " for a in low], padding=-38)
        left.bar_label(left.containers[1], [f" {a + b:.2f}" for a, b in zip(low, high, strict=True)])
        _frame(left, names["y"], "", f"{place}, as published (bars start at 45)")
        left.set_xlim(45, 64)
        for row, a, b in zip(alone, low, high, strict=True):
            marker = STYLES[row["system"]]["marker"]
            right.annotate("", (tera(row), a + b), (tera(row), a), arrowprops={"arrowstyle": "->", "shrinkA": 6})
            right.plot(tera(row), a, marker=marker, color=LIGHTER["color"], markersize=8)
            right.plot(tera(row), a + b, marker=marker, color=STYLES["lumen"]["color"], markersize=8)
            right.annotate(row["x"], (tera(row), a), xytext=(9, -4), textcoords="offset points")
        _frame(right, COST, names["y"], "against what it costs, k=10 assumed")
        right.set_xlim(0, 1.15 * max(tera(row) for row in alone))

    sheet(path, (1, 2), (10.5, 4.4), draw)


def dots(report: Report, path: str) -> None:
    """A table: a dot for each row with its distance from the first row, and its cost below its name."""
    rows = report["rows"]
    ((place, names),) = report["axes"].items()

    def draw(figure: Any, axes: Any) -> None:
        a = axes[0, 0]
        labels = [f"{row['series']}\n{tera(row):.4f} TMACs" for row in rows]
        values = [float(row["y"]) for row in rows]
        a.hlines(labels, values[0], values, color="#777777", linewidth=2, zorder=1)
        a.scatter(values, labels, color=STYLES["glimmer"]["color"], s=60, zorder=2)
        for label, value in zip(labels, values, strict=True):
            a.annotate(f"{value:.1f}", (value, label), xytext=(0, 8), textcoords="offset points", ha="center")
        a.axvline(values[0], color="#999999", linestyle=":", zorder=0)
        _frame(a, f"{names['y']} (the axis does not start at 0)", "", f"{place}: {report['title']}")
        a.margins(x=0.15)
        a.set_ylim(len(rows) - 0.5, -0.5)

    sheet(path, (1, 1), (8, 0.62 * len(rows) + 1.6), draw)


def _name(row: Row) -> str:
    """What distinguishes a model from the others of its system."""
    if row["system"] == "lumen":
        return f"LUMEN, k={row['k']}"
    return f"k={row['k']}, m={row['m']}" + ("" if row["beta_exact"] == "1/4" else f", beta={row['beta_exact']}")


def front(report: Report, path: str) -> None:
    """The models of Figures 3 to 5 against their cost, with the Pareto front as a step line."""
    rows = report["rows"]
    best = [row for row in rows if row["front"]]
    lumen = [row for row in rows if row["system"] == "lumen"]
    dominated = [row for row in rows if row not in best and row not in lumen]

    def coordinates(chosen: Sequence[Row]) -> tuple[list[float], list[float]]:
        return [tera(row) for row in chosen], [float(row["y"]) for row in chosen]

    def draw(figure: Any, axes: Any) -> None:
        a = axes[0, 0]
        x, y = coordinates(best)
        a.step([*x, tera(rows[-1])], [*y, y[-1]], where="post", color="#888888", label="Pareto front", zorder=1)
        dot = {"linestyle": "", "marker": "o", "markersize": 8, "markeredgecolor": STYLES["glimmer"]["color"]}
        a.plot(
            *coordinates([row for row in best if row not in lumen]),
            label="GLIMMER-Large on the front",
            **dot,
            color=STYLES["glimmer"]["color"],
        )
        a.plot(*coordinates(dominated), label="GLIMMER-Large behind it", **dot, color="white")
        a.plot(
            *coordinates(lumen),
            label="LUMEN-Large",
            color=STYLES["lumen"]["color"],
            marker="^",
            linestyle=":",
            markersize=9,
        )
        for row in [*best[1:], *lumen]:
            below = row in lumen
            a.annotate(
                _name(row),
                (tera(row), float(row["y"])),
                xytext=(9, -13) if below else (-7, 5),
                textcoords="offset points",
                fontsize=8,
                ha="left" if below else "right",
            )
        title = "Quality against true cost: GLIMMER and LUMEN of Figures 3 to 5 (beta=1/4 unless stated)"
        _frame(a, COST, KILT, title)
        a.set_xlim(0, 1.15 * tera(rows[-1]))

    sheet(path, (1, 1), (9, 5.8), draw)


def draw(report: Report, path: str) -> None:
    """Draw a report of `published.reports`."""
    name = report.get("name")
    if name is None:
        front(report, path)
    elif name == "Figure 6":
        bars(report, path)
    else:
        (curves if name.startswith("Figure") else dots)(report, path)
