"""Batches of examples. A batch depends only on (seed, stage, step), so that any step can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ragged import Ints, Tokens
from .dataset import Corpus, CorpusQuestion, Groups
from .recipe import OTHERS, SOURCES, Stage


class Example(NamedTuple):
    """One question in a batch.

    Args:
        question, target: token ids; the target ends with EOS.
        passages: token ids of its k passages, in random order.
        gold: for each passage, whether it contains the answer.
        forced: whether the decoder reads the gold passages regardless of their scores.
    """

    question: Ints
    passages: list[Ints]
    target: Ints
    gold: list[int]
    forced: bool


@dataclass(frozen=True)
class Batch:
    """Some examples, concatenated in the form of the arguments of `paper.systems.loss`; see `Example`."""

    question: Tokens
    passages: Tokens
    counts: Ints
    target: Tokens
    gold: list[list[int]]
    forced: list[bool]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Batch:
        """The batch of some examples: their tokens concatenated, without padding."""
        return cls(
            _tokens([e.question for e in examples]),
            _tokens([p for e in examples for p in e.passages]),
            np.array([len(e.passages) for e in examples]),
            _tokens([e.target for e in examples]),
            [e.gold for e in examples],
            [e.forced for e in examples],
        )


def _tokens(rows: list[Ints]) -> Tokens:
    return Tokens(np.concatenate(rows), np.array([row.size for row in rows], np.int64))


def task_shares(corpus: Corpus, weights: Mapping[str, float], location: str) -> np.ndarray:
    """The probability of each task of the corpus, proportional to its weight. See `Stage.tasks` for the default.

    Raises:
        InputError: `weights` names a task that the corpus does not have, or all tasks have the weight 0.
    """
    for name in weights:
        if name != OTHERS and name not in corpus.tasks:
            raise InputError(location, f"tasks among {', '.join(corpus.tasks)}", name)
    shares = np.array([weights.get(task, weights.get(OTHERS, 1.0)) for task in corpus.tasks])
    if not shares.sum():
        raise InputError(location, "a task with a weight above 0", str(dict(weights)))
    return shares / shares.sum()


def check_folders(corpus: Corpus, stage: Stage, location: str) -> None:
    """Check that every folder has at least k passages, and as many without the gold ones if the stage needs these.

    Raises:
        InputError: fewer than k.
    """
    questions = [question for some in corpus.tasks.values() for question in some]
    least = min(
        last - first - (len(question.gold) if stage.no_answer else 0)
        for question in questions
        for first, last in [question.folder]
    )
    if stage.k > least:
        raise InputError(f"{location}.k", f"at most {least}, the passages of the smallest folder", str(stage.k))


def sample_batch(
    corpus: Corpus, stage: Stage, shares: np.ndarray, groups: Groups | None, rng: np.random.Generator
) -> Batch:
    """A random batch for one step.

    Args:
        shares: the probabilities of the tasks, from `task_shares`.
        groups: interchangeable tokens, which are swapped at random if `stage.rename` is set.
        rng: random generator for this step. The same state gives the same batch.
    """
    tasks = list(corpus.tasks.values())
    questions = [tasks[t][rng.integers(len(tasks[t]))] for t in rng.choice(len(tasks), stage.batch, p=shares)]
    examples = [_example(corpus, question, stage, rng) for question in questions]
    if stage.rename and groups is not None:
        tables = groups.tables(rng, len(examples))
        examples = [_renamed(example, table) for example, table in zip(examples, tables, strict=True)]
    return Batch.of(examples)


def microbatches(batch: Batch, n: int) -> list[Batch]:
    """The batch divided into n parts with about equal numbers of questions, to be computed one after the other."""
    if n == 1:
        return [batch]
    ends = np.cumsum(batch.counts)
    examples = [
        Example(
            batch.question[i],
            [batch.passages[j] for j in range(end - count, end)],
            batch.target[i],
            batch.gold[i],
            batch.forced[i],
        )
        for i, (count, end) in enumerate(zip(batch.counts, ends, strict=True))
    ]
    bounds = [len(examples) * i // n for i in range(n + 1)]
    return [Batch.of(examples[a:b]) for a, b in pairwise(bounds)]


def _example(corpus: Corpus, question: CorpusQuestion, stage: Stage, rng: np.random.Generator) -> Example:
    if stage.no_answer and rng.random() < stage.no_answer:
        rows = rng.permutation(_others(question, stage, rng)).tolist()
        return Example(question.ids, [corpus.passages[row] for row in rows], corpus.no_answer, [], False)
    rows = rng.permutation(_passages(question, stage, rng)).tolist()
    gold = [i for i, row in enumerate(rows) if row in question.gold]
    answer = question.answers[0 if len(question.answers) == 1 else rng.integers(len(question.answers))]
    forced = bool(rng.random() < stage.force_gold)
    return Example(question.ids, [corpus.passages[row] for row in rows], answer, gold, forced)


def _passages(question: CorpusQuestion, stage: Stage, rng: np.random.Generator) -> list[int]:
    """The rows of k different passages: with probability `stage.gold` the gold ones, others from the stage's mix."""
    return _filled(question, stage, rng, dict.fromkeys(question.gold if rng.random() < stage.gold else ()))


def _others(question: CorpusQuestion, stage: Stage, rng: np.random.Generator) -> list[int]:
    """The rows of k passages from the stage's mix, without any gold one."""
    without = replace(question, candidates=_without(question.candidates, question.gold), gold=())
    while True:
        rows = _filled(without, stage, rng, {})
        if not set(rows) & set(question.gold):  # a random passage may be gold
            return rows


def _without(rows: Ints, gold: tuple[int, ...]) -> Ints:
    return rows[~np.isin(rows, gold)]


def _filled(question: CorpusQuestion, stage: Stage, rng: np.random.Generator, chosen: dict[int, None]) -> list[int]:
    """The chosen rows, and others from the stage's mix until there are k."""
    need = stage.k - len(chosen)
    if need > 0:
        shares = np.array([stage.negatives.get(source, 0.0) for source in SOURCES])
        numbers = rng.multinomial(need, shares / shares.sum()).tolist()
        for pool, n in zip((question.candidates, question.hard), numbers, strict=False):
            _add_first(chosen, rng.permutation(pool).tolist() if n else [], n)
    while len(chosen) < stage.k:
        chosen.setdefault(int(rng.integers(*question.folder)))
    return list(chosen)


def _add_first(chosen: dict[int, None], pool: list[int], n: int) -> None:
    """Add to `chosen` the first n rows of the pool that it does not contain yet."""
    enough = len(chosen) + n
    for row in pool:
        if len(chosen) == enough:
            return
        chosen.setdefault(row)


def _renamed(example: Example, table: Ints) -> Example:
    """The example with every token replaced by its entry in the table."""
    return example._replace(
        question=table[example.question],
        passages=[table[p] for p in example.passages],
        target=table[example.target],
    )
