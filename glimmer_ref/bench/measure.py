"""Timing: one run's wall and processor seconds, its stages, its peak memory; and what many runs say together."""

from __future__ import annotations

import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..ops import Ops


class Watch:
    """The two clocks: seconds since it was made, by the wall and of all threads' processor time."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Wall and processor seconds until now."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


class Told(NamedTuple):
    """What a run may tell about itself.

    Args:
        stages: seconds by component.
        counted: wall and processor seconds of the part that is wanted, where it is not the whole run.
    """

    stages: Mapping[str, float] | None = None
    counted: tuple[float, float] | None = None


Job = Callable[[], Told | None]  # what to time


class Stages(Ops):
    """The operations themselves, noting when each component of the model begins.

    A `Instrument` would hear every operation and so keep composites from running as a whole; this hears
    only the first word of a place and hands back what it wraps.
    """

    def __init__(self, ops: Ops) -> None:
        vars(self).update(vars(ops))  # bound and checked already: that would take longer than a short work
        self.inner, self.begun = ops, list[tuple[str, Watch]]()

    def at(self, name: str) -> Ops:
        self.begun.append((name, Watch()))
        return self.inner

    def seconds(self) -> dict[str, float]:
        """Wall seconds by component until now; what came before the first is left out."""
        result: dict[str, float] = {}
        for (name, watch), (_, following) in pairwise([*self.begun, ("", Watch())]):
            result[name] = result.get(name, 0.0) + following.wall - watch.wall
        return result

    def since(self, name: str, nth: int) -> tuple[float, float]:
        """Wall and processor seconds since a component began for the nth time, counted from 0."""
        return [watch for begun, watch in self.begun if begun == name][nth].read()


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(field)


def peak_bytes() -> int:
    """The most main memory this process has had, since `forget_peak` where the system can forget; 0 if untold."""
    with suppress(OSError):
        return _status("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    kilobytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes


def forget_peak() -> None:
    """Let `peak_bytes` begin anew, on Linux; elsewhere it is the whole process's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")


def enough(wall: float, least: float = 0.5) -> int:
    """How often a run that takes so long is to be repeated, so that clocks and the scheduler matter little."""
    return max(1, math.ceil(least / max(wall, 1e-6)))


def measure(job: Job, repeats: int = 1) -> dict[str, Any]:
    """One run, or the mean of several: seconds by both clocks, peak bytes, stages if it tells them."""
    gc.collect()
    forget_peak()
    watch = Watch()
    told = [job() for _ in range(repeats)]
    whole = [x / repeats for x in watch.read()]
    parts = [t.counted for t in told if t and t.counted]
    wall, cpu = [sum(x) / len(x) for x in zip(*parts, strict=True)] if parts else whole
    result: dict[str, Any] = {"wall": wall, "cpu": cpu, "peak": peak_bytes(), "whole": whole[0]}
    stages = [t.stages for t in told if t and t.stages]
    if stages:
        result["stages"] = {name: sum(s[name] for s in stages) / len(stages) for name in stages[0]}
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
