"""Plots of a comparison: the seconds of every engine for every workload, and its share of the hardware peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comparison.ratios import Result

COLOURS = {  # ours dark, peers in colours that differ in lightness too
    "ours": "#0b3c49",
    "reference": "#8f9aa0",
    "transformers": "#d95f02",
    "onnxruntime": "#7570b3",
    "ctranslate2": "#66a61e",
}
HATCHES = {"float32": "", "bfloat16": "//", "int8": "xx"}


def pyplot() -> Any:
    """matplotlib without a window."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    return plt


def _label(engine: str) -> str:
    return engine.replace("ours", "glimmer_ref").replace(":", " ").split("@")[0]


def _bars(axes: Any, r: Result, group: int, workload: str) -> None:
    """One bar for each engine, the fastest on top, with a line from the minimum to the maximum."""
    rows = [
        (s, engine) for engine in r.engines(group, workload) if (s := r.spread(group, workload, engine)) is not None
    ]
    rows.sort(key=lambda row: row[0].median)
    unit = r.workloads[workload]["units"] if r.workloads[workload]["kind"] == "decode" else 1
    longest = max(s.max for s, _ in rows) / unit
    for place, (s, engine) in enumerate(rows):
        name, precision = engine.split("@")[0].split(":")
        error = [[(s.median - s.min) / unit], [(s.max - s.median) / unit]]
        axes.barh(
            place,
            s.median / unit,
            xerr=error,
            color=COLOURS[name],
            hatch=HATCHES[precision],
            edgecolor="white",
            error_kw={"elinewidth": 1, "ecolor": "#444444"},
        )
        part = r.share(group, workload, engine)
        note = f"{s.median / unit:.3g} s" + (f", {part.median:.0%} of peak" if part else "")
        axes.text(s.max / unit + 0.01 * longest, place, note, va="center", fontsize=7)
    axes.set_xlim(0, 1.45 * longest)
    axes.locator_params(axis="x", nbins=5)
    axes.set_yticks(
        range(len(rows)), [f"{_label(engine)}, {engine.split('@')[1]} thr." for _, engine in rows], fontsize=8
    )
    axes.invert_yaxis()
    what = r.workloads[workload]["what"] + (", a token" if unit > 1 else "")
    axes.set_title(f"{workload}: {what}", fontsize=9)
    axes.set_xlabel("seconds (median, min-max)", fontsize=8)


def times(r: Result, group: int, path: Path) -> None:
    """A panel for each workload."""
    plt = pyplot()
    workloads = [workload for workload in r.workloads if r.engines(group, workload)]
    rows = -(-len(workloads) // 2)
    most = max(len(r.engines(group, workload)) for workload in workloads)
    figure, panels = plt.subplots(
        rows, 2, figsize=(13, rows * (0.9 + 0.27 * most)), layout="constrained", squeeze=False
    )
    for axes, workload in zip(panels.flat, workloads, strict=False):
        _bars(axes, r, group, workload)
    for axes in panels.flat[len(workloads) :]:
        axes.set_axis_off()
    here = r.document["machine"]
    figure.suptitle(
        f"T5.1.1-{r.document['size']}, {group} thread{'s' * (group > 1)}: {here['cpu']}, {r.document['date'][:10]}"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
