"""The paper's trends in miniature: python benchmarks/trends.py train --data WORLDS --out DIR [--plan]; .. report.

Figures 3, 4, 5 and 7 and Tables 1 to 3 with models of a shorter bundled recipe, `trends.toml`, trained on and tested
in the worlds of `glimmer-ref world`, each beside the paper's own numbers. What is trained already is left alone, what
was stopped goes on where it was. One file a figure or table goes to benchmarks/results/; `report` draws and tells them.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results
from trends_pictures import draw
from trends_points import EXHIBITS, Exhibit, Shape, recipe_of
from trends_runs import Yard, hold_to_one_world
from trends_tasks import Pace, Task, differences, minutes, remaining, steps_done, tasks
from trends_words import RULE, file_of, rows, sentences

from glimmer_ref.bench.machine import cores
from glimmer_ref.cli.columns import grid
from glimmer_ref.errors import InputError
from glimmer_ref.training.loop import facts
from glimmer_ref.training.recipe_file import RECIPES, read_recipe

BASE = Path(__file__).resolve().with_name("trends.toml")
QUICK = """# The base of --quick: a model that learns nothing, and two stages, of which a reader takes the first.
extends = "mini"

[model.t5]
d_model = 16
d_kv = 8
d_ff = 16
num_heads = 2
num_decoder_layers = 1

[model.glimmer]
answer_tokens = 2

[[stages]]
name = "gold"
steps = 2
batch = 4
k = 1
m = 1
lambda = 0.0

[[stages]]
name = "use"
steps = 2
batch = 4
k = 6
m = 3

[evaluation]
questions = 6
k = 5
m = 2
"""


def report(document: Mapping[str, Any], path: Path) -> list[str]:
    """The tables, what they say in words, and the picture beside the file."""
    draw(document, path.with_suffix(".png"))
    seeds = ", ".join(map(str, document["seeds"]))
    lines = [f"{document['exhibit']} in miniature: base recipe {document['base']}, {document['steps_scale']:g} times "
             f"its steps, seeds {seeds}; test world of {document['questions']:,} questions.", ""]  # fmt: skip
    lines += [document["note"], ""] if document["note"] else []
    for panel in document["panels"]:
        lines += _table(document, panel)
        lines += [f"- {sentence}" for sentence in sentences(document, panel)]
        lines.append("")
    lines += [f"- not done: {name}: {why}" for name, why in document["not_done"].items()]
    if missing := _untrained(document):
        lines += [f"- not trained so far: {'; '.join(missing)}", ""]
    lines += ["Recipes, and how they differ from the base:", "", *_recipes(document), "", RULE, ""]
    return [*lines, f"![{document['exhibit']} and the miniature]({path.with_suffix('.png').name})"]


def _table(document: Mapping[str, Any], panel: Mapping[str, Any]) -> list[str]:
    """Every point, the paper's value beside ours."""
    measure = "exact match" + ("" if panel["measure"] == "exact_match" else f", {panel['measure']}")
    lines = [
        f"{panel['place']}:",
        "",
        f"| line | {panel['x']} | paper | here: {measure} (min-max) | recall@m | seeds | model | k | m |",
        "|" + "---|" * 9,
    ]
    for row in rows(document, panel):
        for p in row.pairs:
            h = p.here
            paper = "-" if p.paper is None else f"{p.paper:.2f}"
            ours = "-" if h is None else f"{h.mean:.1f}" + (f" ({h.least:.1f} to {h.most:.1f})" if h.seeds > 1 else "")
            recall = "-" if h is None or h.recall is None else f"{h.recall:.1f}"
            name = "" if document["exhibit"].startswith("Table") else row.name
            lines.append(
                f"| {name} | {p.x} | {paper} | {ours} | {recall} | {0 if h is None else h.seeds} | {p.training} | "
                f"{p.k} | {p.m} |"
            )
    return [*lines, ""]


def _untrained(document: Mapping[str, Any]) -> list[str]:
    """Of every training that is not at its recipe's last step, name and seed."""
    return [f"{t['training']} (seed {t['seed']})" for t in document["trainings"]
            if t["steps"] < document["recipes"][t["training"]]["steps"]]  # fmt: skip


def _recipes(document: Mapping[str, Any]) -> list[str]:
    """By name, key by key."""
    lines = []
    for name, about in document["recipes"].items():
        changes = [f"{key} {json.dumps(a)} -> {json.dumps(b)}" for key, (a, b) in about["differs"].items()]
        lines.append(f"- {name} ({about['steps']:,} steps): {'; '.join(changes) or 'the base'}")
    return lines


def document_of(exhibit: Exhibit, args: argparse.Namespace, wanted: Sequence[Task], yard: Yard) -> dict[str, Any]:
    """All that there is of an exhibit so far."""
    base = read_recipe(args.base)
    document = results.begin("trends", Path(args.base).stem, len(args.seeds), {})
    document |= {"exhibit": exhibit.name, "note": exhibit.note, "base": Path(args.base).stem, "seeds": args.seeds}
    document |= {"steps_scale": args.steps_scale, "ops": args.ops, "threads": args.threads}
    document |= {"world": {n: x for n, x in hold_to_one_world(args.data, args.out).items() if n != "sha256"}}
    document["panels"] = [
        {
            **panel._asdict(),
            "lines": [
                {**line._asdict(), "points": [{**p._asdict(), "training": p.training.name} for p in line.points]}
                for line in panel.lines
            ],
        }
        for panel in exhibit.panels
    ]
    used = {p.training for p in exhibit.points()}
    used |= {t.begins for t in used if t.begins is not None}
    mine = [task for task in wanted if task.training in used]
    document["recipe"], document["recipes"], document["trainings"] = facts(base, args.ops), {}, []
    for task in mine:
        t, begins = task.training, "" if task.training.begins is None else task.training.begins.name
        plain = recipe_of(t, args.base, base.top.seed, 1.0, begins)
        document["recipes"][t.name] = {"steps": task.recipe.steps, "differs": differences(plain, base, t)}
        seconds = (task.position() or {}).get("seconds")
        document["trainings"].append({"training": t.name, "seed": task.seed, "steps": steps_done(task),
                                      "seconds": seconds})  # fmt: skip
    document["runs"] = _runs(exhibit, mine)
    document["questions"] = max((run["questions"] for run in document["runs"]), default=0)
    document["not_done"] = {name: why for name, why in yard.failed.items()
                            if any(name == f"{t.training.name}, seed {t.seed}" for t in mine)}  # fmt: skip
    return document


def _runs(exhibit: Exhibit, mine: Sequence[Task]) -> list[dict[str, Any]]:
    """Every test that was made of the exhibit's points."""
    found = {}
    for point in exhibit.points():
        for task in mine:
            place = task.test(point)
            if task.training == point.training and place.exists():
                scores = json.loads(place.read_text("utf-8"))
                key = {"training": point.training.name, "seed": task.seed, **scores, "m": point.m}
                found[point[1:], task.seed] = key
    return list(found.values())


def plan(chosen: Sequence[Exhibit], wanted: Sequence[Task], pace: Pace, jobs: int) -> list[str]:
    """Every training with its steps and minutes, and what each figure or table costs by itself."""
    told, body = dict[str, list[Task]](), []
    for task in wanted:
        told.setdefault(task.training.name, []).append(task)
    for name, some in told.items():
        of = [e.name for e in chosen if any(name in (t.name, t.begins and t.begins.name) for t in _used(e))]
        done = sum(steps_done(t) for t in some)
        body.append([name, str(len(some)), f"{some[0].recipe.steps:,}", f"{done:,}",
                     minutes(remaining(some, pace)), ", ".join(of)])  # fmt: skip
    lines = [*grid(["training", "seeds", "steps each", "done", "left", "for"], body), ""]
    costs = []
    for exhibit in chosen:
        used = {t for p in _used(exhibit) for t in (p, p.begins)}
        mine = [task for task in wanted if task.training in used]
        costs.append([exhibit.name, str(len(mine)), f"{sum(t.recipe.steps for t in mine):,}",
                      minutes(remaining(mine, pace))])  # fmt: skip
    lines += [*grid(["by itself", "trainings", "steps", "left"], costs), ""]
    seconds = remaining(wanted, pace)
    total = minutes(None if seconds is None else seconds / jobs)
    lines.append(f"all together: {len(wanted)} trainings, {total} left with {jobs} at once (without testing)")
    if seconds is None:
        lines.append("No run with such stages was measured yet: name one with --measured, or look again later.")
    else:
        lines.append("From seconds a step of the runs that there are; several at once may slow each other down.")
    return lines


def _used(exhibit: Exhibit) -> set[Any]:
    return {p.training for p in exhibit.points()}


def _only(every: Sequence[Task], names: Sequence[str]) -> list[Task]:
    """The tasks of these trainings and of those that they begin from; all where none is named."""
    known = {task.training.name: task.training for task in every}
    if unknown := [name for name in names if name not in known]:
        raise InputError("--only", "names of trainings, as --plan tells them", ", ".join(unknown))
    some = [known[name] for name in names] or list(known.values())
    return [task for task in every if any(task.training in (t, t.begins) for t in some)]


def train(args: argparse.Namespace) -> int:
    """Plan, or train, test, write and tell."""
    if not (RECIPES / f"{args.base}.toml").is_file():
        args.base = str(Path(args.base).resolve())
    shape = Shape.of(read_recipe(args.base))
    chosen = [EXHIBITS[key](shape) for key in args.figures]
    chosen = [exhibit.ends() for exhibit in chosen] if args.quick else chosen
    points = [point for exhibit in chosen for point in exhibit.points()]
    every = tasks([p.training for p in points], args.base, args.seeds, args.steps_scale, args.out)
    wanted = _only(every, args.only)
    pace = Pace([*(task.folder for task in wanted), *args.measured])
    print("\n".join(plan(chosen, wanted, pace, args.jobs)), flush=True)
    if args.plan:
        return 0
    hold_to_one_world(args.data, args.out)
    yard = Yard(args.data, args.out, args.ops, args.jobs, args.threads, points)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yard.run(wanted, pace)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        for exhibit in chosen:
            results.write(args.results / file_of(exhibit.name), document_of(exhibit, args, every, yard))
    for exhibit in chosen:
        tell(args.results / file_of(exhibit.name))
    return 1 if yard.failed else 0


def tell(path: Path) -> None:
    """One file's Markdown, printed and written by `report.py`, which draws too."""
    from report import told  # it imports this file

    print("\n".join(told(path)), "\n")


def quick(args: argparse.Namespace) -> int:
    """Every kind of training and picture, with models that learn nothing, in a small world; of lines the ends."""
    with tempfile.TemporaryDirectory() as place:
        args.out = args.out or Path(place)
        args.data, args.base = args.out / "world", str(args.out / "quick.toml")
        args.out.mkdir(parents=True, exist_ok=True)
        Path(args.base).write_text(QUICK)
        world = [sys.executable, "-m", "glimmer_ref", "world", str(args.data), "--size", "small", "--train-worlds", "1"]
        if not args.data.exists():
            subprocess.run(world, check=True, stdout=subprocess.DEVNULL)
        args.results, args.ops = args.results or args.out / "results", "numpy"
        return train(args)


def _figures(text: str) -> list[str]:
    names = [part.strip().lower().replace(" ", "") for part in text.split(",")]
    if unknown := [name for name in names if name not in EXHIBITS]:
        raise InputError("--figures", f"some of {','.join(EXHIBITS)}", ", ".join(unknown))
    return names


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError("--seeds", "whole numbers, like 0,1", text) from None


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="train and test what is missing, then tell")
    one.add_argument("--data", type=Path, metavar="WORLDS", help="what `glimmer-ref world` wrote")
    one.add_argument("--out", type=Path, metavar="DIR", help="where models are kept")
    one.add_argument("--figures", default=",".join(EXHIBITS), help=f"of {','.join(EXHIBITS)} (default: all)")
    one.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these trainings alone, named as in --plan")
    one.add_argument("--seeds", default="0", help="like 0,1 (default: 0)")
    one.add_argument("--steps-scale", type=float, default=1.0, metavar="X", help="so many times the base's steps")
    one.add_argument("--base", default=str(BASE), metavar="RECIPE", help="changed for each (default: trends.toml)")
    one.add_argument("--jobs", type=int, default=1, help="trainings at once (default: 1)")
    one.add_argument("--threads", type=int, help="of each training (default: the processors over the jobs)")
    one.add_argument("--plan", action="store_true", help="print trainings, steps and minutes; start nothing")
    one.add_argument("--measured", type=Path, nargs="+", default=[], metavar="RUN", help="folders to take paces from")
    one.add_argument("--results", type=Path, metavar="DIR", help="where the JSON files go (default: results/)")
    one.add_argument("--quick", action="store_true", help="all of it at toy size, in a small world of its own")
    one.set_defaults(run=_train, ops="numba")
    two = commands.add_parser("report", help="tables, words and pictures of result files")
    two.add_argument("files", type=Path, nargs="*", help="default: all of results/")
    two.set_defaults(run=_report)
    return parser


def _train(args: argparse.Namespace) -> int:
    args.figures, args.seeds = _figures(args.figures), _seeds(args.seeds)
    if args.jobs < 1 or not args.steps_scale > 0:
        raise InputError("--jobs, --steps-scale", "above 0", f"{args.jobs}, {args.steps_scale}")
    args.threads = args.threads or max(1, cores() // args.jobs)
    if args.quick:
        return quick(args)
    if args.data is None or args.out is None:
        raise InputError("train", "--data WORLDS and --out DIR", "none", "or --quick")
    args.results = args.results or results.FOLDER
    return train(args)


def _report(args: argparse.Namespace) -> int:
    files = args.files or sorted(results.FOLDER.glob("trends-*.json"))
    if not files:
        raise InputError("report", "files, or trends-*.json in results/", "none", "make them with: trends.py train")
    for path in files:
        tell(path)
    return 0


def main() -> int:
    """Train, or report."""
    args = _arguments().parse_args()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"benchmarks/trends.py: error: {error}")
