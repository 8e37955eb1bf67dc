"""A progress bar on the terminal for work that takes more than a moment, drawn by tqdm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from threading import RLock
from typing import Any, TypeVar

from .terminal import watched

T = TypeVar("T")
Show = Callable[..., Iterable[Any]]  # `progress`, or a function in its place


def progress(
    items: Iterable[T], total: int, what: str, done: int = 0, amount: Callable[[], int] | None = None, unit: str = ""
) -> Iterator[T]:
    """Yield the items, with a bar on stderr: share done, rate, time left.

    There is no bar where stderr is no terminal, so that logs and pipes stay clean.

    Args:
        total: how many items there are in all.
        what: the word in front of the bar.
        done: how many of them were done before (a resumed build).
        amount, unit: a second count, such as tokens so far, which is shown behind the bar; and its unit.
    """
    if not watched():
        yield from items
        return
    from tqdm import tqdm  # imported only where it is shown

    # Run without the thread that watches the bar, and without a lock between processes: newer Pythons start a process
    # for such a lock.
    tqdm.monitor_interval = 0
    tqdm.set_lock(RLock())
    with tqdm(total=total, initial=done, desc=what, file=sys.stderr, dynamic_ncols=True) as bar:
        for item in items:
            yield item
            bar.update()
            if amount is not None:
                bar.set_postfix_str(f"{amount():,} {unit}", refresh=False)
