"""A world: its entities, the facts about them, and the passages that state the facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..data.inputs import Passage
from ..errors import InputError
from .names import NAMES, PRETRAIN, SPLITS, VALUES, YEARS
from .relations.all import FILLER, RELATIONS
from .relations.relation import Relation
from .rng import PortableRng

KINDS = ("person", "town", "company", "book")
PRONOUNS = {"he": "his", "she": "her", "it": "its"}
TITLE_SHARE = 0.35  # share of the sentences that name their subject; the others use a pronoun
THIRD_FACT = 0.3  # share of the passages that state three facts instead of two


class Size(NamedTuple):
    """How many entities of each kind, passages and questions a world has.

    Args:
        questions: number of questions per task in a training world.
        held_out: number of questions per task in the dev world and in the test world.
    """

    person: int
    town: int
    company: int
    book: int
    passages: int
    questions: int
    held_out: int


SIZES = {"full": Size(200, 80, 90, 100, 2000, 1200, 400), "small": Size(40, 20, 20, 24, 400, 40, 20)}
MIN_SIZE = Size(8, 8, 8, 8, 1, 1, 1)
MAX_SIZE = Size(1000, 80, 180, 200, 100_000, 100_000, 100_000)


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
        seed: seed of the world's random numbers.
        passage_of: fact -> row of the passage that states it.
        pages: name of an entity -> rows of its passages.
    """

    name: str
    seed: tuple[int, ...]
    entities: list[Entity]
    facts: list[Fact]
    passages: list[Passage] = field(default_factory=list)
    passage_of: dict[Fact, int] = field(default_factory=dict)
    pages: dict[str, list[int]] = field(default_factory=dict)

    def named(self, kind: str) -> list[str]:
        """The names of all entities of a kind."""
        return [e.name for e in self.entities if e.kind == kind]


def sentence(text: str, end: str = ".") -> str:
    """A text with a capital letter at its beginning and a punctuation mark at its end."""
    return text[0].upper() + text[1:] + end


def _pairs(rng: PortableRng, split: int, first: str, second: str, n: int) -> list[str]:
    """n different names, each of two words. All first words are about equally frequent."""
    firsts, seconds = rng.shuffled(NAMES[first][split]), NAMES[second][split]
    made: dict[str, None] = {}
    while len(made) < n:
        made[f"{firsts[len(made) % len(firsts)]} {rng.pick(seconds)}"] = None
    return list(made)


def _companies(rng: PortableRng, split: int, n: int) -> list[str]:
    """n names of companies. If two names share the first word, their second words differ."""
    kinds = VALUES["company kind"]
    names = rng.shuffled(NAMES["company"][split])
    return [f"{names[i % len(names)]} {kinds[(i + i // len(names)) % len(kinds)]}" for i in range(n)]


def _entities(rng: PortableRng, split: int, size: Size) -> list[Entity]:
    names = {
        "person": _pairs(rng, split, "given name", "surname", size.person),
        "town": rng.sample(NAMES["town"][split], size.town),
        "company": _companies(rng, split, size.company),
        "book": [f"The {name}" for name in _pairs(rng, split, "title adjective", "title noun", size.book)],
    }
    return [
        Entity(kind, name, rng.pick(("he", "she")) if kind == "person" else "it")
        for kind in KINDS
        for name in names[kind]
    ]


def _objects(world: World, split: int, kind: str) -> list[str]:
    """All possible objects of this kind."""
    if kind == "year":
        return [str(year) for year in range(*YEARS)]
    if kind == "river":
        return [f"{name} River" for name in NAMES["river"][split]]
    if kind == "prize":
        return [f"{name} Prize" for name in NAMES["prize"][split]]
    if kind in KINDS:
        return world.named(kind)
    return list(VALUES[kind]) if kind in VALUES else list(NAMES[kind][split])


def _assigned(rng: PortableRng, objects: list[str], n: int, sharing: str) -> list[str]:
    """n objects, one for each subject, shared among subjects as `Relation.objects` describes."""
    if sharing == "some":
        return [rng.pick(objects) for _ in range(n)]
    if sharing == "one":
        return rng.sample(objects, n)
    uses: list[str] = []
    for name in rng.shuffled(objects):
        uses += [name] * (2 + rng.below(2))
    while len(uses) < n:  # there are too few objects for two or three subjects each
        uses.append(rng.pick(objects))
    return rng.shuffled(uses[:n])


def _facts_of(rng: PortableRng, world: World, split: int, relation: Relation) -> list[Fact]:
    entities = rng.shuffled([e for e in world.entities if e.kind == relation.kind])
    some = entities[: round(relation.share * len(entities))]
    if relation.objects == "pairs":
        half = len(some) // 2
        return [Fact(a, relation, b.name) for a, b in zip(some[:half], some[half : 2 * half], strict=True)]
    objects = _assigned(rng, _objects(world, split, relation.object), len(some), relation.objects)
    return [Fact(e, relation, o) for e, o in zip(some, objects, strict=True)]


def _fact_sentence(rng: PortableRng, entity: Entity, template: str, **names: str) -> str:
    subject = entity.name if rng.chance(TITLE_SHARE) else entity.pronoun
    return sentence(template.format(s=subject, his=PRONOUNS[entity.pronoun], **names))


def _fact_texts(rng: PortableRng, facts: Sequence[Fact]) -> list[tuple[str, list[Fact]]]:
    """One entity's facts as texts of two or three sentences each. If there is one fact, it is a text of its own."""
    order, texts = rng.shuffled(facts), []
    while order:
        n = 3 if len(order) == 3 or (len(order) > 4 and rng.chance(THIRD_FACT)) else 2
        some, order = order[:n], order[n:]
        texts.append(
            (" ".join(_fact_sentence(rng, f.subject, rng.pick(f.relation.statements), o=f.object) for f in some), some)
        )
    return texts


def _filler_text(rng: PortableRng, entity: Entity, names: dict[str, list[str]]) -> str:
    """Two sentences that name the entity and state no fact."""
    templates = rng.sample(FILLER, 2)
    return " ".join(
        sentence(t.format(s=entity.name, **{kind: rng.pick(some) for kind, some in names.items()})) for t in templates
    )


def _texts(rng: PortableRng, world: World, count: int) -> dict[str, list[tuple[str, list[Fact]]]]:
    """For each entity, its passages with the facts that they state. Filler passages make up `count` in all."""
    facts: dict[str, list[Fact]] = {e.name: [] for e in world.entities}
    for fact in world.facts:
        facts[fact.subject.name].append(fact)
    texts = {name: _fact_texts(rng, some) for name, some in facts.items()}
    missing = count - sum(map(len, texts.values()))
    if missing < 0:
        raise InputError("world: passages", f"at least {count - missing}, to state all facts", str(count))
    names = {kind: world.named(kind) for kind in KINDS}
    order = rng.shuffled(world.entities)
    for i in range(missing):
        entity = order[i % len(order)]
        texts[entity.name].append((_filler_text(rng, entity, names), []))
    return {name: rng.shuffled(some) for name, some in texts.items()}


def _write(world: World, texts: dict[str, list[tuple[str, list[Fact]]]]) -> None:
    """Add the passages to the world, page by page."""
    for title, some in texts.items():
        world.pages[title] = list(range(len(world.passages), len(world.passages) + len(some)))
        for text, facts in some:
            world.passage_of.update(dict.fromkeys(facts, len(world.passages)))
            world.passages.append(Passage(f"{world.name}-{len(world.passages)}", title, text))


def _check(split: str, size: Size) -> None:
    if split not in (*SPLITS, PRETRAIN):
        raise InputError("world: split", f"one of {', '.join((*SPLITS, PRETRAIN))}", repr(split))
    for name, n, least, most in zip(Size._fields, size, MIN_SIZE, MAX_SIZE, strict=True):
        if not least <= n <= most:
            raise InputError(f"world: size: {name}", f"{least} to {most}", str(n))
    if size.person < max(size[:4]):
        raise InputError("world: size: person", "a mayor, a founder and an author for each", str(size.person))


def make_world(seed: int, split: str, number: int, size: Size) -> World:
    """The world of a seed, a split and a number.

    Raises:
        InputError: the split is unknown, a size is out of range, or there are too few passages for the facts.
    """
    _check(split, size)
    seeds = (seed, (*SPLITS, PRETRAIN).index(split), number)
    part = SPLITS.index("train" if split == PRETRAIN else split)
    rng = PortableRng(*seeds)
    name = f"{split}-{number}" if split in ("train", PRETRAIN) else split
    world = World(name, seeds, _entities(rng, part, size), [])
    for relation in RELATIONS:
        world.facts += _facts_of(rng, world, part, relation)
    _write(world, _texts(rng, world, size.passages))
    return world
