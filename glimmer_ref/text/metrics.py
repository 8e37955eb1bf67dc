"""How an answer is judged: exact match."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces, in that order.

    Source: the order of SQuAD's and KILT's evaluation, verified there.
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, accepted: Iterable[str]) -> bool:
    """Is the answer, normalised, one of the accepted ones?"""
    return normalise(answer) in {normalise(a) for a in accepted}
