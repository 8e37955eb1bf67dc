"""A progress line on the terminal for work that takes longer than a blink."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str, done: int = 0) -> Iterator[T]:
    """Yield the items, redrawing one line on stderr: share done, rate, time left.

    Silent where stderr is no terminal, so that logs and pipes stay clean.

    Args:
        total: how many items there are in all.
        what: the word in front of the bar.
        done: how many of them were done before (a resumed build).
    """
    begin, drawn, shown = time.monotonic(), 0.0, sys.stderr.isatty()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if shown and (now - drawn > 0.1 or done + count == total):
            drawn, rate = now, count / max(now - begin, 1e-9)
            share = (done + count) / max(total, 1)
            bar = "#" * int(30 * share) + "." * (30 - int(30 * share))
            left = (total - done - count) / rate
            line = f"{what} [{bar}] {done + count}/{total}  {rate:,.0f}/s  {left:,.0f} s left"
            sys.stderr.write(f"\r\x1b[K{line}")
    if shown and drawn:
        sys.stderr.write("\n")
