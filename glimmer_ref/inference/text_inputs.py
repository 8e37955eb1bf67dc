"""Questions and passages as a model reads them: from strings to token ids, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..config import GlimmerConfig
from ..data.inputs import Passage, passage_text, passage_tokens, question_text, question_tokens
from ..memory.store import Memory
from ..ragged import Ints, Tokens
from ..text.adapter import Reading, TextAdapter, Unchanged
from ..text.tokenizer import Tokenizer
from ..text.truncate import beginning


def passages_at(source: Memory | Sequence[Passage], rows: Ints) -> list[Passage]:
    """The strings of the passages with these indices in a source."""
    return [source.passage(int(r)) if isinstance(source, Memory) else source[int(r)] for r in rows]


@dataclass(frozen=True)
class TextInputs:
    """Turns the strings of questions and passages into token ids.

    Args:
        config: the formats of questions and passages, and the maximum numbers of their tokens.
        tokenizer: reads words unchanged.
        adapter: reads passages, and questions about them.
    """

    config: GlimmerConfig
    tokenizer: Tokenizer
    adapter: TextAdapter

    def passage_texts(self, passages: Iterable[Passage]) -> Iterator[str]:
        """The texts of some passages. A long text is cut to a beginning with all tokens that the model reads."""
        limit = self.config.passage_tokens
        return (beginning(self.tokenizer, passage_text(self.config, passage), limit) for passage in passages)

    def question_text(self, question: str) -> str:
        """The text of a question, cut likewise."""
        return beginning(self.tokenizer, question_text(self.config, question), self.config.question_tokens)

    def reading(self, question: str, passages: list[Passage], source: Memory | Sequence[Passage]) -> Reading:
        """How to read a question and its passages. Passages of a memory were read when the memory was made."""
        if isinstance(source, Memory):
            known = source.reading or Unchanged(self.tokenizer)
        else:
            known = self.adapter.passages(self.passage_texts(passages), report=True)
        return known.question(self.question_text(question))

    def questions(self, questions: Sequence[str], readings: list[Reading]) -> Tokens:
        """The tokens of some questions, each by its reading."""
        texts = zip(questions, readings, strict=True)
        return Tokens.concatenate([question_tokens(self.config, r.tokenizer, [text]) for text, r in texts])

    def passages(self, passages: list[list[Passage]], readings: list[Reading]) -> Tokens:
        """The tokens of each question's passages, by the question's reading."""
        texts = zip(passages, readings, strict=True)
        return Tokens.concatenate([passage_tokens(self.config, r.tokenizer, some) for some, r in texts])
