"""Our own figures: each work in a process with its threads fixed, beside this machine's ceilings of the same minute."""

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
from .work import KINDS, least_bytes, macs, parse, shape

DEFAULT = ("encoder-5", "decode", "glimmer-25-5", "attention", "linear")
_Step = tuple[str, int, dict[str, Any]]
CEILINGS = ("float32", "bfloat16", "int8", "reads")


@dataclass(frozen=True)
class Session:
    """What is asked for.

    Args:
        size: of T5.1.1.
        works: as `work.parse` reads them.
        threads: one process each.
        precision: of matrix products.
        runs: of each work.
    """

    size: str
    works: Sequence[str]
    threads: Sequence[int]
    precision: str
    runs: int


def share(ceilings: Mapping[str, float], precision: str, multiply_adds: int, read: int, wall: float) -> float:
    """The part of what the machine could do: of reads where bytes are what a work is bound by, else of its peak."""
    if read:
        return read / wall / ceilings["reads"]
    return 2 * multiply_adds / wall / (ceilings[precision] or ceilings["float32"])


def _steps(session: Session, ours: Mapping[int, Worker], tops: Mapping[int, Worker]) -> Iterator[_Step]:
    """Every figure as it comes: work, threads, answer."""
    for threads, worker in ours.items():
        yield "start", threads, worker.ask("about")
        yield "start", threads, tops[threads].ask("prepare", work="ceilings")
    for work in session.works:
        for threads, worker in ours.items():
            yield "warm", threads, worker.ask("prepare", work=work)
        for _ in range(session.runs):
            for threads, worker in ours.items():
                yield "ceilings", threads, tops[threads].ask("run", work="ceilings")
                yield work, threads, worker.ask("run", work=work)
        for worker in ours.values():
            worker.ask("drop", work=work)


def _workers(stack: ExitStack, size: str, precision: str, threads: Sequence[int]) -> dict[int, Worker]:
    """A process for each number of threads."""
    command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", size, "--precision", precision]
    return {n: stack.enter_context(closing(Worker([*command, "--threads", str(n)], n))) for n in threads}


def _row(session: Session, work: str, threads: int, runs: list[dict[str, Any]], top: dict[str, float]) -> Any:
    task, config = parse(work), shape(session.size)
    wall = Spread.of([run["wall"] for run in runs])
    counted, read = sum(macs(task, config).values()), least_bytes(task, config, session.precision)
    kind = KINDS[task.kind]
    return {
        "work": work, "what": kind.what, "threads": threads, "seconds": wall.median, "least": wall.least,
        "most": wall.most, "cpu_seconds": Spread.of([run["cpu"] for run in runs]).median, "macs": counted,
        "bytes": read, "unit": kind.unit, "units": kind.units(task), "bound": kind.bound,
        "share": share(top, session.precision, counted, read, wall.median),
        "peak_bytes": max(run["peak"] for run in runs),
    }  # fmt: skip


def run(session: Session) -> dict[str, Any]:
    """Measure, with a progress line on a terminal.

    Raises:
        InputError: an unknown work, or a worker that ended.
    """
    for work in session.works:
        macs(parse(work), shape(session.size))  # refused before minutes have gone by
    steps = len(session.threads) * (2 + len(session.works) * (1 + 2 * session.runs))
    figures: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        ours = _workers(stack, session.size, session.precision, session.threads)
        measured = _steps(session, ours, _workers(stack, "tiny", "float32", session.threads))
        for work, threads, answer in progress(measured, steps, "bench"):
            figures.setdefault((work, threads), []).append(answer)
    tops = {}
    for n in session.threads:
        told = [answer["stages"] for answer in figures["ceilings", n]]
        tops[n] = {name: Spread.of([t[name] for t in told]).median for name in CEILINGS}
    return {
        "machine": machine(), "size": session.size, "precision": session.precision, "runs": session.runs,
        "ceilings": [{"threads": n, **tops[n]} for n in session.threads],
        "rows": [_row(session, w, n, figures[w, n], tops[n]) for w in session.works for n in session.threads],
    }  # fmt: skip
