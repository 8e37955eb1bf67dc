"""Chunks: never too long, as full as they may be, nothing of the page lost, and provenance finds its way."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from chunk_pages import provenance, recover
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glimmer_ref.cli import main
from glimmer_ref.data.chunks import (
    ABSTRACT,
    HEADING,
    KEYS,
    Chunk,
    Silent,
    Span,
    chunks_containing,
    cut,
    gold,
    page_of,
)
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.data.kilt import Page, Provenance, read_knowledge, read_task, write_lines
from glimmer_ref.data.kilt_corpus import task_name, write_folder
from glimmer_ref.errors import InputError
from glimmer_ref.training.dataset import read_folder
from glimmer_ref.world import generate as worlds
from glimmer_ref.world.facts import SIZES


def read_chunks(path: Path) -> list[Chunk]:
    """The chunks of a passages.jsonl, as their lines say it."""
    chunks = []
    for record in map(json.loads, path.read_text("utf-8").split("\n")[:-1]):
        values = {name: record[key] for name, key in KEYS.items()}
        spans, silent = (tuple(kind(*x) for x in record[key]) for key, kind in (("spans", Span), ("silent", Silent)))
        chunks.append(Chunk(**values, spans=spans, silent=silent))
    return chunks


PARAGRAPHS = (
    "Aster\n",
    "One two three.\n",
    "Four five.\n",
    "Section::::Rooms.\n",
    "Section::::Rooms.:Hall.\n",
    "Six seven eight nine. Ten eleven, twelve thirteen.\n",
    "\n",
    "BULLET::::- Fourteen\n",
    "Section::::See also.\n",
)


def page(*paragraphs: str, title: str = "Aster", id: str = "17") -> Page:
    return Page(id, title, paragraphs, {})


def place(first: int | None, start: int | None = None, last: int | None = None, end: int | None = None) -> Provenance:
    return Provenance("17", "Aster", first, start, last, end, None)


# Cutting.


def test_a_page_is_cut_by_section_and_paragraph() -> None:
    """By hand: at most five words, so that the hall's eight are cut, behind a sentence."""
    assert cut(page(*PARAGRAPHS), 5) == [
        Chunk(
            "17:0",
            "Aster",
            "One two three.\nFour five.\n",
            "17",
            ABSTRACT,
            (Span(1, 0, 15), Span(2, 0, 11)),
            (Silent(0, "Aster\n"),),
        ),
        Chunk(
            "17:1",
            "Aster",
            "Six seven eight nine. ",
            "17",
            "Section::::Rooms.:Hall.",
            (Span(5, 0, 22),),
            (Silent(3, "Section::::Rooms.\n"), Silent(4, "Section::::Rooms.:Hall.\n")),
        ),
        Chunk(
            "17:2",
            "Aster",
            "Ten eleven, twelve thirteen.\n",
            "17",
            "Section::::Rooms.:Hall.",
            (Span(5, 22, 51),),
            (),
        ),
        Chunk(
            "17:3",
            "Aster",
            "BULLET::::- Fourteen\n",
            "17",
            "Section::::Rooms.:Hall.",
            (Span(7, 0, 21),),
            (Silent(6, "\n"), Silent(8, "Section::::See also.\n")),
        ),
    ]


@pytest.mark.parametrize(
    ("words", "fill", "texts"),
    [
        (
            200,
            True,
            ["One two three.\nFour five.\n", "Six seven eight nine. Ten eleven, twelve thirteen.\nBULLET::::- F"],
        ),
        (
            200,
            False,
            ["One two three.\n", "Four five.\n", "Six seven eight nine. Ten eleven, ", "BULLET::::- Fourteen\n"],
        ),
        (
            4,
            True,
            ["One two three.\n", "Four five.\n", "Six seven eight nine. ", "Ten eleven, twelve", "BULLET::::- Fourt"],
        ),
        (
            6,
            True,
            ["One two three.\nFour five.\n", "Six seven eight nine. ", "Ten eleven, twelve thirteen.\nBULLET::::- Fou"],
        ),
        (
            3,
            True,
            [
                "One two three.\n",
                "Four five.\n",
                "Six seven eight ",
                "nine. Ten eleven, ",
                "twelve thirteen.\n",
                "BULL",
            ],
        ),
    ],
)
def test_chunks_are_as_full_as_they_may_be(words: int, fill: bool, texts: list[str]) -> None:
    found = [chunk.text for chunk in cut(page(*PARAGRAPHS), words, fill)]
    assert len(found) == len(texts) and all(a.startswith(b) for a, b in zip(found, texts, strict=True)), found


def test_a_sentence_ends_with_its_quotation_mark() -> None:
    assert [c.text for c in cut(page("a b “c d.” e f"), 5)] == ["a b “c d.” ", "e f"]
    assert [c.text for c in cut(page("a b. c d e f"), 5)] == ["a b. c d e ", "f"], "too early: in the first half"


def test_paragraphs_that_do_not_end_in_space_are_kept_apart() -> None:
    (chunk,) = cut(page("Aster", "It opened.", "It closed. ", "Again."))
    assert chunk.text == "It opened. It closed. Again."
    assert recover([chunk]) == ("Aster", "It opened.", "It closed. ", "Again.")


@pytest.mark.parametrize("paragraphs", [(), ("Aster\n",), ("Aster", "Section::::A.\n", "", " \n\t")])
def test_a_page_without_text_has_no_chunk(paragraphs: tuple[str, ...]) -> None:
    assert cut(page(*paragraphs)) == []


def test_a_page_may_begin_with_text() -> None:
    (chunk,) = cut(page("Aster opened.", "Aster"))
    assert chunk.text == "Aster opened. Aster" and chunk.silent == (), "only a first paragraph can be the title"


@pytest.mark.parametrize("words", [0, -5])
def test_chunks_have_words(words: int) -> None:
    with pytest.raises(InputError, match="words: expected at least 1"):
        cut(page("x"), words)


# What holds for any page.

WORD = st.sampled_from(["it", "opened.", "Hall,", "“so.”", "é", "漢字", "a" * 30])
SPACE = st.sampled_from([" ", "  ", "\n", "\t", "\u00a0", "\u2028", "\x1c"])
PROSE = st.lists(st.tuples(WORD, SPACE), max_size=14).map(lambda x: "".join(a + b for a, b in x))
PARAGRAPH = st.one_of(PROSE, PROSE.map(str.strip), PROSE, st.sampled_from(["", "\n", " ", f"{HEADING}A.\n", "Aster\n"]))
PAGES = st.lists(PARAGRAPH, max_size=8).map(lambda paragraphs: page(*paragraphs))


def characters(chunk: Chunk) -> set[tuple[int, int]]:
    return {(s.paragraph, i) for s in chunk.spans for i in range(s.start, s.end)}


@given(PAGES, st.integers(1, 9), st.booleans())
def test_nothing_of_any_page_is_lost(a: Page, words: int, fill: bool) -> None:
    chunks = cut(a, words, fill)
    assert bool(chunks) == any(
        p.strip() and not p.startswith(HEADING) and not (i == 0 and p.strip() == "Aster")
        for i, p in enumerate(a.paragraphs)
    )
    if chunks:
        assert recover(chunks[::-1]) == a.paragraphs
    assert [c.id for c in chunks] == [f"17:{i}" for i in range(len(chunks))]
    assert all(page_of(c.id) == c.page for c in cut(replace(a, id="x:3"), words))
    for chunk in chunks:
        assert 1 <= len(chunk.text.split()) <= words and chunk.title == "Aster"
        assert chunk.text.split() == [
            w for s in chunk.spans for w in a.paragraphs[s.paragraph][s.start : s.end].split()
        ]
        assert fill or len(chunk.spans) == 1
    read = [x for chunk in chunks for x in sorted(characters(chunk))]
    assert read == sorted(set(read)), "no character is in two chunks, and all are in order"


@given(PAGES, st.integers(1, 9))
def test_no_chunk_has_room_for_what_follows(a: Page, words: int) -> None:
    for chunk, following in zip(cut(a, words), cut(a, words)[1:], strict=False):
        same = chunk.spans[-1].paragraph == following.spans[0].paragraph
        headed = any(s.text.startswith(HEADING) for s in following.silent if s.paragraph < following.spans[0].paragraph)
        if not same and not headed:
            first = a.paragraphs[following.spans[0].paragraph][: following.spans[0].end]
            assert len(chunk.text.split()) + len(first.split()) > words


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PAGES, st.integers(1, 9))
def test_chunks_are_read_as_they_were_written(tmp_path: Path, a: Page, words: int) -> None:
    chunks = cut(a, words)
    write_lines(tmp_path / "passages.jsonl", (chunk.record() for chunk in chunks))
    assert list(read_chunks(tmp_path / "passages.jsonl")) == chunks


@given(PAGES, st.integers(1, 9), st.data())
def test_a_place_is_in_the_chunks_that_have_its_characters(a: Page, words: int, data: st.DataObject) -> None:
    chunks = cut(a, words)
    all_of_them = [(i, j) for i, p in enumerate(a.paragraphs) for j in range(len(p))]
    if not chunks or not all_of_them:
        return
    first, last = sorted(data.draw(st.lists(st.sampled_from(all_of_them), min_size=2, max_size=2)))
    wanted = {x for x in all_of_them if first <= x <= last}
    read = [c.id for c in chunks if characters(c) & wanted]
    unread = [c.id for c in chunks if any(first[0] <= s.paragraph <= last[0] for s in c.silent)]
    assert list(chunks_containing(place(first[0], first[1], last[0], last[1] + 1), chunks)) == (read or unread)
    chunk = data.draw(st.sampled_from(chunks))
    own = {k: v for k, v in provenance(chunk).items() if k not in ("wikipedia_id", "title", "section")}
    assert chunk.id in chunks_containing(Provenance("17", "Aster", **own, bleu_score=None), chunks)


# The way back.


def test_places_that_name_less_than_characters() -> None:
    chunks = cut(page(*PARAGRAPHS), 5)
    assert chunks_containing(place(5), chunks) == ("17:1", "17:2"), "a whole paragraph"
    assert chunks_containing(place(5, 24), chunks) == ("17:2",)
    assert chunks_containing(place(5, 21, 5, 23), chunks) == ("17:1", "17:2")
    assert chunks_containing(place(5, 22, 5, 22), chunks) == ("17:2",), "an empty place is where it begins"
    assert chunks_containing(place(2, 3, 5, 4), chunks) == ("17:0", "17:1")
    assert chunks_containing(place(0), chunks) == ("17:0",), "the title"
    assert chunks_containing(place(3), chunks) == ("17:1",), "a heading"
    assert chunks_containing(place(2, 0, 3), chunks) == ("17:0",), "a heading proves nothing where text does"
    assert chunks_containing(place(None), chunks) == () and chunks_containing(place(9), chunks) == ()
    assert chunks_containing(place(1), [c for c in cut(page(*PARAGRAPHS, id="18"))]) == ()


@pytest.mark.parametrize("id", ["17", ":0", "17:", "17:x", ""])
def test_other_ids_name_no_page(id: str) -> None:
    with pytest.raises(InputError, match="an id of page and number"):
        page_of(id)


def test_a_chunk_that_is_missing_or_changed_is_seen() -> None:
    chunks = cut(page(*PARAGRAPHS), 5)
    for gone in (0, 1, 2):
        with pytest.raises(InputError, match="the chunks of one page, each once; got 17:"):
            recover(c for i, c in enumerate(chunks) if i != gone)
    for more in (cut(page("x", id="18")), chunks[:1]):
        with pytest.raises(InputError, match="the chunks of one page, each once"):
            recover([*chunks, *more])
    for text in ("One", "", "One two three. Four five. Six"):
        with pytest.raises(InputError, match="chunk '17:0': expected the text that its spans name; got"):
            recover([replace(chunks[0], text=text), *chunks[1:]])
    for change in ({"spans": (Span(5, 23, 51),), "text": chunks[2].text[1:]}, {"spans": (Span(6, 0, 29),)}):
        with pytest.raises(InputError, match="page '17': expected spans that follow each other; got a gap before"):
            recover([*chunks[:2], replace(chunks[2], **change), chunks[3]])
    assert recover([]) == ()


# A world's pages.


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name, content in worlds.files_of(1, "test", 0, SIZES["small"]).items():
        (folder / name.split("/")[1]).write_bytes(content)
    return folder


def test_a_worlds_paragraphs_are_the_passages_it_is_learnt_from(world: Path, tmp_path: Path) -> None:
    """Chunks of a paragraph each are its passages, and its provenance leads to those that it calls gold."""
    out = tmp_path / "out"
    counts = write_folder(out, world / "knowledge.jsonl", [world / "questions.jsonl"], fill=False)
    ours, theirs = ({p.id: (p.title, p.text) for p in read_passages(f / "passages.jsonl")} for f in (out, world))
    assert sorted(ours.values()) == sorted(theirs.values()) and counts["passages"] == len(theirs)
    assert counts["tasks"] == {"questions.jsonl": {"questions": 120, "dropped": 0, "without_gold": 0}}
    for a, b in zip(read_questions(out / "questions.jsonl"), read_questions(world / "questions.jsonl"), strict=True):
        assert (a.id, a.task, a.text, a.answers) == (b.id, b.task, b.text, b.answers) and a.candidates == ()
        assert [ours[id] for id in a.gold] == [theirs[id] for id in b.gold]


def test_a_worlds_chunks_hold_the_gold_passages(world: Path) -> None:
    pages = list(read_knowledge(world / "knowledge.jsonl"))
    chunks = {p.id: cut(p, 40) for p in pages}
    assert all(recover(chunks[p.id]) == p.paragraphs for p in pages)
    texts = {c.id: c.text for some in chunks.values() for c in some}
    theirs = {p.id: p.text for p in read_passages(world / "passages.jsonl")}
    assert len(texts) < len(theirs) / 1.5
    points, questions = read_task(world / "questions.jsonl"), read_questions(world / "questions.jsonl")
    for point, asked in zip(points, questions, strict=True):
        found = gold(point, chunks)
        assert 1 <= len(found) <= len(asked.gold)
        assert all(any(theirs[id] in texts[chunk] for chunk in found) for id in asked.gold)


# The folder and the command.


def test_the_folder_is_one_to_learn_from(world: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "out", world / "knowledge.jsonl", [world / "questions.jsonl"])
    passages, questions = read_folder(tmp_path / "out")
    assert {id for q in questions for id in q.gold} <= {p.id for p in passages}
    again = [list(some) for _, some in groupby(read_chunks(tmp_path / "out" / "passages.jsonl"), lambda c: c.page)]
    pages = read_knowledge(world / "knowledge.jsonl")
    assert all(recover(chunks) == p.paragraphs for chunks, p in zip(again, pages, strict=True))


def kilt_files(folder: Path) -> tuple[Path, Path]:
    """Two pages, one without text, and a task of four datapoints."""
    pages, task = folder / "pages.jsonl", folder / "nq-train-kilt.jsonl"
    texts = (("17", "Aster", list(PARAGRAPHS)), ("18", "Empty", ["Empty\n"]))
    write_lines(pages, ({"wikipedia_id": i, "wikipedia_title": t, "text": x} for i, t, x in texts))

    def proved(page: str, bleu: float) -> dict[str, Any]:
        return {"answer": "x", "provenance": [{"wikipedia_id": page, "start_paragraph_id": 2, "bleu_score": bleu}]}

    outputs = [[proved("17", 0.9), {"answer": " "}], [proved("17", 0.2)], [proved("18", 1.0)], [{"answer": "y"}]]
    write_lines(task, ({"id": str(i), "input": "?", "output": o, "meta": {"n": i}} for i, o in enumerate(outputs)))
    return pages, task


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages, task = kilt_files(tmp_path)
    words = ["chunks", str(pages), str(tmp_path / "out"), "--words", "5", "--tasks", str(task)]
    assert main([*words, "--relevance", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'out'}: 4 passages of 2 pages, 1 of them without text",
        "",
        "questions of                   kept  dropped  without gold",
        "nq-train-kilt.questions.jsonl     2        2             1",
    ]
    first, second = map(json.loads, (tmp_path / "out" / "nq-train-kilt.questions.jsonl").read_text().splitlines())
    assert first["gold"] == ["17:0"] and second["gold"] == [] and first["task"] == "nq" and first["meta"] == {"n": 0}
    assert [o.get("answer") for o in first["output"]] == ["x", None], "a blank answer is not to be learnt"
    words[2] = str(tmp_path / "all")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "pages": 2,
        "pages_without_text": 1,
        "passages": 4,
        "tasks": {"nq-train-kilt.questions.jsonl": {"questions": 4, "dropped": 0, "without_gold": 2}},
    }
    assert task_name("x/structured_zeroshot-dev-kilt.jsonl") == "structured_zeroshot"


def test_each_task_finds_its_own_pages(world: Path, tmp_path: Path) -> None:
    names, pages = ("fever-like", "trex-like"), world / "knowledge.jsonl"
    tasks = [tmp_path / f"{name}-dev-kilt.jsonl" for name in names]
    for path in tasks:
        some = (d.record for d in read_task(world / "questions.jsonl") if path.name.startswith(d.record["task"]))
        write_lines(path, some)
    counts = write_folder(tmp_path / "out", pages, tasks)["tasks"]
    assert counts == {
        f"{name}-dev-kilt.questions.jsonl": {"questions": 20, "dropped": 0, "without_gold": 0} for name in names
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--words", "0"], "words: expected at least 1; got 0"),
        (["--relevance", "0"], "threshold: expected above 0 and at most 1; got 0.0"),
        (["--relevance", "nan"], "threshold: expected above 0 and at most 1"),
        (["--tasks", "{pages}"], "pages.jsonl, line 1: expected a key"),
        (["--tasks", "{task}", "{task}"], "task files with different names"),
        (["--tasks", "{task}", "missing.jsonl"], "missing.jsonl: expected a readable file"),
    ],
)
def test_bad_requests_are_one_line_and_leave_nothing(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages, task = kilt_files(tmp_path)
    more = [word.format(pages=pages, task=task) for word in more]
    assert main(["chunks", str(pages), str(tmp_path / "out"), *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert {p.name for p in tmp_path.iterdir()} == {"pages.jsonl", "nq-train-kilt.jsonl"}


def test_files_that_cannot_be_cut_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages, _ = kilt_files(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    write_lines(tmp_path / "blank.jsonl", [{"wikipedia_id": "1", "wikipedia_title": "x", "text": []}])
    (tmp_path / "broken.jsonl").write_text(pages.read_text() + '{"wikipedia_id": "19", ')
    for name, said in (
        ("none", "no such f"),
        ("empty", "at least one page with text; got 0 pages without text"),
        ("blank", "at least one page with text; got 1 pages without text"),
        ("broken", "broken.jsonl, line 3: expected one JSON object"),
    ):
        assert main(["chunks", str(tmp_path / f"{name}.jsonl"), str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
        assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_a_folder_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages, _ = kilt_files(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    assert main(["chunks", str(pages), str(tmp_path / "out")]) == 2
    assert "a new folder" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages, task = kilt_files(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["chunks", str(pages), str(tmp_path / "out"), "--tasks", str(task)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"pages.jsonl", "nq-train-kilt.jsonl"}


def test_a_line_of_passages_has_these_names() -> None:
    """What readers of the file rely on, KILT's names where it has them."""
    assert cut(page(*PARAGRAPHS), 5)[0].record() == {
        "id": "17:0",
        "title": "Aster",
        "text": "One two three.\nFour five.\n",
        "wikipedia_id": "17",
        "section": "Section::::Abstract",
        "spans": (Span(1, 0, 15), Span(2, 0, 11)),
        "silent": (Silent(0, "Aster\n"),),
    }
