"""Instruments change no result: the same bits with and without them, in every precision.

A few of the bundled questions are asked, and 120 of them in the slow tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from unwarmed import FAST

import glimmer_ref
from glimmer_ref.cli import main
from glimmer_ref.config import GlimmerConfig, T5Config
from glimmer_ref.data.inputs import passage_tokens, question_tokens, read_passages, read_questions
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.instruments import Dropout, MacCounter, Profiler, Tape, Trace
from glimmer_ref.memory.store import Memory
from glimmer_ref.ops import PRECISIONS, Instrument, Ops
from glimmer_ref.paper.t5 import KVCache, cross_keys_values, decode
from glimmer_ref.params.model import Model, map_named, prepare_params, random
from glimmer_ref.ragged import States, Tokens, token_positions

pytestmark = pytest.mark.once
SLOW = pytest.mark.slow
precisions = pytest.mark.parametrize("precision", PRECISIONS)
OBSERVERS: dict[str, Callable[[Ops], Ops]] = {
    "instrument": Instrument,
    "mac counter": MacCounter,
    "trace": Trace,
    "trace of probabilities": lambda ops: Trace(ops, only=r".*probs"),
    "profiler": Profiler,
    "trace around profiler": lambda ops: Trace(Profiler(ops)),
    "profiler around trace": lambda ops: Profiler(Trace(ops)),
}


@cache
def reader(precision: str) -> Reader:
    return glimmer_ref.load(precision=precision)


@cache
def memory(precision: str) -> Memory:
    return reader(precision).memorize(read_passages(bundled() / "passages.jsonl"))


def questions(count: int) -> list[str]:
    every = [q.text for q in read_questions(bundled() / "questions.jsonl")]
    return every[:: len(every) // count][:count]


def same(a: glimmer_ref.Answer, b: glimmer_ref.Answer) -> None:
    assert a.ids == b.ids and a.selected == b.selected
    assert a.log_probability == b.log_probability
    assert (a.scores is None) is (b.scores is None)
    assert a.scores is None or a.scores.tobytes() == b.scores.tobytes()


@pytest.mark.parametrize("count", [8, pytest.param(120, marks=SLOW)])
@precisions
def test_a_plot_changes_no_answer(precision: str, count: int) -> None:
    r, stored = reader(precision), memory(precision)
    for question in questions(count):
        same(r.ask(question, stored), r.ask(question, stored, attention=True))


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=SLOW)])
@precisions
@pytest.mark.parametrize("system", ["lumen", "fid"])
def test_a_plot_changes_no_answer_in_any_system(precision: str, system: str, count: int) -> None:
    r, passages = reader(precision), list(read_passages(bundled() / "passages.jsonl"))[:5]
    for question in questions(count):
        same(r.ask(question, passages, system), r.ask(question, passages, system, attention=True))


@pytest.mark.parametrize("count", [4, pytest.param(120, marks=SLOW)])
@precisions
def test_a_trace_is_of_the_answer(precision: str, count: int) -> None:
    """Its scores, selection and tokens are those of `ask`, from the same ids."""
    r, passages = reader(precision), list(read_passages(bundled() / "passages.jsonl"))
    for i, question in enumerate(questions(count)):
        some = passages[10 * i : 10 * i + 12]
        answer = r.ask(question, some)
        if answer.substituted:
            continue
        q, p = question_tokens(r.config, r.tokenizer, [question]), passage_tokens(r.config, r.tokenizer, some)
        arrays = r.trace(q.ids.tolist(), [x.tolist() for x in np.split(p.ids, np.cumsum(p.lengths)[:-1])])
        assert arrays["scores"].tobytes() == answer.scores.tobytes()
        assert arrays["selected"].tolist() == answer.selected
        assert arrays["decoder.ids"].tolist() == answer.ids


@pytest.mark.parametrize("store", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize(
    ("precision", "passages", "count"), [("int8", 60, 2), *(pytest.param(p, 500, 30, marks=SLOW) for p in PRECISIONS)]
)
def test_a_plot_changes_no_answer_from_a_stored_memory(
    tmp_path: Path, store: str, precision: str, passages: int, count: int
) -> None:
    lines = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()[:passages]
    (tmp_path / "p.jsonl").write_text("\n".join(lines), "utf-8")
    assert main(["memory", "build", str(tmp_path / "p.jsonl"), str(tmp_path / "m"), "--store", store]) == 0
    stored = Memory.open(tmp_path / "m")
    for question in questions(count):
        same(reader(precision).ask(question, stored), reader(precision).ask(question, stored, attention=True))


def model(precision: str, d: int, d_kv: int, heads: int, f: int, proj: str) -> Model:
    t5 = T5Config(67, d, d_kv, f, 1, 2, heads, feed_forward_proj=proj)
    drawn = random(GlimmerConfig.from_proportions(t5, "1/1", "0"), 0, "float64")
    return prepare_params(FAST, map_named(lambda _, x: x.astype("float32"), drawn), precision)


def steps_of(ops: Ops, w: Model, steps: int) -> list[np.ndarray]:
    """Logits of two sequences' tokens: many at first, then a few."""
    rng, n = np.random.default_rng(0), np.array([40, 117])
    states = rng.standard_normal((n.sum(), w.config.t5.d_model)).astype(np.float32)
    read = States(states, n, token_positions(n).astype(np.int32))
    past, found = KVCache.empty(2, capacity=steps), []
    cross = cross_keys_values(ops, w.config.t5, w.decoder, read, past)
    for most in (20, 1, 3, 1):
        count = rng.integers(1, most + 1, 2)
        tokens = Tokens(rng.integers(0, 67, count.sum()).astype(np.int32), count)
        logits, past = decode(ops, w.config.t5, w.embedding, w.decoder, tokens, past, cross)
        found.append(np.array(logits))
    return found


SHAPES = [(96, 32, 3, 130, "gated-gelu"), (65, 64, 2, 33, "relu"), (100, 16, 3, 70, "gated-gelu")]


@precisions
@pytest.mark.parametrize("steps", [1, 1000])  # the memory itself, where columns allow; keys and values
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_instruments_change_no_decoder_step(shape: tuple[int, int, int, int, str], steps: int, precision: str) -> None:
    w = model(precision, *shape)
    unobserved = [x.tobytes() for x in steps_of(FAST, w, steps)]
    for name, observer in OBSERVERS.items():
        assert [x.tobytes() for x in steps_of(observer(FAST), w, steps)] == unobserved, name


@precisions
def test_what_learns_differs_by_the_form_of_cross_attention_alone(precision: str) -> None:
    """A tape needs keys and values, since what is absorbed has no backward: the numbers of a decoder for many steps."""
    w = model(precision, *SHAPES[0])
    unobserved = [x.tobytes() for x in steps_of(FAST, w, 1000)]
    for ops in (Tape(FAST), Dropout(Tape(FAST), 0.0, np.random.default_rng(0)), Trace(Tape(FAST))):
        assert [x.tobytes() for x in steps_of(ops, w, 1)] == unobserved


@precisions
def test_probabilities_are_those_of_the_precision(precision: str) -> None:
    """Rows that sum to one, off from float32's by what the precision costs, not more."""
    found = {}
    for p in ("float32", precision):
        w, trace = model(p, *SHAPES[0]), Trace(FAST, only=r".*probs")
        steps_of(trace, w, 1000)
        found[p] = [x for name, x in trace.arrays.items() if "cross_attention" in name]
    pairs = zip(found[precision], found["float32"], strict=True)
    off = max(float(np.abs(x - y).max()) for x, y in pairs)
    assert all(np.abs(x.sum(axis=-1) - 1).max() < 1e-5 for x in found[precision])
    assert off == 0 if precision == "float32" else 1e-5 < off < 0.05
