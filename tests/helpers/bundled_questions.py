"""The bundled model's answers to its own questions, computed once for all tests of a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import glimmer_ref
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.evaluation.evaluate import evaluate
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.memory.store import Memory

QUESTIONS = tuple(read_questions(bundled() / "questions.jsonl"))


def asked(reader: Reader, memory: Memory, every: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The scores and the rows when every `every`-th question is asked."""
    return evaluate(reader, QUESTIONS[::every], memory, "glimmer", 25, 5, lambda batches, *_: batches)


@cache
def answered(every: int, precision: str, ops: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same with the memory of the questions' candidates in RAM."""
    reader = glimmer_ref.load(ops=ops, precision=precision)
    wanted = {id for question in QUESTIONS[::every] for id in question.candidates}
    passages = (p for p in read_passages(bundled() / "passages.jsonl") if p.id in wanted)
    return asked(reader, reader.memorize(passages), every)
