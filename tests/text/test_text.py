"""Strings to what the model reads, and answers to their judgement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from glimmer_ref.data.inputs import (
    Passage,
    passage_text,
    passage_tokens,
    question_text,
    question_tokens,
    read_questions,
)
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation.metrics import exact_match, normalise
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.checkpoint import load
from glimmer_ref.text.tokenizer import Tokenizer

CONFIG = load(bundled()).config
WORDS = Tokenizer(bundled() / "tokenizer.json", CONFIG.t5.vocab_size)


def test_a_question_gets_its_prefix_once() -> None:
    with_prefixes = replace(CONFIG, question_prefixes=("question:", "claim:"))
    assert question_text(with_prefixes, "who wrote it ?") == "question: who wrote it ?"
    assert question_text(with_prefixes, "claim: it is so .") == "claim: it is so ."
    assert question_text(replace(CONFIG, question_prefixes=()), "who ?") == "who ?"


def test_titles_are_text_whatever_they_hold() -> None:
    assert passage_text(CONFIG, Passage("1", "{text} {0}", "body")) == "{text} {0} : body"
    assert passage_text(CONFIG, Passage("1", "", "body")) == "body"


def test_the_end_of_sequence_survives_truncation() -> None:
    short = replace(CONFIG, question_tokens=4, passage_tokens=3, passage_eos=True)
    q = question_tokens(short, WORDS, ["Who wrote The Crooked Sailor ?", "who wrote it ?"])
    assert list(q.lengths) == [4, 4]
    assert [int(q[i][-1]) for i in (0, 1)] == [1, 1]
    p = passage_tokens(short, WORDS, [Passage("1", "The Crooked Sailor", "it was printed in 1621 .")])
    assert list(p.lengths) == [3] and p[0][-1] == 1
    open_end = passage_tokens(replace(short, passage_eos=False), WORDS, [Passage("1", "", "it was printed .")])
    assert 1 not in open_end[0]


def test_a_word_and_its_full_stop_are_two_tokens() -> None:
    assert WORDS.encode("Who wrote The Crooked Sailor?") == WORDS.encode("Who wrote The Crooked Sailor ?")
    assert WORDS.decode(WORDS.encode("The Crooked Sailor")) == "The Crooked Sailor"


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    with pytest.raises(InputError, match="vocab_size=100"):
        Tokenizer(bundled() / "tokenizer.json", 100)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"model": 1}',
        b'{"version":"1.0","pre_tokenizer":{"type":"Split","pattern":{"Regex":"(("},"behavior":"Isolated","invert":false},"model":{"type":"WordLevel","vocab":{},"unk_token":"u"}}',
    ],
)
def test_a_broken_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        Tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"output": ["x"]}', "input"),
        ('{"input": " "}', "not empty"),
        ('{"input": "x", "output": "y"}', "list of strings"),
        ('{"input": "x", "output": [3]}', "list of strings"),
        ('{"input": "x", "output": [{"answer": [3]}]}', "a string or a list of strings"),
        ('{"input": "x", "output": [{"answer": {"value": "y"}}]}', "a string or a list of strings"),
        ('{"input": "x", "candidates": [1.5]}', "with a list of strings or of whole numbers"),
        ('{"input": "x", "candidates": "1"}', "with a list of strings or of whole numbers"),
        ('{"input": "x", "gold": [true]}', "with a list of strings or of whole numbers"),
        ('{"input": "x", "id": " "}', 'a key "id" with a string or a whole number'),
        ('{"input": "x\\ud800"}', "half of a surrogate pair"),
    ],
)
def test_broken_questions_are_named_by_line(tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "q.jsonl").write_text('{"input": "ok ?"}\n' + row, "utf-8")
    with pytest.raises(InputError, match=f"line 2: .*{said}"):
        list(read_questions(tmp_path / "q.jsonl"))


def test_answers_are_strings_or_kilts_objects(tmp_path: Path) -> None:
    rows = (["y", "z"], [{"answer": "y", "provenance": []}, {"provenance": [{}]}, {"answer": "z"}], [])
    lines = [json.dumps({"input": "x", "output": row, "meta": {}}) for row in rows]
    (tmp_path / "q.jsonl").write_text("\n".join(lines), "utf-8")
    assert [q.answers for q in read_questions(tmp_path / "q.jsonl")] == [("y", "z"), ("y", "z"), ()]


@pytest.mark.parametrize(
    ("answer", "accepted", "same"),
    [
        ("The Beatles!", ["beatles"], True),
        ("a  b", ["B"], True),  # an article goes even where it was a name
        ("an answer", ["the answer"], True),
        ("theatre", ["re"], False),
        ("1638", ["16 38"], False),
        ("x", [], False),
        ("x", ["y", "X."], True),
    ],
)
def test_exact_match(answer: str, accepted: list[str], same: bool) -> None:
    assert exact_match(answer, accepted) is same


def test_normalise_drops_punctuation_before_articles() -> None:
    assert normalise("The 'a' U.S.A., an   Act") == "usa act"
