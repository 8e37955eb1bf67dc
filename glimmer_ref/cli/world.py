"""glimmer-ref world: generate fictional encyclopedias with questions, and print a summary."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import tables
from ..terminal import say, say_json


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "world",
        help="generate fictional encyclopedias to train and test on",
        description="Generate people, towns, companies and books that do not exist. Write passages about them, and "
        "questions with gold passages, hard negatives and BM25's candidates, in KILT's format. The questions are of "
        "six tasks, and of a seventh that only training has. No name of dev or test occurs in training. The same seed "
        "gives the same bytes on every machine.",
    )
    parser.add_argument("folder", metavar="OUT", help="a new or empty folder, or one that this command wrote")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the worlds (default 0)")
    parser.add_argument(
        "--train-worlds",
        type=int,
        default=8,
        metavar="N",
        help="number of worlds for training, in addition to dev and test (default 8)",
    )
    parser.add_argument(
        "--pretrain-worlds",
        type=int,
        default=0,
        metavar="N",
        help="number of worlds for pre-training, which have clozes and span corruption instead of the six tasks "
        "(default 0)",
    )
    parser.add_argument(
        "--size",
        choices=("small", "full"),
        default="full",
        help="size of each world (default full); small is for a first look",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "Eight training worlds, dev and test take about 15 seconds on an idle core."
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the worlds, read them back, and print what dev and test hold."""
    from ..progress import progress
    from ..text.tokenizer import Tokenizer
    from ..world.generate import statistics, write

    about = write(args.folder, args.seed, args.train_worlds, args.size, pretrain_worlds=args.pretrain_worlds)
    folder = Path(args.folder)
    tokenizer = Tokenizer(folder / "tokenizer.json")
    names = list(dict.fromkeys(name.split("/")[0] for name in about["sha256"] if "/" in name))
    worlds = {name: statistics(folder / name, tokenizer) for name in progress(names, len(names), "counting")}
    if args.json:
        say_json({**about, "vocabulary": tokenizer.size, "worlds": worlds})
        return
    say(f"{folder}: seed {args.seed}, {len(names)} worlds, {tokenizer.size:,} words", "")
    print_worlds(worlds)
    say("", f"{names[-1]}, by task:", "")
    print_tasks(worlds[names[-1]]["tasks"])
    say("", "recall: all gold passages are among BM25's first 5, 25; in percent")


def print_worlds(worlds: dict[str, Any]) -> None:
    """Print one line for each world."""
    head = ["world", "pages", "passages", "tokens", "questions", "recall@5", "recall@25"]
    rows = [
        [
            name,
            *(f"{w[key]:,}" for key in ("pages", "passages")),
            f"{w['passage_tokens']:.1f}",
            f"{w['questions']:,}",
            *(f"{100 * w[f'recall_at_{n}']:.1f}" for n in (5, 25)),
        ]
        for name, w in worlds.items()
    ]
    say(*tables.text(rows, head))


def print_tasks(tasks: dict[str, Any]) -> None:
    """Print one line for each task."""
    head = ["task", "questions", "tokens", "answer", "recall@5", "recall@25"]
    rows = [
        [
            name,
            f"{t['questions']:,}",
            *(f"{t[f'{key}_tokens']:.1f}" for key in ("question", "answer")),
            *(f"{100 * t[f'recall_at_{n}']:.1f}" for n in (5, 25)),
        ]
        for name, t in tasks.items()
    ]
    say(*tables.text(rows, head))
