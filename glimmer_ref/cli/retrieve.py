"""glimmer-ref retrieve: find the k best passages of an index for one question or for a file of questions."""

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

MARKS = (1, 5, 20, 100)  # recall is reported at these and at k


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "retrieve",
        help="find passages in an index",
        description="Find the k best passages of an index for a question, and print them. With --questions, find them "
        "for each question of a file, and write the questions again with these passages as candidates, for evaluate "
        "and train.",
    )
    parser.add_argument("question", nargs="?", metavar="QUESTION", help="the question, in quotes")
    parser.add_argument(
        "--questions",
        metavar="FILE.jsonl",
        help="a file of questions, for example one of KILT's, instead of one QUESTION",
    )
    parser.add_argument(
        "--out", metavar="OUT.jsonl", help="with --questions: file for the same lines with their candidates, best first"
    )
    options.add_index(parser)
    options.add_hub(parser)
    parser.add_argument(
        "--only-found",
        action="store_true",
        help="with --out, for training: drop questions for which no gold passage was found",
    )
    parser.add_argument(
        "--passages",
        metavar="FILE.jsonl",
        help="show the text of each passage from this file, not only its id and title",
    )
    parser.add_argument(
        "--k", type=int, metavar="K", default=25, help="passages retrieved for each question (default 25)"
    )
    parser.add_argument("--ops", choices=BACKENDS, default="numba", help=options.BACKEND_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Search, then print or write."""
    if args.index is None:
        raise InputError("retrieve", "--index DIR", "none", "glimmer-ref index build makes an index")
    if (args.question is None) == (args.questions is None):
        raise InputError(
            "retrieve", "either a QUESTION or --questions FILE.jsonl", "both" if args.question else "neither"
        )
    if args.questions is None:
        _one(args)
    else:
        _file(args)


def _one(args: argparse.Namespace) -> None:
    from ..data.inputs import read_passages

    if args.out or args.only_found:
        name = "--out" if args.out else "--only-found"
        raise InputError(name, "--questions FILE.jsonl beside it", "one QUESTION", f"leave out {name}")
    if not args.question.strip():
        raise InputError("question", "some text", repr(args.question))
    index = options.open_index(args)
    ((rows, scores),) = index.rows([args.question], args.k, _no_progress)
    titles = {index.id(int(row)): index.title(int(row)) for row in rows}
    known = {p.id: p for p in read_passages(args.passages) if p.id in titles} if args.passages else {}
    found = [(i, float(s), _texts(known.get(i), title)) for (i, title), s in zip(titles.items(), scores, strict=True)]
    if args.json:
        passages = [{"id": i, "score": s} | texts for i, s, texts in found]
        say_json({"question": args.question, "passages": passages})
        return
    for rank, (i, s, texts) in enumerate(found, 1):
        line = f"{rank:>4}  {s:9.4f}  {i}"
        words = shown(": ".join(text for text in texts.values() if text))
        say(f"{line}  {words}"[: max(80, len(line))] if words else line)


def _texts(passage: Any, title: str | None) -> dict[str, str]:
    """Title and text from a file of passages; without it the title alone, if the index has titles."""
    if passage is not None:
        return {"title": passage.title, "text": passage.text}
    return {} if title is None else {"title": title}


def _no_progress(items: Any, total: int, what: str) -> Any:
    return items


def _file(args: argparse.Namespace) -> None:
    from ..data.inputs import read_questions
    from ..data.json_lines import read_jsonl
    from ..data.kilt import write_lines
    from ..data.kilt_corpus import task_name
    from ..data.relevance import retrieved

    if not args.out:
        raise InputError("--questions", "--out OUT.jsonl beside it", "none")
    if args.passages:
        raise InputError("--passages", "a QUESTION, whose passages are shown", "--questions", "leave out --passages")
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
    _report(args, recalls(questions, [ids for ids, _ in found], args.k), len(questions) - len(lines))


def recalls(questions: Any, found: list[list[str]], k: int) -> list[dict[str, Any]]:
    """For each task, the percentage of gold passages that are among the first 1, 5, .. k found."""
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


def _report(args: argparse.Namespace, rows: list[dict[str, Any]], dropped: int) -> None:
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
