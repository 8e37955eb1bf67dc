"""Many questions at once: exact match and recall of the selected passages, by task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .reader import Answer, Reader
from .retrieval.memory import Memory
from .text.inputs import Question
from .text.metrics import exact_match

BATCH = 16  # questions a batch: beyond, the products are large enough not to gain


def candidates(reader: Reader, question: Question, memory: Memory, k: int) -> np.ndarray:
    """Rows of the k passages to read: the file's own candidates, else those of the lexical score."""
    if question.candidates:
        return memory.rows(list(question.candidates[:k]))
    return reader.retrieve(question.text, memory, k)[0]


def answers(
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    k: int,
    m: int | None,
    show: Callable[..., Iterable[Any]],
) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer, in the file's order."""
    batches = [questions[i : i + BATCH] for i in range(0, len(questions), BATCH)]
    for batch in show(batches, len(batches), "evaluate"):
        rows = [candidates(reader, question, memory, k) for question in batch]
        found = reader.ask_many([q.text for q in batch], memory, rows, system, m)
        yield from zip(batch, found, strict=True)


def _recall(gold: set[str], found: list[str]) -> float | None:
    """The share of the gold passages that was found."""
    return len(gold & set(found)) / len(gold) if gold else None


def judge(question: Question, answer: Answer) -> dict[str, Any]:
    """One question's line of predictions; what cannot be judged is None."""
    selected = [answer.passages[i].id for i in answer.selected]
    gold = set(question.gold)
    return {
        "id": question.id,
        "task": question.task,
        "prediction": answer.text,
        "prediction_ids": answer.ids,
        "log_probability": answer.log_probability,
        "selected": selected,
        "scores": None if answer.scores is None else [float(s) for s in answer.scores],
        "exact_match": exact_match(answer.text, question.answers) if question.answers else None,
        "recall_at_m": _recall(gold, selected),
        "recall_at_m_of_retrieval": _recall(gold, [p.id for p in answer.passages[: len(selected)]]),
    }


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Percentages overall (mean over tasks, as in the paper) and by task."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    measures = ("exact_match", "recall_at_m", "recall_at_m_of_retrieval")
    tasks = {
        task: {"questions": len(some), **{name: _percent([row[name] for row in some]) for name in measures}}
        for task, some in by_task.items()
    }
    overall = {name: _mean([t[name] for t in tasks.values()]) for name in measures}
    return {"questions": sum(t["questions"] for t in tasks.values()), **overall, "tasks": tasks}


def _percent(values: list[float | None]) -> float | None:
    return _mean([None if v is None else 100.0 * v for v in values])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def evaluate(
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    k: int,
    m: int | None,
    show: Callable[..., Iterable[Any]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Answer all questions.

    Returns:
        The summary, with samples per second, and a line of predictions for each question.
    """
    start = time.perf_counter()
    rows = [judge(q, a) for q, a in answers(reader, questions, memory, system, k, m, show)]
    seconds = time.perf_counter() - start
    return {**summary(rows), "seconds": seconds, "questions_per_second": len(rows) / seconds}, rows
