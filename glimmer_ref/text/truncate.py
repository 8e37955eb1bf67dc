"""The first tokens of a long text, from a prefix of it, if the tokenizer reads word by word.

A text may be cut before a space between two ASCII letters or digits, if the tokenizer
- splits the text at spaces before it searches pieces, so that no piece contains the place of the cut;
- has only normalisers and splitters that depend on one character, on characters that compose with it, or on a word;
- has no added token that contains white space.
Then the text behind the cut does not affect the ids before it: the ids of the prefix are the first ids of the text.
The content of tokenizer.json shows whether a tokenizer has these properties. T5's tokenizers and that of the bundled
model have them. Any other tokenizer reads the whole text.

At most `MAX_CHARACTERS` characters are read. If the first tokens of a text need more characters, it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ..errors import InputError
from .tokenizer import Tokenizer

MAX_CHARACTERS = 1_000_000
CHARACTERS_A_TOKEN = 16  # characters of the first prefix per token: more than most languages need
MIN_TOKENS = 64  # minimum number of tokens for which the first prefix is made
_SPACES = re.compile(r"[\s\u2581]+")
_NORMALIZERS = {
    "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Lowercase", "StripAccents", "BertNormalizer", "Strip",
    "Prepend",
}  # fmt: skip
_SPLITTERS = {
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
    "Metaspace",
    "ByteLevel",
}  # splitters that cut at spaces and at other places
_INSIDE = {"Punctuation", "Digits"}
_REGEXES = re.compile(  # a word, a sign or digits, without white space; or only white space
    r"(\\b)?[A-Za-z]+(\\b)?|\[[^\]\\^\s\u2581-]+\]|\\d(\{\d\})?|(\\A)?( |\\s|\u2581)(\+|\{2,\})?(\\z)?"
)


def _stays_inside(pattern: Mapping[str, Any]) -> bool:
    """Whether every match of a pattern is inside a word or inside white space, and never contains parts of both."""
    if (regex := pattern.get("Regex")) is not None:
        return _REGEXES.fullmatch(regex) is not None
    text = pattern.get("String", "")
    return bool(_SPACES.fullmatch(text)) or bool(text and not _SPACES.search(text))


def _replaces(part: Mapping[str, Any]) -> bool:
    """Whether a replacement turns words into words, and white space into white space (or nothing, at the ends)."""
    pattern, content = part["pattern"], part["content"]
    if not _stays_inside(pattern):
        return False
    (text,) = pattern.values()
    if not (_SPACES.search(text) or r"\s" in text):
        return bool(content) and not _SPACES.search(content)
    at_ends = text.startswith(r"\A") or text.endswith(r"\z")
    return _SPACES.fullmatch(content) is not None or (at_ends and not content)


def _normalizer_fits(part: Mapping[str, Any] | None) -> bool:
    if part is None or part["type"] in _NORMALIZERS:
        return True
    if part["type"] == "Sequence":
        return all(map(_normalizer_fits, part["normalizers"]))
    return part["type"] == "Replace" and _replaces(part)


def _splits(part: Mapping[str, Any]) -> bool | None:
    """Whether a splitter cuts at spaces. False: it cuts only inside words. None: it may cut anywhere."""
    if part["type"] in _SPLITTERS:
        return True if part.get("split", True) and part.get("use_regex", True) else None
    if part["type"] in _INSIDE or (part["type"] == "Split" and _stays_inside(part["pattern"])):
        return False
    return None


def _cut_at_spaces(part: Mapping[str, Any] | None) -> bool:
    some = [] if part is None else part["pretokenizers"] if part["type"] == "Sequence" else [part]
    kinds = [_splits(one) for one in some]
    return True in kinds and None not in kinds


@lru_cache(maxsize=16)
def _word_by_word(tokenizer_json: str) -> bool:
    """Whether a prefix of a text gives its first tokens with this tokenizer.json."""
    try:
        data = json.loads(tokenizer_json)
        added = [token["content"] for token in data.get("added_tokens") or ()]
        return (
            _normalizer_fits(data.get("normalizer"))
            and _cut_at_spaces(data.get("pre_tokenizer"))
            and not any(re.search(r"\s", content) for content in added)
            and not data["model"].get("dropout")
        )
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return False  # another version of the format


def _alone(c: str) -> bool:
    return c.isascii() and c.isalnum()


def _boundary(text: str, end: int) -> int:
    """The last place not after `end` where a text may be cut; 0 if there is none."""
    at = text.rfind(" ", 0, end + 1)
    while at > 0 and not (_alone(text[at - 1]) and _alone(text[at + 1 : at + 2])):
        at = text.rfind(" ", 0, at)
    return max(at, 0)


def _check_unicode(text: str) -> None:
    """Check the whole text, including the part that is not read.

    Raises:
        InputError: the text has a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("text", "valid Unicode", repr(text[:40]), "remove lone surrogates") from None


def _beginnings(tokenizer: Tokenizer, text: str, tokens: int) -> Iterator[str]:
    """Prefixes of a text with increasing length; the last one is the text itself."""
    size = CHARACTERS_A_TOKEN * max(tokens, MIN_TOKENS)
    if size < len(text):
        _check_unicode(text)
        while size < min(len(text), MAX_CHARACTERS) and _word_by_word(tokenizer.json):
            if at := _boundary(text, size):
                yield text[:at]
            size *= 4
    if len(text) > MAX_CHARACTERS:
        expected = f"its first {tokens} tokens in the first {MAX_CHARACTERS:,} characters, cut where spaces are"
        raise InputError(f"text {text[:20]!r} ..", expected, f"too few in {len(text):,}", "cut it into passages")
    yield text


def first_ids(tokenizer: Tokenizer, text: str, tokens: int) -> tuple[list[int], str]:
    """The first ids of a text, and a prefix of the text that has these ids.

    Args:
        tokens: number of ids; fewer if the text has fewer.

    Raises:
        InputError: the text is not valid Unicode, or its first ids need too many characters.
    """
    ids, part = list[int](), ""
    for part in _beginnings(tokenizer, text, tokens):
        ids = tokenizer.encode(part)
        if len(ids) >= tokens:
            break
    return ids[:tokens], part


def beginning(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """A prefix of a text that has its first tokens. For a short text it is the text itself.

    Raises:
        InputError: as `first_ids`.
    """
    return text if len(text) <= CHARACTERS_A_TOKEN * max(tokens, MIN_TOKENS) else first_ids(tokenizer, text, tokens)[1]
