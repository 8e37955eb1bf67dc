"""Memory that arrives in parts while the model works: the same results, only what is needed, no thread left over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import memories as small
import models
import numpy as np
import pytest
from models import NUMPY, QUESTION

import glimmer_ref
from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.instruments import Profiler
from glimmer_ref.memory import shard
from glimmer_ref.memory import store as memories
from glimmer_ref.memory.build import build
from glimmer_ref.memory.manifest import metadata
from glimmer_ref.memory.prefetch import ahead
from glimmer_ref.memory.store import Memory, bounds
from glimmer_ref.ops import Instrument, Ops, bind
from glimmer_ref.paper.glimmer import Read
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import SYSTEMS
from glimmer_ref.params.safetensors_io import Stored, map_file, map_tensors, write_tensors
from glimmer_ref.ragged import Array, Arriving, Ints, States

PASSAGES = models.tokens([4, 9, 1, 6, 12, 3, 17, 5, 8, 11, 2], seed=3)
THREE = models.tokens([5, 2, 7], seed=2)
COUNTS = np.array([4, 5, 2])


@pytest.fixture(autouse=True)
def no_thread_is_left_over() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("glimmer_ref.ahead"):
            thread.join(timeout=10)
            assert not thread.is_alive()


def cut(x: States, at: list[int]) -> Arriving:
    """States in parts, cut in front of the sequences `at`."""
    starts = np.cumsum([0, *x.lengths])

    def part(a: int, b: int) -> States:
        rows = slice(starts[a], starts[b])
        return States(x.states[rows].copy(), x.lengths[a:b], x.positions[rows])

    return Arriving(iter([part(a, b) for a, b in pairwise([0, *at, len(x)])]), x.lengths)


# ---- the same results


class Rowwise(Instrument):
    """Every row of a matrix product by itself, so that a row's bits do not depend on its neighbours."""

    def linear(self, x: Array, w: Array) -> Array:
        return np.concatenate([x[:0] @ w, *(self.ops.linear(row[None], w) for row in x)])


def read(ops: Ops, system: str, settings: GlimmerConfig, dtype: str, at: list[int] | None) -> Read:
    w = models.model(ops, settings, dtype=dtype)
    passages: Any = encode_passages(ops, w, PASSAGES)
    return SYSTEMS[system](ops, w, THREE, passages if at is None else cut(passages, at), COUNTS, 2)


CUTS = {"at a question": [4, 9], "within": [1, 2, 6, 7], "each by itself": [*range(1, 11)], "in two": [10]}
SETTINGS = {"glimmer": models.config(), "lumen": models.config(), "separate": models.config(reranker="separate")}


@pytest.mark.parametrize("at", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", SETTINGS)
def test_parts_give_the_same_bits(kind: str, at: list[int]) -> None:
    system, ops = "lumen" if kind == "lumen" else "glimmer", Rowwise(NUMPY)
    whole, parts = (read(ops, system, SETTINGS[kind], "float32", a) for a in (None, at))
    np.testing.assert_array_equal(parts.memory.states, whole.memory.states)
    np.testing.assert_array_equal(parts.memory.lengths, whole.memory.lengths)
    np.testing.assert_array_equal(parts.memory.positions, whole.memory.positions)
    if system == "glimmer":
        np.testing.assert_array_equal(parts.scores, whole.scores)
        assert [s.tolist() for s in parts.selected] == [s.tolist() for s in whole.selected]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 2e-5)])
def test_parts_give_the_same_numbers_where_a_product_sums_otherwise(backend: str, dtype: str, tolerance: float) -> None:
    for kind, settings in SETTINGS.items():
        system = "lumen" if kind == "lumen" else "glimmer"
        whole, parts = (read(bind(backend), system, settings, dtype, a) for a in (None, [1, 2, 6]))
        off = np.abs(parts.memory.states - whole.memory.states).max() / np.abs(whole.memory.states).max()
        assert off < tolerance
        assert [list(s) for s in parts.selected] == [list(s) for s in whole.selected]


# ---- only what is needed


class AfterTheChoice(Instrument):
    """Makes all that was dropped unusable once the choice is made, and notes how many rows are moved from then on."""

    def __init__(self, ops: Ops, passages: list[States]) -> None:
        self.passages, self.pairs, self.rows = passages, [], []  # type: ignore[var-annotated]
        self.choice: list[Ints] = []
        super().__init__(ops)

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = operation(*args)
        if self.choice:
            self.rows.append(len(result))
        return result

    def mark(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        if self.path == "live_a." and name == "out":
            self.pairs += np.split(x, np.cumsum(lengths)[:-1])
        if name == "selected":
            self.choice.append(x)
            for i, pair in enumerate(self.pairs):
                if i not in x:
                    pair[:] = np.nan
            for part in self.passages:
                part.states[:] = np.nan
        return x


def test_after_the_choice_nothing_that_was_dropped_is_touched_or_copied() -> None:
    w, one = models.model(NUMPY, models.config()), np.array([len(PASSAGES)])
    stored = encode_passages(NUMPY, w, PASSAGES)
    expected = SYSTEMS["glimmer"](NUMPY, w, QUESTION, stored, one, 2)
    parts = list(cut(stored, [3, 4, 8]).parts)
    instrument = AfterTheChoice(NUMPY, parts)
    got = SYSTEMS["glimmer"](instrument, w, QUESTION, Arriving(iter(parts), stored.lengths), one, 2)
    assert len(instrument.pairs) == len(PASSAGES) and np.isnan(instrument.pairs[0]).all()
    np.testing.assert_allclose(got.memory.states, expected.memory.states, rtol=1e-12)
    read_by_decoder, longest = len(got.memory.states), 2 * int(got.memory.positions.max()) + 1
    assert max(instrument.rows) <= max(read_by_decoder, longest), "rows: what the decoder reads, or position biases"


def test_only_the_rows_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rows = stored_memory(tmp_path), [10, 0, 5, 4, 5]
    asked: list[int] = []

    def spied(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
        tensors, told = map_file(path)
        spies = {
            name: Stored(x.dtype, small.Spy(x.raw, asked)) if name == "tokens" else x  # type: ignore[arg-type]
            for name, x in tensors.items()
        }
        return spies, told

    monkeypatch.setattr(shard, "map_file", spied)
    monkeypatch.setattr(memories, "PART_TOKENS", 9)
    stream = Memory.open(folder).stream(rows)
    assert len(list(stream.parts)) > 2
    assert asked == [n * small.CONFIG.t5.d_model for n in stream.lengths]


# ---- the memory as it arrives


def stored_memory(tmp_path: Path, dtype: str = "float32") -> Path:
    """A memory of 11 passages in 3 shards."""
    tokenizer = small.write_tokenizer(tmp_path / "tokenizer.json")
    corpus = small.write_passages(tmp_path / "passages.jsonl")
    arguments = (NUMPY, small.MODEL, tokenizer, corpus, tmp_path / dtype, dtype)
    build(*arguments, shard_passages=4, show=small.quiet)
    return tmp_path / dtype


@pytest.mark.parametrize("tokens", [1, 20, 40, 10_000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_a_stream_is_the_same_as_a_look_up(
    tmp_path: Path, dtype: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "PART_TOKENS", tokens)
    memory, rows = Memory.open(stored_memory(tmp_path, dtype)), [10, 0, 5, 4, 5, 3, 7]
    for wanted in ("float32", "float64"):
        whole, stream = memory.read(rows, wanted), memory.stream(rows, wanted)
        parts = list(stream.parts)
        assert len(stream) == len(rows) and stream.lengths.tolist() == whole.lengths.tolist()
        assert len(parts) == {1: 7, 10_000: 1}.get(tokens, len(parts))
        for name in ("states", "lengths", "positions"):
            got = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(got, getattr(whole, name), strict=True)
        assert all(part.states.flags.writeable for part in parts)
    assert list(memory.stream([]).parts) == []


@pytest.mark.parametrize(("rows", "dtype"), [([11], "float32"), ([-1], "float32"), ([0.5], "float32"), ([0], "int8")])
def test_what_a_look_up_refuses_a_stream_refuses_at_once(tmp_path: Path, rows: Any, dtype: str) -> None:
    memory, said = Memory.open(stored_memory(tmp_path)), []
    for look_up in (memory.read, memory.stream):
        with pytest.raises(InputError) as refusal:
            look_up(rows, dtype)
        said.append(str(refusal.value))
    assert said[0] == said[1]


def test_parts_have_about_equally_many_tokens() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        lengths = rng.integers(1, 40, rng.integers(1, 60))
        at = bounds(lengths, 100)
        sizes = [int(lengths[a:b].sum()) for a, b in pairwise(at)]
        assert at[0] == 0 and at[-1] == len(lengths) and min(sizes) > 0
        assert len(sizes) == max(1, lengths.sum() // 100)
        assert max(sizes) - min(sizes) <= 2 * lengths.max()
    assert bounds(np.array([1000, 1, 1, 1000]), 10) == [0, 1, 2, 4], "a passage is never cut"
    assert bounds(np.zeros(0, np.int64), 10) == [0]


# ---- reading ahead


def test_one_is_made_ahead_and_no_more() -> None:
    begun: list[int] = []
    steps = [threading.Event() for _ in range(6)]

    def make(i: int) -> int:
        begun.append(i)
        steps[i].set()
        return i * i

    results = ahead([lambda i=i: make(i) for i in range(6)])  # type: ignore[misc]
    assert steps[0].wait(10), "the first begins before it is asked for"
    for i in range(6):
        assert next(results) == i * i
        assert i == 5 or steps[i + 1].wait(10)
        time.sleep(0.01)
        assert begun == list(range(min(i + 2, 6)))
    assert list(results) == list(ahead([])) == []


def test_it_is_made_while_the_caller_works() -> None:
    """Each waits for the other to be at work at the same time: one after the other, they would never meet."""
    meet = threading.Barrier(2)
    for i, _ in enumerate(ahead([lambda: 0, *[lambda: meet.wait(10)] * 3])):
        if i < 3:
            meet.wait(10)


def test_an_error_comes_out_where_its_result_would_have() -> None:
    def fail() -> int:
        raise InputError("memory", "sound scales", "others")

    results = ahead([lambda: 1, lambda: 2, fail, lambda: 4])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(InputError, match="memory: sound scales; got others"):
        next(results)
    assert list(results) == []


def test_whoever_stops_asking_leaves_no_thread() -> None:
    results = ahead([lambda: 1, lambda: time.sleep(0.2), lambda: 3])
    next(results)
    del results
    ahead([lambda: time.sleep(0.2)])  # not even begun; the fixture looks


# ---- seen from the reader


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
def test_an_answer_is_the_same_from_parts(
    reader: Any, tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory.open(int8_memory(reader, tmp_path))
    whole = reader.ask(QUESTION_TEXT, memory, system, attention=True)
    monkeypatch.setattr(memories, "PART_TOKENS", 20)
    parts = reader.ask(QUESTION_TEXT, memory, system, attention=True)
    assert (parts.ids, parts.selected, parts.macs) == (whole.ids, whole.selected, whole.macs)
    np.testing.assert_allclose(parts.attention, whole.attention, atol=1e-4)
    assert parts.seconds["read"] > 0
    assert "read" not in reader.ask(QUESTION_TEXT, FACTS, system).seconds, "nothing comes from a memory"


def test_damage_in_a_later_part_is_refused_like_any_other(
    reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = int8_memory(reader, tmp_path)
    path = folder / "shard-00002.safetensors"
    tensors: dict[str, Any] = dict(map_tensors(path))
    write_tensors(
        path,
        {**tensors, "scales": -tensors["scales"].raw},
        metadata(path.name, small.made_of(folder)),
    )
    small.edit(folder, **{f"files__{path.name}": {"bytes": path.stat().st_size, "sha256": ""}})
    monkeypatch.setattr(memories, "PART_TOKENS", 20)
    memory = Memory.open(folder)
    with small.refused("shard-00002.safetensors: scales: positive numbers; got others"):
        reader.ask(QUESTION_TEXT, memory)
    assert reader.ask_many([QUESTION_TEXT], memory, [np.arange(6)])[0].passages


def test_a_question_that_is_refused_leaves_no_thread(reader: Any, tmp_path: Path) -> None:
    memory = Memory.open(int8_memory(reader, tmp_path))
    with pytest.raises(InputError):
        reader.ask_many([QUESTION_TEXT], memory, [np.array([0, 99])])
    with pytest.raises(InputError):
        reader.ask_many(["  "], memory, [np.arange(9)])


def test_several_threads_may_ask_at_once(reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "PART_TOKENS", 20)
    memory = Memory.open(int8_memory(reader, tmp_path))
    expected = reader.ask(QUESTION_TEXT, memory)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: reader.ask(QUESTION_TEXT, memory), range(12)):
            assert (answer.ids, answer.selected) == (expected.ids, expected.selected)
            np.testing.assert_array_equal(answer.scores, expected.scores)


def test_a_clock_tells_how_long_was_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glimmer_ref.instruments.profiler.time.perf_counter", lambda: now[0])

    def slow() -> Iterator[int]:
        for i in range(3):
            now[0] += 2
            yield i
        now[0] += 1

    clock = Profiler(NUMPY)
    for _ in clock.waits("read", slow()):
        now[0] += 50
    assert clock.seconds == {"read": 3 * 2 + 1}, "not the time between"
