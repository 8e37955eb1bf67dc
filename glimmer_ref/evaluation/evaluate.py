"""Answers many questions: scores, recall of the selected passages, and cost, by task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import fsum
from statistics import fmean
from typing import Any

import numpy as np

from ..data.chunks import page_of
from ..data.inputs import Passage, Question
from ..errors import InputError, brief
from ..inference.answer import undecided
from ..inference.reader import Answer, Reader
from ..memory.store import Memory
from ..progress import Show
from .metrics import (
    ACCURACY,
    accuracy,
    exact_match,
    f1,
    kilt_accuracy,
    kilt_exact_match,
    kilt_f1,
    measure_of,
    r_precision,
    recall_at_k,
)

KILT_RECALL = 5  # KILT's leaderboard gives the recall of the first 5 pages
BATCH = 16  # questions in a batch; larger batches are not faster
# Takes questions, system, k, m and a progress bar, and yields the lines of the predictions, batch by batch.
Batches = Callable[[Sequence[Question], str, int, int | None, Show], Iterator[list[dict[str, Any]]]]


def candidates(reader: Reader, question: Question, memory: Memory, k: int) -> np.ndarray:
    """Rows of the k passages to read: the file's own candidates, else the best by BM25."""
    if question.candidates:
        return memory.rows(list(question.candidates[:k]))
    return reader.retrieve(question.text, memory, k)[0]


def _missing(known: Memory | set[str], ids: Iterable[str]) -> str | None:
    """The first unknown id."""
    if not isinstance(known, Memory):
        return next((brief(id) for id in ids if id not in known), None)
    try:
        known.rows(ids)
    except InputError as error:
        return str(error)
    return None


def check(questions: Iterable[Question], source: Memory | Sequence[Passage], k: int, m: int | None = None) -> None:
    """Check the candidates in the questions before the work.

    Args:
        m: the user's choice; None for the model's own m. Then a question with fewer candidates reads all of them.

    Raises:
        InputError: a candidate that the source does not hold, or fewer than m; names the question.
    """
    known = source if isinstance(source, Memory) else {passage.id for passage in source}
    for question in questions:
        if not question.candidates:
            continue
        what, some = f"question {question.id!r}: candidates", question.candidates[:k]
        if got := _missing(known, some):
            raise InputError(
                what, "ids of the passages that are read", got, "read the passages that the candidates are from"
            )
        if m is not None and len(some) < m:
            raise InputError(what, f"at least m={m}", str(len(some)), "lower m, or retrieve more with --index")


def _in_batches(
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    k: int,
    m: int | None,
    show: Show,
) -> Iterator[list[tuple[Question, Answer]]]:
    most = reader.check_m(system, k, m)
    batches = [questions[i : i + BATCH] for i in range(0, len(questions), BATCH)]
    for batch in show(batches, len(batches), "evaluate"):
        asked = [(question, candidates(reader, question, memory, k)) for question in batch]
        # Questions with fewer than m candidates form batches of their own.
        for number, run in groupby(asked, lambda pair: min(most, len(pair[1]))):
            some, rows = zip(*run, strict=True)
            found = reader.ask_many([q.text for q in some], memory, rows, system, number or None)
            yield list(zip(some, found, strict=True))


def answers(
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    k: int,
    m: int | None,
    show: Show,
) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer, in order; a question with fewer than m candidates reads all of them."""
    for batch in _in_batches(reader, questions, memory, system, k, m, show):
        yield from batch


def _recall(gold: set[str], found: list[str]) -> float | None:
    """The share of the gold passages that were found; None without gold passages."""
    return len(gold & set(found)) / len(gold) if gold else None


def kilt_scores(question: Question, answer: str, ranked: Sequence[str]) -> dict[str, float] | None:
    """KILT's scores of one question by the pages of the ranked passages; None without evidence or without pages.

    Args:
        ranked: ids of passages, best first. Those that `glimmer-ref chunks` made contain the id of the page.
    """
    try:
        pages = [page_of(id) for id in ranked] if question.evidence else []
    except InputError:
        return None
    if not pages:
        return None
    kilt_score = kilt_accuracy if measure_of(question.task) == ACCURACY else kilt_exact_match
    pages_and_evidence = pages, question.evidence
    return {
        "r_precision": r_precision(*pages_and_evidence),
        "recall_at_5": recall_at_k(*pages_and_evidence, KILT_RECALL),
        "f1": f1(answer, question.answers),
        "kilt_score": kilt_score(answer, question.answers, *pages_and_evidence),
        "kilt_f1": kilt_f1(answer, question.answers, *pages_and_evidence),
    }


def score_answer(question: Question, answer: Answer) -> dict[str, Any]:
    """The line of the predictions file for one question; a score that cannot be computed is None."""
    selected = [answer.passages[i].id for i in answer.selected]
    ranked = range(len(answer.passages)) if answer.scores is None else np.argsort(-answer.scores, kind="stable")
    gold = set(question.gold)
    ids = [answer.passages[int(i)].id for i in ranked]
    score = accuracy if measure_of(question.task) == ACCURACY else exact_match
    return {
        "id": question.id,
        "task": question.task,
        "prediction": answer.text,
        "prediction_ids": answer.ids,
        "log_probability": answer.log_probability,
        "selected": selected,
        "ranked": ids,
        "scores": None if answer.scores is None else [float(s) for s in answer.scores],
        "exact_match": exact_match(answer.text, question.answers) if question.answers else None,
        "score": score(answer.text, question.answers) if question.answers else None,
        "recall_at_m": _recall(gold, selected),
        "recall_at_m_of_retrieval": _recall(gold, [p.id for p in answer.passages[: len(selected)]]),
        "kilt": kilt_scores(question, answer.text, ids),
    }


def scored_batches(
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    k: int,
    m: int | None,
    show: Show,
) -> Iterator[list[dict[str, Any]]]:
    """`score_answer` of each question, batch by batch, with its share of the seconds and multiply-adds of its batch."""
    start = time.perf_counter()
    for batch in _in_batches(reader, questions, memory, system, k, m, show):
        now, each = time.perf_counter(), 1 / len(batch)
        cost = {"seconds": (now - start) * each, "macs": sum(batch[0][1].macs.values()) * each}
        yield [score_answer(question, answer) | cost for question, answer in batch]
        start = time.perf_counter()


def batches_of(reader: Reader, memory: Memory) -> Batches:
    """`scored_batches` of a reader and a memory."""
    return lambda questions, *more: scored_batches(reader, questions, memory, *more)


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Percentages overall (the mean over tasks, as in the paper) and by task.

    "score" is the measure of the task, exact match or accuracy. "samples_per_tflop" is questions per 10^12
    multiply-adds of the paper's algorithm, counted from shapes; the memory was computed before and does not count.
    "questions_per_second" is by wall time of the process that answers, BM25 included; with workers, of each of them.
    "undecided" counts the questions whose passages all had the same score, though not all were read. "kilt" has the
    means of `kilt_scores` by task, and is missing if no question has them.
    """
    rows = list(rows)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    measures = ("score", "exact_match", "recall_at_m", "recall_at_m_of_retrieval")
    tasks: dict[str, dict[str, Any]] = {
        task: {
            "questions": len(some),
            "measure": measure_of(task),
            **{name: _percent([row[name] for row in some]) for name in measures},
        }
        for task, some in by_task.items()
    }
    overall = {name: _mean([t[name] for t in tasks.values()]) for name in measures}
    seconds, macs = fsum(row["seconds"] for row in rows), sum(row["macs"] for row in rows)
    return {
        "questions": len(rows),
        **overall,
        "seconds": seconds,
        "questions_per_second": len(rows) / seconds if seconds else None,
        "samples_per_tflop": len(rows) * 1e12 / macs if macs else None,
        "undecided": sum(undecided(row["scores"], row["selected"]) for row in rows),
        "tasks": tasks,
        **_kilt_summary(by_task),
    }


def _kilt_summary(by_task: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """KILT's scores in percent, for each task that has some."""
    known = {task: [row["kilt"] for row in some if row.get("kilt")] for task, some in by_task.items()}
    means = {
        task: {"questions": len(some), **{name: _percent([x[name] for x in some]) for name in some[0]}}
        for task, some in known.items()
        if some
    }
    return {"kilt": means} if means else {}


def _percent(values: list[float | None]) -> float | None:
    return _mean([None if v is None else 100.0 * v for v in values])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None  # exactly rounded; the last bits of `sum` depend on the version of Python


def evaluate(
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    k: int,
    m: int | None,
    show: Show,
    batches: Batches | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Answer and score all questions.

    Args:
        m: see `Reader.ask`; a question with fewer candidates reads all of them, unless `check` refused it before.
        batches: answers and scores the questions, such as `workers.Spread.batches`; this process does if not given.

    Returns:
        The summary, and a line of predictions for each question.
    """
    some = batches or batches_of(reader, memory)
    rows = [row for batch in some(questions, system, k, m, show) for row in batch]
    return summary(rows), rows
