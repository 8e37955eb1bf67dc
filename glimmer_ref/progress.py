"""A progress line on the terminal for work that takes longer than a blink."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from .terminal import watched

T = TypeVar("T")
Show = Callable[..., Iterable[Any]]  # `progress`, or what stands in its place


def progress(
    items: Iterable[T], total: int, what: str, done: int = 0, amount: Callable[[], int] | None = None, unit: str = ""
) -> Iterator[T]:
    """Yield the items, redrawing one line on stderr: share done, rate, time left.

    Silent where stderr is no terminal, so that logs and pipes stay clean.

    Args:
        total: how many items there are in all.
        what: the word in front of the bar.
        done: how many of them were done before (a resumed build).
        amount, unit: what else is counted, so far, and what it is: its rate is told too.
    """
    begin, drawn, shown = time.monotonic(), 0.0, watched()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if shown and (now - drawn > 0.1 or done + count == total):
            drawn, rate = now, count / max(now - begin, 1e-9)
            share = (done + count) / max(total, 1)
            bar = "#" * int(30 * share) + "." * (30 - int(30 * share))
            left = (total - done - count) / rate
            other = "" if amount is None else f"  {amount() / max(now - begin, 1e-9):,.0f} {unit}/s"
            line = f"{what} [{bar}] {done + count}/{total}  {rate:,.0f}/s{other}  {left:,.0f} s left"
            sys.stderr.write(f"\r\x1b[K{line}")
    if shown and drawn:
        sys.stderr.write("\n")
