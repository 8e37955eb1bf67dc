"""The layers and the whole model: buckets, parity of the backends, refusals, and what instruments hear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from models import NUMPY, PASSAGES, QUESTION, T5, K, backend, config, model, tokens

from glimmer_ref.costs.dry_run import traced_macs
from glimmer_ref.errors import InputError
from glimmer_ref.inference.tracing import trace_ids
from glimmer_ref.instruments import MacCounter, Profiler, Trace
from glimmer_ref.ops import Ops, bind
from glimmer_ref.paper.decoding import greedy
from glimmer_ref.paper.glimmer import glimmer, top_m
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import FROM_TEXT, SYSTEMS
from glimmer_ref.paper.t5 import relative_buckets
from glimmer_ref.ragged import Tokens, check, token_positions


def bucket(distance: int, bidirectional: bool, buckets: int = 32, reach: int = 128) -> int:
    """T5's rule for one distance, told with integers only: the n-th wide bucket begins where
    (distance / exact)^(wide) reaches (reach / exact)^n."""
    result, behind = 0, -distance
    if bidirectional:
        buckets //= 2
        result, behind = (buckets if distance > 0 else 0), abs(distance)
    behind = max(behind, 0)
    exact = buckets // 2
    if behind < exact:
        return result + behind
    n = 0
    while n + 1 < buckets - exact and behind ** (buckets - exact) * exact ** (n + 1) >= exact ** (
        buckets - exact
    ) * reach ** (n + 1):
        n += 1
    return result + exact + n


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_exact_arithmetic(bidirectional: bool) -> None:
    distances = np.arange(-600, 601)
    got = relative_buckets(distances, bidirectional, 32, 128)
    assert list(got) == [bucket(int(d), bidirectional) for d in distances]
    # Bucket 16 is distance 0 ahead, which there is not.
    assert set(got) == set(range(32)) - ({16} if bidirectional else set())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("proj", ["gated-gelu", "relu"])
@pytest.mark.parametrize("pool", ["first", "mean"])
def test_numba_is_numpy(dtype: str, proj: str, pool: str) -> None:
    from dataclasses import replace

    settings = config(t5=replace(T5, feed_forward_proj=proj), pool=pool, score_norm=pool == "mean")
    runs = []
    for ops in (NUMPY, bind("numba"), bind("numba")):
        w = model(ops, settings, dtype=dtype)
        runs.append(trace_ids(ops, w, list(QUESTION.ids), [list(p) for p in PASSAGES], [7, 8, 9, 1], m=3))
    reference, fast, again = runs
    assert list(reference) == list(fast)
    for name, expected in reference.items():
        np.testing.assert_array_equal(fast[name], again[name], err_msg=f"{name} differs between two runs")
        assert fast[name].dtype == expected.dtype, name
        off = np.abs(fast[name] - expected).max(initial=0)
        assert off <= {"float32": 1e-5, "float64": 1e-13}[dtype] * np.abs(expected).max(initial=1), name


def test_equal_pairs_tie_exactly_and_go_to_the_lower_index() -> None:
    w = model(NUMPY, config(beta="0"), dtype="float32")
    many = tokens([3] * 40)
    got = glimmer(NUMPY, w, QUESTION, encode_passages(NUMPY, w, many), np.array([40]), 5)
    assert got.scores is not None
    assert len(set(got.scores)) == 1
    assert list(got.selected[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("scores", "m", "expected"),
    [([1, 3, 2], 2, [1, 2]), ([5, 5, 5], 2, [0, 1]), ([0, 2, 0, 2], 3, [1, 3, 0]), ([-1], 1, [0])],
)
def test_top_m(scores: list[float], m: int, expected: list[int]) -> None:
    assert list(top_m(np.array(scores, np.float32), m)) == expected


@pytest.mark.parametrize(
    ("scores", "m", "said"),
    [
        ([1, 2, 3], 5, "m from 1 to k; got k=3, m=5"),
        ([1, 2], 0, "m=0"),
        ([1, math.nan, 2], 1, "nan for passage 1"),
        ([1, 2, math.inf], 1, "inf for passage 2"),
    ],
)
def test_top_m_refuses(scores: list[float], m: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        top_m(np.array(scores), m)


def test_positions_of_a_passage_follow_the_question_or_start_at_the_offset() -> None:
    def joined(offset: int | None) -> Any:
        w = model(NUMPY, config(passage_offset=offset))
        trace = Trace(NUMPY)
        glimmer(trace, w, QUESTION, encode_passages(NUMPY, w, PASSAGES), K, 2)
        return trace.arrays

    packed, padded = joined(None), joined(48)
    np.testing.assert_array_equal(packed["pairs"], padded["pairs"])
    assert not np.allclose(packed["live_a.out"], padded["live_a.out"]), "the places must matter"
    assert np.allclose(packed["live_a.out"], joined(None)["live_a.out"])


def test_a_question_past_the_offset_is_refused() -> None:
    w = model(NUMPY, config(passage_offset=48))
    with pytest.raises(InputError, match="passage_offset=48"):
        glimmer(NUMPY, w, tokens([49]), encode_passages(NUMPY, w, PASSAGES), K, 2)


def test_a_trace_holds_the_named_stages_in_forward_order() -> None:
    w = model(NUMPY, config())
    arrays = trace_ids(NUMPY, w, list(QUESTION.ids), [list(p) for p in PASSAGES], [7, 1], m=3)
    wanted = ["memory.out", "question.out", "pairs", "live_a.layer_0.attention.q", "live_a.out", "scores", "selected"]
    wanted += ["live_b.layer_1.feed_forward.out", "live_b.out", "decoder.memory", "cross.layer_0.k", "decoder.logits"]
    places_of = [list(arrays).index(name) for name in wanted]
    assert places_of == sorted(places_of)
    assert arrays["pairs.lengths"].sum() == len(arrays["pairs"])
    assert arrays["live_b.out.lengths"].tolist() == [5 + PASSAGES.lengths[i] for i in arrays["selected"]]
    assert set(trace_ids(NUMPY, w, [5], [[6]], [7, 1], only="scores|selected")) == {
        "scores",
        "selected",
        "selected.lengths",
    }


def test_a_trace_can_hold_attention_probabilities() -> None:
    w = model(NUMPY, config())
    arrays = trace_ids(NUMPY, w, [5, 6], [[7, 8, 9]], [7, 1], only=r"decoder\.layer_0\..*probs")
    own = arrays["decoder.layer_0.self_attention.probs.0"]
    assert own.shape == (3, 2, 2)
    assert (own[:, 0, 1] == 0).all(), "the first token does not see the second"
    np.testing.assert_allclose(own.sum(axis=-1), 1)


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_a_count_without_numbers_is_a_count_with_them(system: str) -> None:
    settings = config()
    w, count = model(NUMPY, settings), MacCounter(NUMPY)
    inputs = PASSAGES if system in FROM_TEXT else encode_passages(count, w, PASSAGES)
    same = Tokens(PASSAGES.ids, PASSAGES.lengths)
    got = SYSTEMS[system](count, w, QUESTION, inputs, K, 3)
    answer = greedy(count, w, got.memory, 6)[0]
    chosen = [int(i) for i in got.selected[0]]
    order = [*chosen, *(i for i in range(len(same)) if i not in chosen)]
    lengths = [int(same.lengths[i]) for i in order]
    assert traced_macs(settings, system, 5, lengths, min(len(answer.ids) + 1, 6), 3) == count.macs


def test_a_count_by_hand() -> None:
    settings = config(t5=T5)
    macs = traced_macs(settings, "glimmer", 5, [4, 9], 3, 1)
    d, hc, f, v, n = 20, 18, 28, 61, [5 + 4, 5 + 9]
    layer = 4 * d * hc + 3 * d * f
    assert macs["live_a"] == sum(n) * 1 * layer
    assert macs["live_a.attention"] == sum(2 * x * x * hc for x in n)
    assert macs["score"] == 2 * d
    assert macs["live_b"] == n[0] * 2 * layer
    assert macs["cross"] == (5 + n[0]) * 2 * (2 * d * hc)
    assert macs["head"] == 3 * d * v
    assert macs["decoder"] == 3 * 2 * (4 * d * hc + 2 * d * hc + 3 * d * f)
    assert macs["decoder.attention"] == 2 * 2 * hc * ((1 + 2 + 3) + 3 * (5 + n[0]))


def test_a_clock_tells_the_time_of_every_stage() -> None:
    w, clock = model(NUMPY, config()), Profiler(NUMPY)
    got = glimmer(clock, w, QUESTION, encode_passages(clock, w, PASSAGES), K, 2)
    greedy(clock, w, got.memory, 2)
    assert {"memory", "question", "live_a", "score", "live_b", "cross", "decoder"} <= set(clock.seconds)
    assert all(seconds > 0 for seconds in clock.seconds.values())


@pytest.mark.parametrize(
    ("question", "passages", "target", "said"),
    [
        ([], [[5]], None, "question"),
        ([5], [], None, "passages: expected at least one"),
        ([5], [[]], None, "passages"),
        ([5], [[61]], None, "0 to 60"),
        ([-1], [[5]], None, "0 to 60"),
        ([5], [[6]], [99], "target"),
    ],
)
def test_ids_that_do_not_fit_are_refused(
    question: list[int], passages: list[list[int]], target: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        trace_ids(NUMPY, model(NUMPY, config()), question, passages, target)


def test_shape_words() -> None:
    assert check(np.zeros((2, 3)), "N d", "x", d=3) == {"d": 3, "N": 2}
    with pytest.raises(InputError, match=r"x: expected shape \[N=2 d=4\]; got \[2, 3\]"):
        check(np.zeros((2, 3)), "N d", "x", d=4)
    with pytest.raises(InputError, match=r"an array \[N d\]"):
        check(np.zeros(3), "N d", "x")
    assert token_positions(np.array([3, 1]), start=np.array([0, 7])).tolist() == [0, 1, 2, 7]


def test_a_backends_own_form_of_attention_gets_the_queries() -> None:
    seen = []

    def attend_memory(t5: Any, w: Any, q: Any, cross: Any, layer: int, layout: Any) -> Any:
        seen.append((q.shape[1], cross.keys[layer].shape[1], layer))
        return NotImplemented

    ops, w = Ops(backend(attend_memory=attend_memory)), model(NUMPY, config())
    memory = glimmer(ops, w, QUESTION, encode_passages(ops, w, PASSAGES), K, 2).memory
    assert greedy(ops, w, memory, 2) == greedy(NUMPY, w, memory, 2)
    assert set(seen) == {
        (T5.num_heads * T5.d_kv, T5.num_heads * T5.d_kv, layer) for layer in range(len(w.decoder.layers))
    }


def test_every_stage_has_its_name() -> None:
    profiler = Profiler(NUMPY)
    w = model(profiler, config())
    memory = glimmer(profiler, w, QUESTION, encode_passages(profiler, w, PASSAGES), K, 2).memory
    greedy(profiler, w, memory, 2)
    stages = {name.split(".")[0] for name in profiler.seconds}
    assert stages == {"question", "memory", "live_a", "score", "live_b", "cross", "decoder", "other"}
