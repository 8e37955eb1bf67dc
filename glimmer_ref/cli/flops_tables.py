"""The tables of glimmer-ref flops, at 80 columns, and the rows of its comma-separated values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import tables
from ..costs.modes import prefixed
from ..costs.reports import NAMES, heading
from . import latency_tables, published_tables, serving_tables
from .components import component, in_order
from .output import binary, five_digits

Report = Mapping[str, Any]


def count_table(report: Report) -> list[str]:
    """A row for each component, a column for each system."""
    systems = report["systems"]
    prefix, unit = prefixed(max(y["total_macs"] for y in systems.values()))

    def row(label: str, values: Sequence[Any], form: str = ",.4f") -> list[str]:
        return [label, *("-" if v is None else format(float(v), form if v > 1e-4 else ".1e") for v in values)]

    def parts(kind: str) -> list[list[str]]:
        counts = [y[kind] for y in systems.values()]
        return [row(component(n), [c[n] / unit if c.get(n) else None for c in counts]) for n in in_order(counts)]

    totals = [y["total_macs"] for y in systems.values()]
    rows = [
        *parts("macs"),
        row(f"per question, {prefix}MACs", [t / unit for t in totals]),
        row(f"the same, {prefix}FLOPs (2 a MAC)", [2 * t / unit for t in totals]),
        row("samples per 10^12 MACs", [y["samples_per_tflop"] for y in systems.values()], ",.6g"),
    ]
    if "fid" in systems:
        rows.append(row("share of FiD", [t / systems["fid"]["total_macs"] for t in totals]))
    offline = parts("offline_macs")
    lines = tables.text([*rows, *offline], [f"{prefix}MACs (multiply-adds)", *(NAMES[y] for y in systems)], least=11)
    cut = len(lines) - len(offline)
    return [
        *heading(report),
        "",
        *lines[:cut],
        *(["offline, once for these k passages:", *lines[cut:]] if offline else []),
    ]


def count_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {"system": system, "component": name, "macs": x}
        for system, y in report["systems"].items()
        for name, x in {**y["offline_macs"], **y["macs"], "total": y["total_macs"]}.items()
    ]


def sweep_table(report: Report) -> list[str]:
    """A row for each value, a column for each system."""
    axis, rows = report["axis"], report["rows"]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    prefix, unit = prefixed(max(row["macs"] for row in rows))
    cells: dict[str, list[Any]] = {}
    for row in rows:
        cells.setdefault(str(row[axis]), []).append(row)
    head = [axis, *(f"{NAMES[y]}" for y in systems), *(f"{NAMES[y]}" for y in systems)]
    body = [
        [
            value,
            *(f"{float(r['macs'] / unit):,.4f}" for r in here),
            *(f"{float(r['samples_per_tflop']):.6g}" for r in here),
        ]
        for value, here in cells.items()
    ]
    wide = max(9, 24 // len(systems))
    lines, group = tables.text(body, head, least=wide), (wide + 2) * len(systems)
    first = len(lines[0]) - group
    return [
        *heading(report, axis),
        "",
        f"{prefix + 'MACs a question':>{first}}{'samples per 10^12 MACs':>{group}}",
        *lines,
    ]


def break_even_table(report: Report) -> list[str]:
    """A row for each other system, a column for each of GLIMMER's variables; below are the last whole values."""
    prefix, unit = prefixed(max(row["macs"] for row in report["rows"]))
    body = []
    for row in report["rows"]:
        solved = row["glimmer"].values()
        exact = ["-" if b["value"] is None else five_digits(b["value"]) for b in solved]
        shown = [x if b["possible"] or x == "-" else f"({x})" for x, b in zip(exact, solved, strict=True)]
        body.append([f"{NAMES[row['system']]} k={row['k']}", f"{float(row['macs'] / unit):.4f}", *shown])
        body.append(["  whole, at most", "", *(b["whole_exact"] or "-" for b in solved)])
    return [
        *heading(report),
        f"GLIMMER costs {float(report['glimmer_macs'] / unit):.4f} {prefix}MACs. It costs as much as",
        "",
        *tables.text(
            body, [f"({prefix}MACs a question)", "", *(f"at {name} =" for name in report["rows"][0]["glimmer"])]
        ),
        "",
        "One variable changes at a time. (In brackets): beyond what it can be.",
        "Whole: the largest in whole passages or layers at which GLIMMER costs no more.",
    ]


def break_even_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {"system": row["system"], "k": row["k"], "macs": row["macs"], "variable": name, **b}
        for row in report["rows"]
        for name, b in row["glimmer"].items()
    ]


def figure2_table(report: Report) -> list[str]:
    """The three values, then how far other ways of counting are from them."""
    k, systems, macs = report["setting"]["k"], list(report["samples_per_tflop"]), report["macs"]
    published = next(iter(macs.values()))
    lengths = report["solved_lengths"]
    values = tables.text(
        [
            ["published", *(f"{float(report['published'][y]):.10g}" for y in systems)],
            ["mode figure2, 384 a pair", *(f"{float(report['samples_per_tflop'][y]):.10g}" for y in systems)],
        ],
        ["samples per TFLOP (10^12 MACs)", *(f"{NAMES[y]} k={k[y]}" for y in systems)],
    )
    body = []
    for name, row in macs.items():
        base = 0 if name.startswith("+") else 1
        off = {y: round(float(row[y] / published[y]) - base, 4) + 0.0 for y in systems}  # + 0.0: no -0.00 %
        body.append([name, *(f"{float(row[y]) / 1e12:.3f} {off[y]:+7.2%}" for y in systems)])
    return [
        "T5.1.1-xxl, alpha=1/3, beta=1/4, m=5, 384 tokens a pair, 64 decoder steps",
        "",
        *values,
        "",
        *tables.text(body, ["TMACs, and % off Figure 2", *(NAMES[y] for y in systems)]),
        "",
        f"Solved from FiD's and LUMEN's published values alone: {float(lengths['pair_tokens']):.5f} tokens a pair,",
        f"{float(lengths['n_t']):.5f} decoder steps; GLIMMER's value then follows.",
    ]


def figure2_rows(report: Report) -> list[dict[str, Any]]:
    macs = report["macs"]
    return [{"count": name, "system": y, "macs": x} for name, row in macs.items() for y, x in row.items()]


def storage_table(report: Report) -> list[str]:
    """A row for each amount, a column for each dtype; then what encoding once costs."""
    dtypes = report["dtypes"]
    amounts = {
        "a passage": [b["passage_bytes"] for b in dtypes.values()],
        f"read for a question, k={report['setting']['k']}": [b["read_bytes_per_question"] for b in dtypes.values()],
        **{corpus: [b["corpus_bytes"][corpus] for b in dtypes.values()] for corpus in report["offline"]},
    }
    offline = [
        [
            corpus,
            f"{float(o['macs']):.4g}",
            *("never" if q is None else f"{float(q):,.0f}" for q in o["repaid_after_questions"].values()),
        ]
        for corpus, o in report["offline"].items()
    ]
    return [
        *heading(report, "m", "beta", "n_t"),
        "",
        *tables.text([[name, *map(binary, row)] for name, row in amounts.items()], ["memory as", *dtypes]),
        "",
        *tables.text(
            [[*o[:2], "", *o[2:]] for o in offline], ["encoded once", "MACs", "questions to repay:", "LUMEN", "GLIMMER"]
        ),
    ]


def storage_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "dtype": dtype,
            "corpus": c,
            "passage_bytes": b["passage_bytes"],
            "bytes": x,
            "read_bytes_per_question": b["read_bytes_per_question"],
        }
        for dtype, b in report["dtypes"].items()
        for c, x in b["corpus_bytes"].items()
    ]


def rerankers_table(report: Report) -> list[str]:
    """A row for each pipeline."""
    rows = report["rows"]
    prefix, unit = prefixed(max(row["total_macs"] for row in rows))
    glimmer = rows[0]["total_macs"]
    body = [
        [
            row["pipeline"],
            *(f"{float(row[f'{part}_macs'] / unit):,.4f}" for part in ("ranking", "reading", "total")),
            f"{float(row['total_macs'] / glimmer):.3f}",
            binary(row["stored_bytes_per_passage_bfloat16"]),
        ]
        for row in rows
    ]
    head = [f"{prefix}MACs a question", "ranking", "reading", "total", "x GLIMMER", "a passage"]
    return [*heading(report), "", *tables.text(body, head)]


Rows = Callable[[Report], list[dict[str, Any]]]
TABLES: dict[str | None, Callable[[Report], list[str]]] = {
    None: count_table,
    "sweep": sweep_table,
    "break-even": break_even_table,
    "figure2": figure2_table,
    "storage": storage_table,
    "latency": latency_tables.table,
    "serve": serving_tables.table,
    "rerankers": rerankers_table,
    "published": published_tables.table,
    "page": lambda report: [f"{report['file']}: {report['bytes']:,} bytes; open it in a browser"],
}
ROWS: dict[str | None, Rows] = {
    None: count_rows,
    "sweep": lambda report: report["rows"],
    "break-even": break_even_rows,
    "figure2": figure2_rows,
    "storage": storage_rows,
    "latency": latency_tables.rows,
    "serve": serving_tables.rows,
    "rerankers": lambda report: report["rows"],
    "published": published_tables.rows,
    "page": lambda report: [{"file": report["file"], "bytes": report["bytes"]}],
}
