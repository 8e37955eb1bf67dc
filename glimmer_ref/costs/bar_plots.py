"""Plots of break-evens, Figure 2, storage, rerankers and serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import shown
from ..pictures import picture
from .modes import TERA, prefixed
from .plots import STYLES, save
from .reports import NAMES, describe

Report = Mapping[str, Any]
FILLS = (
    ("#14375e", ""),
    ("#4f86b5", "//"),
    ("#e0a030", "\\\\"),
    ("#b03a48", ".."),
    ("#dddddd", ""),
)  # apart in greyscale, too
RATES = 60  # points of a line


def stack(axes: Any, names: Sequence[str], parts: Mapping[str, Sequence[float]], form: str = "{:,.4g}") -> None:
    """Horizontal bars, the first on top, each of several parts, with their sum beside them."""
    left = [0.0] * len(names)
    for (label, widths), (color, hatch) in zip(parts.items(), FILLS, strict=False):
        axes.barh(names, widths, left=left, color=color, hatch=hatch, edgecolor="black", linewidth=0.6, label=label)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.bar_label(axes.containers[-1], [f" {form.format(x)}" for x in left], fontsize=8)
    axes.set_xlim(0, 1.16 * max(left) or 1)
    axes.invert_yaxis()


def break_even(report: Report, path: str) -> None:
    """GLIMMER's cost against k, and the costs of the other systems with a mark where they are equal."""
    prefix, unit = prefixed(max(row["macs"] for row in report["rows"]))
    glimmer, k = float(report["glimmer_macs"] / unit), float(report["setting"]["k"])
    solved = [
        (row, float(v), float(row["macs"] / unit)) for row in report["rows"] if (v := row["glimmer"]["k"]["value"])
    ]
    slope = next(((y - glimmer) / (v - k) for _, v, y in solved if v != k), 0.0)
    low, high = float(report["setting"]["m"]), max([v for _, v, _ in solved] + [k]) * 1.25

    def draw(axes: Any) -> None:
        ends = [low, high]
        axes.plot(
            ends, [glimmer + slope * (x - k) for x in ends], label=NAMES["glimmer"], color=STYLES["glimmer"]["color"]
        )
        for row, v, y in solved:
            line = {**STYLES[row["system"]], "marker": ""}
            axes.plot(ends, [y, y], linewidth=1, **line)
            offset = (-4, 6) if row["system"] == "fid" else (8, -12)
            axes.plot(v, y, linestyle="", color=line["color"], marker=STYLES[row["system"]]["marker"])
            axes.annotate(f"{NAMES[row['system']]} k={row['k']}: {v:.4g}", (v, y), offset, textcoords="offset points")
        axes.set_xlim(low, high)
        axes.set_ylim(bottom=0)
        axes.grid(color="#dddddd")
        axes.set_xlabel("GLIMMER's k, passages retrieved")
        axes.set_ylabel(f"{prefix}MACs a question")
        axes.set_title(
            f"GLIMMER costs as much as others, mode {report['mode']}\n{shown(describe(report))}", fontsize=10
        )

    save(path, draw)


def figure2(report: Report, path: str) -> None:
    """TMACs of a question by ways to count, for each system."""
    counts = {name: row for name, row in report["macs"].items() if not name.startswith("+")}

    def draw(axes: Any) -> None:
        height = 0.8 / len(counts)
        for i, ((name, row), (color, hatch)) in enumerate(zip(counts.items(), FILLS, strict=False)):
            centers = [j + (i - (len(counts) - 1) / 2) * height for j in range(len(NAMES))]
            bars = axes.barh(
                centers, [float(row[y] / TERA) for y in NAMES], height, color=color, hatch=hatch, edgecolor="black",
                linewidth=0.6, label=name,
            )  # fmt: skip
            axes.bar_label(bars, fmt=" %.3f", fontsize=8)
        axes.set_yticks(range(len(NAMES)), [f"{NAMES[y]} k={report['setting']['k'][y]}" for y in NAMES])
        axes.margins(x=0.12)
        axes.invert_yaxis()
        axes.set_xlabel("TMACs a question")
        axes.set_title("Figure 2, counted in several ways", fontsize=10)

    save(path, draw, height=4.6)


def storage(report: Report, path: str) -> None:
    """TiB of the memory of each corpus, by dtype."""

    def draw(axes: Any) -> None:
        corpora, dtypes = list(report["offline"]), report["dtypes"]
        height = 0.8 / len(dtypes)
        for i, ((dtype, b), (color, hatch)) in enumerate(zip(dtypes.items(), FILLS, strict=False)):
            centers = [j + (i - (len(dtypes) - 1) / 2) * height for j in range(len(corpora))]
            sizes = [float(b["corpus_bytes"][c]) / 2**40 for c in corpora]
            bars = axes.barh(
                centers, sizes, height, color=color, hatch=hatch, edgecolor="black", linewidth=0.6, label=dtype
            )
            axes.bar_label(bars, fmt=" %.4g", fontsize=8)
        axes.set_yticks(range(len(corpora)), corpora)
        axes.margins(x=0.12)
        axes.invert_yaxis()
        axes.set_xlabel("TiB of stored memory")
        axes.set_title(f"Stored memory\n{shown(describe(report, 'm', 'beta', 'n_t'))}", fontsize=10)

    save(path, draw)


def rerankers(report: Report, path: str) -> None:
    """A bar for each pipeline: ranking and reading."""
    rows = report["rows"]
    prefix, unit = prefixed(max(row["total_macs"] for row in rows))

    def draw(axes: Any) -> None:
        parts = {part: [float(row[f"{part}_macs"] / unit) for row in rows] for part in ("reading", "ranking")}
        stack(axes, [row["pipeline"] for row in rows], parts)
        axes.set_xlabel(f"{prefix}MACs a question")
        axes.set_title(f"Ranking and reading, mode full\n{shown(describe(report))}", fontsize=10)

    save(path, draw, height=4.6)


def serving(report: Report, path: str) -> None:
    """What each system costs a month, and that cost against the rate, without rounding to whole accelerators."""
    systems = {n: y for n, y in report["systems"].items() if y["month"] is not None}
    unit, rate = report["unit"], float(report["rate"])
    rates = [rate * 10 ** (4 * i / RATES - 3) for i in range(RATES + 1)]
    with picture(path, 1, 2, (11, 4.4), dpi=120) as (figure, ((left, right),)):
        parts = ("answering", "search", "storage", "encoding")
        if systems:
            stack(
                left,
                [NAMES[n] for n in systems],
                {p: [y["month"][p] for y in systems.values()] for p in parts},
                "{:,.0f}",
            )
        for name, y in systems.items():
            fixed = y["month"]["storage"] + y["month"]["encoding"] + y["month"]["search"]
            each = y["month"]["answering"] * y["answering"]["busy"]
            style = {**STYLES[name], "marker": ""}
            right.plot(rates, [fixed + each * r / rate for r in rates], label=NAMES[name], **style)
        right.axvline(rate, color="#999999", linewidth=0.8)
        right.set_xscale("log")
        right.set_yscale("log")
        for axis in (right.xaxis, right.yaxis):
            axis.set_major_formatter("{x:,g}")
        right.grid(color="#dddddd")
        right.set_xlabel("questions a second (the line: those asked for)")
        right.set_ylabel(f"{unit} a month, not rounded")
        left.set_xlabel(f"{unit} a month")
        figure.suptitle(
            f"{report['passages']:,} passages, {rate:g} questions/s, {report['hardware']['name']}\n"
            f"{shown(describe(report))}",
            fontsize=10,
        )
        for axes in (left, right):
            if axes.get_legend_handles_labels()[1]:
                axes.legend(fontsize=8, frameon=False)
