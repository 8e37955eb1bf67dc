"""KILT's files: read, written and read again; what is broken is named by file and line, and nothing is lost."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glimmer_ref.data.kilt import (
    Page,
    Provenance,
    prediction,
    read_knowledge,
    read_task,
    write_lines,
    write_predictions,
)
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation.metrics import accuracy, exact_match, r_precision, recall_at_k
from glimmer_ref.world import generate as worlds
from glimmer_ref.world.facts import SIZES

Record = dict[str, Any]
PAGE = {
    "_id": "17",
    "wikipedia_id": "17",
    "wikipedia_title": "Aster Café",
    "text": ["Aster Café\n", "It opened in 1921.\n", "Section::::Rooms.\n", "BULLET::::- The hall\n"],
    "anchors": [{"text": "1921", "href": "1921", "paragraph_id": 1, "start": 13, "end": 17}],
    "categories": "Cafés,Halls",
    "history": {"revid": 5, "parentid": None},
    "wikidata_info": {"wikidata_id": "Q1", "aliases": []},
}


def place(page: Any, paragraph: Any = 1, **more: Any) -> Record:
    return {"wikipedia_id": page, "title": "Aster Café", "start_paragraph_id": paragraph, **more}


TASKS: dict[str, Record] = {
    "nq": {  # an answer, the same again with another place, places without an answer
        "id": "-37",
        "input": "when did the aster open",
        "output": [
            {"answer": "1921", "provenance": [place("17", 1, section="Section::::Abstract", bleu_score=1.0)]},
            {"answer": "1921", "meta": {"score": 2}},
            {"provenance": [place("17", 3, end_paragraph_id=4, meta={"yes_no_answer": "NONE"})]},
        ],
    },
    "triviaqa": {"id": "tc_5", "input": "Which café ..?", "output": [{"answer": a} for a in ("Aster", "the aster")]},
    "hotpotqa": {  # two pages, both needed
        "id": "5ab",
        "input": "Which of two is older?",
        "output": [{"answer": "yes", "provenance": [place("17", 1, start_character=3, end_character=9), place("18")]}],
    },
    "fever": {"id": 91, "input": "Aster opened.", "output": [{"answer": "SUPPORTS", "provenance": [place("17")]}]},
    "zsre": {
        "id": "z1",
        "input": "Aster [SEP] opened",
        "output": [{"answer": "1921", "provenance": [place("17")]}, {"answer": "", "provenance": []}],
        "meta": {"template_questions": ["When ..?"]},
    },
    "trex": {
        "id": "x",
        "input": "A [SEP] b",
        "output": [{"answer": "c", "provenance": [place(17, "2"), place("17", -1, bleu_score=-1)]}],
    },
    "test": {"id": "t", "input": "no answers are given", "meta": {}},
}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8")
    return path


def test_each_of_the_six_tasks_is_read(tmp_path: Path) -> None:
    found = dict(zip(TASKS, read_task(written(tmp_path / "t.jsonl", *TASKS.values())), strict=True))
    assert {name: d.id for name, d in found.items()} == {name: str(r["id"]) for name, r in TASKS.items()}
    assert found["nq"].answers == ("1921",) and found["triviaqa"].answers == ("Aster", "the aster")
    assert found["zsre"].answers == ("1921",), "a blank answer is none"
    assert found["test"].answers == () and found["test"].evidence == ()
    assert found["nq"].evidence == ({"17"}, {"17"}) and found["triviaqa"].evidence == ()
    assert found["hotpotqa"].evidence == ({"17", "18"},) and found["zsre"].evidence == ({"17"}, set())
    (first, _) = found["hotpotqa"].outputs[0].provenance or ()
    assert first == Provenance("17", "Aster Café", 1, 3, None, 9, None)
    (text, unknown) = found["trex"].outputs[0].provenance or ()
    assert text.start_paragraph_id == 2 and unknown.start_paragraph_id is None and text.wikipedia_id == "17"
    assert text.bleu_score is None and unknown.bleu_score == 0


def test_measures_take_what_is_read(tmp_path: Path) -> None:
    found = dict(zip(TASKS, read_task(written(tmp_path / "t.jsonl", *TASKS.values())), strict=True))
    assert exact_match("the Aster!", found["triviaqa"].answers) and accuracy("SUPPORTS", found["fever"].answers)
    assert r_precision(["17", "5"], found["hotpotqa"].evidence) == 0.5
    assert recall_at_k(["17"], found["nq"].evidence, 1) == 1 and recall_at_k(["17"], found["zsre"].evidence, 1) == 0.5


def test_pages_are_read_with_what_else_they_say(tmp_path: Path) -> None:
    (page,) = read_knowledge(written(tmp_path / "p.jsonl", PAGE))
    assert page == Page("17", "Aster Café", tuple(PAGE["text"]), PAGE)
    bare = {"wikipedia_id": 5, "wikipedia_title": "", "text": []}
    assert next(read_knowledge(written(tmp_path / "q.jsonl", bare))) == Page("5", "", (), bare)


def test_what_is_written_reads_back_and_kilts_own_bytes_stay(tmp_path: Path) -> None:
    for records, read in (([PAGE], read_knowledge), (list(TASKS.values()), read_task)):
        path = written(tmp_path / "in.jsonl", *records)  # as KILT's scripts write: json.dump, a line each
        assert write_lines(tmp_path / "out.jsonl", (x.record for x in read(path))) == len(records)
        assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()
        assert path.read_bytes().isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = TEXT.filter(str.strip) | st.integers()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(IDS, TEXT, st.lists(TEXT, max_size=4), JSON), max_size=4))
def test_any_pages_and_datapoints_come_back(tmp_path: Path, made: list[tuple[Any, str, list[str], Any]]) -> None:
    made = list({str(id).strip(): (id, *rest) for id, *rest in made}.values())
    pages = [{"wikipedia_id": i, "wikipedia_title": t, "text": ps, "more": x} for i, t, ps, x in made]
    write_lines(tmp_path / "p.jsonl", pages)
    assert [p.record for p in read_knowledge(tmp_path / "p.jsonl")] == pages
    points = [{"id": i, "input": t, "output": [{"answer": a} for a in ps], "meta": x} for i, t, ps, x in made]
    write_lines(tmp_path / "t.jsonl", points)
    back = list(read_task(tmp_path / "t.jsonl"))
    assert [d.record for d in back] == points
    assert all(set(d.answers) == {a.strip() for a in ps} - {""} for d, (_, _, ps, _) in zip(back, made, strict=True))


def test_files_are_read_line_by_line(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", PAGE, "{broken")
    pages = read_knowledge(path)
    assert next(pages).id == "17", "the first page is there before the second line is looked at"
    with pytest.raises(InputError, match=r"p\.jsonl, line 2: expected one JSON object"):
        next(pages)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wikipedia_id": ...}, 'a key "wikipedia_id" with a string or a whole number; got none'),
        ({"wikipedia_id": None}, 'a key "wikipedia_id" with a string or a whole number; got none'),
        ({"wikipedia_id": " "}, 'a key "wikipedia_id" with a string or a whole number'),
        ({"wikipedia_id": True}, 'a key "wikipedia_id" with a string or a whole number; got True'),
        ({"wikipedia_id": 1.5}, 'a key "wikipedia_id" with a string or a whole number'),
        ({"wikipedia_title": ...}, 'a key "wikipedia_title" with a string; got none'),
        ({"wikipedia_title": 3}, 'a key "wikipedia_title" with a string; got 3'),
        ({"wikipedia_title": "\ud800"}, 'valid Unicode in "wikipedia_title"; got half of a surrogate pair'),
        ({"text": ...}, 'a key "text" with a list of strings; got none'),
        ({"text": "one string"}, 'a key "text" with a list of strings'),
        ({"text": ["a", None]}, 'a key "text" with a list of strings'),
        ({"text": ["a", "\udfff"]}, 'valid Unicode in "text"'),
    ],
)
def test_pages_that_are_none_are_named_by_line(change: Record, said: str, tmp_path: Path) -> None:
    wrong = {k: v for k, v in {**PAGE, "wikipedia_id": "18", **change}.items() if v is not ...}
    with pytest.raises(InputError) as error:
        list(read_knowledge(written(tmp_path / "pages.jsonl", PAGE, "", wrong)))
    assert str(error.value).startswith(f"{tmp_path / 'pages.jsonl'}, line 3: expected {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ...}, 'a key "id" with a string or a whole number; got none'),
        ({"id": []}, 'a key "id" with a string or a whole number; got []'),
        ({"input": ...}, 'a key "input" with a string; got none'),
        ({"input": ["x"]}, 'a key "input" with a string'),
        ({"output": {}}, 'a key "output" with a list of objects; got {}'),
        ({"output": ["1921"]}, 'a key "output"'),
        ({"output": [{"answer": 1921}]}, 'a key "answer" with a string or a list of strings; got 1921'),
        ({"output": [{"answer": ["x", 1921]}]}, "a key \"answer\" with a string or a list of strings; got ['x', 1921]"),
        ({"output": [{"answer": {"value": "x"}}]}, 'a key "answer" with a string or a list of strings; got {'),
        ({"output": [{"provenance": {}}]}, 'a key "provenance"'),
        ({"output": [{"provenance": ["17"]}]}, 'a key "provenance"'),
        ({"output": [{"provenance": [place([])]}]}, 'a key "wikipedia_id" with a string or a whole number; got []'),
        ({"output": [{"provenance": [place("1", title=4)]}]}, 'a key "title" with a string; got 4'),
        ({"output": [{"provenance": [place("1", 1.0)]}]}, 'a key "start_paragraph_id" with a whole number; got 1.0'),
        ({"output": [{"provenance": [place("1", "one")]}]}, 'a key "start_paragraph_id" with a whole number'),
        (
            {"output": [{"provenance": [place("1", end_character=True)]}]},
            'a key "end_character" with a whole number; got True',
        ),
        ({"output": [{"provenance": [place("1", "9" * 5000)]}]}, 'a key "start_paragraph_id" with a whole number'),
        (
            {"output": [{"provenance": [place("1", bleu_score="one")]}]},
            'a key "bleu_score" with a number from 0 to 1, or -1',
        ),
        (
            {"output": [{"provenance": [place("1", bleu_score="nan")]}]},
            'a key "bleu_score" with a number from 0 to 1, or -1',
        ),
        (
            {"output": [{"provenance": [place("1", bleu_score=" 7e0 ")]}]},
            'a key "bleu_score" with a number from 0 to 1, or -1',
        ),
        (
            {"output": [{"provenance": [place("1", bleu_score=float("nan"))]}]},
            "one JSON object; got NaN, which JSON does not have",
        ),
        (
            {"output": [{"provenance": [place("1", bleu_score=10**400)]}]},
            'a key "bleu_score" with a number from 0 to 1',
        ),
    ],
)
def test_datapoints_that_are_none_are_named_by_line(change: Record, said: str, tmp_path: Path) -> None:
    wrong = {k: v for k, v in {"id": "new", "input": "?", **change}.items() if v is not ...}
    with pytest.raises(InputError) as error:
        list(read_task(written(tmp_path / "nq.jsonl", *TASKS.values(), wrong)))
    assert str(error.value).startswith(f"{tmp_path / 'nq.jsonl'}, line {len(TASKS) + 1}: expected {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            json.dumps(PAGE, ensure_ascii=False).encode("latin-1"),
            "line 1: expected text in UTF-8; got other bytes, perhaps of Latin-1",
        ),
        (json.dumps(PAGE).encode("utf-16") + b"\n", "line 1: expected text in UTF-8; got UTF-16"),
        (b"[" * 100_000, "line 1: expected one JSON object; got"),
        (b'{"wikipedia_id": 1' + b"0" * 5000 + b"}", "line 1: expected one JSON object; got"),
        (json.dumps(PAGE).encode()[:-9], "line 1: expected one JSON object; got"),
        (b'["a"]', "line 1: expected one JSON object; got a JSON array; write one object on each line"),
        (
            json.dumps([PAGE, PAGE], indent=1).encode(),
            "line 1: expected one JSON object; got a JSON array; write one object on each line",
        ),
        (
            json.dumps(PAGE, indent=1).encode(),
            "line 1: expected one JSON object; got the beginning of one; write all of it",
        ),
        (
            json.dumps(PAGE).encode() * 2,
            "line 1: expected one JSON object; got more than one value; write one on each line",
        ),
        (json.dumps(PAGE).encode() + b",", "line 1: expected one JSON object; got a comma after it; remove the comma"),
        (b"5", "line 1: expected one JSON object; got int"),
        (json.dumps(PAGE).encode("utf-16-le"), "line 1: expected text in UTF-8; got NUL bytes, perhaps of UTF-16"),
        (json.dumps(PAGE).encode() + b"\n\xef\xbb\xbf{}", "line 2: expected a byte order mark only at the beginning"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "line 1: expected one JSON object; got"),
    ],
)
def test_files_that_are_no_json_are_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(InputError) as error:
        list(read_knowledge(tmp_path / "p.jsonl"))
    assert said in str(error.value) and "\n" not in str(error.value)


KEYS = ("id", "input", "output", "wikipedia_id", "wikipedia_title", "text", "answer", "provenance", "bleu_score")
LIKE_KILT = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3) | st.just("\udc80"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), LIKE_KILT, min_size=2, max_size=7))
def test_any_line_is_read_or_refused(tmp_path: Path, record: Record) -> None:
    path = written(tmp_path / "any.jsonl", {"id": "1", "input": "?", "wikipedia_id": "1", **record})
    for read in (read_knowledge, read_task):
        try:
            (item,) = read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}, line 1: ")
        else:
            assert write_lines(tmp_path / "out.jsonl", [item.record]) == 1


@pytest.mark.parametrize("depth", [500, 900, *range(940, 1000, 3), 5000])
def test_deep_nesting_is_no_traceback(depth: int, tmp_path: Path) -> None:
    deep = "[" * depth + "]" * depth
    path = written(tmp_path / "p.jsonl", f'{{"wikipedia_id": "1", "wikipedia_title": "", "text": [], "x": {deep}}}')
    wrong = written(tmp_path / "q.jsonl", f'{{"wikipedia_id": "1", "wikipedia_title": "", "text": {deep}}}')
    with suppress(InputError):
        write_lines(tmp_path / "out.jsonl", (p.record for p in read_knowledge(path)))
        assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match="line 1"):
        list(read_knowledge(wrong))


def test_what_is_nested_too_deeply_is_not_written(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="values that are not nested deeply"):
        write_lines(tmp_path / "out.jsonl", [{"x": deep}])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_and_an_id_there_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a readable file; got no such file"):
        list(read_task(tmp_path / "none.jsonl"))
    twice = written(tmp_path / "t.jsonl", TASKS["nq"], TASKS["fever"], {**TASKS["test"], "id": " 91"})
    with pytest.raises(InputError, match=r"line 3: expected ids that occur once; got '91' again; line 2 has it too"):
        list(read_task(twice))


def test_predictions_are_those_of_the_task_each_once(tmp_path: Path) -> None:
    path, ids = tmp_path / "guess.jsonl", ["-37", "91"]
    lines = [prediction("91", "SUPPORTS", [{"wikipedia_id": "17"}]), prediction("-37", "", [])]
    assert write_predictions(path, iter(lines), ids) == 2
    for line in map(json.loads, path.read_text("ascii").splitlines()):
        (output,) = line["output"]  # what KILT's evaluation asserts: one output, with both of its keys
        assert set(output) == {"answer", "provenance"} and line["id"] in ids
    before = path.read_bytes()
    other = prediction("5", "x", [])
    for wrong, said in (
        ([*lines, lines[0]], "got '91' again"),
        ([*lines, other], "one prediction for each datapoint of the task; got '5'"),
        (lines[:1], "a prediction for each datapoint; got none for '-37'"),
    ):
        with pytest.raises(InputError) as error:
            write_predictions(path, wrong, ids)
        assert said in str(error.value)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["guess.jsonl"]


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "t.jsonl", PAGE)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="a place that can be written; got No space left on device"):
        write_lines(path, [PAGE, PAGE])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["t.jsonl"]


def test_a_worlds_files_are_kilts(tmp_path: Path) -> None:
    for name, content in worlds.files_of(1, "dev", 0, SIZES["small"]).items():
        path = tmp_path / name.split("/")[1]
        path.write_bytes(content)
    for name, read in (("knowledge.jsonl", read_knowledge), ("questions.jsonl", read_task)):
        items = list(read(tmp_path / name))
        write_lines(tmp_path / "again.jsonl", (item.record for item in items))
        assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / name).read_bytes() and len(items) > 50
