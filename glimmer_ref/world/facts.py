"""A world: its entities, what is true of them, and the passages that tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..data.inputs import Passage
from ..errors import InputError
from .names import NAMES, SPLITS, VALUES, YEARS
from .relations.all import IDLE, RELATIONS
from .relations.relation import Relation
from .rng import Draw

KINDS = ("person", "town", "company", "book")
PRONOUNS = {"he": "his", "she": "her", "it": "its"}
TITLE_SHARE = 0.35  # of the sentences that name their subject; the others have a pronoun
THIRD_FACT = 0.3  # of the passages that tell three facts, not two


class Size(NamedTuple):
    """How many of each a world has.

    Args:
        questions: of each task, for training. held_out: likewise, for dev and for test.
    """

    person: int
    town: int
    company: int
    book: int
    passages: int
    questions: int
    held_out: int


SIZES = {"full": Size(200, 80, 90, 100, 2000, 1200, 400), "small": Size(40, 20, 20, 24, 400, 40, 20)}
LEAST = Size(8, 8, 8, 8, 1, 1, 1)
MOST = Size(1000, 80, 180, 200, 100_000, 100_000, 100_000)


class Entity(NamedTuple):
    """Something with a page of its own."""

    kind: str
    name: str
    pronoun: str


class Fact(NamedTuple):
    """The relation that a subject has to an object."""

    subject: Entity
    relation: Relation
    object: str


@dataclass
class World:
    """Entities, facts, and passages in the order of their pages.

    Args:
        seed: what its draws began with.
        place: the row of the passage that tells a fact.
        pages: rows of each entity's passages.
    """

    name: str
    seed: tuple[int, ...]
    entities: list[Entity]
    facts: list[Fact]
    passages: list[Passage] = field(default_factory=list)
    place: dict[Fact, int] = field(default_factory=dict)
    pages: dict[str, list[int]] = field(default_factory=dict)

    def named(self, kind: str) -> list[str]:
        """The names of all entities of a kind."""
        return [e.name for e in self.entities if e.kind == kind]


def sentence(text: str, end: str = ".") -> str:
    """A text with a capital letter and an end."""
    return text[0].upper() + text[1:] + end


def _pairs(draw: Draw, split: int, first: str, second: str, n: int) -> list[str]:
    """n different names of two words, each of the first words about equally often."""
    firsts, seconds = draw.shuffled(NAMES[first][split]), NAMES[second][split]
    made: dict[str, None] = {}
    while len(made) < n:
        made[f"{firsts[len(made) % len(firsts)]} {draw.pick(seconds)}"] = None
    return list(made)


def _companies(draw: Draw, split: int, n: int) -> list[str]:
    """Two companies of a name differ in the second word."""
    kinds = VALUES["company kind"]
    names = draw.shuffled(NAMES["company"][split])
    return [f"{names[i % len(names)]} {kinds[(i + i // len(names)) % len(kinds)]}" for i in range(n)]


def _entities(draw: Draw, split: int, size: Size) -> list[Entity]:
    names = {
        "person": _pairs(draw, split, "given name", "surname", size.person),
        "town": draw.some(NAMES["town"][split], size.town),
        "company": _companies(draw, split, size.company),
        "book": [f"The {name}" for name in _pairs(draw, split, "title adjective", "title noun", size.book)],
    }
    return [
        Entity(kind, name, draw.pick(("he", "she")) if kind == "person" else "it")
        for kind in KINDS
        for name in names[kind]
    ]


def _objects(world: World, split: int, kind: str) -> list[str]:
    """All that can stand as object of this kind."""
    if kind == "year":
        return [str(year) for year in range(*YEARS)]
    if kind == "river":
        return [f"{name} River" for name in NAMES["river"][split]]
    if kind == "prize":
        return [f"{name} Prize" for name in NAMES["prize"][split]]
    if kind in KINDS:
        return world.named(kind)
    return list(VALUES[kind]) if kind in VALUES else list(NAMES[kind][split])


def _assigned(draw: Draw, objects: list[str], n: int, how: str) -> list[str]:
    """n objects, shared by as many subjects as `Relation.objects` says."""
    if how == "some":
        return [draw.pick(objects) for _ in range(n)]
    if how == "one":
        return draw.some(objects, n)
    uses: list[str] = []
    for name in draw.shuffled(objects):
        uses += [name] * (2 + draw.below(2))
    while len(uses) < n:  # too few of them for two or three each
        uses.append(draw.pick(objects))
    return draw.shuffled(uses[:n])


def _facts_of(draw: Draw, world: World, split: int, relation: Relation) -> list[Fact]:
    entities = draw.shuffled([e for e in world.entities if e.kind == relation.kind])
    some = entities[: round(relation.share * len(entities))]
    if relation.objects == "pairs":
        half = len(some) // 2
        return [Fact(a, relation, b.name) for a, b in zip(some[:half], some[half : 2 * half], strict=True)]
    objects = _assigned(draw, _objects(world, split, relation.object), len(some), relation.objects)
    return [Fact(e, relation, o) for e, o in zip(some, objects, strict=True)]


def _tell(draw: Draw, entity: Entity, template: str, **names: str) -> str:
    subject = entity.name if draw.chance(TITLE_SHARE) else entity.pronoun
    return sentence(template.format(s=subject, his=PRONOUNS[entity.pronoun], **names))


def _told(draw: Draw, facts: Sequence[Fact]) -> list[tuple[str, list[Fact]]]:
    """One entity's facts as texts of two or three sentences each; a single fact stays alone."""
    order, texts = draw.shuffled(facts), []
    while order:
        n = 3 if len(order) == 3 or (len(order) > 4 and draw.chance(THIRD_FACT)) else 2
        some, order = order[:n], order[n:]
        texts.append((" ".join(_tell(draw, f.subject, draw.pick(f.relation.told), o=f.object) for f in some), some))
    return texts


def _idle(draw: Draw, entity: Entity, names: dict[str, list[str]]) -> str:
    """Two sentences that name the entity, and hold no fact."""
    templates = draw.some(IDLE, 2)
    return " ".join(
        sentence(t.format(s=entity.name, **{kind: draw.pick(some) for kind, some in names.items()})) for t in templates
    )


def _texts(draw: Draw, world: World, count: int) -> dict[str, list[tuple[str, list[Fact]]]]:
    """For each entity, its passages with the facts that they tell: `count` of them with the filler."""
    facts: dict[str, list[Fact]] = {e.name: [] for e in world.entities}
    for fact in world.facts:
        facts[fact.subject.name].append(fact)
    told = {name: _told(draw, some) for name, some in facts.items()}
    missing = count - sum(map(len, told.values()))
    if missing < 0:
        raise InputError("world: passages", f"at least {count - missing}, to tell all facts", str(count))
    names = {kind: world.named(kind) for kind in KINDS}
    order = draw.shuffled(world.entities)
    for i in range(missing):
        entity = order[i % len(order)]
        told[entity.name].append((_idle(draw, entity, names), []))
    return {name: draw.shuffled(texts) for name, texts in told.items()}


def _write(world: World, texts: dict[str, list[tuple[str, list[Fact]]]]) -> None:
    """Put the passages into the world, page by page."""
    for title, some in texts.items():
        world.pages[title] = list(range(len(world.passages), len(world.passages) + len(some)))
        for text, facts in some:
            world.place.update(dict.fromkeys(facts, len(world.passages)))
            world.passages.append(Passage(f"{world.name}-{len(world.passages)}", title, text))


def _check(split: str, size: Size) -> None:
    if split not in SPLITS:
        raise InputError("world: split", f"one of {', '.join(SPLITS)}", repr(split))
    for name, n, least, most in zip(Size._fields, size, LEAST, MOST, strict=True):
        if not least <= n <= most:
            raise InputError(f"world: size: {name}", f"{least} to {most}", str(n))
    if size.person < max(size[:4]):
        raise InputError("world: size: person", "a mayor, a founder and an author for each", str(size.person))


def make(seed: int, split: str, number: int, size: Size) -> World:
    """The world of a seed, a split and a number.

    Raises:
        InputError: a split or a size that there is not, or too few passages for the facts.
    """
    _check(split, size)
    place = SPLITS.index(split)
    begin = (seed, place, number)
    draw = Draw(*begin)
    name = f"{split}-{number}" if split == "train" else split
    world = World(name, begin, _entities(draw, place, size), [])
    for relation in RELATIONS:
        world.facts += _facts_of(draw, world, place, relation)
    _write(world, _texts(draw, world, size.passages))
    return world
