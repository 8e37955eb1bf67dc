"""An engine in a process of its own, whose threads are fixed before anything is imported; one request at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, Protocol

from ..errors import InputError
from .measure import Job, measure, repeats_for

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Engine(Protocol):
    """What a worker runs: one implementation of the model in one precision."""

    def about(self) -> dict[str, Any]:
        """Versions and choices that its times depend on."""

    def job(self, workload: str) -> Job:
        """The workload, prepared; InputError if the engine cannot do it."""

    def check(self, path: str) -> list[str]:
        """Write the values on which all engines must agree to a file, and return the names of its arrays."""


def environment(threads: int) -> dict[str, str]:
    """This process's environment, with a fixed number of threads for every library; idle threads do not spin."""
    return {**os.environ, **dict.fromkeys(THREADS, str(threads)), "OMP_WAIT_POLICY": "passive"}


class Worker:
    """The parent's end of a worker.

    Args:
        command: starts the worker's program, which must end by calling `serve`.
        threads: how many it may use.
    """

    def __init__(self, command: Sequence[str], threads: int) -> None:
        self.process = subprocess.Popen(
            command, env=environment(threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """One request and its answer.

        Raises:
            InputError: the worker refused, or ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        try:
            self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:  # it has ended; on Windows this is no BrokenPipeError
            pass
        if not line:
            raise InputError(
                "bench process",
                "a result",
                f"its end with exit code {self.process.wait()}",
                "its last lines above may say why",
            )
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise _FromWorker(answer["refused"])
        return answer

    def close(self) -> None:
        """Close its stdin, and kill it if it does not end."""
        with suppress(OSError), self.process.stdin or nullcontext():
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with self.process.stdout or nullcontext():
            pass


class _FromWorker(InputError):
    """An input error whose line another process has written."""

    def __init__(self, line: str) -> None:
        ValueError.__init__(self, line)


class _Prepared:
    """A job, and how often it runs in one measurement."""

    def __init__(self, job: Job) -> None:
        self.job, self.repeats = job, 1

    def warm(self) -> dict[str, Any]:
        """Run it before the measured runs, because the first run is slow: once, or twice if it is short."""
        result = measure(self.job)
        if result["whole"] < 1:
            result = measure(self.job)
        self.repeats = repeats_for(result["whole"])
        return {**result, "repeats": self.repeats}


def _answer(engine: Engine, jobs: dict[str, _Prepared], request: dict[str, Any]) -> dict[str, Any]:
    do, workload = request["do"], request.get("work", "")
    if do == "about":
        return engine.about()
    if do == "check":
        return {"names": engine.check(request["path"])}
    if do == "drop":
        jobs.pop(workload, None)
        return {}
    if do == "prepare":
        jobs[workload] = _Prepared(engine.job(workload))
        return jobs[workload].warm()
    return measure(jobs[workload].job, jobs[workload].repeats)


def _open(make: Callable[[], Engine]) -> Engine | str:
    """The engine, or one line that says why there is none."""
    try:
        return make()
    except (InputError, ImportError) as error:
        return f"{type(error).__name__}: {error}"
    except MemoryError:
        return "memory: not repeats_for for these weights"


def serve(make: Callable[[], Engine]) -> None:
    """Answer requests, one JSON line each, until stdin ends. All other output of the process goes to stderr."""
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    engine, jobs = _open(make), dict[str, _Prepared]()
    for line in sys.stdin:
        try:
            answer = {"refused": engine} if isinstance(engine, str) else _answer(engine, jobs, json.loads(line))
        except InputError as error:
            answer = {"refused": str(error)}
        except MemoryError:
            answer = {"refused": "memory: not repeats_for for this work"}
        print(json.dumps(answer, allow_nan=False), file=out)
