"""BM25: the ranking by shared words that the generated worlds' candidates come from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..data.inputs import Passage
from ..errors import InputError
from ..ragged import Ints
from ..text.words import distinct, words

K1, B = 0.9, 0.4  # as in the usual passage retrieval set-ups
UNIT = 2**24  # weights are kept as whole numbers of this part of one


class BM25:
    """Okapi's BM25 over passages with their titles.

    sum over the distinct words w (`text.words`) of the question of
    log(1 + (N - n_w + 1/2) / (n_w + 1/2)) * f (k1 + 1) / (f + k1 (1 - b + b l / L)),
    N passages, n_w of them with w, f times in this one of l words, L words on average. Weights are
    rounded to whole numbers and summed exactly, so that an order is the same on every machine.

    Args:
        k1, b: how soon a word that is said again stops counting, and how much long passages are held back.

    Raises:
        InputError: no passages.
    """

    def __init__(self, passages: Sequence[Passage], k1: float = K1, b: float = B) -> None:
        if not passages:
            raise InputError("BM25", "at least one passage", "none")
        counts = [Counter(words(f"{p.title} {p.text}")) for p in passages]
        lengths = [sum(c.values()) for c in counts]
        self.n, mean = len(passages), max(sum(lengths) / len(passages), 1)
        postings: dict[str, tuple[list[int], list[float]]] = {}
        for row, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            for word, f in count.items():
                rows, weights = postings.setdefault(word, ([], []))
                rows.append(row)
                weights.append(f * (k1 + 1) / (f + k1 * (1 - b + b * length / mean)))
        self._postings = {word: self._weigh(*pair) for word, pair in postings.items()}

    def _weigh(self, rows: list[int], weights: list[float]) -> tuple[Ints, Ints]:
        idf = math.log(1 + (self.n - len(rows) + 0.5) / (len(rows) + 0.5))
        return np.array(rows), np.rint(idf * np.array(weights) * UNIT).astype(np.int64)

    def rank(self, question: str, k: int) -> Ints:
        """The k best passages, best first, ties to the lower row; all of them where there are fewer.

        Returns:
            [k] rows: places in `passages`.

        Raises:
            InputError: k below 1.
        """
        if k < 1:
            raise InputError("rank: k", "at least 1", str(k))
        scores = np.zeros(self.n, np.int64)
        for word in distinct(question):
            if word in self._postings:
                rows, weights = self._postings[word]
                scores[rows] += weights
        order = np.arange(self.n) - scores * self.n  # all different, so any sort gives the same
        best = np.argpartition(order, k - 1)[:k] if k < self.n else np.arange(self.n)
        return best[np.argsort(order[best])]
