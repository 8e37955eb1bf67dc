"""Evaluates a miniature's result file: means over seeds beside the paper's values, and whether directions agree."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import results

from glimmer_ref.costs.published import values as published

Document = Mapping[str, Any]
PAPER_FLAT = 0.25  # points of exact match: the paper calls a difference of 0.2 comparable, and one of 0.3 a gain
ERRORS = 2.0  # standard errors of a difference that count as flat
RULE = (
    f"By rule: the paper's difference is flat within {PAPER_FLAT} points; ours is flat within {ERRORS:g} standard "
    "errors, which come from the number of test questions, or from the seeds where these differ more (with one seed "
    "it is not known how much trainings differ)."
)


class Measured(NamedTuple):
    """A score of the miniature: mean, minimum and maximum over seeds, standard error, and recall@m."""

    mean: float
    min: float
    max: float
    error: float
    seeds: int
    recall: float | None


class Pair(NamedTuple):
    """One point: the paper's value and ours, either of which may be missing."""

    x: str
    paper: float | None
    ours: Measured | None
    training: str
    k: int
    m: int


class Row(NamedTuple):
    """One line of a panel."""

    name: str
    paper_name: str
    level: bool
    pairs: list[Pair]


def _variance(record: Mapping[str, Any], measure: str) -> float:
    """Variance of exact match for this number of questions; one right and one wrong answer are added to each share."""
    tasks = record["tasks"]
    some = list(tasks.values()) if measure == "exact_match" else [tasks[measure]]
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
    table = [r if measure == "exact_match" else r["tasks"][measure] for r in records]
    values, n = [float(row["exact_match"]) for row in table], len(records)
    mean = sum(values) / n
    seeds = sum((v - mean) ** 2 for v in values) / (n - 1) / n if n > 1 else 0.0
    # All seeds answer the same questions, so more seeds do not mean more questions.
    questions = sum(_variance(r, measure) for r in records) / n
    recalls = [row["recall_at_m"] for row in table if row["recall_at_m"] is not None]
    recall = sum(recalls) / len(recalls) if recalls else None
    return Measured(mean, min(values), max(values), math.sqrt(max(questions, seeds)), n, recall)


def paper_line(document: Document, place: str, name: str) -> dict[str, float]:
    """The paper's values by exact x: a row's name, k, m, or the proportion in whole layers; "" for a level."""
    paper, result = published.PAPER_RESULTS[document["paper_result"]](), {}
    panel = next(p for p in paper.panels if p.place == place)
    varies = {s.name: s.varies for s in panel.series}
    for v in published.values(paper):
        table = place == name and isinstance(v.x, str)
        if v.place == place and (v.series == name or table):
            x = v.model[varies[v.series]] if varies[v.series] else v.x
            result["" if x is None else str(x)] = float(v.y)
    return result


def _exact(x: str) -> str:
    try:
        return str(Fraction(x))
    except (ValueError, ZeroDivisionError):
        return x


def _order(pair: Pair) -> Fraction:
    return Fraction(pair.x or 0)


def rows(document: Document, panel: Mapping[str, Any]) -> list[Row]:
    """The lines of a panel; in a figure their points are in the order of x."""
    result = []
    for line in panel["lines"]:
        paper = paper_line(document, panel["place"], line["paper"]) if line["paper"] else {}
        pairs = []
        for p in line["points"]:
            records = [r for r in document["runs"] if _is_of(r, p)]
            found = measured(records, panel["measure"])
            pairs.append(Pair(p["x"], paper.get(_exact(p["x"])), found, p["training"], p["k"], p["m"]))
        table = document["paper_result"].startswith("Table")
        result.append(Row(line["name"], line["paper"], line["level"], pairs if table else sorted(pairs, key=_order)))
    return result


def file_of(name: str) -> str:
    """The result file of a figure or table, like "Figure 3"."""
    return f"trends-{name.lower().replace(' ', '-')}.json"


def trained(name: str) -> dict[str, list[Row]]:
    """The lines of a figure or table by panel, from results/; {} if there is no result."""
    path = results.FOLDER / file_of(name)
    if not path.exists():
        return {}
    document = json.loads(path.read_text("utf-8"))
    return {panel["place"]: rows(document, panel) for panel in document["panels"]}


def _is_of(record: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(record[name] == point[name] for name in ("training", "system", "k", "m"))


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


def compared(a: Pair, b: Pair) -> str:
    """The change from a to b in the paper and in ours; "" if a value of ours is missing."""
    if a.ours is None or b.ours is None:
        return ""
    ours, within = b.ours.mean - a.ours.mean, ERRORS * math.hypot(a.ours.error, b.ours.error)
    words = f"here {ours:+.1f} (flat within {within:.1f})"
    if a.paper is None or b.paper is None:
        return f"{words}: {direction(ours, within)}; the paper has no such point"
    paper = b.paper - a.paper
    return f"paper {paper:+.2f}, {words}: {verdict(direction(paper, PAPER_FLAT), direction(ours, within))}"


def _line(row: Row) -> Iterator[str]:
    """Sentences about the changes of a figure's line, from end to end and from point to point."""
    known = [p for p in row.pairs if p.ours is not None]
    if len(known) > 1:
        yield f"{row.name}, {known[0].x} to {known[-1].x}: {compared(known[0], known[-1])}."
    if len(known) > 2:
        for a, b in pairwise(known):
            yield f"{row.name}, {a.x} to {b.x}: {compared(a, b)}."


def _gap(above: Row, below: Row) -> Iterator[str]:
    """The differences of two lines at each x that the paper and ours have, and how the difference changes with x."""
    pairs = []
    for a, b in zip(above.pairs, below.pairs, strict=True):
        if a.ours is not None and b.ours is not None and a.paper is not None and b.paper is not None:
            error = math.hypot(a.ours.error, b.ours.error)
            gap = a.ours.mean - b.ours.mean
            pairs.append(a._replace(paper=a.paper - b.paper, ours=a.ours._replace(mean=gap, error=error)))
    name = f"{above.name} above {below.name}"
    for p in pairs:
        assert p.ours is not None and p.paper is not None
        ours = direction(p.ours.mean, ERRORS * p.ours.error)
        words = verdict(direction(p.paper, PAPER_FLAT), ours)
        yield f"{name} at {p.x}: paper {p.paper:+.1f}, here {p.ours.mean:+.1f}: {words}."
    if len(pairs) > 1:
        yield f"{name}, its change from {pairs[0].x} to {pairs[-1].x}: {compared(pairs[0], pairs[-1])}."


def sentences(document: Document, panel: Mapping[str, Any]) -> list[str]:
    """A sentence about each change in a panel."""
    found, result = rows(document, panel), list[str]()
    if document["paper_result"].startswith("Table"):
        for row in found:
            first = row.pairs[0]
            changes = ((p, compared(first, p)) for p in row.pairs[1:])
            result += [f"{p.x} against {first.x}: {words}." for p, words in changes if words]
        return result
    for row in found:
        result += [] if row.level else _line(row)
    named = {row.name: row for row in found}
    for above, below in panel["gaps"]:
        result += _gap(named[above], named[below])
    return result
