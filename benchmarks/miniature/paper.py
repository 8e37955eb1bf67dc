"""The paper's values of a line, by the x that the miniature has."""

from __future__ import annotations

from typing import NamedTuple

from glimmer_ref.costs.published import values


class Printed(NamedTuple):
    """A value of the paper; in Figure 2 with its samples per TFLOP."""

    y: float
    cost: float | None = None


def _by_x(name: str, place: str, line: str) -> dict[str, Printed]:
    result = values.PAPER_RESULTS[name]()
    panel = next(p for p in result.panels if p.place == place)
    varies = {s.name: s.varies for s in panel.series}
    found = {}
    for v in values.values(result):
        row_of_table = place == line and isinstance(v.x, str)
        if v.place != place or not (v.series == line or row_of_table):
            continue
        if name == "Figure 2":
            assert v.x is not None
            found[str(v.model["k"])] = Printed(float(v.y), float(v.x))
            continue
        x = v.model[varies[v.series]] if varies[v.series] else v.x
        found["" if x is None else str(x)] = Printed(float(v.y))
    return found


def paper_line(name: str, place: str, line: str) -> dict[str, Printed]:
    """The values of a line of a figure or table, or of all rows of a table.

    The keys are a row's name, k, m, or a proportion in whole layers; "" for a level. Figure 6 stacks its bars, so its
    line "KILT" is a sum.

    Args:
        name: such as "Figure 3".
        place: the panel.
        line: the paper's name of the line; a table's own name stands for all its rows.
    """
    if (name, line) != ("Figure 6", "KILT"):
        return _by_x(name, place, line)
    alone, more = (_by_x(name, place, part) for part in ("NQ only", "KILT, above NQ only"))
    return {x: Printed(round(alone[x].y + more[x].y, 2)) for x in alone}
