"""Conversion of strings to token ids and back, with the tokenizers library."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ..disk.read import read_text
from ..errors import InputError
from .tokenizer_file import read_tokenizer
from .unigram import Piece, Unigram, charsmap_of

T = TypeVar("T")


def _reraise_interrupt(error: BaseException) -> None:
    """Raise an interrupt again, and no other error.

    The library raises bare Exception. For a bad regex or map it raises PanicException, which is not an Exception.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error


def _check_text(text: str) -> None:
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise InputError("text", "valid Unicode", repr(text[:40]), "remove lone surrogates") from None


class Tokenizer:
    """The tokenizer from a tokenizer.json.

    A file that was converted from spiece.model gives the ids of SentencePiece, any other file those of the tokenizers
    library.

    Args:
        path: the file.
        vocab_size: all ids must be below it; None: not checked.
        text: the content of the file; None: it is read.

    Raises:
        InputError: there is no such file, the library cannot read it, or an id is outside the model's vocabulary.
    """

    def __init__(self, path: str | Path, vocab_size: int | None = None, text: str | None = None) -> None:
        import tokenizers  # takes 40 ms, and token ids alone do not need it

        text = read_text(path) if text is None else text
        data, highest = read_tokenizer(str(path), text)
        try:
            self._inner = tokenizers.Tokenizer.from_str(text)
        except BaseException as error:
            _reraise_interrupt(error)
            raise InputError(str(path), "a file of the tokenizers library", str(error).split("\n")[0]) from None
        for token in data.get("added_tokens") or []:
            given = self._inner.token_to_id(token["content"])
            if given != token["id"]:
                raise InputError(f"{path}: {token['content']}", f"id {token['id']}, as the file says", f"{given}")
        self._inner.no_truncation()
        self._inner.no_padding()
        # A file that was converted from spiece.model gives the ids of SentencePiece.
        self._exact = Unigram(data) if charsmap_of(data) is not None else None
        self._names: dict[str, int] = {}
        self._substituted: dict[int, str] = {}
        self.json = text
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        unknown = getattr(self._inner.model, "unk_token", None)
        self.unknown_id = self._inner.token_to_id(unknown) if unknown else None
        self.size = self._inner.get_vocab_size()
        if vocab_size is not None and highest >= vocab_size:
            got = f"{self.size}, with ids up to {highest}"
            raise InputError(str(path), f"at most the model's vocab_size={vocab_size} tokens", got)

    def substituting(self, names: Mapping[str, int]) -> Tokenizer:
        """A copy of this tokenizer that encodes some words as other tokens, and decodes these tokens as the words.

        Args:
            names: word -> token id. The token is a whole word and belongs to one word only, or is the unknown token.
        """
        other = copy.copy(self)
        other._names = dict(names)
        other._substituted = {i: word for word, i in names.items() if i != self.unknown_id}
        return other

    def _of_library(self, made: Callable[[], T]) -> T:
        """Call the library. An error of any class means that it cannot read the text."""
        try:
            return made()
        except BaseException as error:
            _reraise_interrupt(error)
            raise InputError("text", "a tokenizer that can read it", str(error).split("\n")[0]) from None

    def _pieces(self, text: str) -> list[Piece]:
        """The ids of a string, each with the start and the end of its piece."""
        if self._exact is not None:
            return self._exact.pieces(text)
        encoded = self._inner.encode(text, add_special_tokens=False)
        return list(zip(encoded.ids, encoded.offsets, strict=True))

    def _ids(self, text: str) -> list[int]:
        if self._exact is not None:
            return self._exact.ids(text)
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a string, without end of sequence.

        Raises:
            InputError: the string is not valid Unicode, or the tokenizer cannot read it.
        """
        if self._names:
            return [i for i, _ in self.words(text)]
        _check_text(text)
        return self._of_library(lambda: self._ids(text))

    def words(self, text: str) -> list[tuple[int, str]]:
        """The pieces of a string, each with its id.

        Raises:
            InputError: as `encode`.
        """
        _check_text(text)
        pieces = ((i, text[a:b]) for i, (a, b) in self._of_library(lambda: self._pieces(text)))
        return [(self._names.get(piece, i), piece) for i, piece in pieces]

    def unknown_words(self, text: str) -> list[str]:
        """The pieces of a string that the vocabulary does not hold.

        Raises:
            InputError: as `encode`.
        """
        if self.unknown_id is None:
            return []
        return [piece for i, piece in self.words(text) if i == self.unknown_id]

    def decode(self, ids: list[int]) -> str:
        """The string for some ids, without special tokens.

        Raises:
            InputError: the tokenizer cannot decode the ids.
        """
        text = str(self._of_library(lambda: self._inner.decode(ids, skip_special_tokens=True)))
        words = {str(self._inner.id_to_token(i)): self._substituted[i] for i in ids if i in self._substituted}
        if not words:
            return text
        names = "|".join(re.escape(name) for name in words)
        return re.sub(rf"\b(?:{names})\b", lambda found: words[found[0]], text)

    def pieces(self, ids: list[int]) -> list[str]:
        """For each id, its string in the vocabulary, or the word that it replaces."""
        return [self._substituted.get(i) or self._inner.id_to_token(i) or f"<{i}>" for i in ids]
