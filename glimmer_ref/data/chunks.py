"""Chunks of at most 200 words from pages, and the inverse: the page of a chunk, and the chunks of a provenance.

A word is a run of characters without white space. A chunk has whole paragraphs of one section, as many as fit. A
paragraph that is too long is cut at the end of a sentence in the second half of the words that fit, or else behind the
last word that fits. The title, the headings and blank paragraphs are "silent": they are not part of a chunk's text. A
chunk keeps the silent paragraphs before it, and the last chunk of a page also those behind it, so that nothing of the
page is lost. A page without other text has no chunk.

Source: section 4.1 of the paper says "up to 200 words" and nothing else. KILT's script for chunks of 100 words is the
source of three rules: a chunk stays within a section, headings are not read, and the part before the first heading is
called Abstract.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError
from .kilt import Datapoint, Page, Provenance

WORDS = 200
HEADING = "Section::::"
ABSTRACT = f"{HEADING}Abstract"
KEYS = {"id": "id", "title": "title", "text": "text", "page": "wikipedia_id", "section": "section"}
_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"""[.!?]["')\]\u2019\u201d]*$""")


class Span(NamedTuple):
    """Characters `start` to `end`, exclusive, of a page's paragraph."""

    paragraph: int
    start: int
    end: int


class Silent(NamedTuple):
    """A paragraph that is kept, but is not part of the text."""

    paragraph: int
    text: str


@dataclass(frozen=True)
class Chunk:
    """A passage with its place on its page.

    Args:
        id: the page's id, a colon, and the chunk's number on the page. It depends on this page alone.
        title: title of the page.
        text: the characters of the spans, with a space between two spans if the first does not end in white space.
        page: id of the page.
        section: heading of the section, as in the page.
        spans: the parts of the page that form the text, in order.
        silent: the silent paragraphs that belong to the chunk.
    """

    id: str
    title: str
    text: str
    page: str
    section: str
    spans: tuple[Span, ...]
    silent: tuple[Silent, ...]

    def record(self) -> dict[str, Any]:
        """The chunk's line in passages.jsonl."""
        texts = {key: getattr(self, name) for name, key in KEYS.items()}
        return texts | {"spans": self.spans, "silent": self.silent}


def _pieces(text: str, words: int) -> Iterator[tuple[int, int, int]]:
    """A paragraph in pieces of at most `words` words: start, end and number of words of each piece."""
    if (count := len(text.split())) <= words:
        yield 0, len(text), count
        return
    found = [match.span() for match in _WORD.finditer(text)]
    first, start = 0, 0
    while len(found) - first > words:
        lengths = range(words, words // 2, -1)
        ends = (n for n in lengths if _SENTENCE_END.search(text, *found[first + n - 1]))
        n = next(ends, words)
        first += n
        yield start, found[first][0], n
        start = found[first][0]
    yield start, len(text), len(found) - first


def _silent(page: Page) -> list[Silent]:
    return [
        Silent(number, text)
        for number, text in enumerate(page.paragraphs)
        if not text.strip() or text.startswith(HEADING) or (number == 0 and text.strip() == page.title.strip())
    ]


def _filled(page: Page, silent: Iterable[Silent], words: int, fill: bool) -> Iterator[tuple[str, list[Span]]]:
    """The section and the spans of each chunk."""
    unread = {s.paragraph for s in silent}
    section, spans, room = ABSTRACT, list[Span](), words
    for number, text in enumerate(page.paragraphs):
        if number in unread:
            if text.startswith(HEADING):
                if spans:
                    yield section, spans
                section, spans, room = text.strip(), [], words
            continue
        for start, end, n in _pieces(text, words):
            if spans and (n > room or not fill):
                yield section, spans
                spans, room = [], words
            spans.append(Span(number, start, end))
            room -= n
    if spans:
        yield section, spans


def _joined(pieces: Iterable[str]) -> str:
    """The pieces as one string, with a space behind each piece that does not end in white space."""
    text = ""
    for piece in pieces:
        text += piece if not text or text[-1].isspace() else f" {piece}"
    return text


def cut(page: Page, words: int = WORDS, fill: bool = True) -> list[Chunk]:
    """The chunks of a page, in order.

    Args:
        words: maximum number of words in a chunk, at least 1.
        fill: whether a chunk gets as many paragraphs as fit. Otherwise each paragraph is one chunk, or several.

    Raises:
        InputError: `words` is below 1.

    Paper: 4.1 chunks
    """
    if words < 1:
        raise InputError("chunks: words", "at least 1", str(words))
    silent, chunks = _silent(page), list[Chunk]()
    filled = list(_filled(page, silent, words, fill))
    for number, (section, spans) in enumerate(filled):
        last = number == len(filled) - 1
        kept_silent = tuple(s for s in silent if last or s.paragraph < spans[-1].paragraph)
        silent = silent[len(kept_silent) :]
        text = _joined(page.paragraphs[s.paragraph][s.start : s.end] for s in spans)
        chunks.append(Chunk(f"{page.id}:{number}", page.title, text, page.id, section, tuple(spans), kept_silent))
    return chunks


def page_of(id: str) -> str:
    """The id of a chunk's page, from the chunk's id.

    Raises:
        InputError: the id does not have the form of the ids from `cut`.
    """
    page, colon, number = id.rpartition(":")
    if not page or not colon or not number.isdecimal():
        do = "glimmer-ref chunks cuts pages into such passages"
        raise InputError(f"passage {id!r}"[:60], "an id of page and number, such as 17:0", "another form", do)
    return page


def chunks_containing(provenance: Provenance, chunks: Iterable[Chunk]) -> tuple[str, ...]:
    """The ids of the chunks that contain any character of a provenance; empty if it states no paragraph.

    A provenance without character positions means whole paragraphs. If it has only silent paragraphs, such as the
    title, its chunks are those that keep them.

    Args:
        chunks: the chunks of the provenance's page; chunks of other pages are ignored.
    """
    p = provenance
    if p.start_paragraph_id is None:
        return ()
    last = p.start_paragraph_id if p.end_paragraph_id is None else p.end_paragraph_id
    first = (p.start_paragraph_id, p.start_character or 0)
    behind = (last + 1, 0) if p.end_character is None else (last, p.end_character)
    behind = max(behind, (first[0], first[1] + 1))  # an empty span means the character at its start

    of_page = [chunk for chunk in chunks if chunk.page == p.wikipedia_id]
    read = [c.id for c in of_page if any(first < (s[0], s.end) and s[:2] < behind for s in c.spans)]
    unread = (c.id for c in of_page if any(first[0] <= s.paragraph <= last for s in c.silent))
    return tuple(read or unread)


def gold(datapoint: Datapoint, chunks: Mapping[str, Sequence[Chunk]]) -> tuple[str, ...]:
    """The ids of the chunks that prove any output of a datapoint, each once, in the order of the provenance.

    Args:
        chunks: id of a page -> its chunks.
    """
    provenance = (p for output in datapoint.outputs for p in output.provenance or ())
    found = (id for p in provenance for id in chunks_containing(p, chunks.get(p.wikipedia_id or "", ())))
    return tuple(dict.fromkeys(found))
