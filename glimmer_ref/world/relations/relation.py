"""The form of a relation between two things, and of the sentences that tell it or ask for it."""

from __future__ import annotations

from typing import NamedTuple


class Relation(NamedTuple):
    """One relation, with its templates.

    In a template {s} is the subject, {o} the object and {his} the subject's possessive pronoun.

    Args:
        kind: of the subject: person, town, company or book.
        object: the kind of the object's entity, or its group of values, or "year".
        share: of the subjects that have it.
        objects: "some": any subject, any object; "few": two or three subjects share each object;
            "one": no two subjects share one; "pairs": goes both ways, and is told of one of the two.
        told: sentences of passages. asked: plain questions. clue: what follows "which person".
        hint: the same in words that no passage has, for questions that take two passages: only the
            object then speaks for a passage. Otherwise those with the words of both clues, and neither
            object, would come first. Empty where one passage is enough.
        claims: to verify. slots: names of the relation in slot filling.
        inverse: the same, asked of the object; only where it has one answer.
    """

    name: str
    kind: str
    object: str
    share: float
    objects: str
    told: tuple[str, ...]
    asked: tuple[str, ...]
    clue: tuple[str, ...]
    hint: str
    claims: tuple[str, ...]
    slots: tuple[str, ...]
    inverse_asked: tuple[str, ...] = ()
    inverse_slots: tuple[str, ...] = ()
