"""Evaluates the file of runs: means over seeds beside the paper's values, and whether directions agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import results
from miniature import runs
from miniature.paper import paper_line
from miniature.structure import ALL, Claim, Experiment, Panel, Point, above
from miniature.study import Study

PAPER_FLAT = 0.25  # points of exact match: the paper calls a difference of 0.2 comparable, and one of 0.3 a gain
ERRORS = 2.0  # standard errors of a difference that count as flat
RULE = (
    f"By rule: the paper's difference is flat within {PAPER_FLAT} points; ours is flat within {ERRORS:g} standard "
    "errors, which come from the number of test questions, or from the seeds where these differ more (with one seed "
    "it is not known how much trainings differ). Where the paper's own difference would be flat by our standard "
    "errors, it is too small to be seen here, and the verdict says so. Samples per TFLOP are counted, not measured: "
    "their difference, in percent, has no error."
)
Kept = Mapping[runs.Key, runs.Record]


class Measured(NamedTuple):
    """A score of the miniature: mean, minimum and maximum over seeds, standard error, recall@m, samples per TFLOP."""

    mean: float
    min: float
    max: float
    error: float
    seeds: int
    recall: float | None
    cost: float


class Pair(NamedTuple):
    """One point: the paper's value and ours, either of which may be missing; in Figure 2 also the paper's cost."""

    x: str
    paper: float | None
    ours: Measured | None
    training: str
    k: int
    m: int
    paper_cost: float | None = None


class Row(NamedTuple):
    """One line of a panel."""

    name: str
    paper_name: str
    level: bool
    pairs: list[Pair]


def _variance(record: Mapping[str, Any], measure: str) -> float:
    """Variance of exact match for this number of questions; one right and one wrong answer are added to each share."""
    tasks = record["tasks"]
    some = list(tasks.values()) if measure == ALL else [tasks[measure]]
    total = 0.0
    for task in some:
        n = task["questions"]
        share = (n * task["exact_match"] / 100 + 1) / (n + 2)
        total += 100**2 * share * (1 - share) / n
    return total / len(some) ** 2


def measured(records: Sequence[Mapping[str, Any]], measure: str) -> Measured | None:
    """The score of one point over its seeds."""
    if not records:
        return None
    table = [r if measure == ALL else r["tasks"][measure] for r in records]
    values, n = [float(row["exact_match"]) for row in table], len(records)
    mean = sum(values) / n
    seeds = sum((v - mean) ** 2 for v in values) / (n - 1) / n if n > 1 else 0.0
    # All seeds answer the same questions, so more seeds do not mean more questions.
    questions = sum(_variance(r, measure) for r in records) / n
    recalls = [row["recall_at_m"] for row in table if row["recall_at_m"] is not None]
    recall = sum(recalls) / len(recalls) if recalls else None
    cost = sum(r["samples_per_tflop"] for r in records) / n
    return Measured(mean, min(values), max(values), math.sqrt(max(questions, seeds)), n, recall, cost)


def of_point(kept: Kept, point: Point) -> list[runs.Record]:
    """The tests of a point, one for each seed."""
    wanted = point.training.name, point.system, point.k, point.m
    return [record for (name, _, *rest), record in kept.items() if (name, *rest) == wanted]


def rows(experiment: Experiment, panel: Panel, kept: Kept) -> list[Row]:
    """The lines of a panel."""
    result = []
    for line in panel.lines:
        paper, pairs = paper_line(experiment.name, panel.place, line.paper), []
        for p in line.points:
            printed, found = paper.get(p.paper or p.x), measured(of_point(kept, p), panel.measure)
            quality, cost = printed or (None, None)
            pairs.append(Pair(p.x, quality, found, p.training.name, p.k, p.m, cost))
        result.append(Row(line.name, line.paper, line.level, pairs))
    return result


def direction(difference: float, within: float) -> str:
    """up, flat or down."""
    return "flat" if abs(difference) <= within else "up" if difference > 0 else "down"


def verdict(paper: str, ours: str) -> str:
    """A verdict in words: does our direction agree with the paper's?"""
    if ours == paper:
        return "same direction" if ours != "flat" else "flat as there"
    if ours == "flat":
        return "flat here"
    return f"flat there, {ours} here" if paper == "flat" else "opposite"


class Judged(NamedTuple):
    """A claim with the paper's number, ours, what is flat, and the verdict; "-" for what the paper does not have."""

    text: str
    paper: str
    ours: str
    verdict: str

    def sentence(self) -> str:
        """As one line."""
        there = "the paper has no such point" if self.paper == "-" else f"paper {self.paper}"
        return f"{self.text}: {there}, here {self.ours}: {self.verdict}."


def _cost(pairs: Sequence[tuple[float, Pair]]) -> tuple[float | None, float]:
    """How much more the first of two points answers per TFLOP than the second, in percent: the paper's and ours."""
    (_, a), (_, b) = pairs
    assert a.ours is not None and b.ours is not None
    there = None if a.paper_cost is None or b.paper_cost is None else 100 * (a.paper_cost / b.paper_cost - 1)
    return there, 100 * (a.ours.cost / b.ours.cost - 1)


def judged(claim: Claim, found: Iterable[Row]) -> Judged | None:
    """The claim by rule; None if a point of it has not been tested."""
    by_place = {(row.name, pair.x): pair for row in found for pair in row.pairs}
    pairs = [(weight, by_place.get((line, x))) for weight, line, x in claim.terms]
    known = [(weight, pair) for weight, pair in pairs if pair is not None and pair.ours is not None]
    if len(known) < len(pairs):
        return None
    if claim.cost:
        (paper, ours), within, unit = _cost(known), 0.0, " %"
    else:
        there = [weight * pair.paper for weight, pair in known if pair.paper is not None]
        paper = sum(there) if len(there) == len(known) else None
        ours = sum(weight * pair.ours.mean for weight, pair in known if pair.ours)
        within = ERRORS * math.hypot(*(weight * pair.ours.error for weight, pair in known if pair.ours))
        unit = ""
    here = f"{ours:+.1f}{unit}" + ("" if claim.cost else f" (flat within {within:.1f})")
    if paper is None:
        return Judged(claim.text, "-", here, direction(ours, within))
    words = verdict(direction(paper, PAPER_FLAT), direction(ours, within))
    if words == "flat here" and abs(paper) <= within:
        words += f", as {paper:+.2f} would be"
    return Judged(claim.text, f"{paper:+.2f}{unit}", here, words)


def _steps(row: Row) -> Iterator[Claim]:
    """The changes from one point to the next, of those that the paper has."""
    both = [pair for pair in row.pairs if pair.paper is not None]
    for a, b in pairwise(both):
        yield Claim(f"{row.name}, {a.x} to {b.x}", ((1, row.name, b.x), (-1, row.name, a.x)))


def _best(row: Row) -> str:
    """At which point a line is highest."""
    ours = [(pair.ours.mean, pair.x) for pair in row.pairs if pair.ours is not None]
    paper = [(pair.paper, pair.x) for pair in row.pairs if pair.paper is not None]
    if len(ours) < len(row.pairs) or not paper:
        return ""
    return f"{row.name} is best at: paper {max(paper)[1]}, here {max(ours)[1]}."


def sentences(experiment: Experiment, panel: Panel, kept: Kept) -> list[str]:
    """A sentence about each claim of a panel, then about each change in it."""
    found, claims = rows(experiment, panel, kept), list(panel.claims)
    if not experiment.in_rows:
        claims += [claim for row in found if not row.level for claim in _steps(row)]
    if not experiment.in_rows and not panel.cost:
        for high, low in panel.gaps:
            places = [pair.x for pair in next(row for row in found if row.name == high).pairs if pair.paper is not None]
            claims += [above(f"{high} above {low} at {x}", (high, x), (low, x)) for x in places]
    made = [one.sentence() for claim in claims if (one := judged(claim, found)) is not None]
    if experiment.name == "Figure 5":
        made += [text for row in found if (text := _best(row))]
    return list(dict.fromkeys(made))


def place_of(pair: Pair) -> float:
    """The x of a point that is a number."""
    return float(Fraction(pair.x))


def _tested(name: str) -> tuple[Experiment, Kept]:
    """A figure or table, like "Figure 3", and all tests in results/."""
    study = Study()
    experiment = next(e for e in study.experiments.values() if e.name == name)
    return experiment, study.select(results.FOLDER / runs.FILE).kept


def trained(name: str) -> dict[str, list[Row]]:
    """The lines of a figure or table, like "Figure 3", by panel, from results/; {} if there is no result."""
    experiment, kept = _tested(name)
    if not any(of_point(kept, point) for point in experiment.points()):
        return {}
    return {panel.place: rows(experiment, panel, kept) for panel in experiment.panels}


def verdicts(name: str) -> list[str]:
    """A sentence for each of the paper's claims about a figure or table that results/ can judge."""
    experiment, kept = _tested(name)
    found = ((claim, rows(experiment, panel, kept)) for panel in experiment.panels for claim in panel.claims)
    return [one.sentence() for claim, lines in found if (one := judged(claim, lines)) is not None]
