"""Checks that the regular expressions of a tokenizer.json cannot run without bound.

The tokenizers library uses Oniguruma, which backtracks, and panics after 10,000,000 steps. A pattern is accepted if it
consists of alternatives. Each alternative is a sequence of characters and classes, of which at most one may repeat
without bound. Lookarounds may contain only characters and classes. Other groups are refused.
"""

from __future__ import annotations

import re

MOST_CHARACTERS = 4096
MOST_REPEATS = 3  # maximum number of repetitions in one alternative
MOST_TIMES = 100

CLASS = r"\\[sSdDwW]|\\[pP]\{\^?[A-Za-z]{1,20}\}|\.|\[\^?(?:\\[sSdDwW]|\\[^\w\s]|[^\\\[\]&])+\]"
CHARACTER = r"\\[tnr]|\\[^\w\s]|[^\\\[\](){}.*+?|^$]"
PART = re.compile(
    rf"(?P<anchor>\\[bBAzZ]|\^|\$|\(\?<?[=!](?:{CLASS}|{CHARACTER})+\))"
    rf"|(?P<one>{CLASS}|{CHARACTER})(?P<times>[*+?]|\{{[0-9]{{1,3}}(?:,[0-9]{{0,3}})?\}})?",
    re.DOTALL,
)


def _times(said: str | None) -> tuple[int, int | None]:
    """The minimum and the maximum number of repetitions of a part; None if there is no maximum."""
    if said is None:
        return 1, 1
    if said in "*+?":
        return int(said == "+"), 1 if said == "?" else None
    least, comma, most = said[1:-1].partition(",")
    return int(least), int(most) if most else None if comma else int(least)


def _alternative(pattern: str) -> int:
    least, at, repeats, endless = 0, 0, 0, 0
    while at < len(pattern):
        part = PART.match(pattern, at)
        if part is None:
            raise ValueError(f"no groups, back references or options, as in {pattern[at : at + 10]!r}")
        at = part.end()
        low, high = _times(part["times"])
        least += low if part["one"] else 0
        repeats += low != high
        endless += high is None
        if repeats > MOST_REPEATS or endless > 1 or max(low, high or 0) > MOST_TIMES or (high or low) < low:
            raise ValueError(f"one repetition without bound and few others, of up to {MOST_TIMES}")
    return least


def shortest(pattern: str) -> int:
    """The minimum number of characters that a pattern matches.

    Raises:
        ValueError: the pattern is not accepted.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise ValueError(f"at most {MOST_CHARACTERS} characters long")
    alternatives, at = [""], 0
    while at < len(pattern):  # split at each "|" that is not in a class and not escaped
        part = PART.match(pattern, at)
        step = part.end() if part else at + 1
        if pattern[at] == "|":
            alternatives.append("")
        else:
            alternatives[-1] += pattern[at:step]
        at = step
    return min(map(_alternative, alternatives))
