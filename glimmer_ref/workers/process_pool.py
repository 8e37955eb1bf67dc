"""Processes of this machine as an executor; a thread of the parent controls each of them.

When a process dies, only its own task fails: its thread notices that the connection has ended, and starts a new
process for the next task. `ProcessPoolExecutor` fails the tasks of all processes when one dies, and in Python 3.11 its
clean-up then may never end, nor the interpreter.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

SPAWN = get_context("spawn")  # a fork would inherit locks that other threads hold


class Died(RuntimeError):
    """A process ended in the middle of a task."""


def _serve(connection: Connection) -> None:
    """Run tasks until the connection ends. Errors are sent as text, since some cannot be pickled."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the leading one decides
    while True:
        try:
            function, args, more = connection.recv()
        except (EOFError, OSError):  # the leading process has ended
            return
        try:
            answer = function(*args, **more), ""
        except Exception as error:
            answer = None, str(error) or type(error).__name__
        try:
            connection.send(answer)
        except OSError:
            return


class _Worker:
    """A process and the connection to it."""

    def __init__(self) -> None:
        self.connection, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()  # only the child still holds this end, so the parent notices when the child ends

    def do(self, *task: Any) -> Any:
        try:
            self.connection.send(task)
            result, error = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Died(f"its worker died of it, or was killed (exit code {self.process.exitcode})") from None
        if error:
            raise RuntimeError(error)
        return result


class Processes(Executor):
    """At most `count` spawned processes, each started when it is first needed."""

    def __init__(self, count: int) -> None:
        self.workers: list[_Worker] = []
        self._idle = deque[_Worker]()
        self._threads = ThreadPoolExecutor(count, "glimmer_ref.worker")
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Run fn(*args, **more) in a free process; all are pickled. Errors come back as RuntimeError."""
        return self._threads.submit(self._run, fn, args, more)

    def _run(self, *task: Any) -> Any:
        worker = self._taken()
        try:
            result = worker.do(*task)
        except Died:
            self.workers.remove(worker)
            raise
        except Exception:
            self._idle.append(worker)
            raise
        self._idle.append(worker)
        return result

    def _taken(self) -> _Worker:
        try:
            return self._idle.pop()
        except IndexError:
            worker = _Worker()
            self.workers.append(worker)
            if self._closed:  # closed in the meantime
                self._kill()
            return worker

    def _kill(self) -> None:
        for worker in list(self.workers):
            worker.process.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after the submitted tasks are done, or at once."""
        self._closed = not wait
        self._threads.shutdown(wait, cancel_futures=cancel_futures or not wait)
        self._kill()


@contextmanager
def processes(count: int, threads: int) -> Iterator[Processes]:
    """`count` processes; BLAS has `threads` threads in each, unless the environment says otherwise."""
    names = [name for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update({name: str(threads) for name in names})  # read by a process when it starts
    some = Processes(count)
    try:
        yield some
    finally:
        some.shutdown(wait=False)
        for name in names:
            del os.environ[name]
