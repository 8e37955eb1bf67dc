"""The tables of glimmer-ref flops published: the paper's values, the place of each, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import tables
from ..costs.modes import TERA
from ..costs.reports import NAMES

Report = Mapping[str, Any]
MODEL = ("k", "m", "alpha", "beta")


def _plain(x: Any, form: str = ".10g") -> str:
    """A number as the paper prints it."""
    return "-" if x is None else x if isinstance(x, str) else format(float(x), form)


def _exact(row: Mapping[str, Any], name: str) -> str:
    """A count, or a proportion as a fraction; a dash if the system has none."""
    return str(row.get(f"{name}_exact", row.get(name, "-")))


def _panel(report: Report, place: str) -> list[str]:
    """The values of one panel or table."""
    rows = [row for row in report["rows"] if row["place"] == place]
    named = all(row["x"] == row["series"] for row in rows)  # a table's rows have one name
    head = ["row" if named else "series", *([] if named else ["x"]), "y", "", *MODEL, "TMACs"]
    body = [
        [
            row["series"],
            *([] if named else [_plain(row["x"])]),
            _plain(row["y"], ".1f" if named else ".10g"),
            NAMES[row["system"]],
            *(_exact(row, name) for name in MODEL),
            f"{float(row['macs'] / TERA):.4f}",
        ]
        for row in rows
    ]
    axes = report["axes"][place]
    what = ([] if place == report["name"] else [place]) + ([] if named else [f"x = {axes['x']}"])
    return ["", *what, f"y = {axes['y']}", *tables.text(body, head)]


def paper_result_table(report: Report) -> list[str]:
    """The panels of a figure, one below the other, or a table."""
    lines = [f"{report['name']}: {report['title']}"]
    for place in report["axes"]:
        lines += _panel(report, place)
    return lines


def _worth(worth: Mapping[str, Any]) -> list[str]:
    """The cheapest GLIMMER models that are at least as good as a LUMEN model."""
    models = [
        f"k={p['k']} m={p['m']} beta={p['beta_exact']} ({float(p['y']):.2f}, {float(p['share']):.1%})"
        for p in worth["glimmer"][:3]
    ]
    of = f"LUMEN k={worth['lumen_k']} ({float(worth['lumen_y']):.2f}, {float(worth['lumen_macs'] / TERA):.4f} TMACs):"
    return [of, *(f"  {model}" for model in models or ["none"])]


def front_table(report: Report) -> list[str]:
    """Models by cost, with the front marked; then which GLIMMERs replace a LUMEN at lower cost."""

    def decimal(x: Any, form: str) -> str:
        return "-" if x is None else format(round(float(x), 2) + 0.0, form)  # + 0.0: no -0.00

    body = [
        [
            ("* " if row["front"] else "  ") + NAMES[row["system"]],
            *(_exact(row, n) for n in ("k", "m", "beta")),
            f"{float(row['y']):.2f}",
            f"{float(row['macs'] / TERA):.4f}",
            decimal(row["lumen_k"], ".2f"),
            decimal(row["lumen_y"], ".2f"),
            decimal(row["gain"], "+.2f"),
            ", ".join(place.removeprefix("Figure ").replace(", ", " ") for place in row["places"]),
        ]
        for row in report["rows"]
    ]
    head = ["* on front", "k", "m", "beta", "y", "TMACs", "k'", "y'", "gain", "in Figure"]
    return [
        "Large, alpha=1/3; y = mean score on the KILT dev sets; * = on the Pareto front",
        "k', y' = what LUMEN reads and scores at the same cost; gain = y - y'",
        "",
        *tables.text(body, head),
        "",
        "The cheapest GLIMMERs at least as good and no dearer (y, share of the cost) than",
        *(line for worth in report["worth"] for line in _worth(worth)),
    ]


def table(report: Report) -> list[str]:
    """The table of a report of `costs.published.reports`."""
    return paper_result_table(report) if "name" in report else front_table(report)


def rows(report: Report) -> list[dict[str, Any]]:
    """The rows of a report, all with the same columns."""
    names = dict.fromkeys(name for row in report["rows"] for name in row)
    return [
        {name: "; ".join(x) if isinstance(x := row.get(name, ""), list) else "" if x is None else x for name in names}
        for row in report["rows"]
    ]
