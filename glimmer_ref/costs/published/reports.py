"""The paper's figures and tables beside the calculator's own cost, as plain dictionaries."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from . import tradeoff
from .values import PAPER_RESULTS, Value, values

Report = dict[str, Any]

LARGE_NOTE = (
    "Cost: mode full, T5.1.1-Large, 48 + 304 tokens a pair as in the text. 64 decoder steps are assumed: the paper "
    "does not state the length of answers, and Figure 2 fits 64."
)
XXL_NOTE = (
    "Cost: mode full, T5.1.1-XXL, 384 tokens a pair (48 + 336) and 64 decoder steps, both inferred from this figure. "
    "Samples per TFLOP are the published ones; mode figure2 gives each to every printed digit."
)
FRONT_NOTE = (
    "GLIMMER-Large and LUMEN-Large of Figures 3 to 5, mean score on the KILT dev sets. LUMEN's score at the same cost "
    "is interpolated linearly between its published k = 5, 25 and 40. If its true curve flattens with k, as GLIMMER's "
    "does, it is above these lines, and the gain is an upper bound."
)
PARTS = ("system", "size", "k", "m", "alpha", "beta", "reranker")


def _model(model: dict[str, Any]) -> Report:
    """The settings of a model that apply to its system."""
    unknown = {"fid": ("m", "alpha", "beta"), "lumen": ("m", "beta"), "glimmer": ()}[model["system"]]
    row: Report = {name: model[name] for name in PARTS if name in model and name not in unknown}
    return row | {f"{name}_exact": str(row[name]) for name in ("alpha", "beta") if name in row}


def _row(v: Value) -> Report:
    return {
        "place": v.place,
        "series": v.series,
        "x": v.x,
        "y": v.y,
        "unit": v.unit,
        **_model(v.model),
        "macs": tradeoff.macs(v.model),
    }


def paper_result_report(name: str) -> Report:
    """A figure or table: its values as printed, the place of each, and the cost of each model.

    Args:
        name: the name of the figure or table, such as "Figure 3".
    """
    paper_result = PAPER_RESULTS[name]()
    rows = [_row(v) for v in values(paper_result)]
    axes = {panel.place: {"x": panel.x, "y": panel.unit} for panel in paper_result.panels}
    note = f"{paper_result.note} {XXL_NOTE if name == 'Figure 2' else LARGE_NOTE}".strip()
    return {"name": name, "title": paper_result.title, "axes": axes, "rows": rows, "note": note}


def front_report() -> Report:
    """The models of Figures 3 to 5 by cost, the Pareto front, and which GLIMMERs replace a LUMEN at lower cost."""
    models = tradeoff.retrieval()
    best, known = tradeoff.front(models), tradeoff.lumens(models)
    rows = []
    for p in models:
        k = tradeoff.lumen_k(p)
        same: Fraction | None = tradeoff.interpolated_quality(known, k)
        rows.append(
            {
                "places": list(p.places),
                **_model(p.model),
                "y": p.quality,
                "macs": p.macs,
                "front": p in best,
                "lumen_k": k,
                "lumen_y": same,
                "gain": None if same is None else p.quality - same,
            }
        )
    worth = [
        {
            "lumen_k": lumen.model["k"],
            "lumen_y": lumen.quality,
            "lumen_macs": lumen.macs,
            "glimmer": [
                {**_model(p.model), "y": p.quality, "macs": p.macs, "share": p.macs / lumen.macs}
                for p in tradeoff.at_least_as_good(models, lumen)
            ],
        }
        for lumen in known
    ]
    return {
        "title": "quality against cost, Figures 3 to 5",
        "rows": rows,
        "worth": worth,
        "note": f"{FRONT_NOTE} {LARGE_NOTE}",
    }
