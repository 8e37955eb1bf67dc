"""The words of a text. All rankings by words use these rules, for questions and for passages.

1. Case and spelling: case folding and compatibility composition (NFKC) are applied twice. So composed and decomposed
   letters are equal, full and half width are equal, and STRASSE equals straße. Invisible characters (soft hyphens,
   joiners, variation selectors) are removed, except a zero-width space, which separates words.
2. A word is a run of letters, digits and underscores. Marks (vowel signs, viramas, accents) belong to their letter.
3. In scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese and the Tai scripts), each pair of
   neighbouring characters is a word; a character without neighbours is a word itself. A character is a letter with its
   marks.

The words of ASCII text are the lower-case matches of \\w+.

Source: rule 1 is Unicode's caseless matching of identifiers (section 3.13, D147), except for the zero-width space. Rule
3 is that of Lucene's analyser for Chinese, Japanese and Korean; here it does not apply to Korean, which has spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

RULE = 2  # version of the rules, which an index stores; version 1 split words at marks and did not fold spellings

_WORD = re.compile(r"\w+")
# Invisible characters (Default_Ignorable_Code_Point) except the zero-width space.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_MARKS = range(0x300, 0x1F000)  # all marks are here, except variation selectors, which are removed before
_WITHOUT_SPACES = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"  # Han, kana
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"  # Southeast Asia
)


class _Patterns(NamedTuple):
    r"""Regular expressions for the rules 2 and 3.

    Args:
        special: matches any character for which \w+ is not enough.
        word: matches a word; group 1 matches a run of characters in a script without spaces.
        character: matches a character of such a run.
    """

    special: re.Pattern[str]
    word: re.Pattern[str]
    character: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    marks = "".join(chr(c) for c in _MARKS if unicodedata.category(chr(c))[0] == "M")
    dense, mark = _WITHOUT_SPACES, f"[{marks}]"
    row = f"(?=\\w)[{dense}][{dense}{marks}]*"
    plain = f"[^\\W{dense}](?:[^\\W{dense}]+|{mark}+)*"
    patterns = (f"[{dense}{marks}]", f"({row})|{plain}", f"(?!{mark}).{mark}*")
    return _Patterns(*(re.compile(pattern, re.DOTALL) for pattern in patterns))


def _folded(text: str) -> str:
    """A text with the spelling that is used to compare words (rule 1)."""
    text = _UNSEEN.sub("", unicodedata.normalize("NFD", text))
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    return text


def _pairs(row: str) -> Iterable[str]:
    """Each pair of neighbouring characters; a single character itself."""
    characters = _patterns().character.findall(row)
    return characters if len(characters) == 1 else map("".join, pairwise(characters))


def words(text: str) -> list[str]:
    """The words of a text, in order, repeats included."""
    if text.isascii():
        return _WORD.findall(text.lower())
    text, patterns = _folded(text), _patterns()
    if not patterns.special.search("".join(set(text))):  # a long text has few different characters
        return _WORD.findall(text)
    found: list[str] = []
    for match in patterns.word.finditer(text):
        found.extend(_pairs(match[0]) if match[1] else (match[0],))
    return found


def distinct(text: str) -> list[str]:
    """The distinct words of a text, in order of appearance."""
    return list(dict.fromkeys(words(text)))
