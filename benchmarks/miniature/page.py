"""The page of a miniature's result file: its tables, sentences about them, and the plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import results
from miniature.plots import draw
from miniature.summary import RULE, rows, sentences

from glimmer_ref import tables


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page and the plot beside the file; the page's lines are returned."""
    draw(document, path.with_suffix(".png"))
    seeds = ", ".join(map(str, document["seeds"]))
    steps = f"base recipe {document['base']}, {document['steps_scale']:g} times its steps"
    questions = f"test world of {document['questions']:,} questions"
    lines = [f"{document['paper_result']} in miniature: {steps}, seeds {seeds}; {questions}.", ""]
    lines += [document["note"], ""] if document["note"] else []
    for panel in document["panels"]:
        lines += _table(document, panel)
        lines += [f"- {sentence}" for sentence in sentences(document, panel)]
        lines.append("")
    lines += [f"- not done: {name}: {why}" for name, why in document["not_done"].items()]
    if missing := _untrained(document):
        lines += [f"- not trained so far: {'; '.join(missing)}", ""]
    lines += ["Recipes, and how they differ from the base:", "", *_recipes(document), "", RULE, ""]
    lines.append(f"![{document['paper_result']} and the miniature]({path.with_suffix('.png').name})")
    return results.write_page(path, document, lines)


def _table(document: Mapping[str, Any], panel: Mapping[str, Any]) -> list[str]:
    """A table of a panel's points, with the paper's values beside ours."""
    measure = "exact match" + ("" if panel["measure"] == "exact_match" else f", {panel['measure']}")
    head = ["line", panel["x"], "paper", f"here: {measure} (min-max)", "recall@m", "seeds", "model", "k", "m"]
    cells = []
    for row in rows(document, panel):
        for p in row.pairs:
            h = p.ours
            paper = "-" if p.paper is None else f"{p.paper:.2f}"
            ours = "-" if h is None else f"{h.mean:.1f}" + (f" ({h.min:.1f} to {h.max:.1f})" if h.seeds > 1 else "")
            recall = "-" if h is None or h.recall is None else f"{h.recall:.1f}"
            name = "" if document["paper_result"].startswith("Table") else row.name
            cells.append([name, p.x, paper, ours, recall, 0 if h is None else h.seeds, p.training, p.k, p.m])
    return [f"{panel['place']}:", "", *tables.markdown(cells, head), ""]


def _untrained(document: Mapping[str, Any]) -> list[str]:
    """Name and seed of every training that has not reached its recipe's last step."""
    return [
        f"{t['training']} (seed {t['seed']})"
        for t in document["trainings"]
        if t["steps"] < document["recipes"][t["training"]]["steps"]
    ]


def _recipes(document: Mapping[str, Any]) -> list[str]:
    """Each training's recipe as its differences from the base."""
    lines = []
    for name, about in document["recipes"].items():
        changes = [f"{key} {json.dumps(a)} -> {json.dumps(b)}" for key, (a, b) in about["differs"].items()]
        lines.append(f"- {name} ({about['steps']:,} steps): {'; '.join(changes) or 'the base'}")
    return lines
