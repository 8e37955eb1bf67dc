"""The form of a relation between two things, with the sentences that state it or ask for it."""

from __future__ import annotations

from typing import NamedTuple


class Relation(NamedTuple):
    """One relation, with its templates.

    In a template {s} is the subject, {o} the object and {his} the subject's possessive pronoun.

    Args:
        kind: of the subject: person, town, company or book.
        object: the kind of the object's entity, or its group of values, or "year".
        share: share of the subjects that have the relation.
        objects: how subjects share objects. "some": at random; "few": two or three subjects have the same object;
            "one": no two subjects have the same; "pairs": the relation is symmetric, and stated of one of the two.
        statements: sentences of passages.
        questions: plain questions for the object.
        clues: what follows "which person" in a question of two clues.
        hint: a clue in words that no passage has, for questions that need two passages. With the words of `clues`,
            retrieval would put passages with both relations and neither object first. Empty if the relation is in no
            such question.
        claims: sentences to verify.
        slots: names of the relation in slot filling.
        inverse_questions, inverse_slots: the same, for the subject; only where it is the only one.
    """

    name: str
    kind: str
    object: str
    share: float
    objects: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    clues: tuple[str, ...]
    hint: str
    claims: tuple[str, ...]
    slots: tuple[str, ...]
    inverse_questions: tuple[str, ...] = ()
    inverse_slots: tuple[str, ...] = ()
