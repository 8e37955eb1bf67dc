"""The limit cases in which two systems must be one, each exactly or to the last bits of float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from models import NUMPY, PASSAGES, QUESTION, K, config, model, only, tokens

from glimmer_ref.ops import Ops, bind
from glimmer_ref.paper.decoding import greedy, log_likelihood
from glimmer_ref.paper.fid import encode_pairs, fid
from glimmer_ref.paper.glimmer import glimmer, live_a, live_b
from glimmer_ref.paper.lumen import encode_passages, encode_question, join, live_encode, lumen
from glimmer_ref.paper.t5 import KVCache, cross_keys_values, decode
from glimmer_ref.params.model import Model
from glimmer_ref.ragged import States, Tokens


@pytest.fixture(params=["numpy", "numba"])
def ops(request: pytest.FixtureRequest) -> Ops:
    return bind(request.param)


def close(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal but for the order of sums in float64."""
    return x.shape == y.shape and np.abs(x - y).max() <= 1e-12 * np.abs(y).max()


def stored(ops: Ops, w: Model) -> States:
    return encode_passages(ops, w, PASSAGES)


def by_rank(ops: Ops, w: Model, m: int, passages: Tokens = PASSAGES) -> tuple[np.ndarray, float]:
    """What GLIMMER selects, and how likely one fixed answer is to it."""
    got = glimmer(ops, w, QUESTION, encode_passages(ops, w, passages), np.array([len(passages)]), m)
    return got.selected[0], float(log_likelihood(ops, w, got.memory, tokens([6], seed=9))[0])


# ---- the four limits, a line each


def of_glimmer(ops: Ops, w: Model, m: int) -> np.ndarray:
    """[Q; LiveEncB(R_1); .. LiveEncB(R_m)]"""
    return glimmer(ops, w, QUESTION, stored(ops, w), K, m).memory.states


def of_lumen(ops: Ops, w: Model, passages: Tokens = PASSAGES) -> np.ndarray:
    """[Q; LiveEnc(H_1); .. LiveEnc(H_k)]"""
    return lumen(ops, w, QUESTION, encode_passages(ops, w, passages), np.array([len(passages)])).states


def of_fid(ops: Ops, w: Model, passages: Tokens = PASSAGES) -> np.ndarray:
    """[Enc(Q; Passage_1); .. Enc(Q; Passage_k)]"""
    return fid(ops, w, QUESTION, passages, np.array([len(passages)])).states


def of_t5(ops: Ops, w: Model, text: np.ndarray) -> np.ndarray:
    """The encoder over one text, to which the passage adds nothing."""
    none = Tokens(np.zeros(0, np.int32), np.zeros(1, np.int64))
    return encode_pairs(ops, w, Tokens.of([text]), none, np.array([1])).states


def ranked(ops: Ops, w: Model) -> Tokens:
    """All passages, best first."""
    return only(PASSAGES, glimmer(ops, w, QUESTION, stored(ops, w), K, len(PASSAGES)).selected[0].tolist())


@pytest.mark.parametrize("beta", ["0", "1/3", "2/3", "1"])
def test_glimmer_with_m_equal_k_is_lumen_for_every_beta(ops: Ops, beta: str) -> None:
    w = model(ops, config(beta=beta))
    assert close(of_glimmer(ops, w, m=len(PASSAGES)), of_lumen(ops, w, ranked(ops, w)))


@pytest.mark.parametrize("offset", [None, 48])
def test_alpha_1_without_the_decoders_question_is_fid_exactly(ops: Ops, offset: int | None) -> None:
    w = model(ops, config(alpha="1", decoder_question=False, passage_offset=offset))
    np.testing.assert_array_equal(of_lumen(ops, w), of_fid(ops, w))


def test_beta_0_is_lumen_with_the_first_m_passages(ops: Ops) -> None:
    w = model(ops, config(beta="0"))
    assert close(of_glimmer(ops, w, m=3), of_lumen(ops, w, only(PASSAGES, [0, 1, 2])))


def test_fid_with_one_passage_is_t5_on_the_concatenated_text(ops: Ops) -> None:
    w = model(ops, config())
    assert close(of_fid(ops, w, only(PASSAGES, [1])), of_t5(ops, w, np.concatenate([QUESTION[0], PASSAGES[1]])))


# ---- the other identities


@pytest.mark.parametrize("beta", ["0", "1/3", "2/3", "1"])
def test_live_b_after_live_a_is_the_live_encoder(ops: Ops, beta: str) -> None:
    w = model(ops, config(beta=beta))
    pairs = join(ops, w, encode_question(ops, w, QUESTION), stored(ops, w), K)
    np.testing.assert_array_equal(live_b(ops, w, live_a(ops, w, pairs)).states, live_encode(ops, w, pairs).states)


def test_permuted_passages_give_the_same_answer(ops: Ops) -> None:
    w, order = model(ops, config()), [3, 0, 6, 2, 5, 1, 4]
    (first, p), (second, q) = by_rank(ops, w, 3), by_rank(ops, w, 3, only(PASSAGES, order))
    assert [order[i] for i in second] == list(first)
    assert p == pytest.approx(q, rel=1e-12)


def test_a_passage_ranked_last_changes_nothing(ops: Ops) -> None:
    w = model(ops, config())
    scores = glimmer(ops, w, QUESTION, stored(ops, w), K, 3).scores
    assert scores is not None
    kept = [i for i in range(len(PASSAGES)) if i != int(np.argmin(scores))]
    (with_it, p), (without, q) = by_rank(ops, w, 3), by_rank(ops, w, 3, only(PASSAGES, kept))
    assert [kept[i] for i in without] == list(with_it)
    assert p == pytest.approx(q, rel=1e-12)


@pytest.mark.parametrize("alpha", ["0", "1/2", "1"])
def test_every_alpha_answers(ops: Ops, alpha: str) -> None:
    w = model(ops, config(alpha=alpha, beta="0"))
    got = glimmer(ops, w, QUESTION, stored(ops, w), K, 3)
    assert list(got.selected[0]) == [0, 1, 2], "beta = 0 scores the question alone: expected all tie, the first m stay"
    assert len(greedy(ops, w, got.memory, 5)) == 1


def test_alpha_0_hands_memory_to_the_decoder_as_it_is(ops: Ops) -> None:
    w = model(ops, config(alpha="0", beta="0", decoder_question=False))
    q, p = encode_question(ops, w, QUESTION).states, stored(ops, w)[0]
    rms = np.sqrt((np.concatenate([q, p]) ** 2).mean(axis=1, keepdims=True) + 1e-6)
    expected = np.concatenate([q, p]) / rms * w.final_norm
    assert close(lumen(ops, w, QUESTION, stored(ops, w), K).states[: len(expected)], expected)


def test_cached_decoding_equals_uncached(ops: Ops) -> None:
    w = model(ops, config())
    memory = lumen(ops, w, QUESTION, stored(ops, w), K)
    past, text = KVCache.empty(1, capacity=24), tokens([24], seed=4)
    cross = cross_keys_values(ops, w.config.t5, w.decoder, memory, past)
    whole, _ = decode(ops, w.config.t5, w.embedding, w.decoder, text, past, cross)
    rows = []
    for token in text.ids:
        step, past = decode(ops, w.config.t5, w.embedding, w.decoder, Tokens.of([[token]]), past, cross)
        rows.append(step[0])
    assert close(np.stack(rows), whole)


def test_the_log_probability_of_a_greedy_answer_is_its_likelihood(ops: Ops) -> None:
    w = model(ops, config())
    memory = lumen(ops, w, QUESTION, stored(ops, w), K)
    answer = greedy(ops, w, memory, 8)[0]
    ids = [*answer.ids, w.config.t5.eos_token_id][:8]
    assert answer.log_probability == pytest.approx(
        float(log_likelihood(ops, w, memory, Tokens.of([ids]))[0]), rel=1e-12
    )
    assert type(answer.log_probability) is float


def test_many_questions_at_once_equal_one_at_a_time(ops: Ops) -> None:
    w, questions, counts = model(ops, config()), tokens([5, 8, 2], seed=6), np.array([2, 3, 2])
    together = glimmer(ops, w, questions, stored(ops, w), counts, 2)
    answers = greedy(ops, w, together.memory, 12)
    start = 0
    for i, count in enumerate(counts):
        passages = encode_passages(ops, w, only(PASSAGES, list(range(start, start + count))))
        alone = glimmer(ops, w, only(questions, [i]), passages, np.array([count]), 2)
        assert list(alone.selected[0]) == list(together.selected[i])
        assert close(together.memory[i], alone.memory.states)
        one = greedy(ops, w, alone.memory, 12)[0]
        assert one.ids == answers[i].ids
        assert one.log_probability == pytest.approx(answers[i].log_probability, rel=1e-12)
        start += count


def test_a_separate_reranker_with_live_as_weights_is_glimmer(ops: Ops) -> None:
    w = model(ops, config())
    n = w.config.num_rerank_layers
    twin = replace(w, reranker=replace(w.live, layers=w.live.layers[:n]))
    pair = [glimmer(ops, v, QUESTION, stored(ops, w), K, 3) for v in (w, twin)]
    assert list(pair[0].selected[0]) == list(pair[1].selected[0])
    assert close(pair[1].memory.states, pair[0].memory.states)


def test_a_separate_question_encoder_with_the_memorys_weights_is_glimmer(ops: Ops) -> None:
    w = model(ops, config())
    np.testing.assert_array_equal(
        encode_question(ops, replace(w, question=w.memory), QUESTION).states, encode_question(ops, w, QUESTION).states
    )


def test_a_separate_question_encoder_is_used() -> None:
    w = model(NUMPY, config(question_encoder="separate"))
    assert not np.allclose(
        encode_question(NUMPY, w, QUESTION).states, encode_question(NUMPY, replace(w, question=None), QUESTION).states
    )


def test_passages_do_not_see_each_other(ops: Ops) -> None:
    w = model(ops, config())
    assert close(stored(ops, w)[4], encode_passages(ops, w, only(PASSAGES, [4])).states)


def test_answers_that_end_at_different_steps_have_their_own_likelihoods(ops: Ops) -> None:
    settings = config(t5=replace(config().t5, eos_token_id=28))  # a token that these weights like
    w, questions, counts = model(ops, settings), tokens([5, 8, 2], seed=6), np.array([2, 3, 2])
    memory = glimmer(ops, w, questions, stored(ops, w), counts, 2).memory
    answers = greedy(ops, w, memory, 10)
    assert [len(a.ids) for a in answers] == [2, 8, 1]
    whole = log_likelihood(ops, w, memory, Tokens.of([[*a.ids, 28] for a in answers]))
    assert close(np.array([a.log_probability for a in answers]), whole)
