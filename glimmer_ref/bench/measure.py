"""Timing: wall and processor seconds of a run, its stages and its peak memory; and the spread of many runs."""

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
    """Wall seconds and processor seconds of all threads since this object was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Wall and processor seconds until now."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


class RunDetails(NamedTuple):
    """What a run may report about itself.

    Args:
        stages: wall seconds by component.
        counted: wall and processor seconds of the part that counts, if that is not the whole run.
        stages_cpu: processor seconds by component.
    """

    stages: Mapping[str, float] | None = None
    counted: tuple[float, float] | None = None
    stages_cpu: Mapping[str, float] | None = None


Job = Callable[[], RunDetails | None]  # what to time


class Stages(Ops):
    """The operations of a backend, with a record of when each component of the model begins.

    An `Instrument` observes every operation, so that fused implementations cannot run. This class observes only that a
    component begins, and hands back the operations that it wraps.
    """

    def __init__(self, ops: Ops) -> None:
        vars(self).update(
            vars(ops)
        )  # they are bound and checked already; to do so again would take longer than a short run
        self.inner, self.begun = ops, list[tuple[str, Watch]]()

    def scope(self, name: str) -> Ops:
        self.begun.append((name, Watch()))
        return self.inner

    def seconds(self) -> tuple[dict[str, float], dict[str, float]]:
        """Wall and processor seconds by component until now, without the time before the first."""
        wall, cpu = dict[str, float](), dict[str, float]()
        for (name, watch), (_, following) in pairwise([*self.begun, ("", Watch())]):
            wall[name] = wall.get(name, 0.0) + following.wall - watch.wall
            cpu[name] = cpu.get(name, 0.0) + following.cpu - watch.cpu
        return wall, cpu

    def since(self, name: str, nth: int) -> tuple[float, float]:
        """Wall and processor seconds since a component began for the nth time, counted from 0."""
        return [watch for begun, watch in self.begun if begun == name][nth].read()


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(field)


def peak_bytes() -> int:
    """The peak memory of this process, since `forget_peak` on Linux; 0 if the system does not report it."""
    with suppress(OSError):
        return _status("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    kilobytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes


def forget_peak() -> None:
    """Reset `peak_bytes`. This works on Linux only; elsewhere it stays the peak of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")


def repeats_for(wall: float, seconds: float = 0.5) -> int:
    """How often to repeat a run of `wall` seconds, so that clocks and the scheduler matter little."""
    return max(1, math.ceil(seconds / max(wall, 1e-6)))


def measure(job: Job, repeats: int = 1) -> dict[str, Any]:
    """One run, or the mean of several: seconds by both clocks, peak bytes, and stages if the run reports them."""
    gc.collect()
    forget_peak()
    watch = Watch()
    details = [job() for _ in range(repeats)]
    whole = [x / repeats for x in watch.read()]
    parts = [t.counted for t in details if t and t.counted]
    wall, cpu = [sum(x) / len(x) for x in zip(*parts, strict=True)] if parts else whole
    result: dict[str, Any] = {"wall": wall, "cpu": cpu, "peak": peak_bytes(), "whole": whole[0]}
    for field in ("stages", "stages_cpu"):
        if stages := [s for t in details if t and (s := getattr(t, field))]:
            result[field] = {name: sum(s[name] for s in stages) / len(stages) for name in stages[0]}
    return result


class Spread(NamedTuple):
    """The median, minimum and maximum of several measurements."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        return cls(statistics.median(numbers), min(numbers), max(numbers))


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """The ratio of their time to ours in each round: whatever disturbs a round disturbs both times."""
    return Spread.of([a / b for a, b in zip(theirs, ours, strict=True)])
