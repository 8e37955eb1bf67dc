"""Text adapters: a reader and a memory take any, and without one every word is read as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.params import checkpoint
from glimmer_ref.text.adapter import Reading, Unchanged
from glimmer_ref.text.tokenizer import Tokenizer

FACTS = [{"title": "The Crooked Sailor", "text": "The Crooked Sailor is set in xanadu ."}]
QUESTION = "where is The Crooked Sailor set ?"


@dataclass(frozen=True)
class OneWord:
    """An adapter that reads "xanadu" as "Ashford", and knows nothing else."""

    tokenizer: Tokenizer

    def passages(self, texts: Iterable[str], report: bool = False) -> OneWord:
        return self

    def question(self, text: str) -> Reading:
        return Reading(self.tokenizer, {"xanadu": "Ashford"}, [])


@pytest.fixture(scope="module")
def plain() -> Reader:
    return Reader(checkpoint.load(bundled()), Tokenizer(bundled() / "tokenizer.json"), "numpy")


def test_a_reader_and_its_memory_take_any_adapter(plain: Reader) -> None:
    (town,) = plain.tokenizer.encode("Ashford")
    adapter = OneWord(plain.tokenizer.substituting({"xanadu": town}))
    reader = Reader(checkpoint.load(bundled()), plain.tokenizer, "numpy", adapter=adapter)
    for source in (FACTS, reader.memorize(FACTS)):
        answer = reader.ask(QUESTION, source)
        assert (answer.text, answer.ids) == ("xanadu", [town])
        assert (answer.substituted, answer.unknown) == ({"xanadu": "Ashford"}, [])


def test_without_an_adapter_words_are_read_as_they_are_written(plain: Reader) -> None:
    answer = plain.ask("where is The Zyxwv Sailor set ?", FACTS)
    assert (answer.substituted, answer.unknown) == ({}, ["Zyxwv"])
    assert plain.memorize(FACTS).reading == Unchanged(plain.tokenizer)


def test_an_unchanged_reading_looks_at_no_passage(plain: Reader) -> None:
    def texts() -> Iterator[str]:
        raise AssertionError("looked at")
        yield ""

    adapter = Unchanged(plain.tokenizer)
    assert adapter.passages(texts(), report=True) is adapter
    assert adapter.question("xanadu") == Reading(plain.tokenizer, {}, ["xanadu"])
