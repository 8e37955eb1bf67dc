"""The lexical score ranks by shared rare words, with one order for ties."""

from __future__ import annotations

import pytest

from glimmer_ref.data.inputs import Passage
from glimmer_ref.errors import InputError
from glimmer_ref.retrieval.lexical import rank

TEXTS = [
    ("", "the tailor of the town"),
    ("The Cold Garden", "a book"),
    ("", "the cold of the town"),
    ("", "the GARDEN, the book"),
]
PASSAGES = [Passage(str(i), title, text) for i, (title, text) in enumerate(TEXTS)]


def test_rare_words_count_more_than_common_ones() -> None:
    # "garden" and "cold" are in two passages each, "the" in all, "wrote" in none.
    assert rank("Who wrote the cold garden?", PASSAGES, 4).tolist() == [1, 2, 3, 0]
    assert rank("tailor, town, town, town", PASSAGES, 2).tolist() == [0, 2], "repeated words count once"
    common = [Passage(str(i), "", "x y") for i in range(3)]
    assert rank("x y rare", [*common, Passage("3", "", "rare")], 2).tolist() == [3, 0], "log 4 over 2 log 4/3"


def test_titles_count_and_case_does_not() -> None:
    assert rank("COLD GARDEN", PASSAGES, 1).tolist() == [1]
    assert rank("straße", [PASSAGES[0], Passage("x", "", "STRASSE")], 1).tolist() == [1]


@pytest.mark.parametrize("prefix", ["question: ", "the "])
def test_a_prefix_changes_nothing(prefix: str) -> None:
    for question in ("cold town", "garden book", "nothing of this"):
        assert rank(prefix + question, PASSAGES, 4).tolist() == rank(question, PASSAGES, 4).tolist()


def test_ties_go_to_the_lower_row_and_few_passages_are_all_ranked() -> None:
    assert rank("zebra", PASSAGES, 9).tolist() == [0, 1, 2, 3]
    assert rank("?", PASSAGES, 2).tolist() == [0, 1]
    assert rank("cold", iter([*PASSAGES, *PASSAGES]), 4).tolist() == [1, 2, 5, 6]
    assert rank("cold", [], 3).tolist() == []


def test_k_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="rank: k: at least 1; got 0"):
        rank("cold", PASSAGES, 0)
