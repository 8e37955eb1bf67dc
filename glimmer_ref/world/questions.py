"""The six tasks of a world: questions with answers, gold passages, hard negatives and retrieved candidates.

Training worlds have a seventh task, which helps to learn one of the six: see `_correction_task`. `pretraining.py` has
the tasks of worlds for pre-training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from typing import Any, NamedTuple

from ..retrieval.bm25 import BM25
from .facts import Fact, World, sentence
from .relations.all import ONE_PASSAGE, TWO_PASSAGES
from .rng import PortableRng

CANDIDATES = 25
HARD_NEGATIVES = 8
MOST_SUSPECTS = 5  # maximum number of entities that fit the first clue plus those that fit the second clue


class Draft(NamedTuple):
    """A question before retrieval: its text, its answer, and the facts that prove it."""

    text: str
    answer: str
    facts: tuple[Fact, ...]


class FactIndex(NamedTuple):
    """An index of the facts of a world.

    Args:
        by_relation: name of a relation -> its facts.
        subjects: (name of a relation, object) -> names of the subjects.
        by_subject: name of a subject -> its facts.
    """

    by_relation: dict[str, list[Fact]]
    subjects: dict[tuple[str, str], set[str]]
    by_subject: dict[str, list[Fact]]


def index_facts(world: World) -> FactIndex:
    """The index of a world's facts."""
    index = FactIndex({}, {}, {})
    for fact in world.facts:
        index.by_relation.setdefault(fact.relation.name, []).append(fact)
        index.subjects.setdefault((fact.relation.name, fact.object), set()).add(fact.subject.name)
        index.by_subject.setdefault(fact.subject.name, []).append(fact)
    return index


def _fitting(index: FactIndex, fact: Fact) -> set[str]:
    """The names of all entities that have the relation and the object of a fact."""
    return index.subjects[fact.relation.name, fact.object]


def _plain(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Plain questions, for example "where was X born?"."""
    for f in world.facts:
        for template in f.relation.questions:
            yield Draft(sentence(template.format(s=f.subject.name), "?"), f.object, (f,))
        for template in f.relation.inverse_questions:
            yield Draft(sentence(template.format(o=f.object), "?"), f.subject.name, (f,))


def _two_clues(world: World, index: FactIndex) -> Iterator[tuple[Fact, Fact]]:
    """All pairs of facts, in both orders, that both fit only one entity."""
    for facts in index.by_subject.values():
        for a, b in permutations(facts, 2):
            if len(_fitting(index, a) & _fitting(index, b)) == 1:
                yield a, b


def _clued(template: str, a: Fact, b: Fact, clue_a: str, clue_b: str) -> Draft:
    clues = {"a": clue_a.format(o=a.object), "b": clue_b.format(o=b.object)}
    return Draft(sentence(template.format(kind=a.subject.kind, **clues), ""), a.subject.name, (a, b))


def _one_passage(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Questions with two clues that one passage states, for example "which person was born in X and plays the Y?"."""
    for a, b in _two_clues(world, index):
        if world.passage_of[a] == world.passage_of[b]:
            yield _clued(rng.pick(ONE_PASSAGE), a, b, rng.pick(a.relation.clues), rng.pick(b.relation.clues))


def _two_passages(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Questions with two clues that two passages state. Neither clue alone gives the answer."""
    for a, b in _two_clues(world, index):
        fit = len(_fitting(index, a)), len(_fitting(index, b))
        hints = a.relation.hint and b.relation.hint
        if hints and world.passage_of[a] != world.passage_of[b] and min(fit) >= 2 and sum(fit) <= MOST_SUSPECTS:
            yield _clued(rng.pick(TWO_PASSAGES), a, b, a.relation.hint, b.relation.hint)


def _claims(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Claims: a fact, or a fact with a wrong object, which the passage contradicts."""
    for f in world.facts:
        others = sorted({g.object for g in index.by_relation[f.relation.name]} - {f.object, f.subject.name})
        for template in f.relation.claims:
            yield Draft(sentence(template.format(s=f.subject.name, o=f.object)), "true", (f,))
            yield Draft(sentence(template.format(s=f.subject.name, o=rng.pick(others))), "false", (f,))


def _correction_task(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Claims whose answer is the true object instead of "true" or "false".

    A one-bit answer teaches a model nothing until it finds the passage and compares the object. So claims alone are not
    learnt in thousands of steps. The object is learnt like any other answer, together with the ranking. Afterwards the
    model learns "true" and "false" within a hundred steps.
    """
    for draft in _claims(world, index, rng):
        yield Draft(f"{draft.text} What is true?", draft.facts[0].object, draft.facts)


def _slots(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Slot filling, for example "X [SEP] place of birth"."""
    for f in world.facts:
        for slot in f.relation.slots:
            yield Draft(f"{f.subject.name} [SEP] {slot}", f.object, (f,))


def _inverse_slots(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Slot filling for the subject, for example "X [SEP] author of". The passage is on the page of the answer."""
    for f in world.facts:
        for slot in f.relation.inverse_slots:
            yield Draft(f"{f.object} [SEP] {slot}", f.subject.name, (f,))


Task = Callable[[World, FactIndex, PortableRng], Iterator[Draft]]
TASKS: dict[str, Task] = {
    "nq-like": _plain,
    "tqa-like": _one_passage,
    "hotpot-like": _two_passages,
    "fever-like": _claims,
    "zsre-like": _slots,
    "trex-like": _inverse_slots,
}
TRAINING_TASKS: dict[str, Task] = {"correct": _correction_task}  # they follow the others, only in training worlds


def _chosen(task: str, drafts: list[Draft], n: int, rng: PortableRng) -> list[Draft]:
    """n different questions. Half of the claims are true, and half are false."""
    if task != "fever-like":
        return rng.sample(drafts, n)
    true, false = ([i for i in drafts if i.answer == answer] for answer in ("true", "false"))
    return rng.shuffled(rng.sample(true, n // 2) + rng.sample(false, n - n // 2))


def _hard_negatives(world: World, index: FactIndex, draft: Draft, rng: PortableRng) -> list[int]:
    """Rows of passages that state the same relation for other entities, and that fit no part of the question."""
    fitting = {world.passage_of[f] for f in draft.facts}
    for f in draft.facts:
        fitting.update(world.passage_of[g] for g in index.by_relation[f.relation.name] if g.object == f.object)
    others = [g for f in draft.facts for g in index.by_relation[f.relation.name]]
    rows = dict.fromkeys(world.passage_of[g] for g in rng.sample(others, 4 * HARD_NEGATIVES))
    return [row for row in rows if row not in fitting][:HARD_NEGATIVES]


def _provenance(world: World, row: int) -> dict[str, Any]:
    title = world.passages[row].title
    paragraph = world.pages[title].index(row) + 1  # paragraph 0 is the title
    return {
        "wikipedia_id": page_id(world, title),
        "title": title,
        "start_paragraph_id": paragraph,
        "end_paragraph_id": paragraph,
    }


def page_id(world: World, title: str) -> str:
    """The id of a page in the knowledge source."""
    return f"{world.name}-page-{world.pages[title][0]}"


def _record(
    world: World, index: FactIndex, task: str, number: int, draft: Draft, rows: Any, rng: PortableRng
) -> dict[str, Any]:
    """One line of a questions file, with the keys of KILT and the keys of this package."""
    gold = list(dict.fromkeys(world.passage_of[f] for f in draft.facts))

    def ids(some: Any) -> list[str]:
        return [world.passages[row].id for row in some]

    return {
        "id": f"{world.name}-{task}-{number}",
        "task": task,
        "input": draft.text,
        "output": [{"answer": draft.answer, "provenance": [_provenance(world, row) for row in gold]}],
        "meta": {"relations": [f.relation.name for f in draft.facts]},
        "gold": ids(gold),
        "candidates": ids(rows),
        "hard_negatives": ids(_hard_negatives(world, index, draft, rng)),
    }


def questions_of(world: World, n: int, tasks: Mapping[str, Task] = TASKS) -> Iterator[dict[str, Any]]:
    """The lines of a world's questions, task by task.

    Args:
        n: number of questions per task; fewer if the world does not have so many different questions.
        tasks: the tasks by name.
    """
    index, bm25, rng = index_facts(world), BM25(world.passages), PortableRng(*world.seed, 1)
    for task, pool in tasks.items():
        drafts = list(dict.fromkeys(pool(world, index, rng)))
        for number, draft in enumerate(_chosen(task, drafts, n, rng)):
            yield _record(world, index, task, number, draft, bm25.rank(draft.text, CANDIDATES), rng)
