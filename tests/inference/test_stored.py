"""Answers from a stored memory: those of the same states in RAM, only what is needed is touched, damage is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import memories as small
import models
import numpy as np
import pytest
from models import NUMPY, QUESTION

import glimmer_ref
from glimmer_ref.errors import InputError
from glimmer_ref.memory.build import build
from glimmer_ref.memory.manifest import metadata
from glimmer_ref.memory.store import Memory
from glimmer_ref.ops import Instrument, Ops
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import SYSTEMS
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors
from glimmer_ref.ragged import Array, Ints, States

PASSAGES = models.tokens([4, 9, 1, 6, 12, 3, 17, 5, 8, 11, 2], seed=3)


class AfterTheChoice(Instrument):
    """Makes all that was dropped unusable once the choice is made, and notes how many rows are moved from then on."""

    def __init__(self, ops: Ops, passages: States) -> None:
        self.passages, self.pairs, self.rows = passages, [], []  # type: ignore[var-annotated]
        self.choice: list[Ints] = []
        super().__init__(ops)

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = operation(*args)
        if self.choice:
            self.rows.append(len(result))
        return result

    def record(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        if self.path == "live_a." and name == "out":
            self.pairs += np.split(x, np.cumsum(lengths)[:-1])
        if name == "selected":
            self.choice.append(x)
            for i, pair in enumerate(self.pairs):
                if i not in x:
                    pair[:] = np.nan
            self.passages.states[:] = np.nan
        return x


def test_after_the_choice_nothing_that_was_dropped_is_touched_or_copied() -> None:
    w, one = models.model(NUMPY, models.config()), np.array([len(PASSAGES)])
    expected = SYSTEMS["glimmer"](NUMPY, w, QUESTION, encode_passages(NUMPY, w, PASSAGES), one, 2)
    passages = encode_passages(NUMPY, w, PASSAGES)
    instrument = AfterTheChoice(NUMPY, passages)
    got = SYSTEMS["glimmer"](instrument, w, QUESTION, passages, one, 2)
    assert len(instrument.pairs) == len(PASSAGES) and np.isnan(instrument.pairs[0]).all()
    np.testing.assert_allclose(got.memory.states, expected.memory.states, rtol=1e-12)
    read_by_decoder, longest = len(got.memory.states), 2 * int(got.memory.positions.max()) + 1
    assert max(instrument.rows) <= max(read_by_decoder, longest), "rows: what the decoder reads, or position biases"


@pytest.fixture(scope="module")
def reader() -> glimmer_ref.inference.reader.Reader:
    return glimmer_ref.load(ops="numpy")


# As unlike each other as to have scores that no other order of a sum exchanges: .003 apart at the least.
FACTS = [
    {"title": "The Crooked Sailor", "text": "a novel by Jorian Nettleworth ."},
    {"title": "Dora Ashton", "text": "she was born in Duncombe ."},
    {"title": "Emberaris Prize", "text": "given every third year ."},
    {"title": "Port Hollow", "text": "a town on the river Lune ."},
    {"title": "Brightwater Mills", "text": "a company that makes paper ."},
    {"title": "The Silent Harvest", "text": "it was written by Oswin Pell ."},
    {"title": "Oswin Pell", "text": "he plays the guitar ."},
    {"title": "Duncombe", "text": "its founder was Mirela Vance ."},
    {"title": "Vance & Daughters", "text": "they sell lamps ."},
]
QUESTION_TEXT = "Who wrote The Crooked Sailor?"


def int8_memory(reader: Any, tmp_path: Path) -> Path:
    corpus = small.write_passages(tmp_path / "facts.jsonl", reader.memorize(FACTS).passages())
    arguments = (reader.ops, reader.model, reader.tokenizer, corpus, tmp_path / "facts", "int8")
    build(*arguments, shard_passages=3, show=small.quiet)
    return tmp_path / "facts"


@pytest.mark.parametrize("system", ["glimmer", "lumen"])
def test_an_answer_from_a_store_is_that_from_its_states(reader: Any, tmp_path: Path, system: str) -> None:
    memory = Memory.open(int8_memory(reader, tmp_path))
    stored = reader.ask(QUESTION_TEXT, memory, system, attention=True)
    again = reader.ask(QUESTION_TEXT, memory, system, attention=True)
    reading, states = reader.inputs.reading(QUESTION_TEXT, [], memory), memory.read(range(9))
    q = reader.inputs.questions([QUESTION_TEXT], [reading])
    alone = SYSTEMS[system](reader.ops, reader.model, q, states, np.array([9]), min(reader.config.m, 9))
    assert stored.selected == alone.selected[0].tolist()
    if system == "glimmer":
        np.testing.assert_array_equal(stored.scores, alone.scores)
    assert (again.ids, again.selected, again.macs) == (stored.ids, stored.selected, stored.macs)
    np.testing.assert_array_equal(again.attention, stored.attention)
    assert stored.seconds["read"] > 0
    assert "read" not in reader.ask(QUESTION_TEXT, FACTS, system).seconds, "nothing comes from a memory"


def test_damage_is_refused_where_it_is_read_and_not_elsewhere(reader: Any, tmp_path: Path) -> None:
    folder = int8_memory(reader, tmp_path)
    path = folder / "shard-00002.safetensors"
    tensors: dict[str, Any] = dict(map_tensors(path))
    write_tensors(
        path,
        {**tensors, "scales": -tensors["scales"].raw},
        metadata(path.name, small.made_of(folder)),
    )
    small.edit(folder, **{f"files__{path.name}": {"bytes": path.stat().st_size, "sha256": ""}})
    memory = Memory.open(folder)
    with small.refused("shard-00002.safetensors: scales: expected positive numbers; got others"):
        reader.ask(QUESTION_TEXT, memory)
    assert reader.ask_many([QUESTION_TEXT], memory, [np.arange(6)])[0].passages


def test_rows_that_are_not_there_and_empty_questions_are_refused(reader: Any, tmp_path: Path) -> None:
    memory = Memory.open(int8_memory(reader, tmp_path))
    with pytest.raises(InputError):
        reader.ask_many([QUESTION_TEXT], memory, [np.array([0, 99])])
    with pytest.raises(InputError):
        reader.ask_many(["  "], memory, [np.arange(9)])


def test_several_threads_may_ask_at_once(reader: Any, tmp_path: Path) -> None:
    memory = Memory.open(int8_memory(reader, tmp_path))
    expected = reader.ask(QUESTION_TEXT, memory)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: reader.ask(QUESTION_TEXT, memory), range(12)):
            assert (answer.ids, answer.selected) == (expected.ids, expected.selected)
            np.testing.assert_array_equal(answer.scores, expected.scores)
