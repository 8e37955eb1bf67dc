"""Exactly the ids of SentencePiece, from a tokenizer.json that was made from spiece.model.

The tokenizers library only finds the most probable pieces. This file normalises the text, because the library's own
normaliser differs from SentencePiece if a letter has several marks (`charsmap.py`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from .charsmap import Span, read_charsmap

SPACE = "\u2581"  # the mark that stands for a space inside pieces

# The last normalizers in every tokenizer.json that is made from spiece.model. They identify such a file.
SPACES: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"Regex": r"\A +"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " +"}, "content": SPACE},
    {"type": "Replace", "pattern": {"Regex": SPACE + r"+\z"}, "content": ""},
    {"type": "Prepend", "prepend": SPACE},
]

Piece = tuple[int, Span]


def charsmap_of(data: Mapping[str, Any]) -> bytes | None:
    """The character map of a tokenizer.json that was made from spiece.model; None for any other file."""
    normalizers = (data.get("normalizer") or {}).get("normalizers") or []
    if data["model"].get("type") != "Unigram" or normalizers[-len(SPACES) :] != SPACES:
        return None
    rest = [n for n in normalizers[: -len(SPACES)] if n != {"type": "NFC"}]
    if not rest:
        return b""
    if len(rest) > 1 or rest[0].get("type") != "Precompiled":
        return None
    return base64.b64decode(rest[0]["precompiled_charsmap"])


def _tokenizer(data: Mapping[str, Any]) -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(data))


class Unigram:
    """Encodes like SentencePiece, after a search for added tokens.

    Args:
        data: the parsed content of a tokenizer.json for which `charsmap_of` is not None.

    Raises:
        ValueError: the character map is damaged.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._rewritten = read_charsmap(charsmap_of(data) or b"")
        self._data = data
        self._added = data.get("added_tokens") or []
        self._token_ids = {token["content"]: token["id"] for token in self._added}
        self._token = re.compile("|".join(map(re.escape, self._token_ids)) or "(?!)")

    @cached_property
    def _pieces(self) -> Any:
        """The model alone. Control pieces get a space, which normalised text never has, so no text matches them."""
        special = {token["id"] for token in self._added if token.get("special")}
        pieces = enumerate(self._data["model"]["vocab"])
        hidden = [(f" {name}" if i in special and not score else name, score) for i, (name, score) in pieces]
        model = {**self._data["model"], "vocab": hidden}
        return _tokenizer({**self._data, "added_tokens": [], "normalizer": None, "decoder": None, "model": model})

    @cached_property
    def _splitter(self) -> Any:
        """Finds added tokens. Any text between them is one unknown word."""
        model = {"type": "WordLevel", "vocab": {"": 0}, "unk_token": ""}
        kept = {"version": "1.0", "added_tokens": self._added}
        return _tokenizer({**dict.fromkeys(self._data), **kept, "model": model})

    def _parts(self, text: str) -> Iterator[tuple[str | None, Span]]:
        """The text split at added tokens: the name of each, or None for other text, with start and end."""
        if not self._token.search(text):
            yield None, (0, len(text))
            return
        found = self._splitter.encode(text, add_special_tokens=False)
        for i, span in zip(found.ids, found.offsets, strict=True):
            yield self._splitter.id_to_token(i) or None, span

    def _marked(self, text: str) -> str:
        """SentencePiece's normal form: rewritten, a mark at the start and for each run of spaces, none at the end."""
        words = [word for word in self._rewritten(text).split(" ") if word]
        return (SPACE + SPACE.join(words)).rstrip(SPACE)

    def _spans(self, text: str) -> list[Span]:
        """For each character of `_marked`, the start and the end of its origin in the text."""
        rewritten, spans = self._rewritten(text), self._rewritten.spans(text)
        result: list[Span] = []
        for word in re.finditer("[^ ]+", rewritten):
            start = spans[word.start()][0]
            # The origin of a mark is the last space before the word; the origin of the first mark is empty.
            result += [spans[word.start() - 1] if result else (start, start), *spans[word.start() : word.end()]]
        return result

    def ids(self, text: str) -> list[int]:
        """The ids of a string."""
        ids: list[int] = []
        for token, (start, end) in self._parts(text):
            if token is None:
                ids += self._pieces.encode(self._marked(text[start:end]), add_special_tokens=False).ids
            else:
                ids.append(self._token_ids[token])
        return ids

    def pieces(self, text: str) -> list[Piece]:
        """The ids of a string, each with the start and the end of its piece."""
        result: list[Piece] = []
        for token, (start, end) in self._parts(text):
            if token is not None:
                result.append((self._token_ids[token], (start, end)))
                continue
            part = text[start:end]
            found, spans = self._pieces.encode(self._marked(part), add_special_tokens=False), self._spans(part)
            for i, (a, b) in zip(found.ids, found.offsets, strict=True):
                result.append((i, (start + spans[a][0], start + spans[b - 1][1])))
        return result
