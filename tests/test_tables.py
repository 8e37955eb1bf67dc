"""Tables: the same cells in columns, in markdown and as comma-separated values."""

from __future__ import annotations

import pytest

from glimmer_ref import tables

HEAD, ROWS = ["task", "questions"], [["nq", "1,200"], ["a|b", "\x1b[1m"]]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert tables.text(ROWS, HEAD) == ["task  questions", "nq        1,200", r"a|b     \x1b[1m"]
    assert tables.text([["c", "d"]], ["a", "b"], least=4) == ["a     b", "c     d"]
    assert tables.text([], HEAD) == ["task  questions"]


def test_markdown_escapes_bars() -> None:
    assert tables.markdown(ROWS, HEAD) == [
        "| task | questions |", "|---|---|", "| nq | 1,200 |", r"| a\|b | \x1b[1m |"
    ]  # fmt: skip


def test_values_with_commas_are_quoted() -> None:
    rows = [dict(zip(HEAD, row, strict=True)) for row in ROWS]
    assert tables.csv(rows) == ["task,questions", 'nq,"1,200"', r"a|b,\x1b[1m"]


def test_rows_have_as_many_cells_as_the_head() -> None:
    with pytest.raises(IndexError):
        tables.text([["one"]], HEAD)
