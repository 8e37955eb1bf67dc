"""The page of a comparison: its targets, the hardware peaks, every engine for every workload, and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import results
from comparison import plots, targets
from comparison.ratios import Result

from glimmer_ref import tables

GIGA = 1e9


def hardware_peaks(r: Result) -> list[str]:
    """The hardware peaks, as measured in the same rounds."""
    rows = []
    for n in r.groups:
        some = [r.peak(n, n, name) for name in ("float32", "bfloat16", "int8", "reads")]
        cells = [f"{s.median / GIGA:.1f} ({s.min / GIGA:.1f} to {s.max / GIGA:.1f})" for s in some if s]
        rows.append([f"{n} thread{'s' * (n > 1)}", *cells])
    head = ["hardware peaks", "float32 GFLOP/s", "bfloat16", "int8 GOP/s", "memory GB/s"]
    return [*tables.markdown(rows, head), ""]


def _row(r: Result, group: int, workload: str, engine: str) -> list[str]:
    wall, cpu, memory = (r.spread(group, workload, engine, field) for field in ("wall", "cpu", "peak"))
    assert wall is not None and cpu is not None and memory is not None
    ratio, part = (
        r.ratio(group, (workload, engine), (workload, f"ours:float32@{group}")),
        r.share(group, workload, engine),
    )
    error = r.document["engines"][engine].get("error")
    return [
        workload,
        engine,
        f"{wall.median:.4f} ({wall.min:.4f} to {wall.max:.4f})",
        f"{cpu.median:.4f}",
        f"{ratio.median:.2f}" if ratio else "",
        f"{part.median:.3f}" if part else "",
        f"{memory.max / 2**20:.0f}",
        "" if error is None else f"{error:.0e}",
    ]


def every_engine(r: Result) -> list[str]:
    """Every engine for every workload, and which engines were left out."""
    head = ["work", "engine@threads", "seconds (min-max)", "CPU s", "times ours", "share", "MiB", "error"]
    rows = [
        _row(r, n, workload, engine) for n in r.groups for workload in r.workloads for engine in r.engines(n, workload)
    ]
    left_out = {engine: about["left_out"] for engine, about in r.document["engines"].items() if "left_out" in about}
    notes = [f"- left out: {engine}: {why}" for engine, why in left_out.items()]
    return [*tables.markdown(rows, head), "", *notes]


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page and the plots beside the file; the page without the long table is returned."""
    r = Result(document)
    short = ["", *hardware_peaks(r)]
    if document["size"] == "base":
        short = [*targets.table(targets.rows(r)), *short]
    for group in r.groups:
        plot = path.with_name(f"{path.stem}-{group}-threads.png")
        plots.times(r, group, plot)
        short.append(f"![runtime by engine]({plot.name})")
    results.write_page(path, document, [*short, "", *every_engine(r)])
    return [*results.heading(document), *short]
