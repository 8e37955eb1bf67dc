"""What commands print: tables with their assumptions, facts with their names, and numbers with their units."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from ..terminal import say

BINARY = (("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30), ("TiB", 2**40), ("PiB", 2**50))


@contextmanager
def write_after(write: Callable[[], None]) -> Iterator[None]:
    """Write a file after the block has printed, even if the program that reads the output ends early, as `head` does.

    The answer comes first, so that an error in writing the file does not lose it.

    Raises:
        BrokenPipeError: raised again after the file was written.
    """
    try:
        yield
    except BrokenPipeError:
        write()
        raise
    write()


def show(lines: Sequence[str], note: str) -> None:
    """Print a table, and the assumptions behind it last."""
    say(*(line.rstrip() for line in lines), "", *textwrap.wrap(note, 80))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print one line for each fact, with its name."""
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):20}{f'{value:,}' if isinstance(value, int) else value}")


def binary(amount: Any) -> str:
    """Bytes in a binary unit, with three digits."""
    name, unit = next((n, u) for n, u in reversed(BINARY) if u == 1 or amount >= u)
    return f"{float(amount / unit):.3g} {name}" if amount < 1000 * unit else f"{float(amount / unit):.0f} {name}"


def five_digits(x: Any) -> str:
    """A number in five digits, with < or > before them if they look whole but the number is not."""
    text = f"{float(x):.5g}"
    if Fraction(text) == x or Fraction(text).denominator != 1:
        return text
    return ("<" if x < Fraction(text) else ">") + text
