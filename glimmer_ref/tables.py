"""Tables of strings: in columns for a terminal, in markdown, and as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from .errors import escaped

Form = Literal["text", "markdown", "csv"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], form: Form = "text", least: int = 0) -> list[str]:
    """The lines of a table; what a terminal would obey is escaped in all of them.

    Args:
        head: the names of the columns.
        rows: as many cells each.
        form: "text" and "markdown" align the first column to the left and the others to the right.
        least: in "text", how wide the columns but the first are at least.
    """
    cells = [[escaped(cell) for cell in row] for row in (head, *rows)]
    if form == "csv":
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(cells)
        return lines.getvalue().splitlines()
    if form == "markdown":
        first, *others = (" | ".join(cell.replace("|", r"\|") for cell in row) for row in cells)
        return [f"| {first} |", "|---" + "|--:" * (len(head) - 1) + "|", *(f"| {row} |" for row in others)]
    widths = [max(least if i else 0, *map(len, column)) for i, column in enumerate(zip(*cells, strict=True))]
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
