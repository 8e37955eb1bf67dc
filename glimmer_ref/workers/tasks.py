"""Runs a function for many tasks on an executor: few tasks at a time, each failed one again.

Nothing is needed but a `concurrent.futures.Executor`. Tasks and results are pickled, so they should be small: a task
names files that its worker reads.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing
from typing import Generic, NamedTuple, TypeVar

from ..errors import InputError

T = TypeVar("T")
R = TypeVar("R")
TRIES = 3  # how often a task is tried before it is left out
IN_A_ROW = 5  # when so many tasks in a row were left out, the work is given up
QUEUED = 2  # tasks that are submitted for each worker at a time


class Workers(NamedTuple):
    """The workers, and the settings of the model in each.

    Args:
        executor: runs the tasks; its owner shuts it down.
        at_once: about how many workers the executor has.
        folder: the folder of the model; every worker must find it at this path.
        ops, dtype, precision, threads: the arguments of `glimmer_ref.load` in each worker.
    """

    executor: Executor
    at_once: int
    folder: str
    ops: str = "numba"
    dtype: str = "float32"
    precision: str = "float32"
    threads: int | None = None


class Failed(NamedTuple, Generic[T]):
    """A task that failed each time, how often it was tried, and the last error."""

    task: T
    tries: int
    error: str


class _Round(Generic[T, R]):
    """The running tasks, and how often each was tried."""

    def __init__(
        self, workers: Workers, function: Callable[[T], R], check: Callable[[], None], failed: list[Failed[T]]
    ) -> None:
        self.workers, self.function, self.check, self.failed = workers, function, check, failed
        self.running: dict[Future[R], tuple[int, T]] = {}
        self.retries, self.tries, self.failures_in_a_row = deque[tuple[int, T]](), Counter[int](), 0

    def fill(self, tasks: Iterator[tuple[int, T]]) -> None:
        """Submit tasks, failed ones first."""
        while len(self.running) < QUEUED * self.workers.at_once:
            task = self.retries.popleft() if self.retries else next(tasks, None)
            if task is None:
                return
            self.running[self.workers.executor.submit(self.function, task[1])] = task

    def results(self) -> Iterator[tuple[int, R]]:
        """Wait for at least one task, and yield the results; failures are recorded."""
        done, _ = wait(self.running, return_when=FIRST_COMPLETED)
        for future in done:
            number, task = self.running.pop(future)
            try:
                result = future.result()
            except Exception as error:
                self._failed(number, task, str(error) or type(error).__name__)
            else:
                self.failures_in_a_row = 0
                yield number, result

    def close(self) -> None:
        """Cancel the tasks that have not begun."""
        for future in self.running:
            future.cancel()

    def _failed(self, number: int, task: T, error: str) -> None:
        self.check()
        self.tries[number] += 1
        if self.tries[number] < TRIES:
            self.retries.append((number, task))
            return
        self.failed.append(Failed(task, TRIES, error))
        self.failures_in_a_row += 1


def as_finished(
    workers: Workers,
    function: Callable[[T], R],
    tasks: Iterable[T],
    failed: list[Failed[T]],
    check: Callable[[], None] = lambda: None,
) -> Generator[tuple[int, R], None, None]:
    """function(task) of every task, with the task's number, in the order in which workers finish.

    A few more tasks than workers are submitted at a time. A task that fails, or that kills its worker, is tried three
    times.

    Args:
        failed: filled with the tasks that failed, which are left out.
        check: called at every failure; it raises if going on makes no sense.
    """
    now, numbered = _Round(workers, function, check, failed), enumerate(tasks)
    try:
        while now.failures_in_a_row < IN_A_ROW:
            now.fill(numbered)
            if not now.running:
                return
            yield from now.results()
    finally:
        now.close()


def in_order(workers: Workers, function: Callable[[T], R], tasks: Iterable[T], what: str) -> Iterator[R]:
    """function(task) of every task, in the order of the tasks; results that are early wait in main memory.

    Args:
        what: what a task is, for the error.

    Raises:
        InputError: a task failed three times. The results of earlier tasks have been yielded then.
    """
    failed, early, due = list[Failed[T]](), dict[int, R](), 0
    with closing(as_finished(workers, function, tasks, failed)) as finished:
        for number, result in finished:
            early[number] = result
            while due in early:
                yield early.pop(due)
                due += 1
            if failed:
                break
    if failed:
        raise InputError(what, f"an answer of some worker after {TRIES} tries", failed[0].error)
