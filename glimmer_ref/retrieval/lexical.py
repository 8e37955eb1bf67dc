"""Ranking passages by the words that they share with a question, where no index was named."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np

from ..data.inputs import Passage
from ..errors import InputError
from ..ragged import Ints
from ..text.words import distinct, words


def rank(question: str, passages: Iterable[Passage], k: int) -> Ints:
    """The k passages that share most with a question, best first, ties to the lower row.

    A plain lexical score, not the paper's retriever: sum of log(n / n_w) over the distinct words w (`text.words`) of
    the question that occur in a passage's title or text, n passages in all and n_w with w. A word of
    every passage, or of none, such as a prefix's, counts nothing. All passages are read, none is kept.

    Args:
        k: how many, at least 1; all of them where there are fewer.

    Returns:
        [k] rows: places in `passages`.

    Raises:
        InputError: k below 1.
    """
    if k < 1:
        raise InputError("rank: k", "at least 1", str(k))
    found: dict[str, array[int]] = {word: array("q") for word in distinct(question)}
    n = 0
    for row, passage in enumerate(passages):
        n = row + 1
        for word in found.keys() & set(words(f"{passage.title} {passage.text}")):
            found[word].append(row)
    scores = np.zeros(n)
    for rows in found.values():
        if rows:
            scores[rows] += math.log(n / len(rows))
    return np.argsort(-scores, kind="stable")[:k]
