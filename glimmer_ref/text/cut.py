"""The first tokens of a text, without reading all of it: a prefix gives them, where the tokenizer reads word by word.

A text may be cut before a space between two letters or digits of ASCII, if the tokenizer
- splits there before it looks at pieces, so that no piece and no best path reaches across;
- has only normalisers and splitters that look at one character, at what composes with it, or at a word;
- has no added token with white space in it.
What comes behind the cut then changes nothing before it: the ids of the prefix are the first ids of the text.
Which tokenizers these are is told by their tokenizer.json: T5's are, and so is the bundled model's. Another one
reads the whole text.

No more than `MOST` characters are ever read; a text whose first tokens need more is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ..errors import InputError
from .tokenizer import Tokenizer

MOST = 1_000_000
EACH = 16  # characters a token to begin with: more than most languages need
LEAST = 64  # tokens to begin with
_SPACES = re.compile(r"[\s\u2581]+")
_NORMALIZERS = {
    "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Lowercase", "StripAccents", "BertNormalizer", "Strip",
    "Prepend",
}  # fmt: skip
_SPLITTERS = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Metaspace", "ByteLevel"}  # at a space, too
_INSIDE = {"Punctuation", "Digits"}
_REGEXES = re.compile(  # of a word, a sign or digits, without white space; of white space alone
    r"(\\b)?[A-Za-z]+(\\b)?|\[[^\]\\^\s\u2581-]+\]|\\d(\{\d\})?|(\\A)?( |\\s|\u2581)(\+|\{2,\})?(\\z)?"
)


def _whole(pattern: Mapping[str, Any]) -> bool:
    """Does a pattern match inside a word, or inside white space, but never across both?"""
    if (regex := pattern.get("Regex")) is not None:
        return _REGEXES.fullmatch(regex) is not None
    text = pattern.get("String", "")
    return bool(_SPACES.fullmatch(text)) or bool(text and not _SPACES.search(text))


def _replaces(part: Mapping[str, Any]) -> bool:
    """Does a replacement leave words words, and white space white space, or at the text's ends nothing?"""
    pattern, content = part["pattern"], part["content"]
    if not _whole(pattern):
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
    """Does a splitter cut at spaces: yes; no, but inside of words alone; None: it may do something else."""
    if part["type"] in _SPLITTERS:
        return True if part.get("split", True) and part.get("use_regex", True) else None
    if part["type"] in _INSIDE or (part["type"] == "Split" and _whole(part["pattern"])):
        return False
    return None


def _cut_at_spaces(part: Mapping[str, Any] | None) -> bool:
    some = [] if part is None else part["pretokenizers"] if part["type"] == "Sequence" else [part]
    kinds = [_splits(one) for one in some]
    return True in kinds and None not in kinds


@lru_cache(maxsize=16)
def _word_by_word(tokenizer_json: str) -> bool:
    """Does a tokenizer.json say that its tokenizer may be given a text's beginning?"""
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
    """The last place to cut at or before `end`; 0 where there is none."""
    at = text.rfind(" ", 0, end + 1)
    while at > 0 and not (_alone(text[at - 1]) and _alone(text[at + 1 : at + 2])):
        at = text.rfind(" ", 0, at)
    return max(at, 0)


def _check_unicode(text: str) -> None:
    """What is not read must be as valid as what is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("text", "valid Unicode", repr(text[:40]), "remove lone surrogates") from None


def _beginnings(tokenizer: Tokenizer, text: str, tokens: int) -> Iterator[str]:
    """Longer and longer beginnings of a text, the text itself last."""
    size = EACH * max(tokens, LEAST)
    if size < len(text):
        _check_unicode(text)
        while size < min(len(text), MOST) and _word_by_word(tokenizer.json):
            if at := _boundary(text, size):
                yield text[:at]
            size *= 4
    if len(text) > MOST:
        wanted = f"its first {tokens} tokens in the first {MOST:,} characters, cut where spaces are"
        raise InputError(f"text {text[:20]!r} ..", wanted, f"too few in {len(text):,}", "cut it into passages")
    yield text


def first_ids(tokenizer: Tokenizer, text: str, tokens: int) -> tuple[list[int], str]:
    """The first ids of a text, and a beginning of the text that holds them.

    Args:
        tokens: how many, fewer where the text has fewer.

    Raises:
        InputError: a string that is no valid Unicode, or one that is too long to find them.
    """
    ids, part = list[int](), ""
    for part in _beginnings(tokenizer, text, tokens):
        ids = tokenizer.encode(part)
        if len(ids) >= tokens:
            break
    return ids[:tokens], part


def beginning(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """A beginning of a text that holds its first tokens: a short text itself.

    Raises:
        InputError: as `first_ids`.
    """
    return text if len(text) <= EACH * max(tokens, LEAST) else first_ids(tokenizer, text, tokens)[1]
