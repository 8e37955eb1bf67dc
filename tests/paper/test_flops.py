"""The paper's formulas, the count by true shapes, and the traced count: each held against the others."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import PASSAGES, QUESTION, T5, config, tokens
from symbols import Polynomial, letters

from glimmer_ref.config import SIZES, GlimmerConfig, T5Config
from glimmer_ref.costs.dry_run import traced_macs
from glimmer_ref.costs.flops import (
    SYSTEMS,
    Setting,
    by_shapes,
    equal_lengths,
    fid_macs,
    lengths_of,
    online,
    pairs_of,
    setting_of,
    shape_macs,
)
from glimmer_ref.costs.modes import figure2, full, printed
from glimmer_ref.errors import InputError
from glimmer_ref.instruments import MacCounter
from glimmer_ref.ops import Ops, bind
from glimmer_ref.paper.decoding import greedy, log_likelihood
from glimmer_ref.paper.flops import f_fid, f_glimmer, f_lumen
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import FROM_TEXT
from glimmer_ref.paper.systems import SYSTEMS as READ
from glimmer_ref.params.model import prepare_params, random

XXL = GlimmerConfig.from_proportions(SIZES["xxl"], "1/3", "1/4")


def test_the_printed_formulas_digit_by_digit() -> None:
    third, quarter = Fraction(1, 3), Fraction(1, 4)
    d = 4096**2
    assert f_fid(5, 384, 64, 24, 4096) == {
        "Encoder and cross-attention": 5 * 384 * 24 * 14 * d,
        "Decoder": 64 * 24 * 14 * d,
    }
    assert f_lumen(10, 384, 64, 24, 4096, third) == {
        "Encoder": 10 * 384 * 8 * 12 * d,
        "Cross-attention": 10 * 384 * 24 * 2 * d,
        "Decoder": 64 * 24 * 14 * d,
    }
    assert f_glimmer(25, 5, 384, 64, 24, 4096, third, quarter) == {
        "Encoder": 5 * 384 * 8 * 12 * d,
        "Cross-attention": 5 * 384 * 24 * 2 * d,
        "Decoder": 64 * 24 * 14 * d,
        "Reranking": 20 * 384 * 2 * 12 * d,
    }


def test_the_printed_formulas_take_any_alpha_and_never_round_or_overflow() -> None:
    macs = f_glimmer(10**9, 5, 304, 64, 24, 4096, Fraction(33, 100), Fraction(1, 7))
    assert macs["Reranking"] == Fraction((10**9 - 5) * 304 * 33 * 24 * 12 * 4096**2, 700)
    assert macs["Reranking"] > 2**63
    one = by_shapes(XXL, "lumen", 48, [304], 64)
    corpus = shape_macs(setting_of(XXL), "lumen", equal_lengths(21_000_000, 304), equal_lengths(5, 304))
    assert corpus["memory"] == 21_000_000 * one["memory"] > 2**63


@st.composite
def cases(draw: Any) -> tuple[GlimmerConfig, int, list[int], int, int, bool]:
    few = st.integers(1, 3)
    layers = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    t5 = T5Config(
        draw(st.integers(2, 40)), draw(few) * 4, draw(few), draw(st.integers(1, 20)), sum(layers), draw(few), draw(few),
        feed_forward_proj=draw(st.sampled_from(["gated-gelu", "relu"])),
    )  # fmt: skip
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    settings = GlimmerConfig(
        t5, *layers, draw(st.integers(0, layers[1])),
        pool=draw(st.sampled_from(["first", "mean"])),
        score_norm=draw(st.booleans()),
        decoder_question=draw(st.booleans()),
        question_encoder=draw(st.sampled_from(["shared", "separate"])),
        reranker=draw(st.sampled_from(["shared", "separate"])),
        passage_offset=draw(st.sampled_from([None, 48])),
    )  # fmt: skip
    return (
        settings,
        draw(st.integers(1, 9)),
        lengths,
        draw(st.integers(1, 6)),
        draw(st.integers(1, len(lengths))),
        draw(st.booleans()),
    )


@pytest.mark.parametrize("system", SYSTEMS)
@given(case=cases())
def test_shapes_and_trace_agree_integer_for_integer(system: str, case: Any) -> None:
    settings, question, lengths, steps, m, tied = case
    traced = traced_macs(settings, system, question, lengths, steps, m, tied)
    counted = by_shapes(settings, system, question, lengths, steps, range(m))
    assert list(counted.items()) == list(traced.items())
    assert all(type(x) is int for x in counted.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_xxl_with_every_length_different(system: str) -> None:
    lengths = list(range(280, 305))
    assert by_shapes(XXL, system, 31, lengths, 9, range(5)) == traced_macs(XXL, system, 31, lengths, 9, 5)


VARIANTS = {
    "as it is": {},
    "separate question encoder": {"question_encoder": "separate"},
    "separate reranker": {"reranker": "separate"},
    "mean pool": {"pool": "mean", "score_norm": True},
    "no question for the decoder": {"decoder_question": False},
    "padded slots": {"passage_offset": 48},
    "relu": {"t5": replace(T5, feed_forward_proj="relu")},
    "tied": {"t5": replace(T5, scale_decoder_outputs=True)},
    "full memory": {"alpha": "0", "beta": "0"},
    "no memory, all reranking": {"alpha": "1", "beta": "1"},
}


def counted_run(
    ops: Ops, settings: GlimmerConfig, system: str, m: int, tied: bool
) -> tuple[dict[str, int], list[int], int]:
    """What a run with numbers counts, which passages it selected, and its decoder steps."""
    model = prepare_params(ops, random(settings, 0, "float32", tied))
    count, limit = MacCounter(ops), 5
    passages = PASSAGES if system in FROM_TEXT else encode_passages(count, model, PASSAGES)
    read = READ[system](count, model, QUESTION, passages, np.array([len(PASSAGES)]), m)
    answer = greedy(count, model, read.memory, limit)[0]
    return count.macs, list(read.selected[0]), min(len(answer.ids) + 1, limit)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_with_numbers_counts_the_same(backend: str, variant: str, system: str) -> None:
    settings = config(**{"alpha": "1/2", "beta": "1/3", **VARIANTS[variant]})
    macs, selected, steps = counted_run(bind(backend), settings, system, 3, tied=variant == "tied")
    assert macs == by_shapes(settings, system, 5, list(PASSAGES.lengths), steps, selected)
    assert system != "glimmer" or sorted(selected) != [0, 1, 2] or variant == "full memory"


def test_a_forced_answer_costs_what_writing_it_does() -> None:
    ops, settings = bind("numpy"), config()
    model, count = random(settings, 0, "float32"), MacCounter(bind("numpy"))
    read = READ["lumen"](ops, model, QUESTION, encode_passages(ops, model, PASSAGES), np.array([7]), 0)
    log_likelihood(count, model, read.memory, tokens([6], seed=9))
    shapes = by_shapes(settings, "lumen", 5, list(PASSAGES.lengths), 6)
    assert count.macs == {name: shapes[name] for name in ("cross", "decoder", "decoder.attention", "head")}


def symbolic() -> tuple[Setting, dict[str, Polynomial]]:
    """The setting that the printed formulas are for: d_ff = 8/3 d, heads * d_kv = d, equal depths."""
    x = letters("d L k m n_q n_p n_t v alpha beta")
    same = {name: x[name] for name in ("d", "L", "k", "m", "n_q", "n_p", "n_t", "v", "alpha", "beta")}
    s = Setting(**same, hc=x["d"], f=Fraction(8, 3) * x["d"], matrices=3, decoder_layers=x["L"])
    return s, x


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_printed_formulas_are_the_shapes_without_the_terms_left_out(system: str) -> None:
    s, _ = symbolic()
    assert online(figure2(s, system)) == online(printed(s, system))
    plain = replace(s, f=4 * s.d, matrices=2)  # T5 1.0: no gate, d_ff = 4 d
    assert online(figure2(plain, system)) == online(printed(s, system))
    assert online(figure2(replace(s, f=Fraction(5, 2) * s.d), system)) != online(printed(s, system))


def test_terms_left_out_have_the_form_that_they_should() -> None:
    s, x = symbolic()
    macs = full(s, "glimmer")
    d, L, n_q, n_t, k, m = (x[name] for name in ("d", "L", "n_q", "n_t", "k", "m"))
    pair = n_q + x["n_p"]
    assert macs["question"] == (1 - x["alpha"]) * L * n_q * 12 * d**2
    assert macs["score"] == k * d
    assert macs["cross"] == L * (n_q + m * pair) * 2 * d**2
    assert macs["live_a.attention"] == x["beta"] * x["alpha"] * L * k * pair * pair * 2 * d
    assert macs["decoder.attention"] == L * d * (n_t * (n_t + 1) + 2 * n_t * (n_q + m * pair))
    assert macs["head"] == n_t * d * x["v"]


def test_glimmer_with_m_equal_k_is_lumen_but_for_its_score() -> None:
    s, x = symbolic()
    s = replace(s, m=s.k)
    assert online(full(s, "glimmer")) - online(full(s, "lumen")) == x["k"] * x["d"]
    assert online(printed(s, "glimmer")) == online(printed(s, "lumen"))


def test_lumen_with_alpha_1_is_fid_but_for_the_question_before_its_decoder() -> None:
    s, x = symbolic()
    s = replace(s, alpha=Fraction(1))
    fid, lumen = full(s, "fid"), full(s, "lumen")
    assert lumen["live"] == fid["encoder"]
    assert lumen["live.attention"] == fid["encoder.attention"]
    assert lumen["question"] == 0 * x["d"]
    more = x["L"] * x["n_q"] * 2 * x["d"] ** 2 + x["L"] * x["d"] * 2 * x["n_t"] * x["n_q"]
    assert online(lumen) - online(fid) == more
    assert online(full(replace(s, decoder_question=False), "lumen")) == online(fid)
    total = sum(printed(s, "lumen").values())
    assert total == sum(printed(s, "fid").values())


def test_alpha_scales_lumens_encoder_to_that_share_of_fids() -> None:
    s, x = symbolic()
    assert full(s, "lumen")["live"] == x["alpha"] * full(s, "fid")["encoder"]


SETTINGS = st.builds(
    lambda a, b, m, more, n: replace(
        setting_of(XXL), alpha=Fraction(a, 24), beta=Fraction(b, 24), k=m + more, m=m, n_q=n, n_p=3 * n, n_t=n
    ),
    st.integers(0, 23), st.integers(0, 23), st.integers(1, 9), st.integers(1, 40), st.integers(1, 99),
)  # fmt: skip


@given(s=SETTINGS, mode=st.sampled_from([printed, figure2, full]))
def test_more_of_anything_costs_no_less(s: Setting, mode: Any) -> None:
    more = {
        "k": {"k": s.k + 1},
        "m": {"m": s.m + 1},
        "alpha": {"alpha": s.alpha + Fraction(1, 24)},
        "beta": {"beta": s.beta + Fraction(1, 24)},
        "n_p": {"n_p": s.n_p + 1},
        "n_q": {"n_q": s.n_q + 1},
        "n_t": {"n_t": s.n_t + 1},
    }
    felt = {"fid": {"k", "n_p", "n_q", "n_t"}, "lumen": {"k", "alpha", "n_p", "n_q", "n_t"}, "glimmer": set(more)}
    for system in SYSTEMS:
        before = online(mode(s, system))
        for name, change in more.items():
            after = online(mode(replace(s, **change), system))
            assert after >= before
            idle = system == "glimmer" and (
                (name == "k" and s.beta * s.alpha == 0) or (name == "beta" and s.alpha == 0)
            )
            score = mode is full and name == "k"  # a passage more is at least a score more
            assert (after > before) == (name in felt[system] and (not idle or score)), (system, name)


def test_lengths_add_up() -> None:
    assert lengths_of([3, 4]) == (2, 7, 25)
    assert equal_lengths(3, 5) == lengths_of([5, 5, 5])
    assert pairs_of(2, lengths_of([3, 4])) == lengths_of([5, 6])
    s = replace(setting_of(XXL), n_q=2)
    assert fid_macs(s, pairs_of(2, lengths_of([3, 4]))) == shape_macs(s, "fid", lengths_of([3, 4]), lengths_of([]))


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(InputError, match=r"system: expected one of fid, lumen, glimmer; got 'rag'"):
        by_shapes(XXL, "rag", 1, [1], 1)
