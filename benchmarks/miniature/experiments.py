"""The experiments of the miniature: for each figure or table of the paper, which models are trained and tested.

A training is the base recipe with changes. A point is a trained model tested with some k and m. Which points the paper
has comes from `glimmer_ref.costs.published.values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from miniature.structure import PLAIN, Claim, Experiment, Line, Panel, Point, Training, above, gap_shrinks, rise

from glimmer_ref.config import whole_layers
from glimmer_ref.costs.published import values
from glimmer_ref.training.recipe import Recipe
from glimmer_ref.training.recipe_file import read_recipe

TASK = "nq-like"  # the task that Figures 6 and 7 train and test on, as in the paper
READ = 10  # the k that FiD and LUMEN are trained with, and tested with in Figures 6 and 7
TASKS = 6  # of the worlds, without "correct", which only training data has
# Changes of all trainings of Figures 6 and 7, of one task and of all tasks. Each task has the same weight.
UNSEEN = (
    "every_stage.k=5", "every_stage.m=5", "every_stage.tasks={ correct = 0 }", f'evaluation.tasks=["{TASK}"]'
)  # fmt: skip
ONE, OTHERS = f"{TASK} only", f"all but {TASK}"
BOTH = ("all tasks", ONE)
LONGER = 3  # times the steps in one line of Figure 7
GLIMMER = Training("glimmer")


def _reads(*changes: str) -> tuple[str, ...]:
    """The changes of a system that reads all its passages. It has no beta."""
    counts = (f"every_stage.k={READ}", f"every_stage.m={READ}", f"evaluation.k={READ}")
    return (*changes, 'model.beta="0"', *counts)


FID = Training("fid", changes=_reads("system=fid", 'model.alpha="1"'))


class Shape(NamedTuple):
    """Layers of the base's encoder, the k and m of the tests of ablations, the direction of the base's KL, and steps.

    Args:
        steps: the base's settings that are numbers of steps, each with the least value that it can have.
    """

    layers: int
    live: int
    rerank: int
    k: int
    m: int
    direction: str
    steps: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, base: Recipe) -> Shape:
        """The shape of a base recipe whose model starts from `t5-mini`."""
        layers, glimmer = read_recipe("t5_mini").model.t5["num_layers"], base.model.glimmer
        live = whole_layers("alpha", base.model.alpha, layers)
        rerank = whole_layers("beta", base.model.beta, live)
        (stage,) = base.stages
        steps = {
            "stages.0.steps": (stage.steps, 1),
            "every_stage.warmup": (stage.warmup, 0),
            "every_stage.decay": (stage.decay, 0),
            "evaluation.every": (base.evaluation.every, 1),
        }
        return cls(layers, live, rerank, glimmer["k"], glimmer["m"], stage.direction, steps)

    def beta(self, rerank: int) -> Training:
        """GLIMMER with `rerank` layers before the score; the base itself if it has as many."""
        if rerank == self.rerank:
            return GLIMMER
        beta = Fraction(rerank, self.live)
        return Training(f"glimmer, beta={beta}", changes=(f'model.beta="{beta}"',))

    def lumen(self, live: int | None = None) -> Training:
        """LUMEN with `live` live layers, by default as many as the base has."""
        alpha = Fraction(self.live if live is None else live, self.layers)
        return Training(f"lumen, alpha={alpha}", changes=_reads("system=lumen", f'model.alpha="{alpha}"'))


def unseen(training: Training, *changes: str, name: str = "") -> Training:
    """A training from the base that has seen none of the tasks, of all tasks but for further changes and their name."""
    name = ", ".join([training.name, "from t5-mini", *filter(None, [name])])
    return training._replace(name=name, changes=(*training.changes, *UNSEEN, *changes), start=PLAIN)


def one_task(shape: Shape, training: Training) -> Training:
    """The same of one task, with its share of the steps, so that each model reads as many of its questions."""
    shares = (f"{name}={max(least, steps // TASKS)}" for name, (steps, least) in shape.steps.items())
    return unseen(training, f'every_stage.tasks={{ {TASK} = 1, "*" = 0 }}', *shares, name=ONE)


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


def figure2(shape: Shape) -> Experiment:
    """The three systems, each at the paper's k and at two others."""
    panel = _panel("Figure 2")
    at = {s.name: str(s.model["k"]) for s in panel.series}
    fid, lumen, glimmer = ((name, at[name]) for name in ("FiD", "lumen", "glimmer"))
    reads = (("FiD", FID, "fid", (3, 5, 10)), ("lumen", shape.lumen(), "lumen", (5, 10, 25)))
    lines = [Line(name, name, tuple(Point(str(k), t, s, k, k) for k in ks)) for name, t, s, ks in reads]
    selects = (Point(str(k), GLIMMER, "glimmer", k, shape.m) for k in (10, 25, 40))
    claims = (
        above("LUMEN is better than FiD", lumen, fid),
        above("GLIMMER is better than LUMEN", glimmer, lumen),
        above("LUMEN answers more questions per TFLOP than FiD", lumen, fid, cost=True),
        above("GLIMMER answers more questions per TFLOP than LUMEN", glimmer, lumen, cost=True),
    )
    every = (*lines, Line("glimmer", "glimmer", tuple(selects)))
    note = (
        f"Each system is trained for itself: FiD and LUMEN with k={READ}, GLIMMER to select. The paper has the middle "
        "k of each line, and counts a model of another size, so its samples per TFLOP are on another scale."
    )
    return Experiment("Figure 2", (Panel(panel.place, "k", every, claims, cost=True),), note)


def figure3(shape: Shape) -> Experiment:
    """One trained model at several k and m."""
    left, right = _panel("Figure 3"), _panel("Figure 3", 1)
    retrieved = tuple(Point(x, GLIMMER, "glimmer", int(x), shape.m) for x in _numbers(left, "glimmer"))
    selected = tuple(Point(x, GLIMMER, "glimmer", shape.k, int(x)) for x in _numbers(right, "glimmer"))
    better = (
        rise("Performance strongly increases with the passages retrieved, k=5 to 40", "glimmer", "5", "40"),
        above("GLIMMER 40->5 is nearly LUMEN-40", ("glimmer", "40"), ("lumen-40", "")),
    )
    less = (
        rise("More selected passages help, m=1 to 5", "glimmer", "1", "5"),
        Claim(
            "Returns diminish: more from m=1 to 5 than from 5 to 25",
            ((2, "glimmer", "5"), (-1, "glimmer", "1"), (-1, "glimmer", "25")),
        ),
    )
    retrieving = (Line("glimmer", "glimmer", retrieved), *_levels(shape, left))
    selecting = (Line("glimmer", "glimmer", selected), *_levels(shape, right))
    panels = (
        Panel(left.place, "k, passages retrieved", retrieving, better),
        Panel(right.place, "m, passages selected", selecting, less),
    )
    return Experiment("Figure 3", panels, "One GLIMMER and one LUMEN, each read with every k and m.")


def figure4(shape: Shape) -> Experiment:
    """Several beta; each point is trained anew."""
    panel, own = _panel("Figure 4"), str(Fraction(shape.rerank, shape.live))
    points = tuple(
        Point(str(Fraction(rerank, shape.live)), shape.beta(rerank), "glimmer", shape.k, shape.m)
        for rerank in range(shape.live + 1)
    )
    claims = (
        rise(f"Some reranking layers are clearly helpful, beta=0 to {own}", "glimmer", "0", own),
        rise(f"More of them add little, beta={own} to 1", "glimmer", own, "1"),
        above("With them it is nearly LUMEN-25", ("glimmer", own), ("lumen-25", "")),
    )
    lines = (Line("glimmer", "glimmer", points), *_levels(shape, panel))
    note = f"Every point is a model of its own; {shape.live} live layers allow no other beta."
    return Experiment("Figure 4", (Panel(panel.place, "beta", lines, claims),), note)


def figure5(shape: Shape) -> Experiment:
    """Several m out of 40 passages, for two depths of the reranker."""
    panel, lines, claims = _panel("Figure 5"), [], []
    for s in panel.series:
        rerank = whole_layers("beta", s.model["beta"], shape.live)
        name = f"{rerank} rerank layer{'s' * (rerank > 1)}"
        points = tuple(Point(x, shape.beta(rerank), "glimmer", s.model["k"], int(x)) for x in _numbers(panel, s.name))
        lines.append(Line(name, s.name, points))
        claims.append(rise(f"More selected passages do not help, m=10 to 40, {name}", name, "10", "40"))
    shallow, deep = (line.name for line in lines)
    every = Point("", shape.lumen(), "lumen", k := int(points[-1].x), k)
    lines.append(Line(whole := f"lumen-{k}", "", (every,), level=True))
    claims += [
        above("Deeper reranking selects better, m=5", (deep, "5"), (shallow, "5")),
        above(
            f"With {READ} passages in training instead of {shape.m}, m={k} is better", (whole, ""), (shallow, str(k))
        ),
    ]
    note = (
        f"The paper's proportions of the live layers, of which there are {shape.live} here. The last statement tests "
        f"why ours falls and the paper's does not: GLIMMER with m={k} is LUMEN-{k}, the same computation with the same "
        f"passages. They differ in their training, in which GLIMMER reads {shape.m} passages and LUMEN {READ}."
    )
    return Experiment("Figure 5", (Panel(panel.place, "m, passages selected", tuple(lines), tuple(claims)),), note)


UNSEEN_NOTE = (
    "All models of Figures 6 and 7 start from t5-mini, which has seen none of the tasks, with these changes of the "
    f"recipe: {', '.join(UNSEEN)}. Those of one task take a sixth of the steps, so that each model reads as many "
    f"questions of {TASK}."
)


def figure6(shape: Shape) -> Experiment:
    """FiD and LUMEN at two alphas; training on all tasks against training on one."""
    panel = _panel("Figure 6")
    low = max(1, round(Fraction(1, 6) * shape.layers))
    third, sixth = (f"L-{Fraction(live, shape.layers)}" for live in (shape.live, low))
    models = (
        (sixth, "L-1/8", shape.lumen(low), "lumen"),
        (third, "L-1/3", shape.lumen(), "lumen"),
        ("FiD", "FiD", FID, "fid"),
    )
    others = unseen(shape.lumen(low), f"every_stage.tasks={{ {TASK} = 0, correct = 0 }}", name=OTHERS)
    lines = (
        Line(BOTH[0], "KILT", tuple(Point(x, unseen(t), s, READ, READ, there) for x, there, t, s in models)),
        Line(
            BOTH[1], "NQ only", tuple(Point(x, one_task(shape, t), s, READ, READ, there) for x, there, t, s in models)
        ),
        Line(OTHERS, "", (Point(sixth, others, "lumen", READ, READ),)),
    )
    gains = (above(f"All tasks help {x}", (BOTH[0], x), (BOTH[1], x)) for x, *_ in models)
    claims = (
        *gains,
        gap_shrinks(f"They help {third} more than FiD", BOTH, third, "FiD"),
        gap_shrinks(f"They help {sixth} more than {third}", BOTH, sixth, third),
        above(f"Trained on {OTHERS}, {sixth} answers as many questions of {TASK}", (OTHERS, sixth), (BOTH[0], sixth)),
    )
    note = (
        f"{sixth} stands for the paper's L-1/8, which is no whole number of layers here. {UNSEEN_NOTE} The last "
        "statement tests whether the tasks teach each other anything that t5-mini does not have already."
    )
    return Experiment("Figure 6", (Panel(panel.place, "model", lines, claims, TASK, (BOTH,)),), note)


def figure7(shape: Shape) -> Experiment:
    """Every alpha of whole layers; training on all tasks against training on one."""
    panel, third = _panel("Figure 7"), str(Fraction(shape.live, shape.layers))

    def line(name: str, paper: str, live: Iterable[int], training: Callable[[Training], Training]) -> Line:
        points = ((str(Fraction(n, shape.layers)), training(shape.lumen(n))) for n in live)
        return Line(name, paper, tuple(Point(x, t, "lumen", READ, READ) for x, t in points))

    longer = f"{LONGER} times the steps"
    steps = [f"{name}={LONGER * number}" for name, (number, _) in shape.steps.items()]
    claims = (
        rise(f"A live encoder helps, alpha=0 to {third}", BOTH[0], "0", third),
        rise(f"Then it levels off, alpha={third} to 1", BOTH[0], third, "1"),
        gap_shrinks("All tasks help more at alpha=0 than at 1", BOTH, "0", "1"),
        rise(f"It levels off with {longer}, alpha={third} to 1", longer, third, "1"),
    )
    every = range(shape.layers + 1)
    lines = (
        line(BOTH[0], "KILT", every, unseen),
        line(BOTH[1], "NQ-only", every, lambda t: one_task(shape, t)),
        line(longer, "", (shape.live, shape.layers), lambda t: unseen(t, *steps, name=longer)),
    )
    panels = (Panel(panel.place, "alpha", lines, claims, TASK, (BOTH,)),)
    note = (
        f"Every alpha that is whole layers here. {UNSEEN_NOTE} The line with {longer} tests whether alpha={third} is "
        "below alpha=1 only because it learns the tasks more slowly."
    )
    return Experiment("Figure 7", panels, note)


class Variant(NamedTuple):
    """A row of a table.

    Args:
        says: the paper's statement about it; "": none.
        beside: the row that it is compared with; "": the first.
        paper: the paper's row, if it is another.
    """

    training: Training
    says: str
    beside: str = ""
    paper: str = ""


def _table(shape: Shape, name: str, rows: Mapping[str, Variant], note: str = "") -> Experiment:
    """The paper's rows in its order, then the others."""
    panel = _panel(name)
    first, *known = (s.name for s in panel.series)
    named = {row: rows[row] for row in [*known, *(row for row in rows if row not in known)]}
    every = {first: Variant(GLIMMER, ""), **named}
    points = tuple(Point(row, v.training, "glimmer", shape.k, shape.m, v.paper) for row, v in every.items())
    claims = tuple(above(v.says, (name, row), (name, v.beside or first)) for row, v in named.items() if v.says)
    return Experiment(name, (Panel(panel.place, panel.x, (Line(name, name, points),), claims),), note)


def table1(shape: Shape) -> Experiment:
    """The reranker's configurations."""
    copied = Training("separate reranker, copied", "table1_separate")
    drawn = Training("separate reranker, drawn", "table1_scratch")
    rows = {
        "Separate (from T5)": Variant(copied, "A separate reranker from pre-trained weights is comparable"),
        "Separate (from scratch)": Variant(drawn, "A separate reranker from scratch is worse"),
    }
    return _table(shape, "Table 1", rows, "t5-mini stands for T5.")


def table2(shape: Shape) -> Experiment:
    """The memory encoder trained or not, from the base that has seen the tasks and from the one that has not."""
    frozen = Training("frozen memory", "table2_frozen_memory")
    new, new_frozen = (t._replace(name=f"{t.name}, from t5-mini", start=PLAIN) for t in (GLIMMER, frozen))
    rows = {
        "Frozen memory": Variant(frozen, "A frozen memory encoder is worse"),
        "From t5-mini": Variant(new, ""),
        "Frozen memory, from t5-mini": Variant(
            new_frozen, "A frozen memory encoder is worse where the tasks are new to it", "From t5-mini"
        ),
    }
    note = (
        "The paper's base has not seen the tasks, ours has. The last two rows test whether this is why a frozen memory "
        "costs little here: they start from t5-mini, which has seen none of the tasks."
    )
    return _table(shape, "Table 2", rows, note)


def table3(shape: Shape) -> Experiment:
    """Other decisions, training without distillation, and the other direction of the KL."""
    other = "printed" if shape.direction == "reverse" else "reverse"
    named = {"printed": "KL as printed", "reverse": "KL reversed"}[other]
    token, more = "First token", shape.beta(2 * shape.rerank)
    deeper = f"beta={Fraction(2 * shape.rerank, shape.live)}"
    rows = {
        "Separate Qenc": Variant(
            Training("question encoder", "table3_question_encoder"), "A question encoder helps little"
        ),
        "PDist lambda=0.1": Variant(Training("lambda=0.1", "table3_lambda_0.1"), "Too little distillation is worse"),
        "PDist lambda=10": Variant(Training("lambda=10", "table3_lambda_10"), "Too much distillation is worse"),
        "PDist tau=0.1": Variant(Training("tau=0.1", "table3_tau_0.1"), "A lower temperature helps"),
        "PDist tau=5": Variant(Training("tau=5", "table3_tau_5"), "A higher temperature is worse"),
        "Mean pool": Variant(GLIMMER, "Mean pooling is similar to the first token", token),
        token: Variant(
            Training("first token", changes=('model.glimmer.pool="first"',)), "", paper=_panel("Table 3").series[0].name
        ),
        "no PDist (lambda=0)": Variant(
            Training("lambda=0", changes=("every_stage.lambda=0.0",)), "No distillation at all"
        ),
        f"{token}, {deeper}": Variant(
            Training(f"first token, {deeper}", changes=(*more.changes, 'model.glimmer.pool="first"')), ""
        ),
        f"Mean pool, {deeper}": Variant(
            more, f"Mean pooling is similar to the first token with {deeper}", f"{token}, {deeper}"
        ),
        named: Variant(Training(named, changes=(f"every_stage.direction={other}",)), "The other direction of the KL"),
    }
    note = (
        "Everything else is the base recipe's. The score of the base comes from the mean of a pair's tokens, the "
        f'paper\'s from the first token, so here "Mean pool" is the base and "{token}" has a training of its own. '
        f"The base's direction of the KL is {shape.direction}. The last four rows are not in the paper; two of them "
        f"test whether the first token falls behind because it has too few layers to collect what the score needs."
    )
    return _table(shape, "Table 3", rows, note)


EXPERIMENTS: dict[str, Callable[[Shape], Experiment]] = {
    "2": figure2, "3": figure3, "4": figure4, "table1": table1, "table2": table2, "table3": table3,
    "6": figure6, "7": figure7, "5": figure5,
}  # fmt: skip
"""In the order in which their models are trained, the main results first."""
