"""The experiments of the miniature: for each figure or table of the paper, which models are trained and tested.

A training is the base recipe with changes. A point is a trained model tested with some k and m. Which points the paper
has comes from `glimmer_ref.costs.published.values`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from glimmer_ref.config import whole_layers
from glimmer_ref.costs.published import values
from glimmer_ref.training.recipe import Recipe

TASK = "nq"  # the task that Figure 7 trains and tests on, as in the paper
ALL = "exact_match"


class Training(NamedTuple):
    """One model to be trained.

    Args:
        name: unique among all trainings.
        recipe: a bundled recipe that changes the base; "" for the base itself.
        changes: changes in the form of `glimmer-ref train --set`.
        first, last: the stages of the base recipe that it goes through, as a slice.
        begins: the training whose last weights are its first weights; None for random weights.
        task: the only task that it learns; "" for all tasks.
        same_questions: limit the steps, so that it sees as many questions of its task as the model of all tasks does.
    """

    name: str
    recipe: str = ""
    changes: tuple[str, ...] = ()
    first: int = 0
    last: int | None = None
    begins: Training | None = None
    task: str = ""
    same_questions: bool = False


class Point(NamedTuple):
    """A trained model tested with k passages, of which m are selected; x is its place on the axis, or its row."""

    x: str
    training: Training
    system: str
    k: int
    m: int


class Line(NamedTuple):
    """Points that share a name; `paper` is the name of the paper's line, "" if there is none."""

    name: str
    paper: str
    points: tuple[Point, ...]
    level: bool = False


class Panel(NamedTuple):
    """One pair of axes, or one table.

    Args:
        place: its name in the paper, such as a figure's panel.
        measure: "exact_match" (mean of tasks), or the task whose exact match is shown.
        gaps: pairs of lines whose difference the paper discusses.
    """

    place: str
    x: str
    lines: tuple[Line, ...]
    measure: str = ALL
    gaps: tuple[tuple[str, str], ...] = ()


class Experiment(NamedTuple):
    """A figure or table in miniature; the note says how it differs from the paper's."""

    name: str
    panels: tuple[Panel, ...]
    note: str = ""

    def points(self) -> list[Point]:
        """The points of all lines."""
        return [point for panel in self.panels for line in panel.lines for point in line.points]

    def ends(self) -> Experiment:
        """The same experiment with only the first and last point of each line."""

        def short(line: Line) -> Line:
            return line if len(line.points) < 3 else line._replace(points=(line.points[0], line.points[-1]))

        return self._replace(panels=tuple(p._replace(lines=tuple(map(short, p.lines))) for p in self.panels))


class Shape(NamedTuple):
    """Layers of the base's encoder, and the k and m of the tests of ablations."""

    layers: int
    live: int
    rerank: int
    k: int
    m: int

    @classmethod
    def of(cls, base: Recipe) -> Shape:
        """The shape of a base recipe whose model has random weights."""
        layers, glimmer = base.model.t5["num_layers"], base.model.glimmer
        live = whole_layers("alpha", base.model.alpha, layers)
        rerank = whole_layers("beta", base.model.beta, live)
        return cls(layers, live, rerank, glimmer.get("k", 25), glimmer.get("m", 5))

    def beta(self, rerank: int) -> Training:
        """GLIMMER with `rerank` layers before the score; the base itself if it has as many."""
        if rerank == self.rerank:
            return GLIMMER
        beta = Fraction(rerank, self.live)
        return Training(f"glimmer, beta={beta}", changes=(f'model.beta="{beta}"',))

    def lumen(self, live: int | None = None, task: str = "", same_questions: bool = False) -> Training:
        """LUMEN with `live` live layers, by default as many as the base has. It has no beta."""
        alpha = Fraction(self.live if live is None else live, self.layers)
        much = f", {task} only" + (", as many of its questions" if same_questions else "") if task else ""
        changes = ("system=lumen", f'model.alpha="{alpha}"', 'model.beta="0"')
        return Training(f"lumen, alpha={alpha}{much}", changes=changes, task=task, same_questions=same_questions)


GLIMMER = Training("glimmer")
READER = Training("reader", changes=("system=fid",), last=1)
TUNED = Training("glimmer from the reader", first=1, begins=READER)
INSTEAD_OF_T5 = (
    "Instead of T5, the models begin from a FiD trained with the recipe's first stage alone (one gold passage), whose "
    "encoder is cut into memory and live layers, and go through the other stages."
)


def _panel(name: str, number: int = 0) -> values.Panel:
    return values.PAPER_RESULTS[name]().panels[number]


def _series(panel: values.Panel, name: str) -> values.Series:
    return next(s for s in panel.series if s.name == name)


def _numbers(panel: values.Panel, name: str) -> list[str]:
    return [x for x, _ in _series(panel, name).points]


def _levels(shape: Shape, panel: values.Panel) -> tuple[Line, ...]:
    """LUMEN's horizontal lines."""
    return tuple(
        Line(s.name, s.name, (Point("", shape.lumen(), "lumen", s.model["k"], s.model["k"]),), level=True)
        for s in panel.series
        if s.level
    )


def figure3(shape: Shape) -> Experiment:
    """One trained model at several k and m."""
    left, right = _panel("Figure 3"), _panel("Figure 3", 1)
    retrieved = tuple(Point(x, GLIMMER, "glimmer", int(x), shape.m) for x in _numbers(left, "glimmer"))
    selected = tuple(Point(x, GLIMMER, "glimmer", shape.k, int(x)) for x in _numbers(right, "glimmer"))
    lines = (
        (Line("glimmer", "glimmer", retrieved), *_levels(shape, left)),
        (Line("glimmer", "glimmer", selected), *_levels(shape, right)),
    )
    names = ("k, passages retrieved", "m, passages selected")
    panels = (Panel(p.place, x, some) for p, x, some in zip((left, right), names, lines, strict=True))
    return Experiment("Figure 3", tuple(panels), "One GLIMMER and one LUMEN, each read with every k and m.")


def figure4(shape: Shape) -> Experiment:
    """Several beta; each point is trained anew."""
    panel = _panel("Figure 4")
    points = tuple(
        Point(str(Fraction(rerank, shape.live)), shape.beta(rerank), "glimmer", shape.k, shape.m)
        for rerank in range(shape.live + 1)
    )
    lines = (Line("glimmer", "glimmer", points), *_levels(shape, panel))
    note = f"Every point is a model of its own; {shape.live} live layers allow no other beta."
    return Experiment("Figure 4", (Panel(panel.place, "beta", lines),), note)


def figure5(shape: Shape) -> Experiment:
    """Several m out of 40 passages, for two depths of the reranker."""
    panel = _panel("Figure 5")
    fewer, lines = max(1, shape.rerank // 2), []
    for s, rerank in zip(panel.series, (fewer, 2 * fewer), strict=True):
        points = tuple(Point(x, shape.beta(rerank), "glimmer", s.model["k"], int(x)) for x in _numbers(panel, s.name))
        lines.append(Line(f"{rerank} rerank layer{'s' * (rerank > 1)}", s.name, points))
    note = f"Two depths as the paper's, one twice the other; here of {shape.live} live layers."
    return Experiment("Figure 5", (Panel(panel.place, "m, passages selected", tuple(lines)),), note)


def figure7(shape: Shape) -> Experiment:
    """Several alpha; training on all tasks against training on one."""
    panel = _panel("Figure 7")
    printed = {v.model["alpha"] for v in values.values(values.figure7())}
    live = [int(a * shape.layers) for a in sorted(printed) if (a * shape.layers).denominator == 1]

    def line(name: str, paper: str, task: str = "", same: bool = False) -> Line:
        k = _series(panel, paper).model["k"]
        points = ((Fraction(n, shape.layers), shape.lumen(n, task, same)) for n in live)
        return Line(name, paper, tuple(Point(str(x), training, "lumen", k, k) for x, training in points))

    lines = (
        line("all tasks", "KILT"),
        line(f"{TASK} only, as many steps", "NQ-only", TASK),
        line(f"{TASK} only, as many {TASK} questions", "NQ-only", TASK, True),
    )
    note = (
        "Those of the paper's alpha that are whole layers here. LUMEN has no beta. One task is learnt in two ways: as "
        "many steps, so that it sees its task more often than the model of all tasks, and as many questions of it."
    )
    gaps = tuple((lines[0].name, other.name) for other in lines[1:])
    return Experiment("Figure 7", (Panel(panel.place, "alpha", lines, TASK, gaps),), note)


def _table(shape: Shape, name: str, rows: Mapping[str, Training], note: str) -> Experiment:
    """Rows under the paper's names; rows that the paper does not have come last."""
    panel = _panel(name)
    known = [s.name for s in panel.series]
    named = {row: rows[row] for row in [*known, *(row for row in rows if row not in known)]}
    points = tuple(Point(row, training, "glimmer", shape.k, shape.m) for row, training in named.items())
    return Experiment(name, (Panel(panel.place, panel.x, (Line(name, name, points),)),), note)


def table1(shape: Shape) -> Experiment:
    """The reranker's configurations."""
    rows = {
        "glimmer (shared)": TUNED,
        "Separate (from T5)": TUNED._replace(name="separate reranker, copied", recipe="table1_separate"),
        "Separate (from scratch)": TUNED._replace(name="separate reranker, drawn", recipe="table1_scratch"),
    }
    return _table(shape, "Table 1", rows, INSTEAD_OF_T5)


def table2(shape: Shape) -> Experiment:
    """The memory encoder trained or not."""
    frozen = TUNED._replace(name="frozen memory", recipe="table2_frozen_memory")
    return _table(shape, "Table 2", {"glimmer": TUNED, "Frozen memory": frozen}, INSTEAD_OF_T5)


def table3(shape: Shape) -> Experiment:
    """Other decisions, and training without distillation."""
    rows = {
        "glimmer": GLIMMER,
        "Separate Qenc": Training("question encoder", "table3_question_encoder"),
        "PDist lambda=0.1": Training("lambda=0.1", "table3_lambda_0.1"),
        "PDist lambda=10": Training("lambda=10", "table3_lambda_10"),
        "PDist tau=0.1": Training("tau=0.1", "table3_tau_0.1"),
        "PDist tau=5": Training("tau=5", "table3_tau_5"),
        "Mean pool": Training("mean pool", "table3_mean_pool"),
        "no PDist (lambda=0)": Training("lambda=0", changes=("every_stage.lambda=0.0",)),
        "KL as printed": Training("as printed", changes=("every_stage.direction=printed",)),
    }
    note = (
        "Everything else is the base recipe's, its lambda and its direction KL(p_LM || p_rank) too; the last two rows "
        "are not in the paper."
    )
    return _table(shape, "Table 3", rows, note)


EXPERIMENTS: dict[str, Callable[[Shape], Experiment]] = {
    "3": figure3, "4": figure4, "5": figure5, "7": figure7, "table1": table1, "table2": table2, "table3": table3,
}  # fmt: skip
