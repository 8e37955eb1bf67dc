"""Batches of examples, each drawn from (seed, stage, step) alone, so that any step can be made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ragged import Ints, Tokens
from .dataset import Corpus, Groups, Item
from .recipe import OTHERS, SOURCES, Stage


class Example(NamedTuple):
    """One question as it is learnt once.

    Args:
        question, target: ids; the target closes with EOS.
        passages: ids of its k passages, in random order.
        gold: which of them hold the answer.
        forced: the gold ones go to the decoder whatever their scores.
    """

    question: Ints
    passages: list[Ints]
    target: Ints
    gold: list[int]
    forced: bool


@dataclass(frozen=True)
class Batch:
    """Some examples end to end, as a system reads them: see `Example` and `paper.systems.loss`."""

    question: Tokens
    passages: Tokens
    counts: Ints
    target: Tokens
    gold: list[list[int]]
    forced: list[bool]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Batch:
        """All of their tokens, unpadded."""
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


def task_shares(corpus: Corpus, weights: Mapping[str, float], place: str) -> np.ndarray:
    """How often each task of the corpus is drawn: uniformly, but for the weights that are stated.

    Raises:
        InputError: a task that the corpus has not, or weights that leave none.
    """
    for name in weights:
        if name != OTHERS and name not in corpus.tasks:
            raise InputError(place, f"tasks among {', '.join(corpus.tasks)}", name)
    shares = np.array([weights.get(task, weights.get(OTHERS, 1.0)) for task in corpus.tasks])
    if not shares.sum():
        raise InputError(place, "a task with a weight above 0", str(dict(weights)))
    return shares / shares.sum()


def check_folders(corpus: Corpus, stage: Stage, place: str) -> None:
    """Hold k against the passages that the smallest folder has.

    Raises:
        InputError: fewer than k.
    """
    bounds = {item.folder for items in corpus.tasks.values() for item in items}
    least = min(last - first for first, last in bounds)
    if stage.k > least:
        raise InputError(f"{place}.k", f"at most the {least} passages of the smallest folder", str(stage.k))


def draw(corpus: Corpus, stage: Stage, shares: np.ndarray, groups: Groups | None, rng: np.random.Generator) -> Batch:
    """The examples of one step.

    Args:
        shares: of the tasks, from `task_shares`.
        groups: tokens to swap, where the stage renames.
        rng: of this step; the same state gives the same batch.
    """
    tasks = list(corpus.tasks.values())
    items = [tasks[t][rng.integers(len(tasks[t]))] for t in rng.choice(len(tasks), stage.batch, p=shares)]
    examples = [_example(corpus, item, stage, rng) for item in items]
    if stage.rename and groups is not None:
        tables = groups.tables(rng, len(examples))
        examples = [_renamed(example, table) for example, table in zip(examples, tables, strict=True)]
    return Batch.of(examples)


def parts(batch: Batch, n: int) -> list[Batch]:
    """The batch in n parts of about equal numbers of questions, to be computed one after the other."""
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


def _example(corpus: Corpus, item: Item, stage: Stage, rng: np.random.Generator) -> Example:
    rows = rng.permutation(_passages(item, stage, rng)).tolist()
    gold = [i for i, row in enumerate(rows) if row in item.gold]
    answer = item.answers[0 if len(item.answers) == 1 else rng.integers(len(item.answers))]
    forced = bool(rng.random() < stage.force_gold)
    return Example(item.question, [corpus.passages[row] for row in rows], answer, gold, forced)


def _passages(item: Item, stage: Stage, rng: np.random.Generator) -> list[int]:
    """k rows: gold ones as often as the stage says, the others from its mix, none twice."""
    taken = dict.fromkeys(item.gold if rng.random() < stage.gold else ())
    need = stage.k - len(taken)
    if need > 0:
        shares = np.array([stage.negatives.get(source, 0.0) for source in SOURCES])
        wanted = rng.multinomial(need, shares / shares.sum()).tolist()
        for pool, n in zip((item.candidates, item.hard), wanted, strict=False):
            _take(taken, rng.permutation(pool).tolist() if n else [], n)
    while len(taken) < stage.k:
        taken.setdefault(int(rng.integers(*item.folder)))
    return list(taken)


def _take(taken: dict[int, None], pool: list[int], n: int) -> None:
    """Add the first n of the pool that are not there yet."""
    enough = len(taken) + n
    for row in pool:
        if len(taken) == enough:
            return
        taken.setdefault(row)


def _renamed(example: Example, table: Ints) -> Example:
    """Every token as what it has become."""
    return example._replace(
        question=table[example.question],
        passages=[table[p] for p in example.passages],
        target=table[example.target],
    )
