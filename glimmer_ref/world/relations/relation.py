"""The form of a relation between two entities, with sentences that state it and questions about it."""

from __future__ import annotations

from typing import NamedTuple


class Relation(NamedTuple):
    """One relation, with its templates.

    In a template {s} is the subject, {o} the object and {his} the subject's possessive pronoun.

    Args:
        kind: kind of the subject: person, town, company or book.
        object: kind of the object's entity, or its group of values, or "year".
        share: share of the subjects that have the relation.
        objects: how subjects share objects. "some": at random; "few": two or three subjects have the same object;
            "one": no two subjects have the same object; "pairs": the relation is symmetric, and stated for one of the
            two subjects.
        statements: sentences for passages.
        questions: plain questions about the object.
        clues: texts that follow "which person" in a question with two clues.
        hint: a clue in words that no passage has, for questions that need two passages. With the words in `clues`,
            retrieval would rank passages first that have both relations but neither object. Empty if no such question
            uses the relation.
        claims: sentences to verify.
        slots: names of the relation in slot filling.
        inverse_questions, inverse_slots: the same for the subject, if only one subject has the object.
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
