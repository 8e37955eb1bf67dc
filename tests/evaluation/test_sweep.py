"""Evaluations in a folder: which settings there are, going on after a stop, and what KILT's evaluation is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import glimmer_ref
from glimmer_ref.cli import main
from glimmer_ref.data.inputs import Question, read_passages, read_questions
from glimmer_ref.disk.lock import lock_folder
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation import kilt_predictions, sweep
from glimmer_ref.evaluation.evaluate import BATCH, check, evaluate
from glimmer_ref.evaluation.sweep import SweepPoint, parse_values, settings
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.memory.store import Memory

TWO = [SweepPoint(3, 1), SweepPoint(6, 2)]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return glimmer_ref.load(ops="numba")


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    some = list(read_questions(bundled() / "questions.jsonl"))[::130]
    return [replace(q, candidates=q.candidates[:6]) for q in some]


@pytest.fixture(scope="module")
def memory(reader: Reader, questions: list[Question]) -> Memory:
    wanted = {id for q in questions for id in q.candidates}
    return reader.memorize(p for p in read_passages(bundled() / "passages.jsonl") if p.id in wanted)


def quiet(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    return items


def stopped(after: int) -> Callable[..., Iterator[Any]]:
    """A progress bar that ends the work, as a kill would, when so many batches are begun."""

    def show(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if i == after:
                raise KeyboardInterrupt
            yield item

    return show


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1,5,10", [1, 5, 10]), ("5:40", [5, 10, 20, 40]), ("5:30", [5, 10, 20, 30]), ("5:30:10", [5, 15, 25]),
     ("7", [7]), ("3:3", [3]), ("4,4", [4])],
)  # fmt: skip
def test_values(text: str, numbers: list[int]) -> None:
    assert parse_values(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "0", "5:", "5:4", "1:9:0", "1:2:3:4", "-1", "1.5", "0:9", "1e3"])
def test_other_values_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--sweep"):
        parse_values(text)


def test_settings_are_each_k_with_each_m_that_fits() -> None:
    assert settings(["k=2,5", "m=1,5"], 25, 5) == [(2, 1), (5, 1), (5, 5)]
    assert settings(["m=1,2"], 25, 5) == [(25, 1), (25, 2)]
    assert settings(["k=2,5"], 25, None) == [(2, None), (5, None)]
    assert [s.name for s in (SweepPoint(5, 2), SweepPoint(5, None))] == ["k5-m2", "k5"]


@pytest.mark.parametrize(
    ("axes", "m", "said"),
    [(["k=5", "m=1"], None, "reads all k"), (["k=1", "m=2"], 5, "at most some k"), (["q=1"], 5, "k=.. and m=.."),
     (["k=1", "k=2"], 5, "at most once"), (["k=1:2000:1"], None, "at most 1000")],
)  # fmt: skip
def test_other_settings_are_refused(axes: list[str], m: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings(axes, 25, m)


def lines(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each setting, but for how long they took."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        found[path.name] = [{name: x for name, x in row.items() if name != "seconds"} for row in rows]
    return found


def test_a_stopped_run_goes_on_to_the_same_lines(
    reader: Reader, memory: Memory, questions: list[Question], tmp_path: Path
) -> None:
    whole = sweep.run(tmp_path / "whole", reader, questions, memory, "glimmer", TWO, quiet)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(tmp_path / "parts", reader, questions, memory, "glimmer", TWO, stopped(1))
    first = tmp_path / "parts" / "k3-m1.jsonl"
    assert not (tmp_path / "parts" / "results.json").exists(), "some of the settings would look like all"
    assert len(lines(tmp_path / "parts")["k3-m1.jsonl"]) == BATCH
    with open(first, "a", encoding="utf-8") as file:
        file.write('{"id": "half a li')  # as a kill leaves it
    results = sweep.run(tmp_path / "parts", reader, questions, memory, "glimmer", TWO, quiet)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    for one, other in zip(results, whole, strict=True):
        timed = ("seconds", "questions_per_second")
        assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}
    before = first.stat().st_mtime_ns
    sweep.run(tmp_path / "parts", reader, questions, memory, "glimmer", TWO, stopped(0))
    assert first.stat().st_mtime_ns == before, "nothing was left to do"
    assert json.loads((tmp_path / "parts" / "results.json").read_text())["settings"][1]["m"] == 2


def test_what_does_not_belong_together_is_refused_and_kept(
    reader: Reader, memory: Memory, questions: list[Question], tmp_path: Path
) -> None:
    def run(folder: Path, asked: Sequence[Question] = questions, system: str = "glimmer") -> None:
        some = TWO if system == "glimmer" else [SweepPoint(3, None)]
        sweep.run(folder, reader, asked, memory, system, some, quiet)

    run(tmp_path / "a", questions[:3])
    kept = lines(tmp_path / "a")
    with pytest.raises(InputError, match="an evaluation with questions="):
        run(tmp_path / "a", questions[:4])
    with pytest.raises(InputError, match="an evaluation with system=lumen; got system=glimmer; name another folder"):
        run(tmp_path / "a", questions[:3], "lumen")
    with lock_folder(tmp_path / "a", bool), pytest.raises(InputError, match="a second one"):
        run(tmp_path / "a", questions[:3])
    assert lines(tmp_path / "a") == kept
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".run.json.0.new").write_text("what a kill leaves of a file that is not yet there")
    run(tmp_path / "b", questions[:3])
    assert lines(tmp_path / "b") == kept
    (tmp_path / "b" / "run.json").unlink()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="one with other files"):
        run(tmp_path / "b")
    (tmp_path / "c").write_text("a file")
    with pytest.raises(InputError, match="a folder that can be written"):
        run(tmp_path / "c")
    (tmp_path / "a" / "run.json").write_text("{")
    with pytest.raises(InputError, match="the facts of an evaluation"):
        run(tmp_path / "a", questions[:3])


def test_a_full_disk_keeps_whole_lines(
    reader: Reader, memory: Memory, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, document: Any) -> None:
        if path.name == "results.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, document)

    write = sweep.write_json
    monkeypatch.setattr(sweep, "write_json", full)
    with pytest.raises(
        InputError, match=r"results.json: expected a folder that can be written; got No space left on device"
    ):
        sweep.run(tmp_path / "a", reader, questions[:3], memory, "glimmer", TWO[:1], quiet)
    assert len(lines(tmp_path / "a")["k3-m1.jsonl"]) == 3


def test_kilt_is_told_the_pages_best_first(reader: Reader, questions: list[Question], tmp_path: Path) -> None:
    passages = [
        replace(p, id=f"{900 + i // 2}:{i % 2}")
        for i, p in enumerate(read_passages(bundled() / "passages.jsonl"))
        if i < 8
    ]
    memory = reader.memorize(passages)
    asked = [replace(q, candidates=tuple(p.id for p in passages)) for q in questions[:3]]
    sweep.run(tmp_path / "a", reader, asked, memory, "glimmer", [SweepPoint(8, 2)], quiet)
    (path,) = kilt_predictions.write(tmp_path / "a", SweepPoint(8, 2), {"some/nq-dev-kilt.jsonl": asked})
    assert path.name == "k8-m2.nq-dev-kilt.jsonl"
    told = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    for said, row in zip(told, lines(tmp_path / "a")["k8-m2.jsonl"], strict=True):
        (output,) = said["output"]
        assert (said["id"], output["answer"]) == (row["id"], row["prediction"])
        pages = [place["wikipedia_id"] for place in output["provenance"]]
        assert pages == list(dict.fromkeys(id.split(":")[0] for id in row["ranked"])) and len(pages) == 4


def test_the_command_sweeps_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = (bundled() / "questions.jsonl").read_text("utf-8").splitlines()[::800]
    file, out = tmp_path / "nq-dev-kilt.jsonl", str(tmp_path / "out")
    file.write_text("\n".join(some) + "\n", "utf-8")
    wanted = {id for line in some for id in json.loads(line)["candidates"]}
    passages = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()
    few = tmp_path / "passages.jsonl"
    few.write_text("\n".join(line for line in passages if json.loads(line)["id"] in wanted), "utf-8")
    command = [
        "evaluate",
        "--task",
        str(file),
        "--passages",
        str(few),
        "--ops",
        "numpy",
        "--sweep",
        "k=3,6",
        "m=1:3",
        "--out",
        out,
    ]
    assert main(command) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 + 6 and max(map(len, told)) <= 80
    picture = Path(out) / "sweep.png"
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size > 20_000
    assert main([*command, "--json"]) == 0
    assert [s["k"] for s in json.loads(capsys.readouterr().out)["settings"]] == [3, 3, 3, 6, 6, 6]
    for words, said in (
        (["evaluate", str(file), "--sweep", "k=3"], "--out DIR"),
        (["evaluate", str(file), "--kilt"], "--out DIR"),
        (["evaluate"], "a file of questions"),
        ([*command, "--kilt"], "an id of page and number"),
        ([*command[:7], "--sweep", "k=9999", "--out", str(tmp_path / "new")], "got 9999"),
    ):
        assert main([*words, *(["--ops", "numpy"] if "--ops" not in words else [])]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_question_with_few_candidates_reads_what_it_has(
    reader: Reader, questions: list[Question], memory: Memory
) -> None:
    """The others of its batch read as many as ever, and say what they said."""
    some = [
        replace(q, candidates=q.candidates[: 2 if i == 2 else 1 if i == 5 else 6]) for i, q in enumerate(questions[:8])
    ]
    for m in (None, 4):
        _, rows = evaluate(reader, some, memory, "glimmer", 6, m, quiet)
        assert [len(row["selected"]) for row in rows] == [min(m or 5, len(q.candidates)) for q in some]
        assert [row["id"] for row in rows] == [q.id for q in some]
        alone = evaluate(reader, some[3:4], memory, "glimmer", 6, m, quiet)[1][0]
        assert (alone["selected"], alone["prediction"]) == (rows[3]["selected"], rows[3]["prediction"])
    _, rows = evaluate(reader, some, memory, "fid", 6, None, quiet)
    assert [len(row["selected"]) for row in rows] == [len(q.candidates) for q in some]
    with pytest.raises(InputError, match="m: expected a number from 1 to k; got k=3, m=4"):
        evaluate(reader, some, memory, "glimmer", 3, 4, quiet)


def test_what_cannot_be_answered_is_named_before_the_work(
    reader: Reader, questions: list[Question], memory: Memory
) -> None:
    few = replace(questions[1], candidates=questions[1].candidates[:2])
    passages = list(memory.passages())
    for source in (memory, passages):
        check([few], source, 6)
        check([few, replace(few, candidates=())], source, 6, 2)
        with pytest.raises(InputError, match=f"question '{few.id}': candidates: expected at least m=3; got 2; lower m"):
            check([questions[0], few], source, 6, 3)
        with pytest.raises(
            InputError,
            match=f"question '{few.id}': candidates: expected ids of the passages that are read; got .*'nobody'",
        ):
            check([replace(few, candidates=("nobody",))], source, 6)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Passages as chunks names them, and questions about them."""
    lines = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()[:4]
    passages = [{**json.loads(line), "id": f"{i}:0"} for i, line in enumerate(lines)]
    (tmp_path / "passages.jsonl").write_text("".join(json.dumps(p) + "\n" for p in passages), "utf-8")
    asked = [{"id": i, "input": "Who?", "candidates": [p["id"] for p in passages]} for i in range(3)]
    return tmp_path / "passages.jsonl", asked


def test_the_command_names_it_before_the_work(
    small: tuple[Path, list[dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passages, asked = small
    monkeypatch.setattr(Reader, "ask_many", None)  # no question is answered
    monkeypatch.setattr(Reader, "memorize", None)
    cases: list[tuple[list[str], list[dict[str, Any]], str]] = [
        (
            ["--m", "3"],
            [asked[0], {**asked[1], "candidates": ["1:0"]}],
            "question '1': candidates: expected at least m=3; got 1",
        ),
        (
            ["--sweep", "m=1,3"],
            [{**asked[1], "candidates": ["1:0"]}],
            "question '1': candidates: expected at least m=3; got 1",
        ),
        (["--m", "0"], asked, "m: expected a number from 1 to k; got k=4, m=0"),
        (
            [],
            [{**asked[1], "candidates": ["9:0"]}],
            "question '1': candidates: expected ids of the passages that are read; got '9:0'",
        ),
        (["--kilt"], [asked[0], asked[0]], "line 2: expected ids that occur once; got '0' again; line 1 has it too"),
        ([], [asked[0], asked[0]], "line 2: expected ids that occur once"),
    ]
    for number, (words, lines, said) in enumerate(cases):
        file, out = tmp_path / f"{number}.jsonl", tmp_path / "out"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        command = ["evaluate", str(file), "--passages", str(passages), "--ops", "numpy", "--out", str(out), *words]
        assert main(command) == 2 and said in capsys.readouterr().err
        assert not out.exists()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "3.jsonl").write_text(json.dumps(asked[0]) + "\n", "utf-8")
    (tmp_path / "3.jsonl").write_text(json.dumps(asked[0]) + "\n", "utf-8")
    two = [str(tmp_path / "3.jsonl"), str(tmp_path / "a" / "3.jsonl")]
    command = [
        "evaluate",
        *two,
        "--passages",
        str(passages),
        "--ops",
        "numpy",
        "--out",
        str(tmp_path / "out"),
        "--kilt",
    ]
    assert main(command) == 2 and "--kilt: expected files of questions with different names" in capsys.readouterr().err
    (tmp_path / "3.jsonl").write_text(json.dumps({"input": "Who?"}) + "\n", "utf-8")
    named = [*command[:1], two[0], *command[3:]]
    passages.write_text(json.dumps({"id": "x", "text": "a"}) + "\n", "utf-8")
    assert main(named) == 2 and "an id of page and number" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
