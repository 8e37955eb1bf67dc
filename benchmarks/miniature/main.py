"""The paper's results in miniature: python benchmarks/miniature/main.py train --data WORLDS --out DIR [--plan]

`train` repeats Figures 2 to 7 and Tables 1 to 3 with small models. Each starts from a pre-trained model, is fine-tuned
by a change of `trends.toml`, and is tested in the worlds of `glimmer-ref world`. Every finished test is a line of
benchmarks/results/trends-runs.jsonl, and what is there is not done again, on whichever machine. `report` writes the
pages and plots of that file, beside the paper's own numbers.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from miniature import runs
from miniature.experiments import EXPERIMENTS
from miniature.jobs import Job, jobs_of, plan
from miniature.page import report
from miniature.runner import Runner, Setting
from miniature.structure import PLAIN, TASKS
from miniature.study import BASE, HERE, Study

from glimmer_ref.bench.machine import cores
from glimmer_ref.disk.read import read_json
from glimmer_ref.errors import InputError

WEIGHTS = HERE.parents[1] / "weights"
QUICK, QUICK_BASE = HERE / "quick.toml", HERE / "quick_base.toml"


def _only(every: Sequence[Job], names: Sequence[str]) -> list[Job]:
    """The jobs of these trainings; all jobs if no training is named."""
    known = {job.training.name for job in every}
    if unknown := [name for name in names if name not in known]:
        raise InputError("--only", "names of trainings, as --plan prints them", ", ".join(unknown))
    return [job for job in every if not names or job.training.name in names]


def _check_starts(starts: Iterable[Path], study: Study) -> None:
    """Check that the bases have as many layers as the experiments cut."""
    for start in starts:
        layers = read_json(start / "config.json")["num_layers"]
        if layers != study.shape.layers:
            raise InputError(f"{start}", f"a base of {study.shape.layers} layers", str(layers))


def train(args: argparse.Namespace, study: Study) -> int:
    """Print the plan; then, without --plan, train, test, and write the pages."""
    chosen = [experiment for key, experiment in study.experiments.items() if key in args.figures]
    starts, file = {TASKS: args.tasks.resolve(), PLAIN: args.plain.resolve()}, args.results / runs.FILE
    jobs = _only(jobs_of(study, chosen, args.seeds, starts, args.out), args.only)
    needed = (args.data / "world.json", *(start / "model.safetensors" for start in starts.values()))
    source = runs.source_of(starts, args.data) if not args.plan or all(path.is_file() for path in needed) else None
    found = study.select(file, source)
    _say_ignored(found)
    print("\n".join(plan(chosen, jobs, found.kept, args.jobs)), flush=True)
    if args.plan:
        return 0
    assert source is not None
    _check_starts({starts[job.training.start] for job in jobs}, study)
    depth = max(point.k for some in study.points.values() for point in some)
    setting = Setting(args.data, args.out, file, source, study.ops, args.jobs, args.threads, args.keep)
    runner = Runner(setting, found.kept, depth)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runner.run(jobs)
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    print("\n".join(report(study, args.results)))
    for name, why in runner.failed.items():
        print(f"not done: {name}: {why}", file=sys.stderr)
    return 1 if runner.failed else 0


def _say_ignored(found: runs.Sorted) -> None:
    for line in found.ignored:
        print(f"{runs.FILE}: ignored: {line}", file=sys.stderr)


def quick(args: argparse.Namespace) -> int:
    """Train every kind of model at toy size in a small world, for the first and last point of each line."""
    with tempfile.TemporaryDirectory() as place:
        args.out = args.out or Path(place)
        args.data, base = args.out / "world", args.out / "base"
        args.tasks = args.plain = base / "last"
        args.out.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-m", "glimmer_ref"]
        world = ["world", str(args.data), "--size", "small", "--train-worlds", "1", "--pretrain-worlds", "2"]
        if not args.data.exists():
            subprocess.run([*program, *world], check=True, stdout=subprocess.DEVNULL)
        pretrain = ["train", str(QUICK_BASE), "--out", str(base), "--data", str(args.data), "--ops", "numpy"]
        if not base.exists():
            subprocess.run([*program, *pretrain], check=True, stdout=subprocess.DEVNULL)
        args.results = args.results or args.out / "results"
        return train(args, Study(QUICK, "numpy", ends=True))


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
    one.add_argument("--out", type=Path, metavar="DIR", help="where models are kept until they are tested")
    for option, name, seen in (("tasks", "mini", "has"), ("plain", "t5-mini", "has not")):
        said = f"the model to start from that {seen} seen the tasks (default: weights/{name})"
        one.add_argument(f"--{option}", type=Path, default=WEIGHTS / name, metavar="MODEL", help=said)
    one.add_argument("--figures", default=",".join(EXPERIMENTS), help=f"of {','.join(EXPERIMENTS)} (default: all)")
    one.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these trainings, named as in --plan")
    one.add_argument("--seeds", default="0", help="like 0,1 (default: 0)")
    one.add_argument("--jobs", type=int, help="trainings at once (default: 1; with --quick all processors)")
    one.add_argument("--threads", type=int, help="of each training (default: processors divided by jobs)")
    one.add_argument("--plan", action="store_true", help="print trainings, steps and minutes; start nothing")
    one.add_argument("--keep", action="store_true", help="keep the folders of tested models")
    one.add_argument("--results", type=Path, metavar="DIR", help=f"where {runs.FILE} and the pages are")
    one.add_argument("--quick", action="store_true", help="everything at toy size, in a small world of its own")
    one.set_defaults(run=_train)
    two = commands.add_parser("report", help=f"write the pages and plots of {runs.FILE} again")
    two.add_argument("--results", type=Path, default=results.FOLDER, metavar="DIR", help="where it is")
    two.set_defaults(run=_report)
    return parser


def _train(args: argparse.Namespace) -> int:
    args.figures, args.seeds = _figures(args.figures), _seeds(args.seeds)
    args.jobs = (cores() if args.quick else 1) if args.jobs is None else args.jobs
    if args.jobs < 1:
        raise InputError("--jobs", "at least 1", str(args.jobs))
    args.threads = args.threads or max(1, cores() // args.jobs)
    if args.quick:
        return quick(args)
    if args.data is None or args.out is None:
        raise InputError("train", "--data WORLDS and --out DIR", "none", "or --quick")
    args.results = args.results or results.FOLDER
    return train(args, Study())


def _report(args: argparse.Namespace) -> int:
    study, file = Study(BASE), args.results / runs.FILE
    found = study.select(file)
    _say_ignored(found)
    if not found.kept:
        raise InputError(f"{file}", "tests of the present recipes", "none", "make them: miniature/main.py train")
    print("\n".join(report(study, args.results)))
    return 0


def main() -> int:
    """Run the subcommand."""
    args = _arguments().parse_args()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    results.run(main, __file__)
