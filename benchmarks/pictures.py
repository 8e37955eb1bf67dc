"""Pictures of a run: seconds of every contestant at every work, and shares of the machine's ceilings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from figures import Figures

COLOURS = {  # ours dark, peers in colours that differ in lightness too
    "ours": "#0b3c49",
    "oracle": "#8f9aa0",
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


def _label(who: str) -> str:
    return who.replace("ours", "glimmer_ref").replace(":", " ").split("@")[0]


def _bars(axes: Any, f: Figures, group: int, work: str) -> None:
    """One bar a contestant, fastest on top, a line from the least to the most."""
    rows = [(s, who) for who in f.contestants(group, work) if (s := f.spread(group, work, who)) is not None]
    rows.sort(key=lambda row: row[0].median)
    unit = f.works[work]["units"] if f.works[work]["kind"] == "decode" else 1
    longest = max(s.most for s, _ in rows) / unit
    for place, (s, who) in enumerate(rows):
        name, precision = who.split("@")[0].split(":")
        error = [[(s.median - s.least) / unit], [(s.most - s.median) / unit]]
        axes.barh(place, s.median / unit, xerr=error, color=COLOURS[name], hatch=HATCHES[precision],
                  edgecolor="white", error_kw={"elinewidth": 1, "ecolor": "#444444"})  # fmt: skip
        part = f.share(group, work, who)
        note = f"{s.median / unit:.3g} s" + (f", {part.median:.0%} of ceiling" if part else "")
        axes.text(s.most / unit + 0.01 * longest, place, note, va="center", fontsize=7)
    axes.set_xlim(0, 1.45 * longest)
    axes.locator_params(axis="x", nbins=5)
    axes.set_yticks(range(len(rows)), [f"{_label(who)}, {who.split('@')[1]} thr." for _, who in rows], fontsize=8)
    axes.invert_yaxis()
    what = f.works[work]["what"] + (", a token" if unit > 1 else "")
    axes.set_title(f"{work}: {what}", fontsize=9)
    axes.set_xlabel("seconds (median, min-max)", fontsize=8)


def times(f: Figures, group: int, path: Path) -> None:
    """A panel for each work."""
    plt = pyplot()
    works = [work for work in f.works if f.contestants(group, work)]
    rows = -(-len(works) // 2)
    most = max(len(f.contestants(group, work)) for work in works)
    figure, panels = plt.subplots(
        rows, 2, figsize=(13, rows * (0.9 + 0.27 * most)), layout="constrained", squeeze=False
    )
    for axes, work in zip(panels.flat, works, strict=False):
        _bars(axes, f, group, work)
    for axes in panels.flat[len(works) :]:
        axes.set_axis_off()
    here = f.document["machine"]
    figure.suptitle(
        f"T5.1.1-{f.document['size']}, {group} thread{'s' * (group > 1)}: {here['cpu']}, {f.document['date'][:10]}"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
