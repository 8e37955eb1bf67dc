"""The sentence that holds an answer's words: found where it is, nothing where it is not, only in what was read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimmer_ref.data.inputs import Passage
from glimmer_ref.inference.evidence import evidence, sentence_with
from glimmer_ref.inference.plots import plot_answer
from glimmer_ref.inference.reader import Reader, load

QUESTION = "Who wrote The Crooked Sailor?"
ANSWER = "Jorian Nettleworth"


@pytest.mark.parametrize(
    ("text", "answer", "sentence"),
    [
        ("It is old. Its author is Jorian Nettleworth. It is long.", ANSWER, "Its author is Jorian Nettleworth."),
        ("Its author is Jorian Nettleworth", "jorian  NETTLEWORTH!", "Its author is Jorian Nettleworth"),
        ("Jorian met Ada Nettleworth. Nettleworth knew Jorian.", ANSWER, None),
        ("Jorianne Nettleworthy wrote it.", ANSWER, None),
        ("A town. By J. R. Smith, it was seen! Why?", "J. R. Smith", "By J. R. Smith, it was seen!"),
        ("He lived. He left St. Ives in May. So.", "St. Ives", "He left St. Ives in May."),
        ("To St. Ives. St Ives it is.", "St Ives", "St Ives it is."),
        ("Zoë wrote it. So.", "Zoe\u0308", "Zoë wrote it."),
        ("東京は大きい。京都は古い。", "京都", "京都は古い。"),
        ("Anything. At all.", "", None),
        ("Anything. At all.", "?!", None),
        ("", ANSWER, None),
    ],
)
def test_the_sentence(text: str, answer: str, sentence: str | None) -> None:
    assert sentence_with(text, answer) == sentence


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load(ops="numpy")


def asked(reader: Reader, *passages: tuple[str, str], **more: Any) -> Any:
    some = [Passage(str(i), title, text) for i, (title, text) in enumerate(passages)]
    return reader.ask(QUESTION, some, **more)


def test_passages_that_hold_the_answer(reader: Reader) -> None:
    passages = (
        ("The Crooked Sailor", "Critics call it a western. Its author is Jorian Nettleworth."),
        (ANSWER, "He earned a living as a tailor."),
        ("The Crooked Ladder", "It is set in Gorsehaven."),
    )
    answer = asked(reader, *passages, m=2)
    assert answer.text == ANSWER
    found = {0: "Its author is Jorian Nettleworth.", 1: f"title: {ANSWER}"}
    assert evidence(reader, answer) == {row: found[row] for row in answer.selected if row in found}
    every = asked(reader, *passages, system="lumen")
    assert evidence(reader, replace(every, text=ANSWER)) == found
    assert evidence(reader, replace(every, text="Nobody")) == {}


@pytest.mark.parametrize("eos", [False, True])
def test_what_was_not_read_is_not_searched(reader: Reader, eos: bool) -> None:
    """The last word of the text is the first that the model does not read, or the last that it reads."""
    sentence = "Its author is Jorian Nettleworth."
    for room, there in ((0, True), (-1, False)):
        some = Reader(_limited(reader, sentence, room, eos), reader.tokenizer, "numpy")
        answer = asked(some, ("", f"It is old. {sentence} It is long."))
        assert evidence(some, replace(answer, text=ANSWER)) == ({0: sentence} if there else {})


def _limited(reader: Reader, sentence: str, room: int, eos: bool) -> Any:
    tokens = len(reader.tokenizer.encode(f"It is old. {sentence}")) + eos + room
    return replace(reader.model, config=replace(reader.config, passage_tokens=tokens, passage_eos=eos))


@pytest.mark.parametrize("system", ["glimmer", "lumen"])
def test_the_picture(reader: Reader, system: str, tmp_path: Any) -> None:
    passages = [("The Crooked Sailor", "Its author is Jorian Nettleworth."), ("Moorton", "It is old.")]
    answer = asked(reader, *passages, system=system, m=1 if system == "glimmer" else None, attention=True)
    plot_answer(answer, QUESTION, {0: "Its author is Jorian Nettleworth."}, str(tmp_path / "x.svg"))
    drawn = (tmp_path / "x.svg").read_text("utf-8")
    assert drawn.count("<!-- ★ The Crooked Sailor  (0) -->") == (2 if system == "glimmer" else 1)
    assert "★ Moorton" not in drawn
    assert "“Its author is Jorian Nettleworth.”" in drawn and "not why it wrote this" in drawn
    if answer.scores is not None:
        shares = np.exp(answer.scores - answer.scores.max())
        for share in shares / shares.sum():
            assert f"<!-- {f'{share:.3f}' if share >= 0.0005 else '<0.001'} -->" in drawn.replace("&lt;", "<")
    assert ("p_rank" in drawn) == (system == "glimmer")
    plot_answer(answer, QUESTION, {}, str(tmp_path / "x.svg"))
    assert "★" not in (tmp_path / "x.svg").read_text("utf-8")
