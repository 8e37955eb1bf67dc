"""The paper's trends in miniature: python benchmarks/miniature/main.py train --data WORLDS --out DIR [--plan]

`train` repeats Figures 3, 4, 5 and 7 and Tables 1 to 3 with small models. They follow `trends.toml`, a shorter form of
the bundled model's recipe, and are trained and tested in the worlds of `glimmer-ref world`. A finished training is left
alone, and a stopped one continues. Each figure or table becomes one file in benchmarks/results/, beside the paper's own
numbers; `report` writes the pages and plots of these files again.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from miniature.experiments import EXPERIMENTS, Experiment, Shape
from miniature.jobs import Job, Pace, differences, jobs_of, minutes, remaining, steps_done
from miniature.page import report
from miniature.recipes import recipe_of
from miniature.runner import Runner, check_world
from miniature.summary import file_of

from glimmer_ref import tables
from glimmer_ref.bench.machine import cores
from glimmer_ref.errors import InputError
from glimmer_ref.training.loop import run_settings
from glimmer_ref.training.recipe_file import RECIPES, read_recipe

HERE = Path(__file__).resolve().parent
BASE, QUICK = HERE / "trends.toml", HERE / "quick.toml"


def document_of(
    experiment: Experiment, args: argparse.Namespace, wanted: Sequence[Job], runner: Runner
) -> dict[str, Any]:
    """The result document of an experiment, with the models that are trained and tested so far."""
    base = read_recipe(args.base)
    document = results.begin("trends", Path(args.base).stem, len(args.seeds), {})
    document |= {"paper_result": experiment.name, "note": experiment.note, "base": Path(args.base).stem}
    document |= {"seeds": args.seeds, "steps_scale": args.steps_scale, "ops": args.ops, "threads": args.threads}
    document |= {"world": {n: x for n, x in check_world(args.data, args.out).items() if n != "sha256"}}
    document["panels"] = [
        {
            **panel._asdict(),
            "lines": [
                {**line._asdict(), "points": [{**p._asdict(), "training": p.training.name} for p in line.points]}
                for line in panel.lines
            ],
        }
        for panel in experiment.panels
    ]
    used = {p.training for p in experiment.points()}
    used |= {t.begins for t in used if t.begins is not None}
    mine = [job for job in wanted if job.training in used]
    document["recipe"], document["recipes"], document["trainings"] = run_settings(base, args.ops), {}, []
    for job in mine:
        t, begins = job.training, "" if job.training.begins is None else job.training.begins.name
        plain = recipe_of(t, args.base, base.top.seed, 1.0, begins)
        document["recipes"][t.name] = {"steps": job.recipe.steps, "differs": differences(plain, base, t)}
        seconds = (job.position() or {}).get("seconds")
        document["trainings"].append(
            {"training": t.name, "seed": job.seed, "steps": steps_done(job), "seconds": seconds}
        )
    document["runs"] = _runs(experiment, mine)
    document["questions"] = max((run["questions"] for run in document["runs"]), default=0)
    names = {job.name for job in mine}
    document["not_done"] = {name: why for name, why in runner.failed.items() if name in names}
    return document


def _runs(experiment: Experiment, mine: Sequence[Job]) -> list[dict[str, Any]]:
    """The scores of all tests that were made of the experiment's points."""
    found = {}
    for point in experiment.points():
        for job in mine:
            place = job.test(point)
            if job.training == point.training and place.exists():
                scores = json.loads(place.read_text("utf-8"))
                key = {"training": point.training.name, "seed": job.seed, **scores, "m": point.m}
                found[point[1:], job.seed] = key
    return list(found.values())


def plan(chosen: Sequence[Experiment], wanted: Sequence[Job], pace: Pace, at_once: int) -> list[str]:
    """Every training with its steps and minutes, and the cost of each figure or table by itself."""
    by_name, body = dict[str, list[Job]](), []
    for job in wanted:
        by_name.setdefault(job.training.name, []).append(job)
    for name, some in by_name.items():
        of = [e.name for e in chosen if any(name in (t.name, t.begins and t.begins.name) for t in _used(e))]
        steps, done = f"{some[0].recipe.steps:,}", f"{sum(steps_done(job) for job in some):,}"
        body.append([name, str(len(some)), steps, done, minutes(remaining(some, pace)), ", ".join(of)])
    lines = [*tables.text(body, ["training", "seeds", "steps each", "done", "left", "for"]), ""]
    costs = []
    for experiment in chosen:
        used = {t for p in _used(experiment) for t in (p, p.begins)}
        mine = [job for job in wanted if job.training in used]
        steps = f"{sum(job.recipe.steps for job in mine):,}"
        costs.append([experiment.name, str(len(mine)), steps, minutes(remaining(mine, pace))])
    lines += [*tables.text(costs, ["by itself", "trainings", "steps", "left"]), ""]
    seconds = remaining(wanted, pace)
    total = minutes(None if seconds is None else seconds / at_once)
    lines.append(f"all together: {len(wanted)} trainings, {total} left with {at_once} at once (without testing)")
    if seconds is None:
        lines.append("No run with such stages has been measured yet: name one with --measured, or look again later.")
    else:
        lines.append("This follows from the seconds a step of earlier runs; several at once may slow each other down.")
    return lines


def _used(experiment: Experiment) -> set[Any]:
    return {p.training for p in experiment.points()}


def _only(every: Sequence[Job], names: Sequence[str]) -> list[Job]:
    """The jobs of these trainings and of the trainings that they begin from; all jobs if no training is named."""
    known = {job.training.name: job.training for job in every}
    if unknown := [name for name in names if name not in known]:
        raise InputError("--only", "names of trainings, as --plan prints them", ", ".join(unknown))
    some = [known[name] for name in names] or list(known.values())
    return [job for job in every if any(job.training in (t, t.begins) for t in some)]


def train(args: argparse.Namespace) -> int:
    """Print the plan; then, without --plan, train, test, and write the results and their pages."""
    if not (RECIPES / f"{args.base}.toml").is_file():
        args.base = str(Path(args.base).resolve())
    shape = Shape.of(read_recipe(args.base))
    chosen = [EXPERIMENTS[key](shape) for key in args.figures]
    chosen = [experiment.ends() for experiment in chosen] if args.quick else chosen
    points = [point for experiment in chosen for point in experiment.points()]
    every = jobs_of([p.training for p in points], args.base, args.seeds, args.steps_scale, args.out)
    wanted = _only(every, args.only)
    pace = Pace([*(job.folder for job in wanted), *args.measured])
    print("\n".join(plan(chosen, wanted, pace, args.jobs)), flush=True)
    if args.plan:
        return 0
    check_world(args.data, args.out)
    runner = Runner(args.data, args.out, args.ops, args.jobs, args.threads, points)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runner.run(wanted, pace)
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        for experiment in chosen:
            results.write(args.results / file_of(experiment.name), document_of(experiment, args, every, runner))
    for experiment in chosen:
        print_report(args.results / file_of(experiment.name))
    return 1 if runner.failed else 0


def print_report(path: Path) -> None:
    """Write a result file's page and plot, and print the page."""
    print("\n".join(report(json.loads(path.read_text("utf-8")), path)), "\n")


def quick(args: argparse.Namespace) -> int:
    """Train every kind of model at toy size in a small world, for the first and last point of each line."""
    with tempfile.TemporaryDirectory() as place:
        args.out = args.out or Path(place)
        args.data, args.base = args.out / "world", str(QUICK)
        args.out.mkdir(parents=True, exist_ok=True)
        world = [sys.executable, "-m", "glimmer_ref", "world", str(args.data), "--size", "small", "--train-worlds", "1"]
        if not args.data.exists():
            subprocess.run(world, check=True, stdout=subprocess.DEVNULL)
        args.results, args.ops = args.results or args.out / "results", "numpy"
        return train(args)


def _figures(text: str) -> list[str]:
    names = [part.strip().lower().replace(" ", "") for part in text.split(",")]
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        raise InputError("--figures", f"some of {','.join(EXPERIMENTS)}", ", ".join(unknown))
    return names


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError("--seeds", "whole numbers, like 0,1", text) from None


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="train and test what is missing, then report")
    one.add_argument("--data", type=Path, metavar="WORLDS", help="what `glimmer-ref world` wrote")
    one.add_argument("--out", type=Path, metavar="DIR", help="where models are kept")
    one.add_argument("--figures", default=",".join(EXPERIMENTS), help=f"of {','.join(EXPERIMENTS)} (default: all)")
    one.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these trainings, named as in --plan")
    one.add_argument("--seeds", default="0", help="like 0,1 (default: 0)")
    one.add_argument("--steps-scale", type=float, default=1.0, metavar="X", help="train for X times the base's steps")
    one.add_argument(
        "--base", default=str(BASE), metavar="RECIPE", help="what all models change (default: trends.toml)"
    )
    one.add_argument("--jobs", type=int, default=1, help="trainings at once (default: 1)")
    one.add_argument("--threads", type=int, help="of each training (default: processors divided by jobs)")
    one.add_argument("--plan", action="store_true", help="print trainings, steps and minutes; start nothing")
    one.add_argument(
        "--measured", type=Path, nargs="+", default=[], metavar="RUN", help="earlier runs, to estimate from"
    )
    one.add_argument("--results", type=Path, metavar="DIR", help="where the JSON files go (default: results/)")
    one.add_argument("--quick", action="store_true", help="everything at toy size, in a small world of its own")
    one.set_defaults(run=_train, ops="numba")
    two = commands.add_parser("report", help="write the pages and plots of result files again")
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
        raise InputError("report", "files, or trends-*.json in results/", "none", "make them: miniature/main.py train")
    for path in files:
        print_report(path)
    return 0


def main() -> int:
    """Run the subcommand."""
    args = _arguments().parse_args()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    results.run(main, __file__)
