"""The tasks of worlds for pre-training: they teach to read and to look things up, and none of the six tasks of a world.

They are forms of denoising, as T5's own pre-training is (Raffel et al. 2020). The clozes are REALM's (Guu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

from .facts import PRONOUNS, Fact, World, sentence
from .names import MASKS
from .questions import Draft, FactIndex, Task
from .rng import PortableRng
from .vocabulary import PIECES


def _cloze(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Statements without their object, which a passage has, mostly in other words (salient span masking)."""
    for f in world.facts:
        for template in f.relation.statements:
            yield Draft(_stated(f, template, MASKS[0]), f.object, (f,))


def _denoising(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Statements with a wrong object in place of the true one, which is the answer."""
    for f in world.facts:
        others = sorted({g.object for g in index.by_relation[f.relation.name]} - {f.object, f.subject.name})
        for template in f.relation.statements:
            yield Draft(f"{_stated(f, template, rng.pick(others))} {MASKS[0]}", f.object, (f,))


def _stated(fact: Fact, template: str, object: str) -> str:
    """A statement about a fact's subject, with some object. The subject is named before it if the template does not."""
    subject = fact.subject
    named = "{s}" in template
    text = template.format(s=subject.name, his=PRONOUNS[subject.pronoun], o=object)
    return sentence(text) if named else f"{subject.name} : {sentence(text)}"


def _spans(world: World, index: FactIndex, rng: PortableRng) -> Iterator[Draft]:
    """Passages with one or two spans of words replaced by masks; the answer lists the spans (span corruption, T5).

    Every other occurrence of the same words is masked too. Otherwise the answer could be copied from the question.
    """
    for row, facts in sorted(_facts_by_row(world).items()):
        passage = world.passages[row]
        for count in range(1, len(MASKS) + 1):
            words: list[str | int] = list(PIECES.findall(f"{passage.title} : {passage.text}"))
            spans = []
            for n in range(count):
                spans.append(_span(words, rng))
                words = _masked(words, spans[n], n)
            order = dict(zip(dict.fromkeys(w for w in words if isinstance(w, int)), MASKS, strict=False))
            answer = [word for n, mask in order.items() for word in (mask, *spans[n])]
            yield Draft(_joined([w if isinstance(w, str) else order[w] for w in words]), _joined(answer), tuple(facts))


def _facts_by_row(world: World) -> dict[int, list[Fact]]:
    rows: dict[int, list[Fact]] = {}
    for fact, row in world.passage_of.items():
        rows.setdefault(row, []).append(fact)
    return rows


def _joined(words: list[str]) -> str:
    return " ".join(words)


def _span(words: list[str | int], rng: PortableRng) -> list[str]:
    """One to three words side by side, without marks of punctuation and without the numbers of earlier spans."""
    while True:
        n = 1 + rng.below(3)
        start = rng.below(len(words))
        span = [w for w in words[start : start + n] if isinstance(w, str) and w.isalnum()]
        if len(span) == n:
            return span


def _masked(words: list[str | int], span: list[str], number: int) -> list[str | int]:
    """The words with the number in place of every occurrence of the span."""
    result: list[str | int] = []
    while words:
        if words[: len(span)] == span:
            result.append(number)
            words = words[len(span) :]
        else:
            result.append(words[0])
            words = words[1:]
    return result


PRETRAINING_TASKS: dict[str, Task] = {"spans": _spans, "cloze": _cloze, "denoise": _denoising}
