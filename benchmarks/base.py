"""The bases of the studies in miniature: python benchmarks/base.py plain READER BASE WORLDS, or tasks TASKS WORLDS

READER, BASE and TASKS were written by `glimmer-ref train` with the recipes t5_mini_reader, t5_mini and t5_mini_tasks,
WORLDS by `glimmer-ref world`. The folder, weights/t5-mini or weights/t5-mini-tasks, gets the last model of the last run
and a card with the measured values.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import results
from bundle import OF_MODEL, ROOT, percent, trained

from glimmer_ref import tables
from glimmer_ref.errors import InputError
from glimmer_ref.training.log import LOG, read_log

HERE = Path(__file__).resolve().parent


def on_dev(run: Path) -> list[str]:
    """Exact match by task at the end of a run, with all passages and with the gold ones alone."""
    last = [record for record in read_log(run / LOG) if "exact_match" in record][-1]
    cells = [[task, *percent([score])] for task, score in last["tasks"].items()]
    cells += [["mean of tasks", *percent([last["exact_match"]])]]
    cells += [["mean, of gold passages alone", *percent([last["exact_match_of_gold"]])]]
    cells += [["share of the gold passages that the decoder read", *percent([last["recall_at_m"]])]]
    return tables.markdown(cells, ["dev", f"exact match, {last['questions']} questions"])


def put_together(card: Path, runs: dict[str, Path], worlds: Path, out: Path) -> None:
    """Write the files of a base into an empty folder.

    Args:
        card: the text of the card, with a mark for each run and for the scores on dev.
        runs: the finished runs by the names of their marks; the last made the base.
    """
    world = json.loads((worlds / "world.json").read_text())
    last = list(runs.values())[-1]
    for name in OF_MODEL:
        if not (last / "last" / name).is_file():
            raise InputError(str(last / "last" / name), "a file of a finished run", "none", "see benchmarks/README.md")
        shutil.copy(last / "last" / name, out / name)
    text = card.read_text()
    for name, lines in {"dev": on_dev(last), **{n: trained(run, world, "last") for n, run in runs.items()}}.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(lines))
    (out / "README.md").write_text(text)


def main() -> int:
    """Make the folder, which must not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, card, runs, folder in (
        ("plain", "base.md", ("reader", "base"), "t5-mini"),
        ("tasks", "tasks.md", ("tasks",), "t5-mini-tasks"),
    ):
        command = commands.add_parser(name)
        for word in (*runs, "worlds"):
            command.add_argument(word, type=Path)
        command.add_argument("--into", type=Path, default=ROOT / "weights" / folder)
        command.set_defaults(card=HERE / card, runs=runs)
    args = parser.parse_args()
    if args.into.exists():
        raise InputError(str(args.into), "no such folder yet", "one", "move it away")
    args.into.mkdir(parents=True)
    put_together(args.card, {name: getattr(args, name) for name in args.runs}, args.worlds, args.into)
    print((args.into / "README.md").read_text())
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
