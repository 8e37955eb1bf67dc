"""Where an answer's words stand in the passages that the decoder read."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import takewhile

from ..data.inputs import Passage, passage_text
from ..text.words import words
from .answer import Answer
from .reader import Reader

# The space behind a sentence, which may end in a quotation mark or a bracket. An initial, as in J. Smith, ends none.
_ENDS = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]\u2019\u201d]))(?<!\b\w\.)\s+|(?<=[\u3002\uff01\uff1f])\s*""")


def sentence_with(text: str, answer: str) -> str | None:
    """The sentence of a text in which the words of an answer stand one behind the other; None if there is none.

    The first of several. If they stand only across the end of a sentence, as in "St. Ives", its neighbour is included.
    Words are those of `text.words`, so a single character of a script without spaces is found only where it is alone.
    """
    found = _place(sentences := _ENDS.split(text), words(answer))
    return None if found is None else " ".join(sentences[found[0] : found[1] + 1])


def _place(sentences: list[str], wanted: list[str]) -> tuple[int, int] | None:
    """The first and the last sentence of the shortest row of sentences that has the wanted words."""
    each = [(word, i) for i, sentence in enumerate(sentences) for word in words(sentence)]
    n = len(wanted)
    rows = [
        (each[start][1], each[start + n - 1][1])
        for start in range(len(each) - n + 1 if n else 0)
        if all(each[start + j][0] == wanted[j] for j in range(n))
    ]
    return min(rows, key=lambda row: row[1] - row[0], default=None)


def evidence(reader: Reader, answer: Answer) -> dict[int, str]:
    """For each passage that the decoder read and that holds the words of the answer: its row and the sentence.

    The order is that of reading. If only the title of a passage holds them, the sentence is "title: " and the title.
    The part of a long passage that the model did not read is not searched. The words may stand in a passage that has
    nothing to do with the question. The words of an answer such as "yes" may stand nowhere.
    """
    found = {}
    for row in answer.selected:
        passage = answer.passages[row]
        sentence = sentence_with(_read(reader, passage, answer.passage_tokens[row]), answer.text)
        if sentence is None and sentence_with(passage.title, answer.text) is not None:
            sentence = f"title: {passage.title}"
        if sentence is not None:
            found[row] = sentence
    return found


def _read(reader: Reader, passage: Passage, tokens: int) -> str:
    """The sentences of a passage that the model read to their end."""
    config = reader.config
    if tokens < config.passage_tokens:
        return passage.text

    def fits(end: int) -> bool:
        text = passage_text(config, replace(passage, text=passage.text[:end]))
        return len(reader.tokenizer.encode(text)) + config.passage_eos <= config.passage_tokens

    ends = [*(found.start() for found in _ENDS.finditer(passage.text)), len(passage.text)]
    return passage.text[: max(takewhile(fits, ends), default=0)]
