"""Train and test the jobs that are not in the file of runs, several at once, with a line of progress."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import results
from miniature import runs
from miniature.jobs import Job, progress_line
from miniature.recipes import recipe_digest, written
from miniature.structure import Point

from glimmer_ref.bench.machine import machine, versions
from glimmer_ref.bench.process import environment
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.data.json_lines import read_jsonl
from glimmer_ref.disk.read import read_json
from glimmer_ref.disk.write import write_json
from glimmer_ref.errors import InputError
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.training.checkpoint import POSITION
from glimmer_ref.training.loop import BEST, LAST

TEST, SOURCE = "test", "source.json"
OF_THE_HOST = ("seconds", "questions_per_second", "precision")  # what `evaluate --json` says that is no score


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


def check_source(out: Path, source: runs.Source) -> None:
    """Check that the bases and the world are those of all earlier runs in the folder.

    Raises:
        InputError: earlier runs started from other bases, or were of another world.
    """
    kept, now = out / SOURCE, source._asdict()
    if kept.exists() and read_json(kept) != now:
        raise InputError(f"{out}", "runs of these bases and this world", "runs of others", "another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(kept, now)


class Setting(NamedTuple):
    """How the jobs are run.

    Args:
        data: the folder of the worlds.
        out: where models are kept while they are needed.
        runs: the file of runs.
        source: the digests of bases and world.
        at_once: how many jobs at a time.
        threads: how many each may use.
        keep: whether the folder of a tested model is kept.
    """

    data: Path
    out: Path
    runs: Path
    source: runs.Source
    ops: str
    at_once: int
    threads: int
    keep: bool


class Runner:
    """Runs jobs as processes of their own.

    Args:
        kept: the tests that count; new ones are added.

    Raises:
        InputError: see `check_source` and `test_file`.
    """

    def __init__(self, setting: Setting, kept: dict[runs.Key, runs.Record], depth: int) -> None:
        self.setting, self.kept = setting, kept
        check_source(setting.out, setting.source)
        self.questions = test_file(setting.data, setting.out, depth)
        self.failed: dict[str, str] = {}
        self._commit = results.commit()
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
                    env=environment(self.setting.threads),
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
        if job.trained(self.setting.ops):
            return ""
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        toml, log = (job.folder.with_name(f"{job.seed}.{kind}") for kind in ("toml", "log"))
        toml.write_text(written(job.recipe), encoding="utf-8")
        resume = ["--resume"] if job.position() else []
        words = ["train", str(toml), "--out", str(job.folder), "--data", str(self.setting.data)]
        return self._command([*words, "--ops", self.setting.ops, *resume], log)

    def _test(self, job: Job, point: Point) -> str:
        part = job.folder / f"test-{point.system}-{point.k}-{point.m}.part"
        passages = self.setting.data / TEST / "passages.jsonl"
        words = ["evaluate", str(self.questions), "--passages", str(passages), "--json"]
        words += ["--weights", str(job.folder / BEST), "--ops", self.setting.ops, "--system", point.system]
        words += ["--k", str(point.k), *(["--m", str(point.m)] if point.system == "glimmer" else [])]
        if error := self._command(words, job.folder.with_name(f"{job.seed}.log"), part):
            return error
        record = self._record(job, point, json.loads(part.read_text("utf-8")))
        with self._lock:
            runs.append(self.setting.runs, record)
            self.kept[runs.key_of(job.training, job.seed, point)] = record
        part.unlink()
        return ""

    def _record(self, job: Job, point: Point, scores: dict[str, Any]) -> dict[str, Any]:
        """A line of the file of runs: the scores of a test, and how its model was made."""
        last, best = (read_json(job.folder / name / POSITION) for name in (LAST, BEST))
        here, source = machine(), self.setting.source
        return {
            **{"training": job.training.name, "seed": job.seed, "system": point.system, "k": point.k, "m": point.m},
            **{name: x for name, x in scores.items() if name not in (*OF_THE_HOST, "system", "k", "m")},
            **{"steps": last["step"], "train_seconds": round(last["seconds"], 1)},
            **{"best_step": best["step"], "best_dev": best["best"]["exact_match"]},
            **{"recipe": recipe_digest(job.recipe, self.setting.ops), "base": source.bases[job.training.start]},
            "world": source.world,
            **{"commit": self._commit, "date": time.strftime("%Y-%m-%d"), "threads": self.setting.threads},
            **{"machine": f"{here['cpu']}, {here['cores']} cores", "versions": versions(*results.PACKAGES[:4])},
        }

    def _do(self, job: Job) -> None:
        """Train and test one job; an error is recorded, and the other jobs continue."""
        missing = job.missing(self.kept)
        if not missing:
            return
        error = self._train(job)
        for point in missing:
            error = error or self._test(job, point)
        if self._stopped and error:  # what the command said last is no error
            return
        if error:
            self.failed[job.name] = error
        elif not self.setting.keep:
            shutil.rmtree(job.folder)
        results.say(f"{job.name}: {error or 'done'}")

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs.

        Raises:
            InputError: a folder holds a run of another recipe.
            KeyboardInterrupt: raised again after the running jobs have saved.
        """
        for job in jobs:
            if job.missing(self.kept):
                job.trained(self.setting.ops)
        pool = ThreadPoolExecutor(self.setting.at_once)
        try:
            self._watch([pool.submit(self._do, job) for job in jobs], jobs)
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

    def _watch(self, futures: list[Future[None]], jobs: Sequence[Job]) -> None:
        """Print a line of progress now and then until all are done; on a terminal it is drawn in place."""
        shown = sys.stderr.isatty()
        printed = time.monotonic()
        while wait(futures, timeout=0.5).not_done:
            if time.monotonic() - printed > (3 if shown else 60):
                printed = time.monotonic()
                line = progress_line(jobs, dict(self.kept), self.setting.at_once)
                sys.stderr.write(f"\r\x1b[K{line}" if shown else f"{line}\n")
                sys.stderr.flush()
        if shown:
            sys.stderr.write("\r\x1b[K")
        for future in futures:
            future.result()
