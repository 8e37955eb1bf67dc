"""What an answer says it cost: by the paper's algorithm, as it was done, in seconds, alone and in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import NUMPY
from sailor import FACTS, QUESTION

import glimmer_ref
from glimmer_ref.config import GlimmerConfig, T5Config
from glimmer_ref.data.inputs import Question, as_passages, passage_tokens, question_tokens
from glimmer_ref.evaluation.evaluate import scored_batches
from glimmer_ref.inference.answer import by_stage
from glimmer_ref.inference.reader import Reader
from glimmer_ref.instruments import MacCounter
from glimmer_ref.ops import bind
from glimmer_ref.ops.cpu import cross_attention, executed_macs
from glimmer_ref.paper.decoding import greedy
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import FROM_TEXT, SYSTEMS
from glimmer_ref.paper.t5 import KVCache
from glimmer_ref.params.model import prepare_params, random
from glimmer_ref.ragged import States, token_positions

OTHER_QUESTION = "What did Jorian Nettleworth earn a living as?"
systems = pytest.mark.parametrize("system", SYSTEMS)


@pytest.fixture(scope="module", params=["numpy", "numba"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return glimmer_ref.load(ops=request.param)


def counted(reader: Reader, system: str, questions: list[str], rows: list[list[int]], m: int) -> dict[str, int]:
    """What a counter counts in a run of the model itself."""
    count, passages = MacCounter(reader.ops), as_passages(FACTS)
    q = question_tokens(reader.config, reader.tokenizer, questions)
    p: Any = passage_tokens(reader.config, reader.tokenizer, [passages[i] for some in rows for i in some])
    p = p if system in FROM_TEXT else encode_passages(count, reader.model, p)
    got = SYSTEMS[system](count, reader.model, q, p, np.array([len(some) for some in rows]), m)
    greedy(count, reader.model, got.memory, reader.config.answer_tokens)
    return count.macs


def without_memory(macs: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in macs.items() if name.split(".")[0] != "memory"}


def m_of(system: str, m: int) -> dict[str, int]:
    return {"m": m} if system == "glimmer" else {}


@systems
def test_macs_are_what_a_counter_counts(reader: Reader, system: str) -> None:
    observed = counted(reader, system, [QUESTION], [[0, 1, 2]], 1)
    now = reader.ask(QUESTION, FACTS, system, **m_of(system, 1))
    assert (now.macs, now.stored) == (observed, False)
    assert ("memory" in observed) == (system != "fid")
    stored = reader.ask(QUESTION, reader.memorize(FACTS), system, **m_of(system, 1))
    assert (stored.macs, stored.stored) == (without_memory(observed), True)


@systems
def test_a_batch_costs_what_a_counter_counts(reader: Reader, system: str) -> None:
    """The question that ends sooner keeps stepping with the other."""
    rows = [[1, 0], [0, 1, 2]]
    answers = reader.ask_many(
        [QUESTION, OTHER_QUESTION], as_passages(FACTS), [np.array(r) for r in rows], system, **m_of(system, 2)
    )
    assert len({len(a.ids) for a in answers}) == 2
    observed = counted(reader, system, [QUESTION, OTHER_QUESTION], rows, 2)
    assert all((a.macs, a.batch) == (observed, 2) for a in answers)
    assert [len(a.passage_tokens) for a in answers] == [2, 3]


def test_compare_counts_what_each_system_would_have_done(reader: Reader) -> None:
    answers = {s: reader.ask(QUESTION, FACTS, s, **m_of(s, 1)) for s in SYSTEMS}
    assert len({tuple(a.ids) for a in answers.values()}) == 1, "so that all decoders make the same steps"
    costs = reader.compare(answers["glimmer"])
    for system in SYSTEMS:
        assert costs[system] == by_stage(counted(reader, system, [QUESTION], [[0, 1, 2]], 1))
    stored = reader.compare(reader.ask(QUESTION, reader.memorize(FACTS), m=1))
    assert stored == costs, "what encoding them once cost"


def test_compare_asks_for_as_much_as_glimmer_would_read(reader: Reader) -> None:
    by_lumen = reader.compare(reader.ask(QUESTION, FACTS, "lumen"))
    m = min(reader.config.m, len(FACTS))
    assert by_lumen["glimmer"] == by_stage(counted(reader, "glimmer", [QUESTION], [[0, 1, 2]], m))


def test_substituted_names_are_counted_as_they_were_read() -> None:
    reader = glimmer_ref.load(ops="numpy")
    facts = [{"title": "Zaphod Beeblebrox", "text": "Zaphod Beeblebrox was born in Betelgeuse."}]
    answer = reader.ask("where was Zaphod Beeblebrox born?", facts, m=1)
    assert answer.substituted
    assert reader.compare(answer)["glimmer"] == by_stage(answer.macs)


def test_what_was_done(reader: Reader) -> None:
    """The reference computes what it counts. So does an observed backend, whose single operations then run."""
    by_itself, observed = reader.ask(QUESTION, FACTS), reader.ask(QUESTION, FACTS, attention=True)
    assert observed.macs_done == observed.macs == by_itself.macs
    assert (by_itself.macs_done == by_itself.macs) == (reader.ops.hook("decoder_macs") is None)


# ---- the fast decoder, which may attend to the memory itself


def absorbed_macs(t5: T5Config, model: Any, lengths: list[int], steps: int) -> dict[str, int]:
    """Counted in a run of the absorbed form as single products, whose result is checked too."""
    rng, heads, c = np.random.default_rng(0), t5.num_heads, t5.d_kv
    count, hc = MacCounter(NUMPY), t5.num_heads * t5.d_kv
    for w in model.decoder.layers:
        cross, own, ff = w.cross_attention, w.self_attention, w.feed_forward
        for n in lengths:
            memory = rng.standard_normal((n, t5.d_model))
            for step in range(steps):
                x, a, f = (rng.standard_normal((1, d)) for d in (t5.d_model, hc, t5.d_ff))
                here, there = count.scope("decoder"), count.scope("attention")
                for y, weight in ((x, own.q), (x, own.k), (x, own.v), (a, own.o), (a, cross.o), (x, ff.wi_0)):
                    here.linear(y, weight)
                here.linear(x, ff.wi_1), here.linear(f, ff.wo)
                q, mixed = here.linear(x, cross.q), []
                for h in range(heads):
                    at = slice(h * c, (h + 1) * c)
                    scores = there.linear(here.linear(q[:, at], cross.k[:, at].T), memory.T)
                    probs = np.exp(scores - scores.max())
                    mixed.append(here.linear(there.linear(probs / probs.sum(), memory), cross.v[:, at]))
                one = np.ones(1, np.int64), np.array([n]), np.zeros(1, np.int32), token_positions(np.array([n]))
                expected = NUMPY.attention(q, memory @ cross.k, memory @ cross.v, None, _spans(one), heads, False)
                np.testing.assert_allclose(np.concatenate(mixed, axis=1), expected, rtol=1e-9)
                count.macs["attention"] += 2 * hc * (step + 1)  # to itself
    return {"decoder": count.macs["decoder"], "decoder.attention": count.macs["attention"]}


def _spans(parts: tuple[Any, ...]) -> Any:
    from glimmer_ref.ops import SequenceLayout

    return SequenceLayout(*parts)


@pytest.mark.parametrize(("d_kv", "limit"), [(32, 7), (32, 32), (32, 33), (6, 4), (64, 40)])
@pytest.mark.parametrize("proj", ["gated-gelu", "relu"])
def test_the_absorbed_form_is_counted_as_it_is(d_kv: int, limit: int, proj: str) -> None:
    t5 = T5Config(61, 20, d_kv, 28, 6, 2, 3, feed_forward_proj=proj)
    settings = GlimmerConfig.from_proportions(t5, "1/2", "1/3")
    plain = random(settings, 0, "float32")
    fast, lengths, steps = prepare_params(bind("numba"), plain), np.array([9, 40]), 3
    x = np.ones((49, 20), np.float32)
    cache = KVCache.empty(len(lengths), capacity=limit)
    ready = cross_attention.project(t5, fast.decoder, States(x, lengths, token_positions(lengths)), cache)
    macs = executed_macs.decoder_macs(t5, fast.decoder, lengths, limit, steps)
    assert ready.absorbed == (macs is not NotImplemented), "both ask the same question"
    if ready.absorbed and proj == "gated-gelu":
        exact = random(settings, 0, "float64")
        assert {name: n for name, n in macs.items() if n} == absorbed_macs(t5, exact, [9, 40], steps)
    assert executed_macs.decoder_macs(t5, plain.decoder, lengths, limit, steps) is NotImplemented, "weights not packed"


@systems
def test_what_the_fast_decoder_did_is_reported_beside_the_algorithm(system: str) -> None:
    reader = glimmer_ref.load()
    rows, both = [np.arange(3), np.arange(2)], [QUESTION, OTHER_QUESTION]
    for a in (reader.ask(QUESTION, FACTS, system), reader.ask_many(both, as_passages(FACTS), rows, system)[1]):
        assert "cross" in a.macs and "cross" not in a.macs_done
        assert a.macs_done["decoder"] > a.macs["decoder"]
        assert a.macs_done["decoder.attention"] > a.macs["decoder.attention"]
        others = set(a.macs) - {"cross", "decoder", "decoder.attention"}
        assert {n: a.macs[n] for n in others} == {n: a.macs_done[n] for n in others}


# ---- seconds


@systems
@pytest.mark.parametrize("stored", [False, True])
def test_all_time_has_a_name(reader: Reader, system: str, stored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 1
        return now[0]

    source: Any = reader.memorize(FACTS) if stored else FACTS
    monkeypatch.setattr("glimmer_ref.instruments.profiler.time.perf_counter", tick)
    answer = reader.ask(QUESTION, source, system, k=2)
    assert sum(answer.seconds.values()) == now[0] - 1, "from the first look at the clock to the last"
    stages = {"retrieval", "text", "cross", "decoder", "other"}
    stages |= {"fid": {"encoder"}, "lumen": {"question", "live"}}.get(system, {"question", "live_a", "score", "live_b"})
    if system != "fid":
        stages |= {"read"} if stored else {"memory"}
    assert set(answer.seconds) == stages
    assert all(seconds > 0 for seconds in answer.seconds.values())


# ---- many questions


def test_an_evaluation_counts_the_algorithm_without_what_was_stored(reader: Reader) -> None:
    memory = reader.memorize(FACTS)
    questions = [Question(text[:9], "nq", text, ("x",), ("x",), ()) for text in (QUESTION, OTHER_QUESTION)]
    rows = next(scored_batches(reader, questions, memory, "glimmer", 3, 1, lambda x, *_: x))
    observed = without_memory(counted(reader, "glimmer", [QUESTION, OTHER_QUESTION], [[0, 1, 2]] * 2, 1))
    assert sum(row["macs"] for row in rows) == sum(observed.values())
