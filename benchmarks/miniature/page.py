"""The pages of the miniature: one for each figure or table, and an overview of the paper's claims."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from miniature import runs
from miniature.plots import draw
from miniature.recipes import differences, recipe_of
from miniature.structure import ALL, Experiment, Panel
from miniature.study import Study
from miniature.summary import RULE, Kept, judged, of_point, rows, sentences

from glimmer_ref import tables
from glimmer_ref.disk.write import write_text

OVERVIEW = "trends.md"


def stem(experiment: Experiment) -> str:
    """The name of its page and plot, without the ending."""
    return f"trends-{experiment.name.lower().replace(' ', '-')}"


def _heading(records: Sequence[runs.Record]) -> list[str]:
    """Machines, versions and commits of the tests."""
    machines = sorted({r["machine"] for r in records})
    packages = [f"{name} {number}" for name, number in records[-1]["versions"].items() if name != "glimmer_ref"]
    dates, commits = sorted({r["date"] for r in records}), list(dict.fromkeys(r["commit"] for r in records))
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    where = f"{'; '.join(machines)}; {', '.join(packages)}"
    return [f"{where}; {days}, commit{'s' * (len(commits) > 1)} {', '.join(commits)}.", ""]


def _about(study: Study, records: Sequence[runs.Record]) -> str:
    seeds = ", ".join(str(seed) for seed in sorted({r["seed"] for r in records}))
    questions = max(r["questions"] for r in records)
    return (
        f"{study.recipe.steps:,} steps of fine-tuning ({Path(study.base).stem}), the checkpoint that is best on dev, "
        f"seeds {seeds}; test world of {questions:,} questions."
    )


def _table(experiment: Experiment, panel: Panel, kept: Kept) -> list[str]:
    """A table of a panel's points, with the paper's values beside ours."""
    measure = "exact match" + ("" if panel.measure == ALL else f", {panel.measure}")
    head = ["line", panel.x, "paper", f"here: {measure} (min to max)", "recall@m", "per TFLOP"]
    cells = []
    for row in rows(experiment, panel, kept):
        for p in row.pairs:
            h = p.ours
            paper = "-" if p.paper is None else f"{p.paper:.2f}"
            ours = "-" if h is None else f"{h.mean:.1f}" + (f" ({h.min:.1f} to {h.max:.1f})" if h.seeds > 1 else "")
            recall = "-" if h is None or h.recall is None else f"{h.recall:.1f}"
            cost = "-" if h is None else f"{h.cost:,.0f}"
            if p.paper_cost is not None:
                cost += f" (paper {p.paper_cost:.4f})"
            name = "" if experiment.is_table else row.name
            seeds = 0 if h is None else h.seeds
            cells.append([name, p.x, paper, ours, recall, cost, seeds, p.training, p.k, p.m])
    return [f"{panel.place}:", "", *tables.markdown(cells, [*head, "seeds", "model", "k", "m"]), ""]


def _recipes(study: Study, experiment: Experiment) -> list[str]:
    """Each training's recipe as its differences from the base recipe."""
    lines = []
    for training in experiment.trainings():
        recipe = recipe_of(training, study.base, study.recipe.top.seed)
        found = differences(recipe, study.recipe).items()
        changes = [f"{key} {json.dumps(a)} -> {json.dumps(b)}" for key, (a, b) in found]
        lines.append(f"- {training.name}: {'; '.join(changes) or 'the base recipe'}")
    return lines


def _missing(experiment: Experiment, kept: Kept) -> list[str]:
    """The trainings that have not been tested with all seeds that others were tested with."""
    tested = {(name, seed) for name, seed, *_ in kept}
    seeds = sorted({seed for _, seed in tested})
    return [f"{t.name} (seed {s})" for t in experiment.trainings() for s in seeds if (t.name, s) not in tested]


def page(study: Study, experiment: Experiment, kept: Kept, folder: Path) -> list[str]:
    """Write the page and the plot of a figure or table, and return the page's lines; none if nothing was tested."""
    records = [record for point in experiment.points() for record in of_point(kept, point)]
    if not records:
        return []
    draw(experiment, kept, folder / f"{stem(experiment)}.png")
    lines = [f"{experiment.name} in miniature: {_about(study, records)}", ""]
    lines += [experiment.note, ""] if experiment.note else []
    for panel in experiment.panels:
        lines += _table(experiment, panel, kept)
        lines += [*(f"- {sentence}" for sentence in sentences(experiment, panel, kept)), ""]
    if missing := _missing(experiment, kept):
        lines += [f"- not tested so far: {'; '.join(missing)}", ""]
    lines += ["Recipes, and how they differ from the base recipe:", "", *_recipes(study, experiment), "", RULE, ""]
    lines.append(f"![{experiment.name} and the miniature]({stem(experiment)}.png)")
    write_text(folder / f"{stem(experiment)}.md", "\n".join([*_heading(records), *lines]) + "\n")
    return lines


def _claims(experiment: Experiment, kept: Kept) -> Iterable[list[str]]:
    for panel in experiment.panels:
        found = rows(experiment, panel, kept)
        for claim in panel.claims:
            one = judged(claim, found)
            if one is None:
                yield [f"[{panel.place}]({stem(experiment)}.md)", claim.text, "", "", "not tested"]
            else:
                yield [f"[{panel.place}]({stem(experiment)}.md)", one.text, one.paper, one.ours, one.verdict]


def overview(study: Study, found: runs.Sorted) -> list[str]:
    """The paper's claims in one table, with the verdicts."""
    records = list(found.kept.values())
    body = [row for e in sorted(study.experiments.values(), key=lambda e: e.name) for row in _claims(e, found.kept)]
    head = ["", "what the paper says", "paper", "here", "verdict"]
    lines = [f"The paper's results in miniature: {_about(study, records)}", "", *tables.markdown(body, head), "", RULE]
    if found.ignored:
        lines += ["", f"Lines of {runs.FILE} that do not count: {'; '.join(found.ignored)}."]
    return lines


def report(study: Study, folder: Path) -> list[str]:
    """Write all pages and plots from the file of runs in a folder, and return the lines of the overview."""
    found = study.select(folder / runs.FILE)
    if not found.kept:
        return ["no tests so far"]
    for experiment in study.experiments.values():
        page(study, experiment, found.kept, folder)
    lines = overview(study, found)
    write_text(folder / OVERVIEW, "\n".join([*_heading(list(found.kept.values())), *lines]) + "\n")
    return lines
