"""Evaluation during training: dev questions with retrieved passages, and with only their gold passages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..data.inputs import Passage, Question
from ..errors import InputError, brief
from ..evaluation.evaluate import BATCH, evaluate
from ..evaluation.metrics import exact_match
from ..inference.reader import Reader
from ..memory.store import Memory
from .dataset import folders, read_folder, row_of
from .recipe import Recipe


@dataclass(frozen=True, eq=False)
class DevSet:
    """The passages and questions on which the model is evaluated during training."""

    passages: list[Passage]
    questions: list[Question]


def read_dev(root: Path, recipe: Recipe) -> DevSet:
    """The dev folder's passages, and the number of its questions that the recipe states, evenly spaced in the file.

    Raises:
        InputError: there is no such folder, a file is broken, the folder lacks a passage of a question or has no
            question of a task that the recipe states, or a question has fewer candidates than m.
    """
    folder = folders(root, [recipe.data.dev])[0]
    passages, questions = read_folder(folder)
    rows = {passage.id: i for i, passage in enumerate(passages)}
    for question in questions:
        for id in (*question.gold, *question.candidates):
            row_of(folder, question, rows, id)
        if question.candidates and len(question.candidates) < recipe.evaluation.m:
            got = f"{len(question.candidates)} of question {question.id!r}"
            raise InputError("evaluation.m", f"at most the candidates of each question of {folder}", got)
    wanted = recipe.evaluation.tasks
    if missing := [task for task in wanted if task not in {q.task for q in questions}]:
        known = ", ".join(sorted({q.task for q in questions}))
        raise InputError("evaluation.tasks", f"tasks of {folder}: {known}", ", ".join(map(brief, missing)))
    questions = [q for q in questions if not wanted or q.task in wanted]
    count = min(recipe.evaluation.questions or len(questions), len(questions))
    return DevSet(passages, [questions[i * len(questions) // count] for i in range(count)])


def evaluate_dev(reader: Reader, dev: DevSet, recipe: Recipe) -> dict[str, Any]:
    """Evaluate a model on the dev questions.

    Returns:
        Percentages for a line of the log: "exact_match" is the mean over tasks, and "tasks" has the value of each task.
        "recall_at_m" is for the passages that the model selected, "recall_at_m_of_retrieval" for the first m that
        retrieval found. "exact_match_of_gold" is for a model that reads only the gold passages.
    """
    memory = reader.memorize(dev.passages)
    table, config, system = recipe.evaluation, reader.config, recipe.top.system
    k = min(table.k or config.k, len(memory))
    m = min(table.m or config.m, k) if system == "glimmer" else None
    result, _ = evaluate(reader, dev.questions, memory, system, k, m, _quietly)
    tasks = {name: task["exact_match"] for name, task in result["tasks"].items()}
    shares = {name: result[name] for name in ("exact_match", "recall_at_m", "recall_at_m_of_retrieval")}
    of_gold = {"exact_match_of_gold": _of_gold(reader, dev.questions, memory, system)}
    return {"k": k, "m": m, "questions": result["questions"], "tasks": tasks, **shares, **of_gold}


def _quietly(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    return items


def _of_gold(reader: Reader, questions: Sequence[Question], memory: Memory, system: str) -> float | None:
    """Exact match as a mean over tasks, when the model reads only the gold passages and selects all of them.

    Questions without answers or without gold passages do not count.
    """
    hits: dict[str, list[bool]] = {}
    by_number: dict[int, list[Question]] = {}
    for question in (q for q in questions if q.answers):
        by_number.setdefault(len(question.gold), []).append(question)
    by_number.pop(0, None)
    for number, some in by_number.items():
        for batch in (some[i : i + BATCH] for i in range(0, len(some), BATCH)):
            rows = [memory.rows(question.gold) for question in batch]
            m = number if system == "glimmer" else None
            answers = reader.ask_many([q.text for q in batch], memory, rows, system, m)
            for question, answer in zip(batch, answers, strict=True):
                hits.setdefault(question.task, []).append(exact_match(answer.text, question.answers))
    shares = [100 * sum(some) / len(some) for some in hits.values()]
    return fmean(shares) if shares else None
