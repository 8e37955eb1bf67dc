"""Tables as text in columns, as Markdown and as comma-separated values. A row is one line, whatever its cells hold."""

from __future__ import annotations

import csv as formats
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import escaped


def text(rows: Sequence[Sequence[str]], head: Sequence[str], least: int = 0) -> list[str]:
    """Lines of columns as wide as their widest cell, the first aligned to the left, the others to the right.

    Args:
        least: the least width of each column but the first, in characters.
    """
    table = [[escaped(cell) for cell in row] for row in (head, *rows)]
    widths = [max(least if i else 0, *(len(row[i]) for row in table)) for i in range(len(head))]
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]


def markdown(rows: Iterable[Sequence[Any]], head: Sequence[str]) -> list[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[Any]) -> str:
        words = (escaped(str(cell)).replace("|", "\\|") for cell in cells)
        return f"|{'|'.join(f' {word} ' if word else ' ' for word in words)}|"

    return [line(head), f"|{'---|' * len(head)}", *map(line, rows)]


def csv(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of comma-separated values under the names of the columns, which are the keys of the first row."""
    file = io.StringIO()
    writer = formats.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: escaped(x) if isinstance(x, str) else x for key, x in row.items()} for row in rows)
    return file.getvalue().splitlines()
