"""glimmer-ref evaluate: scores, recall and cost over files of questions, at one k and m or many."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import tables
from ..errors import InputError
from ..progress import progress
from ..terminal import note, say, say_json
from . import options, workers
from .output import write_after


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "evaluate",
        help="score a model on files of questions, with recall and cost",
        description="Answer every question and score the answers as KILT does: by exact match, or by accuracy for "
        "fever, trex and zsre. recall@m is the share of gold passages that the decoder reads. The next column, of "
        "retrieval, is the share among the first m retrieved passages. Questions per TFLOP are counted: for 10^12 "
        "multiply-adds of the paper's algorithm with stored passages. Questions a second are measured on this machine.",
    )
    parser.add_argument(
        "questions",
        metavar="QUESTIONS.jsonl",
        nargs="*",
        help='questions: one {"input", "output", "gold", "candidates", "task"} on each line',
    )
    parser.add_argument(
        "--task",
        metavar="TASK.jsonl",
        nargs="+",
        default=[],
        help="more files of questions, for example KILT's task files",
    )
    options.add_passages(parser)
    options.add_index(parser)
    options.add_system(parser)
    parser.add_argument(
        "--sweep",
        metavar="AXIS=..",
        nargs="+",
        help="with --out: evaluate each k with each m, such as k=5:40 m=1,5,10; 5:40 means 5, 10, 20, 40",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the answers and scores; the same command continues a stopped run"
    )
    parser.add_argument("--kilt", action="store_true", help="with --out: also write the predictions in KILT's format")
    workers.add(parser, "answer, with --memory")
    options.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "The bundled model answers its 2,400 questions in about ten seconds on two idle cores."
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate, and print the table or the report."""
    from ..evaluation import kilt_predictions, sweep
    from ..evaluation.evaluate import check, evaluate
    from ..evaluation.workers import Spread
    from ..memory.store import Memory

    if (args.kilt or args.sweep) and not args.out:
        raise InputError(
            "--kilt" if args.kilt else "--sweep", "--out DIR beside it, for the files that it writes", "none"
        )
    if args.gtr and not args.index:
        raise InputError("--gtr", "--index DIR beside it", "none", "give --index, or leave out --gtr")
    spread = workers.chosen(args)
    if spread and args.memory is None:
        raise InputError(spread, "--memory DIR, which workers can open", "none", "build one: glimmer-ref memory build")
    files = _read([*args.questions, *args.task])
    reader = options.load_reader(args)
    source = options.open_source(args, reader)
    settings, retrieval = _settings(args, reader, len(source)), None
    if args.index:
        files, retrieval = _retrieved(args, files, max(setting.k for setting in settings), source)
    questions = [question for some in files.values() for question in some]
    chosen = args.m is not None or any(axis.startswith("m=") for axis in args.sweep or ())
    check(questions, source, max(s.k for s in settings), max(s.m or 0 for s in settings) if chosen else None)
    if args.kilt:
        kilt_predictions.check(files, source)
    memory = source if isinstance(source, Memory) else reader.memorize(source)
    with workers.opened(args, options.weights_folder(args)) as some:
        batches = Spread(some, reader, memory).batches if some else None
        if args.out:
            what = (reader, questions, memory, args.system, settings, progress, retrieval, batches)
            results = sweep.run(args.out, *what)
            for setting in settings if args.kilt else ():
                kilt_predictions.write(args.out, setting, files)
        else:
            k, m = settings[0]
            summary, _ = evaluate(reader, questions, memory, args.system, k, m, progress, batches)
            results = [{"k": k, "m": m, **summary}]
    options.note_training(reader, args.system)
    with write_after(lambda: _draw(args, results)):
        _print(args, reader.precision, results)


def _draw(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    from ..evaluation import sweep

    if len(results) > 1:
        sweep.plot(results, args.system, Path(args.out) / sweep.PICTURE)
    if args.out:
        note(f"glimmer-ref: wrote {args.out}")


def _settings(args: argparse.Namespace, reader: Any, passages: int) -> list[Any]:
    """The settings of k and m, checked against the number of passages."""
    from ..evaluation import sweep

    k = reader.check_k(args.k, passages)
    m = min(reader.config.m, k) if args.m is None and args.system == "glimmer" else args.m
    settings = sweep.settings(args.sweep, k, m) if args.sweep else [sweep.SweepPoint(k, m)]
    for setting in settings:
        reader.check_k(setting.k, passages)
        reader.check_m(args.system, *setting)
    return settings


def _read(paths: list[str]) -> dict[str, list[Any]]:
    """The questions of each file; no file may be empty."""
    from ..data.inputs import read_questions
    from ..data.kilt_corpus import task_name

    if not paths:
        raise InputError("evaluate", "a file of questions", "none", "name one as QUESTIONS.jsonl or with --task")
    files = {path: list(read_questions(path, task_name(path))) for path in paths}
    for path, some in files.items():
        if not some:
            raise InputError(path, "at least one question", "none")
    return files


def _retrieved(
    args: argparse.Namespace, files: dict[str, list[Any]], k: int, source: Any
) -> tuple[dict[str, list[Any]], str]:
    """The questions with the passages that the index finds as candidates, and the index's digest."""
    from ..disk.facts import digest_of
    from ..evaluation.evaluate import check
    from ..retrieval.index_files import read_facts

    index, result = options.open_index(args), {}
    for path, some in files.items():
        found = index.search([q.text for q in some], k)
        result[path] = [replace(q, candidates=tuple(ids)) for q, (ids, _) in zip(some, found, strict=True)]
        try:
            check(result[path], source, k)
        except InputError:
            do = "glimmer-ref index build makes one of these"
            raise InputError(
                "--index", "an index of the passages that are evaluated", "one that finds passages not among them", do
            ) from None
    return result, digest_of(read_facts(args.index))


def _print(args: argparse.Namespace, precision: str, results: list[dict[str, Any]]) -> None:
    head = {"system": args.system, "precision": precision}
    if args.json:
        say_json({**head, "settings": results} if args.sweep else head | results[0])
    elif args.sweep:
        print_sweep(head, results)
    else:
        print_table(head | results[0])
    for row in results:
        if row["undecided"]:
            where = f"for {row['undecided']} of {row['questions']} questions (k={row['k']})"
            note(f"glimmer-ref: note: {where}, all passages have the same score: the order of retrieval decided")


def _shares(row: dict[str, Any]) -> list[str]:
    values = (row["score"], row["recall_at_m"], row["recall_at_m_of_retrieval"])
    return ["-" if v is None else f"{v:.1f}" for v in values]


def _precision(head: dict[str, Any]) -> str:
    return "" if head["precision"] == "float32" else f"  products in {head['precision']}"


def print_table(result: dict[str, Any]) -> None:
    """Print one row for each task, in percent."""
    m = "" if result["m"] is None else f" m={result['m']}"
    say(f"{result['system']}  k={result['k']}{m}{_precision(result)}")
    rows = [
        [name, f"{row['questions']:,}", row.get("measure", ""), *_shares(row)]
        for name, row in [*result["tasks"].items(), ("mean of tasks", result)]
    ]
    say(*tables.text(rows, ["task", "questions", "measure", "score", "recall@m", "of retrieval"]))
    print_kilt(result.get("kilt", {}))
    say(
        f"{result['questions']} questions in {result['seconds']:.1f} s, {result['questions_per_second']:.1f} a second; "
        f"{result['samples_per_tflop']:,.1f} per TFLOP"
    )


def print_kilt(tasks: dict[str, dict[str, Any]]) -> None:
    """Print KILT's own scores, one row for each task, if questions have their provenance and passages their pages."""
    names = ("r_precision", "recall_at_5", "f1", "kilt_score", "kilt_f1")
    rows = [[task, f"{row['questions']:,}", *(f"{row[name]:.1f}" for name in names)] for task, row in tasks.items()]
    if rows:
        say("", "by pages, as KILT does; KILT-EM is KILT-AC for tasks scored by accuracy")
        say(*tables.text(rows, ["task", "questions", "R-precision", "recall@5", "F1", "KILT-EM", "KILT-F1"]), "")


def print_sweep(head: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Print one row for each setting: the means over tasks, and the cost."""
    say(f"{head['system']}{_precision(head)}, {results[0]['questions']} questions, means of tasks")
    rows = [
        [
            str(r["k"]),
            "-" if r["m"] is None else str(r["m"]),
            *_shares(r),
            f"{r['questions_per_second']:.1f}",
            f"{r['samples_per_tflop']:,.1f}",
        ]
        for r in results
    ]
    say(*tables.text(rows, ["k", "m", "score", "recall@m", "of retrieval", "a second", "per TFLOP"]))
