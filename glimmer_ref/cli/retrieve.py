"""glimmer-ref retrieve: the k best passages of an index for a question, or for every line of a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import tables
from ..disk.write import check_place
from ..errors import InputError, shown
from ..ops import BACKENDS
from ..terminal import say, say_json
from . import options

MARKS = (1, 5, 20, 100)  # recall is told at these, and at k


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "retrieve",
        help="find passages in an index",
        description="Find the k best passages of an index: for one question, printed; or for a file of questions, "
        "KILT's too, written again with what was found as their candidates, which evaluate and train read.",
    )
    parser.add_argument("question", nargs="?", metavar="QUESTION")
    parser.add_argument("--questions", metavar="FILE.jsonl", help="a file of them, instead of one")
    parser.add_argument("--out", metavar="OUT.jsonl", help="the same lines with their candidates, best first")
    options.add_index(parser)
    options.add_hub(parser)
    parser.add_argument(
        "--only-found", action="store_true", help="with --out, to learn from: drop questions without a gold one found"
    )
    parser.add_argument("--passages", metavar="FILE.jsonl", help="to show titles and texts beside ids")
    parser.add_argument("--k", type=int, default=25, help="passages for each question (default 25)")
    parser.add_argument("--ops", choices=BACKENDS, default="numba", help=options.TOLD)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Search, then print or write."""
    if args.index is None:
        raise InputError("retrieve", "--index DIR", "none", "make one: glimmer-ref index build")
    if (args.question is None) == (args.questions is None):
        raise InputError("retrieve", "a question, or --questions FILE.jsonl", "both" if args.question else "neither")
    if args.questions is None:
        _one(args)
    else:
        _file(args)


def _one(args: argparse.Namespace) -> None:
    from ..data.inputs import read_passages

    if args.out or args.only_found or not args.question.strip():
        got = "--out" if args.out else "--only-found" if args.only_found else "an empty one"
        raise InputError("retrieve", "a question that is printed", got)
    ((ids, scores),) = options.open_index(args).search([args.question], args.k, _quietly)
    wanted = set(ids) if args.passages else set()
    known = {p.id: p for p in read_passages(args.passages) if p.id in wanted} if args.passages else {}
    if args.json:
        found = [{"id": i, "score": float(s)} | _told(known.get(i)) for i, s in zip(ids, scores, strict=True)]
        say_json({"question": args.question, "passages": found})
        return
    for rank, (i, s) in enumerate(zip(ids, scores, strict=True), 1):
        told = _told(known.get(i))
        line = f"{rank:>4}  {s:9.4f}  {i}"
        say(f"{line}  {shown(': '.join(told.values()))}"[:80] if told else line)


def _told(passage: Any) -> dict[str, str]:
    return {} if passage is None else {"title": passage.title, "text": passage.text}


def _quietly(items: Any, total: int, what: str) -> Any:
    return items


def _file(args: argparse.Namespace) -> None:
    from ..data.inputs import read_questions
    from ..data.json_lines import read_jsonl
    from ..data.kilt import write_lines
    from ..data.kilt_corpus import task_name
    from ..data.relevance import retrieved

    if not args.out:
        raise InputError("--questions", "--out OUT.jsonl beside it", "none")
    check_place(args.out)
    questions = list(read_questions(args.questions, task_name(args.questions)))
    if not questions:
        raise InputError(args.questions, "at least one question", "none")
    found = options.open_index(args).search([q.text for q in questions], args.k)
    lines = [
        {**record, "candidates": ids}
        for (_, record), q, (ids, _) in zip(read_jsonl(args.questions), questions, found, strict=True)
        if not args.only_found or retrieved(q.gold, ids, args.k)
    ]
    write_lines(Path(args.out), lines)
    _tell(args, recalls(questions, [ids for ids, _ in found], args.k), len(questions) - len(lines))


def recalls(questions: Any, found: list[list[str]], k: int) -> list[dict[str, Any]]:
    """By task the share of gold passages among the first 1, 5 .. k that were found, in percent."""
    marks = [*(mark for mark in MARKS if mark < k), k]
    tasks: dict[str, list[tuple[set[str], list[str]]]] = {}
    for question, ids in zip(questions, found, strict=True):
        tasks.setdefault(question.task, []).append((set(question.gold), ids))
    rows = []
    for task, some in tasks.items():
        known = [(gold, ids) for gold, ids in some if gold]
        shares = {
            f"recall@{mark}": 100 * sum(len(gold & set(ids[:mark])) / len(gold) for gold, ids in known) / len(known)
            if known
            else None
            for mark in marks
        }
        rows.append({"task": task, "questions": len(some), "with_gold": len(known), **shares})
    return rows


def _tell(args: argparse.Namespace, rows: list[dict[str, Any]], dropped: int) -> None:
    if args.json:
        say_json({"out": args.out, "k": args.k, "dropped": dropped, "tasks": rows})
        return
    head = [name.replace("_", " ") for name in rows[0]]
    body = [
        ["-" if x is None else f"{x:.1f}" if isinstance(x, float) else str(x) for x in row.values()] for row in rows
    ]
    say(*tables.text(body, head))
    kept = sum(row["questions"] for row in rows) - dropped
    say(f"{args.out}: {kept:,} questions with {args.k} candidates each" + f", {dropped:,} dropped" * (dropped > 0))
