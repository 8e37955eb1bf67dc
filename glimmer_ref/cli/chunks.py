"""glimmer-ref chunks: cut KILT's pages into passages, and find the gold ones of KILT's tasks."""

from __future__ import annotations

import argparse
from typing import Any

from .. import tables
from ..terminal import say, say_json


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "chunks",
        help="cut KILT's pages into passages",
        description="Cut the pages of a knowledge source in KILT's format into passages of whole paragraphs. Write "
        "them, and each task's questions with their gold passages, into a folder that memory build, evaluate and "
        "train read.",
    )
    parser.add_argument(
        "pages", metavar="PAGES.jsonl", help="pages: KILT's knowledge source, or a world's knowledge.jsonl"
    )
    parser.add_argument("folder", metavar="OUT", help="a new folder for the passages and questions")
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=[],
        metavar="TASK.jsonl",
        help="KILT's task files, whose questions are written with gold passages",
    )
    parser.add_argument(
        "--words", type=int, default=200, metavar="N", help="largest number of words of a passage (default 200)"
    )
    parser.add_argument("--paragraphs", action="store_true", help="make each paragraph a passage of its own")
    parser.add_argument(
        "--relevance",
        type=float,
        metavar="BLEU",
        help="for training: drop questions whose best provenance has a BLEU score below this (default: drop none; "
        "KILT uses 0.5)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the folder and print a summary of its content."""
    from ..data.kilt_corpus import write_folder

    result = write_folder(args.folder, args.pages, args.tasks, args.words, not args.paragraphs, args.relevance)
    if args.json:
        say_json(result)
        return
    say(
        f"{args.folder}: {result['passages']:,} passages of {result['pages']:,} pages, "
        f"{result['pages_without_text']:,} of them without text"
    )
    if result["tasks"]:
        head = ["questions of", "kept", "dropped", "without gold"]
        rows = [[name, *(f"{n:,}" for n in counts.values())] for name, counts in result["tasks"].items()]
        say("", *tables.text(rows, head))
