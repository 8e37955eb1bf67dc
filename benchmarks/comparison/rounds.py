"""Rounds of measurement: first the hardware peaks, then every engine once for each workload, in rotating order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import results
from comparison.engines import Engine, check, start
from comparison.random_checkpoint import EXPECTED

from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.process import Worker
from glimmer_ref.bench.workload import KINDS, WIDTHS, least_bytes, macs, parse, shape
from glimmer_ref.errors import InputError

HERE = Path(__file__).resolve().parent
NEAR, PATIENCE = 0.93, 20  # a round waits for this share of the best peak so far, at most so often


def weights_folder(size: str, chosen: str | None) -> Path:
    """The folder with random weights of a size. It is written if it does not exist, and kept for the next run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen) if chosen else cache / "glimmer_ref_benchmarks" / size
    if not (folder / EXPECTED).exists():
        results.say(f"random weights of {size} into {folder}")
        subprocess.run([sys.executable, str(HERE / "random_checkpoint.py"), size, str(folder)], check=True)
    return folder


class Turn(NamedTuple):
    """One engine with one workload."""

    engine: Engine
    workload: str


class Rounds:
    """All rounds of one call, and the measurements so far.

    Args:
        size: a size of T5.1.1.
        out: the result file, written after every workload.
        count: how many rounds there are.
        lock: a file whose lock is held while timing; useful where other programs take the same lock.
        pause: seconds before each run, in which the threads of the previous run stop spinning.
        workloads: all workloads; those joined as "a+b" share their rounds.
        folder: the folder of the random weights; if None, the size's folder in the cache.
        kind: the kind of the document.
        peers: True if other libraries take part, which read the weights from files and are checked first.
    """

    def __init__(
        self,
        size: str,
        out: Path,
        count: int,
        lock: Path | None,
        pause: float,
        workloads: Iterable[str],
        folder: str | None = None,
        kind: str = "run",
        peers: bool = True,
    ) -> None:
        self.size, self.out, self.count, self.lock, self.pause = size, out, count, lock, pause
        self.folder = weights_folder(size, folder) if peers else None
        self.workloads = [tuple(workload.split("+")) for workload in workloads]
        self.group, self.number, self.peaks = 1, 0, dict[int, Worker]()
        names = {name: described(size, name) for together in self.workloads for name in together}
        self.document = results.begin(kind, size, count, names)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, if there is one."""
        if self.lock is None:
            yield
            return
        import fcntl

        with self.lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                results.say(f"waiting for {self.lock}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def start_all(self, names: Sequence[tuple[str, int]]) -> list[Engine]:
        """Start the engines. One that cannot start or computes wrong values is left out; the document says why."""
        started = []
        for name, threads in names:
            begin, engine = time.monotonic(), start(name, self.size, self.folder or HERE, threads)
            about: dict[str, Any] = {"name": engine.name, "precision": engine.precision, "threads": threads}
            try:
                about |= engine.worker.ask("about")
                about |= check(engine, self.folder) if self.folder else {}
                started.append(engine)
                state = f"ready in {time.monotonic() - begin:.0f} s"
                state += f", error {about['error']:.1e}" if "error" in about else ""
            except InputError as error:
                state = about["left_out"] = str(error)
                engine.worker.close()
            self.document["engines"][engine.id] = about
            results.say(f"{engine.id}: {state}")
        return started

    def prepare(self, workloads: Sequence[str], engines: Sequence[Engine]) -> list[Turn]:
        """Each engine with the workloads that it can do, warmed up."""
        able = []
        for turn in (Turn(engine, workload) for workload in workloads for engine in engines):
            try:
                with self.locked():
                    turn.engine.worker.ask("prepare", work=turn.workload)
                able.append(turn)
            except InputError as error:
                self.document["not_done"].setdefault(turn.workload, {})[turn.engine.id] = str(error)
        return able

    def quiet_peaks(self, threads: int) -> dict[str, Any]:
        """The hardware peaks, measured until they are near the best so far: lower ones mean a busy machine."""
        best = max((p["float32"] for p in self.document["peaks"] if p["threads"] == threads), default=0.0)
        for _ in range(PATIENCE):
            peaks: dict[str, Any] = self.peaks[threads].ask("run", work="peaks")["stages"]
            if peaks["float32"] > NEAR * best:
                return peaks
            time.sleep(2)
        reached = f"{peaks['float32'] / best:.0%}"
        results.say(f"not quiet: {reached} of what {threads} thread(s) reached before; measured all the same")
        return peaks

    def round(self, workloads: Sequence[str], able: list[Turn]) -> None:
        """The hardware peaks, then each turn once; the first turn of a round is the last one of the next."""
        with self.locked():
            here, self.number = {"group": self.group, "round": self.number}, self.number + 1
            for threads in self.peaks:
                peaks = {**self.quiet_peaks(threads), "threads": threads}
                self.document["peaks"] += [{**here, "work": workload, **peaks} for workload in workloads]
            first = self.number % len(able)
            for turn in able[first:] + able[:first]:
                time.sleep(self.pause)
                seconds = turn.engine.worker.ask("run", work=turn.workload)
                self.document["runs"].append({**here, "work": turn.workload, "engine": turn.engine.id, **seconds})

    def print_summary(self, able: Sequence[Turn]) -> None:
        """Print one line for each turn."""
        for turn in able:
            mine = (self.group, turn.workload, turn.engine.id)
            walls = [r["wall"] for r in self.document["runs"] if (r["group"], r["work"], r["engine"]) == mine]
            s = Spread.of(walls)
            results.say(f"{turn.workload:14} {turn.engine.id:26} {s.median:9.4f} s  ({s.min:.4f} to {s.max:.4f})")

    def measure(self, names: Sequence[tuple[str, int]]) -> None:
        """Measure all workloads with these engines, each named with its number of threads, and write the document."""
        engines = self.start_all(names)
        for threads in sorted({threads for _, threads in names}):
            command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", "tiny", "--threads", str(threads)]
            self.peaks[threads] = Worker(command, threads)
            self.peaks[threads].ask("prepare", work="peaks")
        try:
            for workloads in self.workloads:
                if able := self.prepare(workloads, engines):
                    for _ in range(self.count):
                        self.round(workloads, able)
                    self.print_summary(able)
                    results.write(self.out, self.document)
                for turn in able:
                    turn.engine.worker.ask("drop", work=turn.workload)
        finally:
            for worker in [*self.peaks.values(), *(engine.worker for engine in engines)]:
                worker.close()
            self.peaks.clear()


def described(size: str, name: str) -> dict[str, Any]:
    """A description of a workload, and its cost as this package counts it."""
    workload, config = parse(name), shape(size)
    kind = KINDS[workload.kind]
    return {
        "kind": workload.kind,
        "what": kind.what,
        "unit": kind.unit,
        "units": kind.units(workload),
        "bound": kind.bound,
        "macs": macs(workload, config),
        "k": workload.k,
        "m": workload.m,
        "b": workload.b,
        "tokens": workload.read,
        "steps": workload.steps,
        "bytes": {precision: least_bytes(workload, config, precision) for precision in WIDTHS},
    }
