"""Many workers answer the questions of an evaluation, batch by batch, from a stored memory.

A task has the questions of one batch with the ids of their candidates; the worker reads the model and the memory from
disk, and sends back the lines of the predictions. A batch has the same questions as in one process, so the lines are
the same, but for the seconds. (With ops="numpy" this needs the same number of BLAS threads.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..data.inputs import Question
from ..disk.facts import difference, digest_of
from ..errors import InputError
from ..inference.reader import Reader, load
from ..memory.store import Memory
from ..params.digest import weights_digest
from ..params.model import leaves
from ..progress import Show
from ..workers.tasks import Workers, in_order
from .evaluate import BATCH, scored_batches


class Task(NamedTuple):
    """One batch of questions, and what answers them."""

    workers: tuple[str, str, str, str, int | None]
    memory: str
    known: Mapping[str, str]
    system: str
    k: int
    m: int | None
    questions: tuple[Question, ...]


def known_of(reader: Reader, memory: Memory) -> dict[str, str]:
    """What must be the same at every worker: digests of the weights, the tokenizer and the memory."""
    return {
        "weights": weights_digest(reader.ops, leaves(reader.model)),
        "tokenizer": reader.tokenizer.digest,
        "memory": digest_of(memory.manifest.build),
    }


@lru_cache(1)
def _opened(
    memory: str, folder: str, ops: str, dtype: str, precision: str, threads: int | None
) -> tuple[Reader, Memory, dict[str, str]]:
    """The model and the memory, which a worker keeps for its next tasks."""
    reader, stored = load(folder, ops, dtype, precision, threads), Memory.open(memory)
    return reader, stored, known_of(reader, stored)


def answer(task: Task) -> list[dict[str, Any]]:
    """The lines of one batch; workers run this function.

    Raises:
        InputError: the model or the memory is not the orchestrator's, or a question that cannot be answered.
    """
    reader, memory, mine = _opened(task.memory, *task.workers)
    if apart := difference(task.known, mine):
        raise InputError(f"worker's model {task.workers[0]}", apart[0], apart[1], "give every worker the same files")
    some = scored_batches(reader, task.questions, memory, task.system, task.k, task.m, _unseen)
    return [row for rows in some for row in rows]


def _unseen(batches: Any, *_: Any) -> Any:
    """Replaces the progress bar, which the orchestrator shows."""
    return batches


class Spread:
    """Answers questions with some workers, from a memory on disk that every worker must find at its path.

    Raises:
        InputError: a memory in main memory.
    """

    def __init__(self, workers: Workers, reader: Reader, memory: Memory) -> None:
        if not memory.manifest.files:
            raise InputError("workers", "a memory on disk, which they can open", "one in main memory", "build it first")
        self.workers, self.memory = workers, os.path.abspath(memory.name)
        self.what = (os.path.abspath(workers.folder), *workers[3:])
        self.known = known_of(reader, memory)

    def batches(
        self, questions: Sequence[Question], system: str, k: int, m: int | None, show: Show
    ) -> Iterator[list[dict[str, Any]]]:
        """The lines of the questions as `scored_batches` yields them, in the same order.

        Raises:
            InputError: no worker can answer some batch; earlier batches have been yielded.
        """
        batches = [tuple(questions[i : i + BATCH]) for i in range(0, len(questions), BATCH)]
        tasks = (Task(self.what, self.memory, self.known, system, k, m, batch) for batch in batches)
        found = in_order(self.workers, answer, tasks, f"{len(batches)} batches of questions")
        return iter(show(found, len(batches), "evaluate"))
