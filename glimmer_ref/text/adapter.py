"""How a model reads strings: as its tokenizer does, or through a text adapter that its folder brings.

An adapter may read some words as other words of the vocabulary. It reads the passages first, then the question with
what it knows of the passages; the answer is decoded by the tokenizer that the question was read with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .tokenizer import Tokenizer


class Reading(NamedTuple):
    """How a question and its passages are read.

    Args:
        tokenizer: encodes the question and the passages, and decodes the answer.
        substituted: word -> the word of the vocabulary that it is read as.
        unknown: words that are read as unknown.
    """

    tokenizer: Tokenizer
    substituted: dict[str, str]
    unknown: list[str]


class PassageReading(Protocol):
    """How some passages are read."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Encodes the passages."""
        ...

    def question(self, text: str) -> Reading:
        """How a question about the passages is read."""
        ...


class TextAdapter(Protocol):
    """Reads the texts of passages, and of questions about them."""

    def passages(self, texts: Iterable[str], report: bool = False) -> PassageReading:
        """How some passages are read, together.

        Args:
            report: list their words beside those of each question, in `Reading.substituted` and `Reading.unknown`.
        """
        ...


@dataclass(frozen=True)
class Unchanged:
    """The adapter of a model that has no other: every word is read as the tokenizer reads it."""

    tokenizer: Tokenizer

    def passages(self, texts: Iterable[str], report: bool = False) -> Unchanged:
        """The adapter itself: it does not look at the texts, and never reports their words."""
        return self

    def question(self, text: str) -> Reading:
        """The tokenizer itself, and the question's unknown words."""
        return Reading(self.tokenizer, {}, self.tokenizer.unknown_words(text))
