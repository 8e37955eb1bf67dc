"""The rounds: in each, the ceilings first, then every contestant once at every work, in rotating order."""

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
from checkpoint import EXPECTED
from contestants import Contestant, check, start

from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.process import Worker
from glimmer_ref.bench.work import KINDS, WIDTHS, least_bytes, macs, parse, shape
from glimmer_ref.errors import InputError

HERE = Path(__file__).resolve().parent
NEAR, PATIENCE = 0.93, 20  # a round that begins below this share of the best ceiling so far waits, so many times


def say(line: str) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def weights_folder(size: str, chosen: str | None) -> Path:
    """The folder of random weights of a size, written if it is not there; kept for the next run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen) if chosen else cache / "glimmer_ref_benchmarks" / size
    if not (folder / EXPECTED).exists():
        say(f"random weights of {size} into {folder}")
        subprocess.run([sys.executable, str(HERE / "checkpoint.py"), size, str(folder)], check=True)
    return folder


class Turn(NamedTuple):
    """One contestant at one work."""

    contestant: Contestant
    work: str


class Campaign:
    """What one call measures, and what it has measured so far.

    Args:
        size: of T5.1.1.
        out: the result's file, written after every work.
        rounds: how often each turn comes.
        lock: a file whose lock is held while timing, for machines where others heed it too.
        pause: seconds before each run, for the threads of the last one to stop spinning.
        works: all work that will be asked for; "a+b" are done in the same rounds.
        folder: of the random weights; the size's own in the cache if None.
        kind: of the document.
        peers: are there contestants that read weights from files, and must prove that they compute the same?
    """

    def __init__(
        self, size: str, out: Path, rounds: int, lock: Path | None, pause: float, works: Iterable[str],
        folder: str | None = None, kind: str = "run", peers: bool = True,
    ) -> None:  # fmt: skip
        self.size, self.out, self.rounds, self.lock, self.pause = size, out, rounds, lock, pause
        self.folder = weights_folder(size, folder) if peers else None
        self.works = [tuple(work.split("+")) for work in works]
        self.group, self.number, self.ceilings = 1, 0, dict[int, Worker]()
        names = {name: described(size, name) for together in self.works for name in together}
        self.document = results.begin(kind, size, rounds, names)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock."""
        if self.lock is None:
            yield
            return
        import fcntl

        with self.lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for {self.lock}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def gather(self, names: Sequence[tuple[str, int]]) -> list[Contestant]:
        """Start all, one after the other; who cannot start, or computes something else, is left out and noted."""
        there = []
        for who, threads in names:
            begin, contestant = time.monotonic(), start(who, self.size, self.folder or HERE, threads)
            about: dict[str, Any] = {"name": contestant.name, "precision": contestant.precision, "threads": threads}
            try:
                about |= contestant.worker.ask("about")
                about |= check(contestant, self.folder) if self.folder else {}
                there.append(contestant)
                told = f"ready in {time.monotonic() - begin:.0f} s"
                told += f", error {about['error']:.1e}" if "error" in about else ""
            except InputError as error:
                told = about["left_out"] = str(error)
                contestant.worker.close()
            self.document["contestants"][contestant.id] = about
            say(f"{contestant.id}: {told}")
        return there

    def ready(self, works: Sequence[str], contestants: Sequence[Contestant]) -> list[Turn]:
        """Who does which of these works, warmed up."""
        able = []
        for turn in (Turn(contestant, work) for work in works for contestant in contestants):
            try:
                with self.alone():
                    turn.contestant.worker.ask("prepare", work=turn.work)
                able.append(turn)
            except InputError as error:
                self.document["not_done"].setdefault(turn.work, {})[turn.contestant.id] = str(error)
        return able

    def quiet(self, threads: int) -> dict[str, Any]:
        """The ceilings, measured until they are near the best so far: below that, somebody else is at work here."""
        best = max((c["float32"] for c in self.document["ceilings"] if c["threads"] == threads), default=0.0)
        for _ in range(PATIENCE):
            told: dict[str, Any] = self.ceilings[threads].ask("run", work="ceilings")["stages"]
            if told["float32"] > NEAR * best:
                return told
            time.sleep(2)
        say(
            f"not quiet: {told['float32'] / best:.0%} of what {threads} thread(s) reached before; measured all the same"
        )
        return told

    def round(self, works: Sequence[str], able: list[Turn]) -> None:
        """The ceilings, then each turn once, the first of the last round last; no two rounds have the same number."""
        with self.alone():
            here, self.number = {"group": self.group, "round": self.number}, self.number + 1
            for threads in self.ceilings:
                told = {**self.quiet(threads), "threads": threads}
                self.document["ceilings"] += [{**here, "work": work, **told} for work in works]
            first = self.number % len(able)
            for turn in able[first:] + able[:first]:
                time.sleep(self.pause)
                figures = turn.contestant.worker.ask("run", work=turn.work)
                self.document["runs"].append({**here, "work": turn.work, "contestant": turn.contestant.id, **figures})

    def summary(self, able: Sequence[Turn]) -> None:
        """One line a turn."""
        for turn in able:
            mine = (self.group, turn.work, turn.contestant.id)
            walls = [r["wall"] for r in self.document["runs"] if (r["group"], r["work"], r["contestant"]) == mine]
            s = Spread.of(walls)
            say(f"{turn.work:14} {turn.contestant.id:26} {s.median:9.4f} s  ({s.least:.4f} .. {s.most:.4f})")

    def measure(self, names: Sequence[tuple[str, int]]) -> None:
        """All work of contestants that run beside each other, each with its number of threads."""
        there = self.gather(names)
        for threads in sorted({threads for _, threads in names}):
            command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", "tiny", "--threads", str(threads)]
            self.ceilings[threads] = Worker(command, threads)
            self.ceilings[threads].ask("prepare", work="ceilings")
        try:
            for works in self.works:
                if able := self.ready(works, there):
                    for _ in range(self.rounds):
                        self.round(works, able)
                    self.summary(able)
                    results.write(self.out, self.document)
                for turn in able:
                    turn.contestant.worker.ask("drop", work=turn.work)
        finally:
            for worker in [*self.ceilings.values(), *(c.worker for c in there)]:
                worker.close()
            self.ceilings.clear()


def described(size: str, name: str) -> dict[str, Any]:
    """A work in words, and what it costs by the package's own count."""
    work, config = parse(name), shape(size)
    kind = KINDS[work.kind]
    return {
        "kind": work.kind, "what": kind.what, "unit": kind.unit, "units": kind.units(work), "bound": kind.bound,
        "macs": macs(work, config), "k": work.k, "m": work.m, "b": work.b, "tokens": work.read, "steps": work.steps,
        "bytes": {precision: least_bytes(work, config, precision) for precision in WIDTHS},
    }  # fmt: skip
