"""The pre-trained base from two finished runs: python benchmarks/base.py READER BASE WORLDS [--into weights/t5-mini]

READER and BASE were written by `glimmer-ref train` with the recipes t5_mini_reader and t5_mini, WORLDS by `glimmer-ref
world`. The folder gets the last model and a card with the measured values.
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

CARD = Path(__file__).resolve().parent / "base.md"


def on_dev(run: Path) -> list[str]:
    """Exact match by task at the end of a run, with all passages and with the gold ones alone."""
    last = [record for record in read_log(run / LOG) if "exact_match" in record][-1]
    cells = [[task, *percent([score])] for task, score in last["tasks"].items()]
    cells += [["mean of tasks", *percent([last["exact_match"]])]]
    cells += [["mean, of gold passages alone", *percent([last["exact_match_of_gold"]])]]
    cells += [["share of the gold passages that BM25 found", *percent([last["recall_at_m"]])]]
    return tables.markdown(cells, ["dev", f"exact match, {last['questions']} questions"])


def put_together(reader: Path, base: Path, worlds: Path, out: Path) -> None:
    """Write the files of the base into an empty folder."""
    world = json.loads((worlds / "world.json").read_text())
    for name in OF_MODEL:
        if not (base / "last" / name).is_file():
            raise InputError(str(base / "last" / name), "a file of a finished run", "none", "see benchmarks/README.md")
        shutil.copy(base / "last" / name, out / name)
    text = CARD.read_text()
    for name, lines in (
        ("dev", on_dev(base)), ("reader", trained(reader, world, "last")), ("base", trained(base, world, "last"))
    ):  # fmt: skip
        text = text.replace(f"<!-- {name} -->", "\n".join(lines))
    (out / "README.md").write_text(text)


def main() -> int:
    """Make the folder, which must not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("reader", "base", "worlds"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--into", type=Path, default=ROOT / "weights" / "t5-mini")
    args = parser.parse_args()
    if args.into.exists():
        raise InputError(str(args.into), "no such folder yet", "one", "move it away")
    args.into.mkdir(parents=True)
    put_together(args.reader, args.base, args.worlds, args.into)
    print((args.into / "README.md").read_text())
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
