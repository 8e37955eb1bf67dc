"""A model cut anew: no weight of a layer changes, and what it computes stays the same bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import NUMPY, PASSAGES, QUESTION, T5, tokens
from test_names import one_encoder

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.paper.decoding import log_likelihood
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import FROM_TEXT, SYSTEMS
from glimmer_ref.paper.t5 import encode
from glimmer_ref.params.model import Model, Stack, leaves, prepare_params, random
from glimmer_ref.params.recut import recut
from glimmer_ref.ragged import States, Tokens, token_positions

ANSWER = tokens([4], seed=5)
SEPARATE = {"question_encoder": "separate", "reranker": "separate"}


def cut(live: int, rerank: int, **more: Any) -> GlimmerConfig:
    return GlimmerConfig(T5, T5.num_layers - live, live, rerank, k=7, m=3, **more)


CUTS = [cut(live, rerank) for live in range(T5.num_layers + 1) for rerank in range(live + 1)]
cuts = st.sampled_from(CUTS)
OWNERS = [{}, *({name: "separate"} for name in SEPARATE), SEPARATE]
owned_cuts = st.builds(lambda settings, owners: replace(settings, **owners), cuts, st.sampled_from(OWNERS))


def plain(settings: GlimmerConfig, seed: int = 0) -> Model:
    """A model whose encoder is that of one T5: all its stacks have the same table."""
    return one_encoder(random(settings, seed))


def layers(model: Model) -> Stack:
    """The layers of the joined encoder, with the embedding in place of a table."""
    return Stack(model.embedding, model.memory.layers + model.live.layers)


def assert_same(got: Any, want: Any) -> None:
    a, b = leaves(got), leaves(want)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


def result(model: Model, system: str, passages: Tokens = PASSAGES) -> list[np.ndarray]:
    """What the decoder reads, the passages' scores, and the log likelihood of an answer."""
    ready = prepare_params(NUMPY, model)
    k = np.array([len(passages)])
    given = passages if system in FROM_TEXT else encode_passages(NUMPY, ready, passages)
    read = SYSTEMS[system](NUMPY, ready, QUESTION, given, k, min(3, len(passages)))
    scores = np.zeros(0) if read.scores is None else read.scores
    return [read.memory.states, scores, log_likelihood(NUMPY, ready, read.memory, ANSWER)]


def assert_same_results(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


@given(cuts, owned_cuts)
def test_layers_are_the_joined_encoders_and_tables_those_of_most(old: GlimmerConfig, new: GlimmerConfig) -> None:
    before = random(old, 0)
    after = recut(before, new)
    assert_same(layers(after), layers(before))
    assert (len(after.memory.layers), len(after.live.layers)) == (new.num_memory_layers, new.num_live_layers)
    origins, first = [0] * old.num_memory_layers + [1] * old.num_live_layers, new.num_memory_layers
    for stack, mine in ((after.memory, origins[:first]), (after.live, origins[first:])):
        share = Counter(mine)
        if mine:
            winner = before.memory if share[0] > share[1] else before.live
            np.testing.assert_array_equal(stack.relative_attention_bias, winner.relative_attention_bias)
    for name in ("embedding", "final_norm"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert_same(after.decoder, before.decoder)
    assert_same(after.score, before.score)
    assert after.config == new
    if after.question:
        assert_same(after.question, after.memory)
    if after.reranker:
        assert_same(after.reranker, replace(after.live, layers=after.live.layers[: new.num_rerank_layers]))


@given(cuts, cuts)
def test_fid_is_the_same_at_any_cut_and_the_way_back_restores_all(old: GlimmerConfig, new: GlimmerConfig) -> None:
    before = plain(old)
    after = recut(before, new)
    assert_same_results(result(after, "fid"), result(before, "fid"))
    back = recut(after, old)
    assert_same(back, before)


@given(owned_cuts)
def test_the_same_cut_changes_nothing(settings: GlimmerConfig) -> None:
    before = random(settings, 0)
    after = recut(before, settings)
    assert_same(after, before)
    mine = {id(x) for x in leaves(after).values()}
    assert len(mine) == len(leaves(after)), "each weight is an array of its own"
    assert mine.isdisjoint(map(id, leaves(before).values()))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("between", [cut(0, 0), cut(2, 1), cut(6, 2)])
def test_every_system_is_the_same_after_the_way_there_and_back(system: str, between: GlimmerConfig) -> None:
    before = plain(cut(4, 1))
    assert_same_results(result(recut(recut(before, between), before.config), system), result(before, system))


@pytest.mark.parametrize("settings", CUTS)
def test_memory_is_the_first_layers_of_the_plain_encoder(settings: GlimmerConfig) -> None:
    whole = plain(cut(6, 0))
    after = recut(whole, settings)
    start = States(whole.embedding[PASSAGES.ids], PASSAGES.lengths, token_positions(PASSAGES.lengths))
    want = encode(NUMPY, T5, whole.live, start, stop=settings.num_memory_layers)
    np.testing.assert_array_equal(encode_passages(NUMPY, after, PASSAGES).states, want.states, strict=True)


@pytest.mark.parametrize("settings", CUTS[::4])
def test_a_lumen_without_memory_is_the_fid_it_was_cut_from(settings: GlimmerConfig) -> None:
    """All layers are live, and the decoder reads the pairs alone."""
    before = plain(settings)
    lumen = recut(before, cut(6, 0, decoder_question=False))
    one = tokens([9], seed=3)
    assert_same_results(result(lumen, "lumen", one), result(before, "fid", one))
    assert_same_results(result(lumen, "lumen"), result(before, "fid"))


def test_tables_that_trained_apart_change_what_is_computed_only_where_a_layer_changes_its_table() -> None:
    before = random(cut(4, 2), 0)
    fid = result(before, "fid")
    for new, equal in ((cut(4, 1), True), (cut(4, 4), True), (cut(3, 1), False), (cut(6, 1), False)):
        got = result(recut(before, new), "fid")
        assert np.array_equal(got[0], fid[0]) == equal, new
    whole = random(cut(6, 2), 0)  # without memory layers there is one table, so that every cut is exact
    for new in CUTS:
        assert_same_results(result(recut(whole, new), "fid"), result(whole, "fid"))


def test_separate_encoders_are_kept_or_left_out_or_refused() -> None:
    before = random(cut(4, 2, **SEPARATE), 0)
    assert before.question is not None
    after = recut(before, cut(4, 2, question_encoder="separate"))
    assert_same(after.question, before.question)
    assert after.reranker is None
    assert_same(recut(before, cut(4, 1, question_encoder="separate")).question, before.question)
    assert recut(before, cut(3, 1)).question is None
    with pytest.raises(InputError) as caught:
        recut(before, cut(3, 2, question_encoder="separate"))
    assert str(caught.value) == (
        "a folder with a separate question encoder: expected a cut that gives it 2 memory layers; got 3 memory layers; "
        'keep the cut, or say question_encoder = "shared" to leave it out'
    )
    for settings in (cut(4, 1, reranker="separate"), cut(3, 2, reranker="separate")):
        with pytest.raises(InputError, match=r'separate reranker: .*reranker = "shared"'):
            recut(before, settings)
