"""Train and test the jobs that are not finished, several at once, with a progress line that estimates the time left."""

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
from comparison.rounds import say
from miniature.experiments import Point
from miniature.jobs import Job, Pace, minutes, remaining, steps_done, written

from glimmer_ref.bench.process import environment
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.data.json_lines import read_jsonl
from glimmer_ref.disk.read import read_json
from glimmer_ref.errors import InputError
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.training.loop import LAST

TEST, ABOUT = "test", "world.json"


def test_file(data: Path, out: Path, depth: int) -> Path:
    """The test world's questions, each with at least `depth` candidates by BM25, as in the world's own files.

    Raises:
        InputError: the file's candidates come from another ranking, so they cannot be extended; too few passages.
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


def check_world(data: Path, out: Path) -> dict[str, Any]:
    """Check that the world is that of all earlier runs in the folder, and return a description of it.

    Raises:
        InputError: there is no world, or earlier runs were of another one.
    """
    about: dict[str, Any] = read_json(data / ABOUT)
    kept = out / ABOUT
    if kept.exists() and read_json(kept) != about:
        raise InputError(f"{data}", f"the world that the runs in {out} are of", "another", "another --out")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data / ABOUT, kept)
    return about


class Runner:
    """Runs jobs in processes.

    Args:
        at_once: how many jobs run at once.
        threads: the number of threads of each.
        points: the tests of each training.
    """

    def __init__(self, data: Path, out: Path, ops: str, at_once: int, threads: int, points: Iterable[Point]) -> None:
        self.data, self.out, self.ops, self.at_once, self.threads = data, out, ops, at_once, threads
        self.points = list(points)
        self.questions = test_file(data, out, max(p.k for p in self.points))
        self.failed: dict[str, str] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._stopped = threading.Lock(), False

    def _command(self, words: Sequence[str], log: Path, answer: Path | None = None) -> str:
        """Run a glimmer-ref command; "" if it succeeds, else the last line of its error."""
        with log.open("ab") as errors, (answer or log).open("ab" if answer is None else "wb") as output:
            with self._lock:
                if self._stopped:
                    return "stopped"
                # In a session of its own the command gets Ctrl-C only from this process, once, so that it can save.
                process = subprocess.Popen(
                    [sys.executable, "-m", "glimmer_ref", *words],
                    stdout=output,
                    stderr=errors,
                    env=environment(self.threads),
                    start_new_session=True,
                )
                self._running.add(process)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        if code == 0:
            return ""
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {code}"

    def _train(self, job: Job) -> str:
        if job.finished(self.ops):
            return ""
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        toml, log = (job.folder.with_name(f"{job.seed}.{kind}") for kind in ("toml", "log"))
        toml.write_text(written(job.recipe), encoding="utf-8")
        resume = ["--resume"] if job.position() else []
        words = ["train", str(toml), "--out", str(job.folder), "--data", str(self.data), "--ops", self.ops, *resume]
        return self._command(words, log)

    def _test(self, job: Job, point: Point) -> str:
        place = job.test(point)
        if place.exists():
            return ""
        part = place.with_suffix(".part")
        words = ["evaluate", str(self.questions), "--passages", str(self.data / TEST / "passages.jsonl"), "--json"]
        words += ["--weights", str(job.folder / LAST), "--ops", self.ops, "--system", point.system]
        words += ["--k", str(point.k), *(["--m", str(point.m)] if point.system == "glimmer" else [])]
        error = self._command(words, job.folder.with_name(f"{job.seed}.log"), part)
        if error:
            return error
        found = {**json.loads(part.read_text("utf-8")), "commit": results.commit(), "threads": self.threads}
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")
        part.replace(place)
        return ""

    def _do(self, job: Job) -> None:
        """Train and test one job; an error is recorded, and the other jobs continue."""
        error = self._train(job)
        settings = {p[2:]: p for p in self.points if p.training == job.training}
        for point in settings.values():
            error = error or self._test(job, point)
        if error and not self._stopped:
            self.failed[job.name] = error
        say(f"{job.name}: {error or 'done'}")

    def run(self, wanted: Sequence[Job], pace: Pace) -> None:
        """Run all jobs; a job waits for the job that it begins from.

        Raises:
            InputError: a folder holds a run of another recipe.
            KeyboardInterrupt: raised again after the running jobs have saved.
        """
        for job in wanted:
            job.finished(self.ops)
        waves = [[t for t in wanted if (t.training.begins is None) is first] for first in (True, False)]
        pool = ThreadPoolExecutor(self.at_once)
        try:
            for wave in waves:
                self._watch([pool.submit(self._do, job) for job in wave], wanted, pace)
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

    def _watch(self, futures: list[Future[None]], wanted: Sequence[Job], pace: Pace) -> None:
        """Print a line of progress now and then until all are done; on a terminal it is drawn in place."""
        shown = sys.stderr.isatty()
        printed = time.monotonic()
        while wait(futures, timeout=0.5).not_done:
            if time.monotonic() - printed > (3 if shown else 60):
                printed = time.monotonic()
                line = progress_line(wanted, pace, self.at_once, self.ops)
                sys.stderr.write(f"\r\x1b[K{line}" if shown else f"{line}\n")
                sys.stderr.flush()
        if shown:
            sys.stderr.write("\r\x1b[K")
        for future in futures:
            future.result()


def progress_line(wanted: Sequence[Job], pace: Pace, at_once: int, ops: str) -> str:
    """Models and steps done, and the time left."""
    done, total = sum(steps_done(t) for t in wanted), sum(t.recipe.steps for t in wanted)
    if not pace.known:
        pace = Pace(job.folder for job in wanted)
    seconds = remaining(wanted, pace)
    time_left = minutes(None if seconds is None else seconds / at_once)
    finished = sum(job.finished(ops) for job in wanted)
    return f"{finished} of {len(wanted)} models trained, {done:,} of {total:,} steps; time left: {time_left}"
