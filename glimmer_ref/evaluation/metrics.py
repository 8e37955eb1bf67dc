"""The metrics of answers and of found pages: exact match, F1, accuracy, R-precision, recall, and those of KILT.

Each function scores one question; the score of a task is the mean over its questions. All agree with KILT's evaluation
bit for bit (tests/fixtures/kilt_scores.jsonl was recorded from it).

Arguments of all functions:
    answer: the model's answer; an empty one is wrong.
    accepted: the answers that count as right; empty ones are ignored.
    found: ids of pages, best first; a repeated page counts at its first place only.
    evidence: for each right output of the question, the ids of the pages that prove it together.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from ..errors import InputError

EXACT_MATCH, ACCURACY = "exact match", "accuracy"
_BY_ACCURACY = frozenset({"fever", "trex", "zsre", "structured_zeroshot"})  # the files of zsRE have the last name
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces, in that order.

    Source: the order of SQuAD's and KILT's evaluation, verified there.
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def _said(answer: str, accepted: Iterable[str]) -> tuple[str, list[str]]:
    """The answer and the accepted answers without surrounding space; nothing is accepted if the answer is empty."""
    answer = answer.strip()
    return answer, [a.strip() for a in accepted if answer and a.strip()]


def exact_match(answer: str, accepted: Iterable[str]) -> bool:
    """Is the answer, normalised, one of the accepted ones? For NQ, TriviaQA, HotPotQA.

    Paper: 4.1 exact match
    """
    answer, right = _said(answer, accepted)
    return normalise(answer) in map(normalise, right)


def f1(answer: str, accepted: Iterable[str]) -> float:
    """2 precision recall / (precision + recall) of normalised words; the best over all accepted answers."""
    answer, right = _said(answer, accepted)
    return max((_word_f1(normalise(answer).split(), normalise(a).split()) for a in right), default=0.0)


def _word_f1(said: Sequence[str], right: Sequence[str]) -> float:
    common = (Counter(said) & Counter(right)).total()
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(right)
    return 2 * precision * recall / (precision + recall)


def accuracy(answer: str, accepted: Iterable[str]) -> bool:
    """Is the answer exactly one of the accepted ones? For FEVER, zsRE, T-REx.

    Source: KILT's evaluation removes only the space around an answer here.
    """
    answer, right = _said(answer, accepted)
    return answer in right


def measure_of(task: str) -> str:
    """The measure of a task: accuracy for fact verification and slot filling, exact match for questions.

    The tasks of a generated world are called fever-like and so on, and have the same measures.

    Source: the leaderboard of KILT; section 4.1 trains and tests on its tasks.
    """
    return ACCURACY if task.removesuffix("-like") in _BY_ACCURACY else EXACT_MATCH


def r_precision(found: Iterable[str], evidence: Iterable[Collection[str]]) -> float:
    """The share of an output's R pages that are among the first R found; the best over all outputs."""
    pages = list(dict.fromkeys(found))
    sets = [set(pages_of_one) for pages_of_one in evidence]
    return max((len(s.intersection(pages[: len(s)])) / len(s) for s in sets if s), default=0.0)


def recall_at_k(found: Iterable[str], evidence: Iterable[Collection[str]], k: int) -> float:
    """The share of the distinct evidence sets that are complete within the first k places.

    All found pages of a set take one place together, that of the last of them; later pages move up. A page that
    belongs to several sets takes a place for each. A set without pages is never complete.

    Raises:
        InputError: k below 1.
    """
    if k < 1:
        raise InputError("recall_at_k: k", "at least 1", str(k))
    sets = list(dict.fromkeys(map(frozenset, evidence)))
    left = [set(s) for s in sets]
    ranking: list[int | None] = []  # the set that the page at each place belongs to
    for page in dict.fromkeys(found):
        of = [i for i, rest in enumerate(left) if page in rest]
        for i in of:
            left[i].remove(page)
            if i in ranking:
                ranking.remove(i)
            ranking.append(i)
        if not of:
            ranking.append(None)
    complete = [i for i in ranking[:k] if i is not None and not left[i]]
    return len(complete) / len(sets) if sets else 0.0


def kilt_exact_match(
    answer: str, accepted: Iterable[str], found: Iterable[str], evidence: Iterable[Collection[str]]
) -> float:
    """KILT-EM: exact match where R-precision is 1, else 0."""
    return float(exact_match(answer, accepted) and r_precision(found, evidence) == 1)


def kilt_f1(answer: str, accepted: Iterable[str], found: Iterable[str], evidence: Iterable[Collection[str]]) -> float:
    """KILT-F1: F1 where R-precision is 1, else 0."""
    return f1(answer, accepted) if r_precision(found, evidence) == 1 else 0.0


def kilt_accuracy(
    answer: str, accepted: Iterable[str], found: Iterable[str], evidence: Iterable[Collection[str]]
) -> float:
    """KILT-AC: accuracy where R-precision is 1, else 0."""
    return float(accuracy(answer, accepted) and r_precision(found, evidence) == 1)
