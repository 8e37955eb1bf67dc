"""Which plot belongs to which report."""

from __future__ import annotations

from collections.abc import Callable

from . import bar_plots, plots
from .published import plots as published
from .reports import Report

DRAW: dict[str | None, Callable[[Report, str], None]] = {
    None: plots.bars,
    "sweep": plots.lines,
    "break-even": bar_plots.break_even,
    "figure2": bar_plots.figure2,
    "storage": bar_plots.storage,
    "latency": plots.times,
    "serve": bar_plots.serving,
    "rerankers": bar_plots.rerankers,
    "published": published.draw,
}
