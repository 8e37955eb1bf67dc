"""Timing: one run's wall and processor seconds, its stages, its peak memory; and what many runs say together."""

from __future__ import annotations

import gc
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..ops import Ops

Laps = Mapping[str, float] | None


class Job(NamedTuple):
    """What to time: a function that may hand back its stages' seconds, and one whose time is taken off."""

    run: Callable[[], Laps]
    less: Callable[[], Laps] | None = None


class Stages(Ops):
    """The operations themselves, noting when each component of the model begins.

    A `Listener` would hear every operation and so keep composites from running as a whole; this hears
    only the first word of a place and hands back what it wraps.
    """

    def __init__(self, ops: Ops) -> None:
        super().__init__(ops.telling)
        self.inner, self.begun = ops, [("", time.perf_counter())]

    def at(self, name: str) -> Ops:
        self.begun.append((name, time.perf_counter()))
        return self.inner

    def seconds(self) -> dict[str, float]:
        """Seconds by component until now; what came before the first is left out."""
        ends = [start for _, start in self.begun[1:]] + [time.perf_counter()]
        result: dict[str, float] = {}
        for (name, start), end in zip(self.begun, ends, strict=True):
            result[name] = result.get(name, 0.0) + end - start
        return {name: s for name, s in result.items() if name}


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(field)


def peak_bytes() -> int:
    """The most main memory this process has had, since `forget_peak` where the system can forget."""
    with suppress(OSError):
        return _status("VmHWM")
    kilobytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes


def forget_peak() -> None:
    """Let `peak_bytes` begin anew, on Linux; elsewhere it is the whole process's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _timed(function: Callable[[], Laps], repeats: int) -> tuple[float, float, list[Laps]]:
    """Seconds of one call by both clocks, the mean of `repeats`, and what each call told."""
    wall, cpu = time.perf_counter(), time.process_time()
    laps = [function() for _ in range(repeats)]
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats, laps


def enough(wall: float, least: float = 0.1) -> int:
    """How often a run that takes so long is to be repeated, so that clocks and the scheduler matter little."""
    return max(1, math.ceil(least / max(wall, 1e-6)))


def measure(job: Job, repeats: int = 1) -> dict[str, Any]:
    """One run: seconds by the clock and of all threads' processor time, peak bytes, stages if it tells them."""
    gc.collect()
    part = _timed(job.less, repeats)[:2] if job.less is not None else (0.0, 0.0)
    forget_peak()
    wall, cpu, laps = _timed(job.run, repeats)
    result: dict[str, Any] = {"wall": wall - part[0], "cpu": cpu - part[1], "peak": peak_bytes(), "whole": wall}
    told = [lap for lap in laps if lap]
    if told:
        result["stages"] = {name: sum(lap[name] for lap in told) / len(told) for name in told[0]}
    return result


class Spread(NamedTuple):
    """What several figures say: the middle, the least, the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """How many times as long theirs took, round by round: what disturbed a round disturbed both."""
    return Spread.of([a / b for a, b in zip(theirs, ours, strict=True)])
