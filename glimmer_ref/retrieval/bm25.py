"""BM25, the only ranking by shared words: for `ask` without an index, the worlds' candidates and stored indexes."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..data.inputs import Passage
from ..errors import InputError
from ..ragged import Ints, offsets
from ..text.words import distinct, words
from .top_k import best

K1, B = 0.9, 0.4  # the usual values for passage retrieval
UNIT = 2**24  # a weight is stored as a whole number of 1/UNIT


def passage_words(passage: Passage) -> list[str]:
    """The words of a passage with its title, in order, repeats included."""
    return words(f"{passage.title} {passage.text}")


class Postings(NamedTuple):
    """Which passages hold each word, and what it adds to their score; in main memory, or mapped from a file.

    Args:
        vocabulary: [V] words, sorted.
        starts: [V+1] where the postings of each word begin.
        rows: [P] uint32, the passage of each posting, rising within a word.
        weights: [P] uint32, what the posting adds to the score of its passage, as a multiple of 1/UNIT.
        passages: N, how many there are.
    """

    vocabulary: Sequence[str]
    starts: Ints
    rows: np.ndarray
    weights: np.ndarray
    passages: int

    @classmethod
    def of(cls, passages: Iterable[Passage], only: Collection[str] | None = None) -> Postings:
        """Count the words of passages, which are read once and not kept.

        Args:
            only: the words to count; None for all. A question of only these words has the same ranking either way.

        Raises:
            InputError: no passages.
        """
        kept = None if only is None else set(only)
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__  # a new word gets the next number
        word_numbers, counts, sizes, lengths = array("i"), array("i"), array("q"), array("q")
        for passage in passages:
            found = passage_words(passage)
            lengths.append(len(found))
            count = Counter(found if kept is None else filter(kept.__contains__, found))
            sizes.append(len(count))
            word_numbers.extend(map(numbers.__getitem__, count))
            counts.extend(count.values())
        if not lengths:
            raise InputError("BM25", "at least one passage", "none")
        vocabulary = sorted(numbers)
        sorted_number = np.empty(len(vocabulary), np.int32)
        sorted_number[[numbers[word] for word in vocabulary]] = np.arange(len(vocabulary))
        word = sorted_number[np.asarray(word_numbers)]
        row = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
        n_w = np.bincount(word, minlength=len(vocabulary))
        weights = _weights(np.asarray(lengths), word, row, np.asarray(counts), n_w)
        order = np.argsort(word, kind="stable")
        return cls(vocabulary, offsets(n_w), row[order], weights[order], len(lengths))

    def scores(self, question: str) -> Ints:
        """The score of every passage: [N], as multiples of 1/UNIT."""
        scores = np.zeros(self.passages, np.int64)
        for word in distinct(question):
            i = bisect_left(self.vocabulary, word)
            if i < len(self.vocabulary) and self.vocabulary[i] == word:
                some = slice(self.starts[i], self.starts[i + 1])
                # np.add.at is fast only for 64-bit numbers: a quarter of the time of scores[rows] += weights.
                np.add.at(scores, self.rows[some].astype(np.int64), self.weights[some].astype(np.int64))
        return scores


def _weights(lengths: Ints, word: Ints, row: np.ndarray, f: Ints, n_w: Ints) -> np.ndarray:
    """What each posting adds to a score: [P] uint32."""
    n = len(lengths)
    idf = np.array([math.log(1 + (n - x + 0.5) / (x + 0.5)) for x in n_w.tolist()])
    mean = max(int(lengths.sum()) / n, 1)
    saturation = f * (K1 + 1) / (f + (K1 * (1 - B + B * lengths / mean))[row])
    return np.rint(idf[word] * saturation * UNIT).astype(np.uint32)


class BM25:
    """Okapi's BM25 over passages with their titles.

    The score of a passage is the sum over the distinct words w (`text.words`) of the question of
    log(1 + (N - n_w + 1/2) / (n_w + 1/2)) * f (k1 + 1) / (f + k1 (1 - b + b l / L)):
    N passages, n_w of them with w, which occurs f times in this one; l words in this one, L on average; k1 says how
    soon a repeated word stops adding to the score, and b how much a long passage is held back. Summands are rounded to
    whole numbers and added exactly, so the order is the same on every machine.

    Args:
        only: as in `Postings.of`.

    Raises:
        InputError: no passages.
    """

    def __init__(self, passages: Iterable[Passage], only: Collection[str] | None = None) -> None:
        self.postings = Postings.of(passages, only)

    def rank(self, question: str, k: int) -> Ints:
        """The k best passages, best first, ties to the lower row; all of them if there are fewer.

        Returns:
            [k] rows: places in `passages`.

        Raises:
            InputError: k below 1.
        """
        if k < 1:
            raise InputError("rank: k", "at least 1", str(k))
        return best(self.postings.scores(question), np.arange(self.postings.passages), k)[1]
