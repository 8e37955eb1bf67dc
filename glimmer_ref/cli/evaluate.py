"""glimmer-ref evaluate: exact match and recall over a file of questions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import Refused
from ..progress import progress
from . import options


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("evaluate", help="exact match and recall over a file of questions")
    parser.add_argument(
        "questions", metavar="QUESTIONS.jsonl", help='{"input", "output", "gold", "candidates", "task"}'
    )
    options.add_passages(parser)
    options.add_system(parser)
    options.add_model(parser)
    parser.add_argument("--predictions", metavar="OUT.jsonl", help="write a line for each question")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the table or the document."""
    from ..evaluate import evaluate
    from ..retrieval.memory import Memory
    from ..text.inputs import read_questions

    questions = list(read_questions(args.questions))
    if not questions:
        raise Refused(args.questions, "at least one question", "none")
    reader = options.load_reader(args)
    source = options.open_source(args, reader)
    memory = source if isinstance(source, Memory) else reader.memorize(source)
    k = args.k if args.k is not None else min(reader.config.k, len(memory))
    reader.check_k(k, len(memory))
    if args.predictions:  # before the work, not after it
        _writable(args.predictions)
    result, rows = evaluate(reader, questions, memory, args.system, k, args.m, progress)
    result = {
        "system": args.system,
        "precision": reader.precision,
        "k": k,
        "m": args.m or (reader.config.m if args.system == "glimmer" else k),
        **result,
    }
    if args.predictions:
        Path(args.predictions).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    if args.json:
        options.print_json(result)
    else:
        print_table(result)


def _writable(path: str) -> None:
    try:
        Path(path).open("a").close()
    except OSError as error:
        raise Refused(path, "a file that can be written", error.strerror or "an error") from None


def print_table(result: dict[str, Any]) -> None:
    """One row a task, percentages."""
    said = "" if result["precision"] == "float32" else f"  products in {result['precision']}"
    print(f"{result['system']}  k={result['k']} m={result['m']}{said}")
    print(f"{'task':12}{'questions':>10}{'exact match':>13}{'recall@m':>10}{'of retrieval':>14}")
    for name, row in [*result["tasks"].items(), ("mean of tasks", result)]:
        values = (row["exact_match"], row["recall_at_m"], row["recall_at_m_of_retrieval"])
        cells = ["-" if v is None else f"{v:.1f}" for v in values]
        print(f"{name:13}{row['questions']:>9}{cells[0]:>13}{cells[1]:>10}{cells[2]:>14}")
    print(
        f"{result['questions']} questions in {result['seconds']:.1f} s, {result['questions_per_second']:.1f} a second"
    )
