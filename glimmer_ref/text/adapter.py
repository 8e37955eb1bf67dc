"""Text adapters: a model reads strings with its tokenizer, or through an adapter from its folder.

An adapter may replace some words by other words of the vocabulary. It reads the passages first, then the question with
the same replacements. The tokenizer that encoded the question also decodes the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .tokenizer import Tokenizer


class Reading(NamedTuple):
    """The reading of a question and its passages.

    Args:
        tokenizer: encodes the question and the passages, and decodes the answer.
        substituted: word -> the word of the vocabulary that replaces it.
        unknown: words that become the unknown token.
    """

    tokenizer: Tokenizer
    substituted: dict[str, str]
    unknown: list[str]


class PassageReading(Protocol):
    """The reading of some passages."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Encodes the passages."""
        ...

    def question(self, text: str) -> Reading:
        """The reading of a question about the passages."""
        ...


class TextAdapter(Protocol):
    """Reads the texts of passages, and questions about them."""

    def passages(self, texts: Iterable[str], report: bool = False) -> PassageReading:
        """The reading of some passages together.

        Args:
            report: whether `Reading.substituted` and `Reading.unknown` also list the words of the passages.
        """
        ...


@dataclass(frozen=True)
class Unchanged:
    """The adapter for a model without an adapter of its own: the tokenizer reads every word unchanged."""

    tokenizer: Tokenizer

    def passages(self, texts: Iterable[str], report: bool = False) -> Unchanged:
        """The adapter itself. It ignores the texts, and never reports their words."""
        return self

    def question(self, text: str) -> Reading:
        """The unchanged tokenizer, and the question's unknown words."""
        return Reading(self.tokenizer, {}, self.tokenizer.unknown_words(text))
