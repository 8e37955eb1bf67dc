"""Words, as every ranking by shared words reads them: one rule for questions and passages.

1. Case and spelling: compatibility composition (NFKC) around case folding, so that composed and decomposed letters,
   full and half width, STRASSE and straße are one. Characters that are not seen (soft hyphens, joiners, variation
   selectors) are left out; a zero-width space stays, and parts words.
2. A word is a row of letters, digits and underscores. Marks on a letter belong to it: vowel signs, viramas, accents.
3. Scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese and the Tai scripts) give each
   two neighbouring characters, a lone character itself. A character is a letter with its marks.

Text in ASCII gives what it always gave: the case-folded matches of \\w+.

Source: 1 is Unicode's caseless matching of identifiers (section 3.13, D147), but for the zero-width space; 3 is what
Lucene's analyser does for Chinese, Japanese and Korean, of which Korean has spaces and is left as it is here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

RULE = 2  # what an index of words was made by; 1 cut words at every mark and knew one spelling

_WORD = re.compile(r"\w+")
# Characters without a shape (Default_Ignorable_Code_Point) but the zero-width space.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_MARKS = range(0x300, 0x1F000)  # no mark is elsewhere, but variation selectors, which are not seen
_WITHOUT_SPACES = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"  # Han, kana
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"  # Southeast Asia
)


class _Patterns(NamedTuple):
    r"""What a text has where \w+ is not the rule; a word, or in group 1 a row without spaces; a character of a row."""

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
    """A text in the one spelling that words are compared in."""
    text = _UNSEEN.sub("", unicodedata.normalize("NFD", text))
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    return text


def _pairs(row: str) -> Iterable[str]:
    """Each two neighbouring characters; a lone one itself."""
    characters = _patterns().character.findall(row)
    return characters if len(characters) == 1 else map("".join, pairwise(characters))


def words(text: str) -> list[str]:
    """The words of a text, in order, repeats included."""
    if text.isascii():
        return _WORD.findall(text.lower())
    text, patterns = _folded(text), _patterns()
    if not patterns.special.search("".join(set(text))):  # a long text has few characters
        return _WORD.findall(text)
    found: list[str] = []
    for match in patterns.word.finditer(text):
        found.extend(_pairs(match[0]) if match[1] else (match[0],))
    return found


def distinct(text: str) -> list[str]:
    """The distinct words of a text, in order of appearance."""
    return list(dict.fromkeys(words(text)))
