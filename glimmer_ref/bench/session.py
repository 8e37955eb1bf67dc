"""`glimmer-ref bench`: times of this package, each beside the hardware peaks of the same minute."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from ..progress import progress
from .machine import machine
from .measure import Spread
from .process import Worker
from .workload import KINDS, least_bytes, macs, parse, shape

DEFAULT = ("encoder-5", "decode", "glimmer-25-5", "attention", "linear")
_Step = tuple[str, int, dict[str, Any]]
PEAKS = ("float32", "bfloat16", "int8", "reads")


@dataclass(frozen=True)
class Session:
    """What to measure.

    Args:
        size: a size of T5.1.1.
        workloads: in the form that `workload.parse` reads.
        threads: numbers of threads; each number has a process of its own.
        precision: the precision of matrix products.
        runs: how often each workload is measured.
    """

    size: str
    workloads: Sequence[str]
    threads: Sequence[int]
    precision: str
    runs: int


def share(peaks: Mapping[str, float], precision: str, multiply_adds: int, read: int, wall: float) -> float:
    """The share of the hardware's bandwidth if reading `read` bytes limits the workload, else the share of its peak."""
    if read:
        return read / wall / peaks["reads"]
    return 2 * multiply_adds / wall / peaks[precision]


def _steps(session: Session, ours: Mapping[int, Worker], peaks: Mapping[int, Worker]) -> Iterator[_Step]:
    """Yield every measurement as soon as it is made: workload, threads, answer."""
    for threads, worker in ours.items():
        yield "start", threads, worker.ask("about")
        yield "start", threads, peaks[threads].ask("prepare", work="peaks")
    for workload in session.workloads:
        for threads, worker in ours.items():
            yield "warm", threads, worker.ask("prepare", work=workload)
        for _ in range(session.runs):
            for threads, worker in ours.items():
                yield "peaks", threads, peaks[threads].ask("run", work="peaks")
                yield workload, threads, worker.ask("run", work=workload)
        for worker in ours.values():
            worker.ask("drop", work=workload)


def _workers(stack: ExitStack, size: str, precision: str, threads: Sequence[int]) -> dict[int, Worker]:
    """A process for each number of threads."""
    command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", size, "--precision", precision]
    return {n: stack.enter_context(closing(Worker([*command, "--threads", str(n)], n))) for n in threads}


def _row(session: Session, workload: str, threads: int, runs: list[dict[str, Any]], peaks: dict[str, float]) -> Any:
    task, config = parse(workload), shape(session.size)
    wall = Spread.of([run["wall"] for run in runs])
    counted, read = sum(macs(task, config).values()), least_bytes(task, config, session.precision)
    kind = KINDS[task.kind]
    return {
        "work": workload,
        "what": kind.what,
        "threads": threads,
        "seconds": wall.median,
        "least": wall.min,
        "most": wall.max,
        "cpu_seconds": Spread.of([run["cpu"] for run in runs]).median,
        "macs": counted,
        "bytes": read,
        "unit": kind.unit,
        "units": kind.units(task),
        "bound": kind.bound,
        "share": share(peaks, session.precision, counted, read, wall.median),
        "peak_bytes": max(run["peak"] for run in runs),
    }


def run(session: Session) -> dict[str, Any]:
    """Measure, with a progress line on a terminal.

    Raises:
        InputError: an unknown workload, or a worker that ended.
    """
    for workload in session.workloads:
        macs(parse(workload), shape(session.size))  # an unknown workload is refused before anything is measured
    steps = len(session.threads) * (2 + len(session.workloads) * (1 + 2 * session.runs))
    answers: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        ours = _workers(stack, session.size, session.precision, session.threads)
        measured = _steps(session, ours, _workers(stack, "tiny", "float32", session.threads))
        for workload, threads, answer in progress(measured, steps, "bench"):
            answers.setdefault((workload, threads), []).append(answer)
    peaks = {}
    for n in session.threads:
        stages = [answer["stages"] for answer in answers["peaks", n]]
        peaks[n] = {name: Spread.of([s[name] for s in stages]).median for name in PEAKS}
    return {
        "machine": machine(),
        "size": session.size,
        "precision": session.precision,
        "runs": session.runs,
        "ceilings": [{"threads": n, **peaks[n]} for n in session.threads],
        "rows": [_row(session, w, n, answers[w, n], peaks[n]) for w in session.workloads for n in session.threads],
    }
