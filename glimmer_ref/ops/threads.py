"""Rows and heads shared out to threads, so that each sum is made by one thread in one fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba

WORTH_A_THREAD = 1 << 21  # additions, some 50 microseconds: waking a thread costs about 30

settings: Any = numba.config


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads beside the caller's own; idle ones sleep."""
    return ThreadPoolExecutor(max(1, settings.NUMBA_NUM_THREADS - 1), "glimmer_ref")


if hasattr(os, "register_at_fork"):  # a forked child would inherit the pool without its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def spread(kernel: Callable[..., None], tasks: int, cost: int, *args: Any) -> None:
    """kernel(first, last, *args) for the tasks 0 .. tasks-1, a run of them to each thread.

    The threads are ours and not those of numba's `prange`: they wake three times as fast as its
    workqueue, several Python threads may call at once, and a fork leaves the child working. How many
    is numba's word all the same: NUMBA_NUM_THREADS, or `numba.set_num_threads` in the calling thread.

    Args:
        kernel: compiled with `kernel_cache.Kernel`, which lets go of the interpreter lock.
        tasks: how many; no result of one may depend on another.
        cost: about how many additions' time one task takes; small work stays in the caller's thread.
    """
    threads = max(1, min(numba.get_num_threads(), tasks, tasks * cost // WORTH_A_THREAD))
    bounds = [tasks * i // threads for i in range(threads + 1)]
    others = [_pool().submit(kernel, first, last, *args) for first, last in pairwise(bounds[1:])]
    kernel(0, bounds[1], *args)
    for other in others:
        other.result()
