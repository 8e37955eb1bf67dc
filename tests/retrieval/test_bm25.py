"""BM25 ranks as its formula says, and the same on every machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import pytest

from glimmer_ref.data.inputs import Passage
from glimmer_ref.errors import InputError
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.text.words import distinct


def plain(question: str, texts: list[list[str]], k1: float, b: float) -> list[float]:
    """The formula, a passage and a word at a time."""
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        score = 0.0
        for word in set(re.findall(r"\w+", question.casefold())):
            n, f = sum(word in t for t in texts), text.count(word)
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


def test_it_ranks_as_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    for _ in range(20):
        texts = [[words[int(30 * x**2)] for x in rng.random(rng.integers(1, 20))] for _ in range(40)]
        passages = [Passage(str(i), t[0].upper(), " ".join(t[1:])) for i, t in enumerate(texts)]
        question = " ".join(rng.choice(words, 6)) + " W3?"
        expected = plain(question, texts, 0.9, 0.4)
        rows = BM25(passages).rank(question, 10)
        assert np.allclose([expected[r] for r in rows], sorted(expected, reverse=True)[:10], atol=1e-6)


def test_ties_go_to_the_lower_row_and_few_passages_are_all_ranked() -> None:
    same = [Passage(str(i), "", "the cold garden") for i in range(5)]
    assert BM25(same).rank("cold", 3).tolist() == [0, 1, 2]
    assert BM25(same).rank("unheard of", 9).tolist() == [0, 1, 2, 3, 4]
    assert BM25([Passage("0", "", "?")]).rank("what?", 1).tolist() == [0], "a passage without a word"


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="at least one passage"):
        BM25([])
    with pytest.raises(InputError, match="k: expected at least 1"):
        BM25([Passage("0", "", "x")]).rank("x", 0)


TEXTS = [
    ("", "the tailor of the town"),
    ("The Cold Garden", "a book"),
    ("", "the cold of the town"),
    ("", "the GARDEN, the book"),
]
PASSAGES = [Passage(str(i), title, text) for i, (title, text) in enumerate(TEXTS)]


def rank(question: str, passages: Iterable[Passage], k: int) -> list[int]:
    """The rows as a count of all words gives them, and as one of the question's words alone does."""
    some = list(passages)
    rows = BM25(some).rank(question, k).tolist()
    assert BM25(iter(some), distinct(question)).rank(question, k).tolist() == rows
    return rows


def test_rare_words_count_more_than_common_ones() -> None:
    # "garden" and "cold" are in two passages each, "the" in all, twice in 3 and 2, of which 3 is the shorter.
    assert rank("Who wrote the cold garden?", PASSAGES, 4) == [1, 3, 2, 0]
    assert rank("tailor, town, town, town", PASSAGES, 2) == [0, 2], "repeated words count once"
    common = [Passage(str(i), "", "x y") for i in range(3)]
    assert rank("x y rare", [*common, Passage("3", "", "rare")], 2) == [3, 0]


def test_titles_count_and_case_does_not() -> None:
    assert rank("COLD GARDEN", PASSAGES, 1) == [1]
    assert rank("straße", [PASSAGES[0], Passage("x", "", "STRASSE")], 1) == [1]


def test_a_prefix_that_no_passage_holds_changes_nothing() -> None:
    for question in ("cold town", "garden book", "nothing of this"):
        assert rank(f"question: {question}", PASSAGES, 4) == rank(question, PASSAGES, 4)


def test_words_of_no_passage_and_repeated_passages() -> None:
    assert rank("zebra", PASSAGES, 9) == [0, 1, 2, 3]
    assert rank("?", PASSAGES, 2) == [0, 1]
    assert rank("cold", [*PASSAGES, *PASSAGES], 4) == [1, 2, 5, 6]
