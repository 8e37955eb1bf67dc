"""Trains and tests what is missing of the trends, several models at once, and says how long it takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import results
from campaign import say
from trends_points import Point
from trends_tasks import Pace, Task, minutes, remaining, steps_done, written

from glimmer_ref.bench.process import environment
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.data.json_lines import read_jsonl
from glimmer_ref.disk.read import read_json
from glimmer_ref.errors import InputError
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.training.loop import LAST

TEST, ABOUT = "test", "world.json"


def test_file(data: Path, out: Path, depth: int) -> Path:
    """The test world's questions with at least so many candidates each, BM25's as in the world's own files.

    Raises:
        InputError: candidates of another ranking, which cannot be gone on with, or too few passages.
    """
    own = data / TEST / "questions.jsonl"
    known = list(read_questions(own))
    if all(len(q.candidates) >= depth for q in known):
        return own
    passages = list(read_passages(data / TEST / "passages.jsonl"))
    if len(passages) < depth:
        raise InputError(f"{data / TEST}", f"at least k={depth} passages", str(len(passages)))
    found, lines = BM25(passages), []
    for (place, record), question in zip(read_jsonl(own), known, strict=True):
        ids = [passages[row].id for row in found.rank(question.text, depth)]
        if ids[: len(question.candidates)] != list(question.candidates):
            raise InputError(place, "BM25's candidates, as `glimmer-ref world` writes them", "others")
        lines.append(json.dumps({**record, "candidates": ids}, ensure_ascii=False) + "\n")
    path = out / f"test-{depth}.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def hold_to_one_world(data: Path, out: Path) -> dict[str, Any]:
    """What the world is; a folder of runs is of one world.

    Raises:
        InputError: no world, or another than the runs before had.
    """
    about: dict[str, Any] = read_json(data / ABOUT)
    kept = out / ABOUT
    if kept.exists() and read_json(kept) != about:
        raise InputError(f"{data}", f"the world that the runs in {out} are of", "another", "another --out")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data / ABOUT, kept)
    return about


class Yard:
    """Where models are trained: so many processes at once, each with so many threads.

    Args:
        points: what every training is tested with.
    """

    def __init__(self, data: Path, out: Path, ops: str, jobs: int, threads: int, points: Iterable[Point]) -> None:
        self.data, self.out, self.ops, self.jobs, self.threads = data, out, ops, jobs, threads
        self.points = list(points)
        self.questions = test_file(data, out, max(p.k for p in self.points))
        self.failed: dict[str, str] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._stopped = threading.Lock(), False

    def _command(self, words: Sequence[str], log: Path, answer: Path | None = None) -> str:
        """Run a glimmer-ref command; the last line of its complaint, "" if it went well."""
        with log.open("ab") as told, (answer or log).open("ab" if answer is None else "wb") as said:
            with self._lock:
                if self._stopped:
                    return "stopped"
                # A session of its own: Ctrl-C reaches it once, from here, and it saves in peace.
                process = subprocess.Popen(
                    [sys.executable, "-m", "glimmer_ref", *words], stdout=said, stderr=told,
                    env=environment(self.threads), start_new_session=True,
                )  # fmt: skip
                self._running.add(process)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        if code == 0:
            return ""
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {code}"

    def _train(self, task: Task) -> str:
        if task.finished(self.ops):
            return ""
        task.folder.parent.mkdir(parents=True, exist_ok=True)
        toml, log = (task.folder.with_name(f"{task.seed}.{kind}") for kind in ("toml", "log"))
        toml.write_text(written(task.recipe), encoding="utf-8")
        resume = ["--resume"] if task.position() else []
        words = ["train", str(toml), "--out", str(task.folder), "--data", str(self.data), "--ops", self.ops, *resume]
        return self._command(words, log)

    def _test(self, task: Task, point: Point) -> str:
        place = task.test(point)
        if place.exists():
            return ""
        part = place.with_suffix(".part")
        words = ["evaluate", str(self.questions), "--passages", str(self.data / TEST / "passages.jsonl"), "--json"]
        words += ["--weights", str(task.folder / LAST), "--ops", self.ops, "--system", point.system]
        words += ["--k", str(point.k), *(["--m", str(point.m)] if point.system == "glimmer" else [])]
        complaint = self._command(words, task.folder.with_name(f"{task.seed}.log"), part)
        if complaint:
            return complaint
        found = {**json.loads(part.read_text("utf-8")), "commit": results.commit(), "threads": self.threads}
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")
        part.replace(place)
        return ""

    def _do(self, task: Task) -> None:
        """Train and test; what went wrong is kept, and the others go on."""
        name = f"{task.training.name}, seed {task.seed}"
        complaint = self._train(task)
        settings = {p[2:]: p for p in self.points if p.training == task.training}
        for point in settings.values():
            complaint = complaint or self._test(task, point)
        if complaint and not self._stopped:
            self.failed[name] = complaint
        say(f"{name}: {complaint or 'done'}")

    def run(self, wanted: Sequence[Task], pace: Pace) -> None:
        """All that is missing; first what others begin from.

        Raises:
            InputError: a folder holds a run of another recipe.
            KeyboardInterrupt: after what was running has saved.
        """
        for task in wanted:
            task.finished(self.ops)
        waves = [[t for t in wanted if (t.training.begins is None) is first] for first in (True, False)]
        pool = ThreadPoolExecutor(self.jobs)
        try:
            for wave in waves:
                self._watch([pool.submit(self._do, task) for task in wave], wanted, pace)
        except BaseException:
            self._stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _watch(self, futures: list[Future[None]], wanted: Sequence[Task], pace: Pace) -> None:
        """A line now and then until all are done: on a terminal one that is drawn again."""
        shown = sys.stderr.isatty()
        told = time.monotonic()
        while wait(futures, timeout=0.5).not_done:
            if time.monotonic() - told > (3 if shown else 60):
                told = time.monotonic()
                line = left(wanted, pace, self.jobs, self.ops)
                sys.stderr.write(f"\r\x1b[K{line}" if shown else f"{line}\n")
                sys.stderr.flush()
        if shown:
            sys.stderr.write("\r\x1b[K")
        for future in futures:
            future.result()


def left(wanted: Sequence[Task], pace: Pace, jobs: int, ops: str) -> str:
    """The progress line."""
    done, total = sum(steps_done(t) for t in wanted), sum(t.recipe.steps for t in wanted)
    if not pace.known:
        pace = Pace(task.folder for task in wanted)
    seconds = remaining(wanted, pace)
    time_left = minutes(None if seconds is None else seconds / jobs)
    finished = sum(task.finished(ops) for task in wanted)
    return f"{finished} of {len(wanted)} models trained, {done:,} of {total:,} steps; time left: {time_left}"
