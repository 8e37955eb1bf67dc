"""The six tasks of a world: questions with answers, passages that prove them, hard negatives and candidates.

A seventh, for training alone, is the way to one of them: see `_corrections`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any, NamedTuple

from ..retrieval.bm25 import BM25
from .facts import Fact, World, sentence
from .relations.all import SEVERAL, TRIVIA
from .rng import Draw

CANDIDATES = 25
HARD_NEGATIVES = 8
MOST_SUSPECTS = 5  # entities that fit one of two clues, counted once for each


class Item(NamedTuple):
    """A question before retrieval: its words, its answer, and the facts that prove it."""

    text: str
    answer: str
    facts: tuple[Fact, ...]


class Known(NamedTuple):
    """The facts of a world, by what they have in common."""

    same_relation: dict[str, list[Fact]]
    same_object: dict[tuple[str, str], set[str]]
    of: dict[str, list[Fact]]


def _known(world: World) -> Known:
    known = Known({}, {}, {})
    for fact in world.facts:
        known.same_relation.setdefault(fact.relation.name, []).append(fact)
        known.same_object.setdefault((fact.relation.name, fact.object), set()).add(fact.subject.name)
        known.of.setdefault(fact.subject.name, []).append(fact)
    return known


def _fits(known: Known, fact: Fact) -> set[str]:
    return known.same_object[fact.relation.name, fact.object]


def _plain(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """Where was X born?"""
    for f in world.facts:
        for template in f.relation.asked:
            yield Item(sentence(template.format(s=f.subject.name), "?"), f.object, (f,))
        for template in f.relation.inverse_asked:
            yield Item(sentence(template.format(o=f.object), "?"), f.subject.name, (f,))


def _two_clues(world: World, known: Known) -> Iterator[tuple[Fact, Fact]]:
    """Two facts, both ways round, that together fit one entity only."""
    for facts in known.of.values():
        for a, b in permutations(facts, 2):
            if len(_fits(known, a) & _fits(known, b)) == 1:
                yield a, b


def _clued(template: str, a: Fact, b: Fact, clue_a: str, clue_b: str) -> Item:
    clues = {"a": clue_a.format(o=a.object), "b": clue_b.format(o=b.object)}
    return Item(sentence(template.format(kind=a.subject.kind, **clues), ""), a.subject.name, (a, b))


def _one_passage(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """Which person was born in X and plays the Y? One passage says both."""
    for a, b in _two_clues(world, known):
        if world.place[a] == world.place[b]:
            yield _clued(draw.pick(TRIVIA), a, b, draw.pick(a.relation.clue), draw.pick(b.relation.clue))


def _two_passages(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """The same where two passages say it, and neither clue alone gives the answer."""
    for a, b in _two_clues(world, known):
        fit = len(_fits(known, a)), len(_fits(known, b))
        hints = a.relation.hint and b.relation.hint
        if hints and world.place[a] != world.place[b] and min(fit) >= 2 and sum(fit) <= MOST_SUSPECTS:
            yield _clued(draw.pick(SEVERAL), a, b, a.relation.hint, b.relation.hint)


def _claims(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """A fact, or a fact with the object of another: then the passage contradicts it."""
    for f in world.facts:
        others = sorted({g.object for g in known.same_relation[f.relation.name]} - {f.object, f.subject.name})
        for template in f.relation.claims:
            yield Item(sentence(template.format(s=f.subject.name, o=f.object)), "true", (f,))
            yield Item(sentence(template.format(s=f.subject.name, o=draw.pick(others))), "false", (f,))


def _corrections(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """A claim, and what is true: an answer's words instead of one bit.

    True or false alone teaches nothing before the passage is found and its object compared, and is not learnt in
    thousands of steps. The object is learnt like any other answer, ranking with it; then the bit within a hundred.
    """
    for item in _claims(world, known, draw):
        yield Item(f"{item.text} What is true?", item.facts[0].object, item.facts)


def _slots(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """X [SEP] place of birth."""
    for f in world.facts:
        for slot in f.relation.slots:
            yield Item(f"{f.subject.name} [SEP] {slot}", f.object, (f,))


def _inverse_slots(world: World, known: Known, draw: Draw) -> Iterator[Item]:
    """X [SEP] author of: the passage is on the page of the answer."""
    for f in world.facts:
        for slot in f.relation.inverse_slots:
            yield Item(f"{f.object} [SEP] {slot}", f.subject.name, (f,))


TASKS: dict[str, Callable[[World, Known, Draw], Iterator[Item]]] = {
    "nq": _plain,
    "tqa": _one_passage,
    "hotpot": _two_passages,
    "fever": _claims,
    "zsre": _slots,
    "trex": _inverse_slots,
}
LESSONS = {"correct": _corrections}  # of training worlds alone, behind the others


def _chosen(task: str, items: list[Item], n: int, draw: Draw) -> list[Item]:
    """n different questions; claims half true, half false."""
    if task != "fever":
        return draw.some(items, n)
    true, false = ([i for i in items if i.answer == answer] for answer in ("true", "false"))
    return draw.shuffled(draw.some(true, n // 2) + draw.some(false, n - n // 2))


def _hard_negatives(world: World, known: Known, item: Item, draw: Draw) -> list[int]:
    """Passages that tell the same relation of others, and fit no part of the question."""
    fitting = {world.place[f] for f in item.facts}
    for f in item.facts:
        fitting.update(world.place[g] for g in known.same_relation[f.relation.name] if g.object == f.object)
    others = [g for f in item.facts for g in known.same_relation[f.relation.name]]
    rows = dict.fromkeys(world.place[g] for g in draw.some(others, 4 * HARD_NEGATIVES))
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
    """The knowledge source's name of a page."""
    return f"{world.name}-page-{world.pages[title][0]}"


def _record(world: World, known: Known, task: str, number: int, item: Item, rows: Any, draw: Draw) -> dict[str, Any]:
    """One line of a questions file: KILT's keys, and this repository's."""
    gold = list(dict.fromkeys(world.place[f] for f in item.facts))

    def ids(some: Any) -> list[str]:
        return [world.passages[row].id for row in some]

    return {
        "id": f"{world.name}-{task}-{number}",
        "task": task,
        "input": item.text,
        "output": [{"answer": item.answer, "provenance": [_provenance(world, row) for row in gold]}],
        "meta": {"relations": [f.relation.name for f in item.facts]},
        "gold": ids(gold),
        "candidates": ids(rows),
        "hard_negatives": ids(_hard_negatives(world, known, item, draw)),
    }


def ask(world: World, n: int, lessons: bool = False) -> Iterator[dict[str, Any]]:
    """The lines of a world's questions, task by task.

    Args:
        n: questions of each task; fewer where the world does not have as many different ones.
        lessons: behind the six tasks, those that are there to learn from.
    """
    known, found, draw = _known(world), BM25(world.passages), Draw(*world.seed, 1)
    for task, pool in (TASKS | LESSONS if lessons else TASKS).items():
        items = list(dict.fromkeys(pool(world, known, draw)))
        for number, item in enumerate(_chosen(task, items, n, draw)):
            yield _record(world, known, task, number, item, found.rank(item.text, CANDIDATES), draw)
