"""Files as people have them: what is unambiguous is read, what is not is named in one line, before any work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glimmer_ref.cli import main
from glimmer_ref.costs.parse import of_folder
from glimmer_ref.data import json_lines
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.data.kilt import read_knowledge, read_task
from glimmer_ref.data.kilt_corpus import write_folder
from glimmer_ref.data.relevance import confidence
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation.metrics import r_precision, recall_at_k
from glimmer_ref.training.recipe_file import read_recipe

Record = dict[str, Any]


def quiet(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    return items


def written(path: Path, *lines: Record) -> Path:
    path.write_text("".join(json.dumps(x) + "\n" for x in lines), "utf-8")
    return path


SAID = st.sampled_from(["", " ", "\u3000", "Paris", " Paris ", "a"])
OUTPUT = st.fixed_dictionaries({}, optional={"answer": st.none() | SAID | st.lists(SAID), "provenance": st.just([])})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.none() | st.lists(OUTPUT, max_size=4))
def test_blank_answers_are_none_wherever_they_are_read(tmp_path: Path, output: list[Record] | None) -> None:
    path = written(tmp_path / "t.jsonl", {"id": "1", "input": "?", "output": output})
    (question,), (datapoint,) = read_questions(path), read_task(path)
    given_ = [o.get("answer") or [] for o in output or ()]
    flat = [a.strip() for some in given_ for a in ([some] if isinstance(some, str) else some)]
    assert question.answers == datapoint.answers == tuple(dict.fromkeys(a for a in flat if a))


def test_a_question_with_blank_answers_only_is_one_without(tmp_path: Path) -> None:
    outputs = ([{"answer": " "}], [{"answer": ""}, {"answer": []}], [""], [], None)
    path = written(tmp_path / "q.jsonl", *({"input": "?", "output": output} for output in outputs))
    assert [q.answers for q in read_questions(path)] == [()] * 5


def test_chunks_leave_blank_answers_out(tmp_path: Path) -> None:
    pages = written(tmp_path / "p.jsonl", {"wikipedia_id": 1, "wikipedia_title": "T", "text": ["T", "In 1921."]})
    outputs = [{"answer": "", "provenance": [{"wikipedia_id": 1, "start_paragraph_id": 1}]}, {"answer": ["", "x"]}]
    none = {"id": 6, "input": "?", "output": None}
    task = written(tmp_path / "nq.jsonl", {"id": 5, "input": "?", "output": outputs}, none)
    write_folder(tmp_path / "out", pages, [task], show=quiet)
    first, second = read_questions(tmp_path / "out" / "nq.questions.jsonl")
    assert (first.id, first.answers, first.gold) == ("5", ("x",), ("1:0",)) and (second.id, second.answers) == ("6", ())
    (kept, _) = read_task(tmp_path / "out" / "nq.questions.jsonl")
    assert [o.answers for o in kept.outputs] == [(), ("x",)] and "answer" not in kept.record["output"][0]


def test_ids_are_strings_or_whole_numbers(tmp_path: Path) -> None:
    lines = [{"id": id, "text": "a"} for id in (17, "18", None)]
    passages = written(tmp_path / "p.jsonl", *lines)
    assert [p.id for p in read_passages(passages)] == ["17", "18", "2"]
    lists = {"gold": [17], "candidates": [17, "18"], "hard_negatives": None}
    line = {"id": 5, "task": None, "input": "?", "output": None, **lists}
    (q,) = read_questions(written(tmp_path / "q.jsonl", line))
    assert (q.id, q.task, q.gold, q.candidates, q.hard_negatives) == ("5", "all", ("17",), ("17", "18"), ())
    twice = written(tmp_path / "t.jsonl", {"id": 17, "text": "a"}, {"id": "17", "text": "b"})
    with pytest.raises(InputError, match="line 2: expected ids that occur once; got '17' again; line 1 has it too"):
        list(read_passages(twice))


def test_a_questions_id_occurs_once(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", {"id": "a", "input": "?"}, {"id": 7, "input": "?"}, {"id": " 7", "input": "?"})
    with pytest.raises(InputError, match="line 3: expected ids that occur once; got '7' again; line 2 has it too"):
        list(read_questions(path))


def test_provenance_as_exports_have_it(tmp_path: Path) -> None:
    places = [{"wikipedia_id": "17", "bleu_score": "0.75"}, {"title": "no page", "bleu_score": "-1"}]
    (d,) = read_task(written(tmp_path / "t.jsonl", {"id": 1, "input": "?", "output": [{"provenance": places}]}))
    first, second = d.outputs[0].provenance or ()
    assert (first.bleu_score, second.bleu_score) == (0.75, 0) and second.wikipedia_id is None and confidence(d) == 0
    # KILT's evaluation passes over a place without the key; one with null is a page that nobody finds.
    assert d.evidence == ({"17"},) and r_precision(["17"], d.evidence) == recall_at_k(["17"], d.evidence, 1) == 1
    null = [{"wikipedia_id": "17"}, {"wikipedia_id": None}]
    (d,) = read_task(written(tmp_path / "n.jsonl", {"id": 1, "input": "?", "output": [{"provenance": null}]}))
    assert r_precision(["17"], d.evidence) == 0.5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '[{"input": "a"}, {"input": "b"}]',
            "line 1: expected one JSON object; got a JSON array; write one object on each line",
        ),
        ('[\n{"input": "a"}\n]', "line 1: expected one JSON object; got a JSON array; write one object on each line"),
        ('{"input": "a"}\n{\n"input": "b"}', "line 2: expected one JSON object; got the beginning of one"),
        (
            '{"input": "a"} {"input": "b"}',
            "line 1: expected one JSON object; got more than one value; write one on each line",
        ),
        ('{"input": "a"},\n', "line 1: expected one JSON object; got a comma after it; remove the comma"),
        ('{"input": "a"}\n"b"', "line 2: expected one JSON object; got str"),
        ("id,input\n1,a", "expected JSON, one object a line; got comma-separated values"),
        (
            '{"input": "Zoë"}'.encode("latin-1"),
            "line 1: expected text in UTF-8; got other bytes, perhaps of Latin-1 or Windows-1252",
        ),
        ('{"input": "Zoë"}'.encode("utf-16"), "line 1: expected text in UTF-8; got UTF-16; save it as UTF-8"),
        ('{"input": "a"}'.encode("utf-16-be"), "line 1: expected text in UTF-8; got NUL bytes, perhaps of UTF-16"),
        ('{"input": "a"}\n\ufeff{"input": "b"}', "line 2: expected a byte order mark only at the beginning"),
    ],
)
def test_what_a_file_is_instead_is_said(content: str | bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        list(read_questions(path))
    assert str(error.value).removeprefix(f"{path}")[2:].startswith(said)


def test_a_byte_order_mark_may_begin_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"input": "a"}\r\n\r\n{"input": "b"}\r\n')
    assert [q.text for q in read_questions(path)] == ["a", "b"]
    path.write_bytes(b"\xef\xbb\xbf\n")
    assert list(read_questions(path)) == []


def test_lines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MOST_LINE", 100)
    path = written(tmp_path / "q.jsonl", {"input": "a"}, {"input": "a" * 100})
    with pytest.raises(InputError, match="line 2: expected at most 100 bytes; got more"):
        list(read_questions(path))


READERS: dict[str, Callable[[Path], Any]] = {
    "passages": read_passages, "questions": read_questions, "pages": read_knowledge, "task": read_task,
    "recipe": read_recipe, "setting": of_folder,
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", READERS)
def test_pipes_and_devices_are_refused_at_once(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(InputError, match=f"a regular file; got {kind}"):
            found = READERS[name](path)
            list(found) if isinstance(found, Iterable) else None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_commands_refuse_pipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe, out = str(tmp_path / "pipe"), str(tmp_path / "out")
    for words in (
        ["evaluate", pipe],
        ["chunks", pipe, out],
        ["chunks", str(written(tmp_path / "p.jsonl")), out, "--tasks", pipe],
        ["train", pipe, "--data", str(tmp_path), "--out", out],
        ["trace", "--inputs", pipe, "--out", out],
        ["memory", "plan", pipe],
    ):
        assert main(words) == 2
        assert "a regular file; got a pipe" in capsys.readouterr().err
    assert not Path(out).exists()
