"""Plots of costs: bars of one question's components, lines along an axis, least time against batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import shown
from ..pictures import picture
from .modes import prefixed
from .reports import NAMES, describe

Report = Mapping[str, Any]
# Lightness, marker and dashes differ too, so that the systems can be distinguished in greyscale.
STYLES: dict[str, dict[str, Any]] = {
    "fid": {"color": "#e0a030", "marker": "s", "linestyle": "--"},
    "lumen": {"color": "#b03a48", "marker": "^", "linestyle": "-."},
    "glimmer": {"color": "#14375e", "marker": "o", "linestyle": "-"},
}
PARTS: dict[str, tuple[tuple[str, ...], str, str]] = {  # for each part of a bar: components, colour, hatching
    "question": (("question",), "#f2f2f2", ""),
    "encoder over all k": (("encoder", "live", "live_a", "reranker", "score"), "#14375e", ""),
    "encoder over the m best": (("live_b",), "#4f86b5", "//"),
    "encoder and cross-attention": (("Encoder and cross-attention",), "#14375e", ""),
    "encoder": (("Encoder",), "#4f86b5", "//"),
    "reranking": (("Reranking",), "#9cc0dd", ".."),
    "cross keys and values": (("cross", "Cross-attention"), "#e0a030", "\\\\"),
    "decoder and logits": (("decoder", "head", "Decoder"), "#b03a48", ""),
    "attention's products": (("attention",), "#c4c4c4", "xx"),
}


def save(path: str, draw: Callable[[Any], None], height: float = 4.2) -> None:
    """Write one figure with one pair of axes and the legend below them.

    Raises:
        InputError: as `pictures.picture`.
    """
    with picture(path, 1, 1, (8, height), dpi=120) as (figure, ((axes,),)):
        draw(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)


def bars(report: Report, path: str) -> None:
    """One stacked bar for each system."""
    systems = list(report["systems"])
    prefix, unit = prefixed(max(y["total_macs"] for y in report["systems"].values()))

    def draw(axes: Any) -> None:
        left = [0.0] * len(systems)
        for name, (components, color, hatch) in PARTS.items():
            widths = [float(_part(report["systems"][y]["macs"], components) / unit) for y in systems]
            if any(widths):
                axes.barh(
                    [NAMES[y] for y in systems],
                    widths,
                    left=left,
                    color=color,
                    hatch=hatch,
                    edgecolor="black",
                    linewidth=0.6,
                    label=name,
                )
                left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.bar_label(axes.containers[-1], [f" {x:.4g}" for x in left])
        axes.margins(x=0.12)
        axes.invert_yaxis()
        axes.set_xlabel(f"{prefix}MACs (multiply-adds) a question")
        axes.set_title(f"Cost of one question, mode {report['mode']}\n{shown(describe(report))}", fontsize=10)

    save(path, draw, height=3.8)


def _part(macs: Mapping[str, Any], components: tuple[str, ...]) -> Any:
    """The sum of some components; "attention" stands for the attention of all stages."""
    if "reranker" in macs:  # then the live encoder reads only the m best
        macs = {"live_b" if name == "live" else name: x for name, x in macs.items()}
    return sum(x for name, x in macs.items() if name.rpartition(".")[2] in components)


def lines(report: Report, path: str) -> None:
    """One line for each system along the axis of a sweep."""
    axis, rows = report["axis"], report["rows"]
    prefix, unit = prefixed(max(row["macs"] for row in rows))

    def draw(axes: Any) -> None:
        from matplotlib.ticker import LogFormatter  # the default one writes powers of ten

        for system in dict.fromkeys(row["system"] for row in rows):
            of_system = [row for row in rows if row["system"] == system]
            x = [row[axis] if axis == "size" else float(row[axis]) for row in of_system]
            axes.plot(
                x, [float(row["macs"] / unit) for row in of_system], label=NAMES[system], markersize=5, **STYLES[system]
            )
        axes.set_yscale("log" if axis == "size" else "linear")
        if axis == "size":
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(LogFormatter())
        if axis != "size":
            axes.set_ylim(bottom=0)
        axes.grid(color="#dddddd")
        axes.set_xlabel(AXES[axis])
        axes.set_ylabel(f"{prefix}MACs (multiply-adds) a question")
        axes.set_title(f"Cost of one question, mode {report['mode']}\n{shown(describe(report, axis))}", fontsize=10)

    save(path, draw)


AXES = {
    "k": "k, passages retrieved",
    "m": "m, passages selected",
    "alpha": "alpha, live proportion of the encoder",
    "beta": "beta, live-A's proportion of the live layers",
    "n_q": "n_q, tokens of the question",
    "n_p": "n_p, tokens of a passage",
    "n_t": "n_t, decoder steps",
    "size": "T5.1.1 size",
}


def times(report: Report, path: str) -> None:
    """Least milliseconds per question against the batch size; hollow markers do not fit into memory."""
    batches, h = report["batches"], report["hardware"]

    def draw(axes: Any) -> None:
        for system in batches[0]["systems"]:
            of_system = [(row["batch"], row["systems"][system]) for row in batches]
            x, y = [n for n, _ in of_system], [1e3 * one["seconds_per_question"] for _, one in of_system]
            style = STYLES[system]
            axes.plot(x, y, label=NAMES[system], markersize=6, **style)
            too_large = [(n, ms) for (n, one), ms in zip(of_system, y, strict=True) if one["fits"] is False]
            axes.plot(
                *zip(*too_large, strict=True) if too_large else ([], []),
                linestyle="",
                marker=style["marker"],
                markersize=6,
                markerfacecolor="white",
                markeredgecolor=style["color"],
                zorder=3,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([row["batch"] for row in batches], [str(row["batch"]) for row in batches])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(color="#dddddd", which="both")
        axes.set_xlabel("questions at once (hollow: more than the memory holds)")
        axes.set_ylabel("least ms a question")
        axes.set_title(f"Least time on {h['name']}, {h['dtype']}\n{shown(describe(report))}", fontsize=10)

    save(path, draw)
