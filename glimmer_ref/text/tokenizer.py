"""Strings to ids and back, by the tokenizers library."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import Refused


def _reraise_interrupt(error: BaseException) -> None:
    """The library raises bare Exception, and for a bad regex or map a PanicException, which is none."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error


class Tokenizer:
    """A tokenizer.json of the tokenizers library.

    Args:
        path: the file.
        vocab_size: ids must be below it, where it is given.

    Raises:
        Refused: no such file, one that the library cannot read, or ids past the model's vocabulary.
    """

    def __init__(self, path: str | Path, vocab_size: int | None = None) -> None:
        import tokenizers  # 40 ms that who only brings token ids need not wait for

        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(str(path), "a tokenizer.json", type(error).__name__) from None
        try:
            self._inner = tokenizers.Tokenizer.from_str(text)
        except BaseException as error:
            _reraise_interrupt(error)
            raise Refused(str(path), "a file of the tokenizers library", str(error).split("\n")[0]) from None
        self._inner.no_truncation()
        self._inner.no_padding()
        self.json = text
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        unknown = getattr(self._inner.model, "unk_token", None)
        self.unknown_id = self._inner.token_to_id(unknown) if unknown else None
        size = self._inner.get_vocab_size()
        if vocab_size is not None and size > vocab_size:
            raise Refused(str(path), f"at most the model's vocab_size={vocab_size} tokens", str(size))

    def encode(self, text: str) -> list[int]:
        """Ids of a string, without end-of-sequence.

        Raises:
            Refused: a string that is no valid Unicode.
        """
        try:
            return list(self._inner.encode(text, add_special_tokens=False).ids)
        except (TypeError, UnicodeEncodeError):
            raise Refused("text", "valid Unicode", repr(text[:40]), "remove lone surrogates") from None
        except BaseException as error:
            _reraise_interrupt(error)
            raise Refused("text", "a tokenizer that can read it", str(error).split("\n")[0]) from None

    def unknown_words(self, text: str) -> list[str]:
        """The pieces of a string that the vocabulary does not hold."""
        if self.unknown_id is None:
            return []
        encoded = self._inner.encode(text, add_special_tokens=False)
        spans = (span for i, span in zip(encoded.ids, encoded.offsets, strict=True) if i == self.unknown_id)
        return [text[a:b] for a, b in spans]

    def decode(self, ids: list[int]) -> str:
        """The string of some ids, special tokens left out."""
        return str(self._inner.decode(ids, skip_special_tokens=True))

    def pieces(self, ids: list[int]) -> list[str]:
        """Each id as the string that stands for it in the vocabulary."""
        return [self._inner.id_to_token(i) or f"<{i}>" for i in ids]
