"""The parts of an experiment: trainings, points, lines, panels, and the statements of the paper that are tested."""

from __future__ import annotations

from typing import NamedTuple

ALL = "exact_match"
TASKS, PLAIN = "tasks", "plain"


class Training(NamedTuple):
    """One model to be trained.

    Args:
        name: unique among all trainings.
        recipe: a bundled recipe that changes the base; "" for the base itself.
        changes: changes in the form of `glimmer-ref train --set`.
        start: the model that it starts from: "tasks", the base that has seen the six tasks, or "plain", the base that
            has not.
    """

    name: str
    recipe: str = ""
    changes: tuple[str, ...] = ()
    start: str = TASKS


class Point(NamedTuple):
    """A trained model tested with k passages, of which m are selected.

    Args:
        x: its place on the axis, or its row.
        m: k for a system that does not select.
        paper: the paper's x, if it is another.
    """

    x: str
    training: Training
    system: str
    k: int
    m: int
    paper: str = ""


class Line(NamedTuple):
    """Points that share a name; `paper` is the name of the paper's line, "" if there is none."""

    name: str
    paper: str
    points: tuple[Point, ...]
    level: bool = False


class Claim(NamedTuple):
    """A statement of the paper, as a weighted sum of points that the paper and ours have.

    Args:
        text: what the paper says.
        terms: weight, line and x of each point.
        cost: the points' samples per TFLOP are compared, in percent, instead of their quality.
    """

    text: str
    terms: tuple[tuple[float, str, str], ...]
    cost: bool = False


class Panel(NamedTuple):
    """One pair of axes, or one table.

    Args:
        place: its name in the paper, such as a figure's panel.
        x: what the axis is, or the rows are.
        measure: "exact_match" (mean of tasks), or the task whose exact match is shown.
        gaps: pairs of lines whose difference the paper discusses.
        cost: the axis is samples per TFLOP, which is measured; the points' own x is k.
    """

    place: str
    x: str
    lines: tuple[Line, ...]
    claims: tuple[Claim, ...] = ()
    measure: str = ALL
    gaps: tuple[tuple[str, str], ...] = ()
    cost: bool = False


class Experiment(NamedTuple):
    """A figure or table in miniature; the note says how it differs from the paper's."""

    name: str
    panels: tuple[Panel, ...]
    note: str = ""

    @property
    def is_table(self) -> bool:
        """Whether its points are rows of a table."""
        return self.name.startswith("Table")

    @property
    def in_rows(self) -> bool:
        """Whether its points are drawn in rows that have names."""
        return self.is_table or self.name == "Figure 6"

    def points(self) -> list[Point]:
        """The points of all lines."""
        return [point for panel in self.panels for line in panel.lines for point in line.points]

    def trainings(self) -> list[Training]:
        """The trainings of its points, each once."""
        return list(dict.fromkeys(point.training for point in self.points()))

    def ends(self) -> Experiment:
        """The same experiment with only the first and last point of each line."""

        def short(line: Line) -> Line:
            return line if len(line.points) < 3 else line._replace(points=(line.points[0], line.points[-1]))

        return self._replace(panels=tuple(p._replace(lines=tuple(map(short, p.lines))) for p in self.panels))


def rise(text: str, line: str, first: str, last: str) -> Claim:
    """How much a line rises from one x to another."""
    return Claim(text, ((1, line, last), (-1, line, first)))


def above(text: str, high: tuple[str, str], low: tuple[str, str], cost: bool = False) -> Claim:
    """How much one point, (line, x), is above another."""
    return Claim(text, ((1, *high), (-1, *low)), cost)


def gap_shrinks(text: str, lines: tuple[str, str], wide: str, narrow: str) -> Claim:
    """How much more the first line is above the second at one x than at another."""
    high, low = lines
    return Claim(text, ((1, high, wide), (-1, low, wide), (-1, high, narrow), (1, low, narrow)))
