"""Words are the same for every text, whatever the script and however the letters are stored."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimmer_ref.data.inputs import Passage
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.text import words as rule
from glimmer_ref.text.words import distinct, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't a_b, B2!", ["don", "t", "a_b", "b2"]),
        ("राजधानी दिल्ली।", ["राजधानी", "दिल्ली"]),
        ("தமிழ்நாடு", ["தமிழ்நாடு"]),
        ("Zoe\u0308 ZOË", ["zoë", "zoë"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("ﬁne ½ x² Ⅳ", ["fine", "1", "2", "x2", "iv"]),
        ("क\u094d\u200dष soft\u00adhyphen", ["क्ष", "softhyphen"]),
        ("x\u200by \u0301a", ["x", "y", "a"]),
        ("한국어 서울", ["한국어", "서울"]),
        ("東京タワー、猫 iPhone手机", ["東京", "京タ", "タワ", "ワー", "猫", "iphone", "手机"]),
        ("ｶﾞｷﾞ か\u3099き", ["ガギ", "がき"]),
        ("𠮷野家", ["𠮷野", "野家"]),
        ("กรุงเทพ", ["กรุ", "รุง", "งเ", "เท", "ทพ"]),
        ("ភ្នំពេញ", ["ភ្នំ", "នំពេ", "ពេញ"]),
        ("မြန်မာ", ["မြန်", "န်မာ"]),
        ("ລາວ", ["ລາ", "າວ"]),
        ("؟ 。 \u0301 ", []),
    ],
)
def test_words_by_script(text: str, expected: list[str]) -> None:
    expected = [unicodedata.normalize("NFKC", word) for word in expected]
    assert words(text) == expected
    assert distinct(text) == list(dict.fromkeys(expected))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_spellings_of_one_text_have_the_same_words(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert words(unicodedata.normalize(form, text)) == words(text)
    assert words(text.casefold()) == words(text)


@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_ascii_gives_what_it_always_gave(text: str) -> None:
    assert words(text) == re.findall(r"\w+", text.casefold())


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_words_have_a_letter_or_a_digit_and_no_space(text: str) -> None:
    for word in words(text):
        assert re.search(r"\w", word) and not re.search(r"\s", word)


def test_all_marks_are_known() -> None:
    marks = {c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M"}
    assert all(ord(c) in rule._MARKS or rule._UNSEEN.match(c) for c in marks)


STORED = [
    ("", "मुंबई एक शहर है"),
    ("", "दिल्ली भारत की राजधानी है"),
    ("Zoe\u0308 Mu\u0308ller", "sie"),
    ("", "大阪城は大阪にある"),
    ("", "東京タワーは高い"),
    ("", "กรุงเทพมหานคร"),
]
ASKED = {"राजधानी": 1, "ZOË": 2, "Zoë Müller": 2, "東京タワーの高さは?": 4, "大阪城": 3, "ไปกรุงเทพ": 5}


def test_the_ranker_finds_them() -> None:
    passages = [Passage(str(i), title, text) for i, (title, text) in enumerate(STORED)]
    ranked = BM25(passages)
    for question, row in ASKED.items():
        assert ranked.rank(question, 1).tolist() == [row], question
