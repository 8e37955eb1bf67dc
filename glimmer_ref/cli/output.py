"""What commands print: tables with their assumptions, facts with their names, and numbers with their units."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..terminal import say

BINARY = (("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30), ("TiB", 2**40), ("PiB", 2**50))


def show(lines: Sequence[str], note: str) -> None:
    """A table, and the assumptions behind it last."""
    say(*(line.rstrip() for line in lines), "", *textwrap.wrap(note, 80))


def print_facts(facts: Mapping[str, Any]) -> None:
    """A line for each, its name before it."""
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):20}{f'{value:,}' if isinstance(value, int) else value}")


def binary(amount: Any) -> str:
    """Bytes with a unit."""
    name, unit = next((n, u) for n, u in reversed(BINARY) if u == 1 or amount >= u)
    return f"{float(amount / unit):.3g} {name}" if amount < 1000 * unit else f"{float(amount / unit):.0f} {name}"


def near(x: Any) -> str:
    """Five digits, with a sign where they would look whole and the number is not."""
    text = f"{float(x):.5g}"
    if Fraction(text) == x or Fraction(text).denominator != 1:
        return text
    return ("<" if x < Fraction(text) else ">") + text
