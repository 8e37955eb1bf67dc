"""Threads: each gets a run of tasks (`parallel_for`), or takes the next task of a kernel in phases (`run_phased`).

A kernel in phases is called once in each thread, with the same arguments. Each phase has this form:

    task = next_task(counters, phase)
    while task < tasks: .. ; finish_task(counters, phase); task = next_task(counters, phase)
    barrier(counters, phase, tasks)

So threads synchronise without returning to Python, which takes 30 microseconds to wake a thread. A phase is over when
its tasks are done, not when all threads have arrived. A thread that arrives late, or never, delays no other thread, so
any number of Python threads may share the pool. No sum crosses tasks, so it does not change a result which thread
computes a task. These threads are not those of numba's `prange`: they are safe with Python threads and after a fork.
numba's settings determine their number: NUMBA_NUM_THREADS, or `numba.set_num_threads` in the calling thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable
from numba.np.ufunc import parallel

from ....errors import InputError
from ..kernels.llvm_ir import FEATURES, I64, VOID, function

LINE = 8  # numbers in a cache line; each counter has a cache line of its own
WORTH_A_THREAD = 1 << 21  # additions, which take some 50 microseconds: waking a thread takes about 30
PATIENCE = 4096  # number of reads of a counter after which a waiting thread yields the processor

settings: Any = numba.config


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads in addition to the caller's. Idle threads sleep."""
    return ThreadPoolExecutor(max(1, settings.NUMBA_NUM_THREADS - 1), "glimmer_ref")


if hasattr(os, "register_at_fork"):  # a forked child would inherit the pool without its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _threads() -> int:
    """The number of threads that kernels called by this Python thread may use.

    numba answers this question only after it has started its own threads, which kernels here do not use. So it is asked
    only if they run already: nobody can have set a number before.
    """
    if getattr(parallel, "_is_initialized", True):
        return numba.get_num_threads()
    return int(settings.NUMBA_NUM_THREADS)


@contextmanager
def limit(threads: int | None) -> Iterator[None]:
    """A context in which kernels called by this Python thread use at most `threads` threads; None changes nothing.

    Raises:
        InputError: `threads` is not an integer from 1 to NUMBA_NUM_THREADS.
    """
    most = int(settings.NUMBA_NUM_THREADS)
    if threads is not None and not (type(threads) is int and 1 <= threads <= most):
        raise InputError(
            "threads", f"a whole number from 1 to {most}", repr(threads), "NUMBA_NUM_THREADS sets the largest number"
        )
    if threads is None:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def parallel_for(kernel: Callable[..., None], tasks: int, cost: int, *args: Any) -> None:
    """Calls kernel(first, last, *args) for the tasks 0 .. tasks-1. Each thread gets a run of them.

    Args:
        kernel: a `compile_cache.Kernel`, which releases the interpreter lock.
        tasks: number of tasks. No result of a task may depend on another task.
        cost: approximate time of a task, in additions. Small work stays in the caller's thread.
    """
    threads = max(1, min(_threads(), tasks, tasks * cost // WORTH_A_THREAD))
    bounds = [tasks * i // threads for i in range(threads + 1)]
    others = [_pool().submit(kernel, first, last, *args) for first, last in pairwise(bounds[1:])]
    kernel(0, bounds[1], *args)
    for other in others:
        other.result()


def run_phased(kernel: Callable[..., None], phases: int, cost: int, *args: Any) -> None:
    """Calls kernel(counters, threads, *args) in this thread and, if there is enough work, in threads of the pool.

    Args:
        kernel: a `compile_cache.Kernel`, which releases the interpreter lock.
        phases: maximum number of its phases.
        cost: approximate time of the whole kernel, in additions. Small work stays in the caller's thread.
    """
    threads = max(1, min(_threads(), cost // WORTH_A_THREAD))
    counters = np.zeros((2 * phases, LINE), np.int64)
    others = [_pool().submit(kernel, counters, threads, *args) for _ in range(threads - 1)]
    try:
        kernel(counters, threads, *args)
    finally:
        for other in others:
            if not other.cancel():
                other.result()


def _counter(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def _count(typing: Any, address: Any) -> Any:
    """Adds 1 to a number that threads share, and returns the number before the addition."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        return builder.atomic_rmw("add", _counter(builder, args[0]), I64(1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def _load_counter(typing: Any, address: Any) -> Any:
    """Reads a number that threads share. All writes before its last increase are visible afterwards."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        return builder.load_atomic(_counter(builder, args[0]), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _pause(typing: Any, spins: Any) -> Any:
    """A short pause. After every PATIENCE calls, the thread yields the processor."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        if "sse2" in FEATURES:
            builder.call(function(builder.module, "llvm.x86.sse2.pause", VOID), [])
        if sys.platform != "win32":
            with builder.if_then(builder.icmp_signed("==", builder.urem(args[0], I64(PATIENCE)), I64(PATIENCE - 1))):
                builder.call(function(builder.module, "sched_yield", ir.IntType(32)), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@register_jitable
def next_task(counters: Any, phase: int) -> Any:
    """The index of the next task of a phase; not less than the number of tasks if none is left."""
    return _count(counters[2 * phase].ctypes.data)


@register_jitable
def finish_task(counters: Any, phase: int) -> Any:
    """Counts one task of a phase as done."""
    _count(counters[2 * phase + 1].ctypes.data)


@register_jitable
def barrier(counters: Any, phase: int, tasks: int) -> Any:
    """Waits until all tasks of a phase are done."""
    spins = 0
    while _load_counter(counters[2 * phase + 1].ctypes.data) < tasks:
        _pause(spins)
        spins += 1
