"""Many workers answer as one process does: the same lines but for the seconds, the same scores to the digit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import glimmer_ref
from glimmer_ref.cli import main
from glimmer_ref.data.inputs import Question, read_passages, read_questions
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation import sweep
from glimmer_ref.evaluation.evaluate import BATCH, evaluate
from glimmer_ref.evaluation.sweep import SweepPoint
from glimmer_ref.evaluation.workers import Spread, Task
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.memory.build import build
from glimmer_ref.memory.store import Memory
from glimmer_ref.workers.tasks import Workers

MODEL = str(bundled())
TIMED = ("seconds", "questions_per_second")


class Now(Executor):
    """Runs a task when it is handed out, after `before` has seen it."""

    def __init__(self, before: Callable[[Task], None] = lambda task: None) -> None:
        self.before = before

    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            self.before(args[0])
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def reader() -> Reader:
    return glimmer_ref.load(ops="numba")


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    """41 questions, three batches; some have fewer candidates than m, and one has none, so that BM25 finds them."""
    some = [replace(q, candidates=q.candidates[:6]) for q in list(read_questions(bundled() / "questions.jsonl"))[::59]]
    cut = {3: 2, 4: 1, 20: 0}
    return [replace(q, candidates=q.candidates[: cut.get(i, 6)]) for i, q in enumerate(some)]


@pytest.fixture(scope="module")
def memory(reader: Reader, questions: list[Question], tmp_path_factory: pytest.TempPathFactory) -> Memory:
    folder = tmp_path_factory.mktemp("stored")
    wanted = {id for q in questions for id in q.candidates}
    lines = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()
    few = [line for line in lines if json.loads(line)["id"] in wanted]
    (folder / "passages.jsonl").write_text("\n".join(few) + "\n", "utf-8")
    what = (reader.ops, reader.model, reader.tokenizer, folder / "passages.jsonl", folder / "memory")
    return build(*what, show=quiet).memory


def quiet(items: Iterable[Any], *more: Any) -> Iterable[Any]:
    return items


def untimed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: x for name, x in row.items() if name not in TIMED} for row in rows]


def lines(path: Path) -> list[dict[str, Any]]:
    return untimed(json.loads(line) for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize(("system", "m"), [("glimmer", None), ("lumen", None), ("fid", None)])
def test_the_scores_are_the_same_to_the_digit(
    reader: Reader, questions: list[Question], memory: Memory, system: str, m: int | None
) -> None:
    assert len(questions) > 2 * BATCH
    spread = Spread(Workers(Now(), 2, MODEL, "numba"), reader, memory)
    what = (reader, questions, memory, system, 6, m, quiet)
    alone, rows = evaluate(*what)
    many, others = evaluate(*what, spread.batches)
    assert untimed([many]) == untimed([alone]) and untimed(others) == untimed(rows)
    assert sum(r["macs"] for r in others) == sum(r["macs"] for r in rows) > 0


def test_a_worker_that_fails_ends_it_and_the_lines_before_are_kept(
    reader: Reader, questions: list[Question], memory: Memory, tmp_path: Path
) -> None:
    def fails(task: Task) -> None:
        if task.questions[0].id == questions[BATCH].id:
            raise OSError("the network is down")

    what = (reader, questions, memory, "glimmer", [SweepPoint(6, 2)], quiet)
    whole = sweep.run(tmp_path / "whole", *what)
    some = Spread(Workers(Now(fails), 2, MODEL, "numba"), reader, memory)
    with pytest.raises(
        InputError, match=r"3 batches of questions: expected an answer of some worker .*the network is down"
    ):
        sweep.run(tmp_path / "many", *what, batches=some.batches)
    name = "k6-m2.jsonl"
    kept = lines(tmp_path / "many" / name)
    assert kept == lines(tmp_path / "whole" / name)[:BATCH]
    again = Spread(Workers(Now(), 2, MODEL, "numba"), reader, memory)
    assert untimed(sweep.run(tmp_path / "many", *what, batches=again.batches)) == untimed(whole)
    assert lines(tmp_path / "many" / name) == lines(tmp_path / "whole" / name)


def test_another_model_at_a_worker_or_a_memory_of_this_process_is_refused(
    reader: Reader, questions: list[Question], memory: Memory
) -> None:
    spread = Spread(Workers(Now(), 1, MODEL, "numba"), reader, memory)
    spread.known = {**spread.known, "weights": "others"}
    with pytest.raises(InputError, match=r"worker's model .*weights=others.*give every worker the same files"):
        list(spread.batches(questions, "glimmer", 6, 2, quiet))
    passages = [p for p, _ in zip(read_passages(bundled() / "passages.jsonl"), range(3), strict=False)]
    with pytest.raises(InputError, match="a memory on disk, which they can open; got one in main memory"):
        Spread(Workers(Now(), 1, MODEL, "numba"), reader, reader.memorize(passages))


def test_the_command_spawns_workers_and_refuses(
    memory: Memory, questions: list[Question], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {q.id for q in questions[5:20]}
    some = (bundled() / "questions.jsonl").read_text("utf-8").splitlines()
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(line for line in some if json.loads(line)["id"] in ids) + "\n", "utf-8")
    command = ["evaluate", str(file), "--k", "6", "--json"]
    stored = ["--memory", memory.name]
    said = []
    for more in ([], ["--workers", "2"], ["--workers", "2", "--out", str(tmp_path / "out")]):
        assert main([*command, *stored, *more]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert untimed(said[1:]) == untimed(said[:1]) * 2
    assert len(lines(tmp_path / "out" / "k6-m5.jsonl")) == len(ids)
    for words, wrong in (
        (["--workers", "2"], "--workers: expected --memory DIR, which workers can open; got none"),
        (["--scheduler", "tcp://nowhere:1"], "--scheduler: expected --memory DIR"),
        ([*stored, "--workers", "0"], "--workers: expected at least 1; got 0"),
    ):
        assert main([*command, *words]) == 2
        assert wrong in capsys.readouterr().err
