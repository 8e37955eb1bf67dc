"""Recovers a page from its chunks: the inverse of `data.chunks`, which its tests need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from glimmer_ref.data.chunks import Chunk, Span, _joined
from glimmer_ref.errors import InputError


def provenance(chunk: Chunk) -> dict[str, Any]:
    """The place of a chunk in KILT's format, for predictions."""
    first, last = chunk.spans[0], chunk.spans[-1]
    return {
        "wikipedia_id": chunk.page,
        "title": chunk.title,
        "section": chunk.section,
        "start_paragraph_id": first.paragraph,
        "start_character": first.start,
        "end_paragraph_id": last.paragraph,
        "end_character": last.end,
    }


def _told_apart(chunk: Chunk) -> list[tuple[Span, str]]:
    """The spans of a chunk's text, each with its characters: the inverse of `_joined`."""
    pieces, at = list[tuple[Span, str]](), 0
    for span in chunk.spans:
        piece = chunk.text[at : at + span.end - span.start]
        at += len(piece) + (not piece[-1:].isspace())
        pieces.append((span, piece))
    lengths = [span.end - span.start for span in chunk.spans]
    if [len(piece) for _, piece in pieces] != lengths or _joined(piece for _, piece in pieces) != chunk.text:
        raise InputError(f"chunk {chunk.id!r}", "the text that its spans name", f"{len(chunk.text)} characters")
    return pieces


def recover(chunks: Iterable[Chunk]) -> tuple[str, ...]:
    """The paragraphs of a page, from all of its chunks in any order.

    Raises:
        InputError: a chunk before the last is missing, one belongs to another page, or its text or spans were
            changed.
    """
    chunks = sorted(chunks, key=lambda chunk: chunk.spans[0])
    if [c.id for c in chunks] != [f"{chunks[0].page}:{number}" for number in range(len(chunks))]:
        raise InputError("recover", "the chunks of one page, each once", ", ".join(c.id for c in chunks)[:60])
    pieces = [(Span(s.paragraph, 0, len(s.text)), s.text) for chunk in chunks for s in chunk.silent]
    pieces += [piece for chunk in chunks for piece in _told_apart(chunk)]
    paragraphs: list[str] = []
    for span, piece in sorted(pieces):
        if span.paragraph == len(paragraphs):
            paragraphs.append("")
        if (span.paragraph, span.start) != (len(paragraphs) - 1, len(paragraphs[-1])):
            raise InputError(f"page {chunks[0].page!r}", "spans that follow each other", f"a gap before {span[:2]}")
        paragraphs[-1] += piece
    return tuple(paragraphs)
